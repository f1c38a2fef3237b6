"""A backbone that is no U-Net: a small diffusion transformer over patches of pixels, in one file.

Its latent is the picture itself, cut into patches, so that encoding and decoding lose nothing. Its prompts are read letter
by letter. All attention is at one stride.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg.backbones.base import (
    AttentionStates,
    Capture,
    Generated,
    OnStep,
    Sampling,
    Site,
    Text,
    Token,
    Trace,
    Watch,
)
from ovseg.backbones.counting import count_pass
from ovseg.backbones.phrases import phrase_at
from ovseg.backbones.weights import fingerprint, generator
from ovseg.maths.maps import phrase_maps

PATCH, WIDTH, HEADS, LAYERS, LETTERS = 4, 24, 2, 3, 64
EDGE = 64  # pixels of a square picture
STEPS = 1000  # of the noise schedule


class Attention(nn.Module):
    """Attention of places to a context; says what it asked for and what it looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, places: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor, AttentionStates]:
        """Output and queries (b, n, d), the heads' mean probabilities (b, n, m), and what these are computed of."""
        query = self.query(places)
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (query, self.key(context), self.value(context))
        )
        states = AttentionStates(q * (4 / math.sqrt(q.shape[-1])), k)  # sharper than usual: weights are random
        probabilities = (states.query @ k.mT).softmax(-1)
        return self.out((probabilities @ v).transpose(1, 2).flatten(2)), query, probabilities.mean(1), states


class PatchTransformer(nn.Module):
    """Predicts the noise of a noised picture from its patches and the states of a prompt's letters."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.place_of_letter = nn.Embedding(128, WIDTH), nn.Parameter(torch.randn(LETTERS, WIDTH) / 4)
        self.reader = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, 0.0, batch_first=True)
        self.enter, self.leave = nn.Linear(3 * PATCH**2, WIDTH), nn.Linear(WIDTH, 3 * PATCH**2)
        self.among_places, self.to_words = (nn.ModuleList(Attention() for _ in range(LAYERS)) for _ in range(2))
        self.mix = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def read(self, letters: Tensor) -> Tensor:
        """States (b, t, d) of letters (b, t)."""
        return self.reader(self.letters(letters) + self.place_of_letter)

    def forward(
        self, noised: Tensor, timestep: int, states: Tensor
    ) -> tuple[Tensor, list[tuple[str, Tensor, Tensor, AttentionStates]], list]:
        """The noise (b, c, y, x); kind, queries, probabilities and states of every attention; the output of every layer."""
        grid = noised.shape[-2:]
        angles = torch.arange(WIDTH, device=noised.device) * (timestep / STEPS)
        x = self.enter(noised.flatten(2).mT) + _positions(grid).to(noised) + angles.to(noised).sin()
        attention, outputs = [], []
        for k in range(LAYERS):
            for kind, layer in (("self", self.among_places[k]), ("cross", self.to_words[k])):
                normed = self.norm(x)
                out, *looked = layer(normed, normed if kind == "self" else states)
                x = x + out
                attention.append((kind, *looked))
            x = x + self.mix[k](self.norm(x))
            outputs.append(x.mT.unflatten(2, grid))
        return self.leave(self.norm(x)).mT.unflatten(2, grid), attention, outputs


class Patches:
    """The transformer as a `Backbone`."""

    sites = tuple(Site(f"{kind} {k}", 1, kind) for k in range(LAYERS) for kind in ("self", "cross"))
    strides = feature_strides = (1,)

    def __init__(self, network: PatchTransformer, name: str) -> None:
        self.name, self.network = name, network.eval().requires_grad_(False)
        # How much of the picture is left at each timestep.
        self.left = torch.cos(torch.arange(1, STEPS + 1) / (STEPS + 1) * math.pi / 2) ** 2

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.network)

    def encode(self, image: np.ndarray, sample_seed: int | None = None) -> Tensor:
        if image.shape[0] % PATCH or image.shape[1] % PATCH:
            raise ValueError(f"Picture sides must be multiples of {PATCH}, but got {image.shape[0]} x {image.shape[1]}.")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self.network.leave.weight)
        return F.pixel_unshuffle(pixels / 127.5 - 1, PATCH)

    def decode(self, latent: Tensor) -> np.ndarray:
        pixels = (F.pixel_shuffle(latent, PATCH)[0].clamp(-1, 1) + 1) * 127.5
        return pixels.round().byte().permute(1, 2, 0).cpu().numpy()

    def encode_text(
        self,
        prompts: Sequence[str],
        phrases: Sequence[str],
        emphasis: float = 1.0,
        emphasised: Sequence[str] | None = None,
        *,
        starts: Sequence[int | None] | None = None,
    ) -> Text:
        if too_long := [prompt for prompt in prompts if not self.fits(prompt)]:
            raise ValueError(f"The prompt must fit {LETTERS} letters, but got {too_long[0]!r}.")
        states, empty = self._read(prompts), self._read([""])[0]
        rows = list(zip(prompts, phrases, starts or [None] * len(prompts), strict=True))
        spans = tuple(tuple(range(*phrase_at(*row))) if row[1] else () for row in rows)
        for row, part in enumerate(emphasised or phrases):
            at = list(spans[row][phrases[row].rindex(part) :][: len(part)])
            states[row, at] = empty[at] + emphasis * (states[row, at] - empty[at])
        return Text(tuple(prompts), states, spans)

    def fits(self, prompt: str) -> bool:
        return len(prompt) <= LETTERS

    def noised(self, latent: Tensor, timestep: int, seed: int) -> Tensor:
        if not 0 <= timestep < STEPS:
            raise ValueError(f"The timestep must be from 0 to {STEPS - 1}, but got {timestep}.")
        noise, left = torch.randn(latent[:1].shape, generator=generator(seed)).to(latent), self.left[timestep]
        return left.sqrt() * latent + (1 - left).sqrt() * noise

    def trace(self, latent: Tensor, text: Text, timestep: int, capture: Capture, seed: int) -> Trace:
        return self.trace_noised(self.noised(latent, timestep, seed), text, timestep, capture)

    def trace_noised(self, noised: Tensor, text: Text, timestep: int, capture: Capture) -> Trace:
        if set(capture.queries + capture.states) - set(self.sites) or set(capture.features) - {1}:
            raise ValueError(f"What is captured must be this network's, but got {capture}.")
        rows = noised.expand(len(text.prompts), -1, -1, -1)
        count_pass(len(rows))
        _, attention, outputs = self.network(rows, timestep, text.embeddings)
        return self._traced(noised, text, timestep, capture, (attention, outputs))

    def _traced(self, noised: Tensor, text: Text, timestep: int, capture: Capture, seen_by: tuple) -> Trace:
        """What a pass saw, of its last rows: those of the text."""
        (attention, outputs), rows, grid = seen_by, len(text.prompts), tuple(noised.shape[-2:])
        seen = dict(zip(self.sites, attention, strict=True))
        crossing = {site: p for site, (kind, _, p, _) in seen.items() if kind == "cross" and 1 in capture.cross}
        return Trace(
            text, timestep, grid,
            {site: p[-rows:].unflatten(1, grid) for site, p in crossing.items()},
            {
                site: phrase_maps(p[-rows:].unflatten(1, grid), text.spans)
                for site, (kind, _, p, _) in seen.items()
                if kind == "cross" and 1 in capture.phrases
            },
            {s: query[-rows:].mT.unflatten(2, grid) for s, (_, query, _, _) in seen.items() if s in capture.queries},
            {1: torch.cat(outputs, 1)[-rows:]} if capture.features else {},
            {
                s: AttentionStates(both.query[-rows:], both.key[-rows:])
                for s, (_, _, _, both) in seen.items()
                if s in capture.states
            },
            noised,
        )  # fmt: skip

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        if len(prompt) > LETTERS:
            raise ValueError(f"The prompt must have {LETTERS} letters at most, but got {len(prompt)}.")
        own = tuple(Token(letter.lower(), "word", k, k + 1) for k, letter in enumerate(prompt))
        return own + (Token("", "padding"),) * (LETTERS - len(prompt))

    def width(self, site: Site) -> int:
        return WIDTH

    def timesteps(self, sampling: Sampling) -> tuple[int, ...]:
        if sampling.steps < 1:
            raise ValueError(f"Generation must take 1 step or more, but got {sampling.steps}.")
        return tuple(int(t) for t in np.linspace(STEPS - 1, 0, sampling.steps).round())

    def generate(
        self,
        prompt: str,
        seeds: Sequence[int],
        sampling: Sampling,
        phrase: str = "",
        on_step: OnStep | None = None,
        *,
        start: int | None = None,
        watch: Watch | None = None,
    ) -> tuple[Generated, ...]:
        if phrase and watch:
            raise ValueError("A generation must gather a phrase's attention or be watched, but both were asked for.")
        times, looked, edge = self.timesteps(sampling), [], EDGE // PATCH
        text = self.encode_text([prompt] * len(seeds), [phrase] * len(seeds), starts=[start] * len(seeds))
        states = torch.cat([self._read([sampling.negative] * len(seeds)), text.embeddings])
        latent = torch.cat([torch.randn(1, 3 * PATCH**2, edge, edge, generator=generator(seed)) for seed in seeds]).to(
            states
        )
        for step, timestep in enumerate(times):
            count_pass(2 * len(seeds))
            noise, attention, outputs = self.network(latent.repeat(2, 1, 1, 1), timestep, states)
            if watch:
                watch.see(self._traced(latent, text, timestep, watch.capture, (attention, outputs)))
            without, given = noise.chunk(2)
            noise = without + sampling.guidance * (given - without)
            clean = (latent - (1 - self.left[timestep]).sqrt() * noise) / self.left[timestep].sqrt()
            after = self.left[times[step + 1]] if step + 1 < len(times) else torch.tensor(1.0)
            latent = after.sqrt() * clean.clamp(-1, 1) + (1 - after).sqrt() * noise
            own = [p[len(seeds) :, :, list(text.spans[0])].mean(-1) for kind, _, p, _ in attention if kind == "cross"]
            looked += own
            if on_step:
                on_step(step + 1, sampling.steps)
        maps = torch.stack(looked).mean(0).unflatten(1, (edge, edge)) if phrase else [None] * len(seeds)
        return tuple(Generated(self.decode(one), one, where) for one, where in zip(latent.split(1), maps, strict=True))

    def rows_per_pass(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        return 2

    def working_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        aspect = min(max(image_hw[0] / image_hw[1], 0.25), 4.0)
        return tuple(max(1, round(EDGE * math.sqrt(side) / PATCH)) * PATCH for side in (aspect, 1 / aspect))

    def square_hw(self) -> tuple[int, int]:
        return EDGE, EDGE

    def latent_shape(self, working_hw: tuple[int, int]) -> tuple[int, int, int]:
        return 3 * PATCH**2, working_hw[0] // PATCH, working_hw[1] // PATCH

    def _read(self, prompts: Sequence[str]) -> Tensor:
        codes = [[min(ord(letter), 127) for letter in prompt.ljust(LETTERS)[:LETTERS]] for prompt in prompts]
        return self.network.read(torch.tensor(codes))


def load_patches(source: str, name: str, device: torch.device | str, dtype: torch.dtype) -> Patches:
    """The weights of a file, in double precision: flat attention blows rounding up."""
    network = PatchTransformer()
    network.load_state_dict(load_file(Path(source)))
    return Patches(network.to(device, torch.float64), name)


def _positions(grid: tuple[int, int]) -> Tensor:
    """Where each place is (y * x, width), in waves of two directions."""
    y, x = torch.meshgrid(*(torch.arange(side) / side for side in grid), indexing="ij")
    waves = torch.arange(1, WIDTH // 2 + 1)
    return torch.cat([(side.flatten()[:, None] * waves * 2).sin() for side in (y, x)], 1)
