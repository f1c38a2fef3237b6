"""A backbone that is no U-Net: a small diffusion transformer over patches of pixels, in one file.

Its latent is the picture itself, cut into patches, so that encoding and decoding lose nothing. Its prompts are read
character by character. All attention is at one stride.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg.backbones.base import (
    NOTHING,
    Ablation,
    Capture,
    Generated,
    OnStep,
    Phrases,
    Sampling,
    Site,
    Text,
    Token,
    Trace,
    Watch,
    grid_at,
)
from ovseg.backbones.counting import count_pass
from ovseg.backbones.phrases import phrase_at
from ovseg.backbones.weights import fingerprint, generator
from ovseg.layer_attention import LayerAttention
from tests.self_attention import phrase_maps

PATCH, WIDTH, HEADS, LAYERS, CHARACTERS = 4, 24, 2, 3, 64
EDGE = 64  # pixels of a square picture
STEPS = 1000  # of the noise schedule


class Attention(nn.Module):
    """Attention of places to a context; says what it asked for and what it looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(
        self, places: Tensor, context: Tensor, grid: tuple[int, int], heads: tuple[int, ...], tokens: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, LayerAttention]:
        """Output and queries (b, n, d), and the attention; some heads and tokens are off."""
        query = self.query(places)
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (query, self.key(context), self.value(context))
        )
        q = q * (4 / math.sqrt(q.shape[-1]))  # sharper than usual: weights are random
        mask = ~torch.isin(torch.arange(k.shape[2]), torch.tensor(tokens))[None] if tokens else None
        states = LayerAttention(q, k, grid, mask=mask, make_value=lambda: v, out=self.out.weight)
        mixed = states.probabilities() @ v
        mixed[:, list(heads)] = 0
        return self.out(mixed.transpose(1, 2).flatten(2)), query, states


SITES = tuple(Site(f"{kind} {k}", 1, kind, f"layer {k}") for k in range(LAYERS) for kind in ("self", "cross"))


class PatchTransformer(nn.Module):
    """Predicts the noise of a noised picture from its patches and the states of a prompt's characters."""

    def __init__(self) -> None:
        super().__init__()
        self.characters, self.place_of_character = nn.Embedding(128, WIDTH), nn.Parameter(torch.randn(CHARACTERS, WIDTH) / 4)
        self.reader = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, 0.0, batch_first=True)
        self.enter, self.leave = nn.Linear(3 * PATCH**2, WIDTH), nn.Linear(WIDTH, 3 * PATCH**2)
        self.among_places, self.to_words = (nn.ModuleList(Attention() for _ in range(LAYERS)) for _ in range(2))
        self.mix = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def read(self, characters: Tensor) -> Tensor:
        """States (b, t, d) of characters (b, t)."""
        return self.reader(self.characters(characters) + self.place_of_character)

    def forward(
        self, noised: Tensor, timestep: float, states: Tensor, off: Ablation = NOTHING
    ) -> tuple[Tensor, dict[Site, tuple[Tensor, LayerAttention]], list]:
        """The noise (b, c, y, x); queries and attention of every site; the output of every layer."""
        grid = noised.shape[-2:]
        angles = torch.arange(WIDTH, device=noised.device) * (timestep / STEPS)
        x = self.enter(noised.flatten(2).mT) + _positions(grid).to(noised) + angles.to(noised).sin()
        attention, outputs = {}, []
        for k in range(LAYERS):
            for site, layer in zip(SITES[2 * k : 2 * k + 2], (self.among_places[k], self.to_words[k]), strict=True):
                normed, heads = self.norm(x), tuple(head for own, head in off.heads if own == site)
                context, tokens = (normed, ()) if site.kind == "self" else (states, off.tokens)
                out, *looked = layer(normed, context, tuple(grid), heads, tokens)
                x = x if site in off.layers else x + out
                attention[site] = tuple(looked)
            x = x + self.mix[k](self.norm(x))
            outputs.append(x.mT.unflatten(2, grid))
        return self.leave(self.norm(x)).mT.unflatten(2, grid), attention, outputs


class Patches:
    """The transformer as a `Backbone`."""

    sites = SITES
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
        phrases: Phrases,
        emphasis: float = 1.0,
        emphasised: Sequence[str] | None = None,
        *,
        starts: Sequence[int | None] | None = None,
    ) -> Text:
        if too_long := [prompt for prompt in prompts if not self.fits(prompt)]:
            raise ValueError(f"The prompt must fit {CHARACTERS} characters, but got {too_long[0]!r}.")
        states, empty = self._read(prompts), self._read([""])[0]
        wanted = [(row, one) for row, own in enumerate(phrases) for one in ((own,) if isinstance(own, str) else own)]
        spans = tuple(
            tuple(range(*phrase_at(prompts[row], phrase, start))) if phrase else ()
            for (row, phrase), start in zip(wanted, starts or [None] * len(wanted), strict=True)
        )
        for number, part in enumerate(emphasised or [phrase for _, phrase in wanted]):
            row, phrase = wanted[number]
            at = list(spans[number][phrase.rindex(part) :][: len(part)])
            states[row, at] = empty[at] + emphasis * (states[row, at] - empty[at])
        return Text(tuple(prompts), states, spans, tuple(row for row, _ in wanted))

    def untrained(self, seed: int) -> "Patches":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Patches(PatchTransformer(), self.name)

    def fits(self, prompt: str) -> bool:
        return len(prompt) <= CHARACTERS

    def word_keys(self, text: Text, sites: Sequence[Site]) -> dict[Site, Tensor]:
        layers = {site: self.network.to_words[int(site.name.split()[1])] for site in sites}
        return {
            site: layer.key(text.embeddings).unflatten(-1, (HEADS, -1)).transpose(1, 2) for site, layer in layers.items()
        }

    def noised(self, latent: Tensor, timestep: float, seed: int) -> Tensor:
        if not 0 <= timestep < STEPS:
            raise ValueError(f"The timestep must be from 0 to {STEPS - 1}, but got {timestep}.")
        noise, left = torch.randn(latent[:1].shape, generator=generator(seed)).to(latent), self.left[int(timestep)]
        return left.sqrt() * latent + (1 - left).sqrt() * noise

    def trace(
        self, latent: Tensor, text: Text, timestep: float, capture: Capture, seed: int, *, off: Ablation = NOTHING
    ) -> Trace:
        return self.trace_noised(self.noised(latent, timestep, seed), text, timestep, capture, off=off)

    def trace_noised(
        self, noised: Tensor, text: Text, timestep: float, capture: Capture, *, off: Ablation = NOTHING
    ) -> Trace:
        named = {*capture.queries, *capture.states, *off.sites}
        if named - set(self.sites) or set(capture.features) - {1}:
            raise ValueError(f"What is captured or off must be this network's, but got {capture}, {off}.")
        if any(not 0 <= head < HEADS for _, head in off.heads) or any(not 0 <= t < CHARACTERS for t in off.tokens):
            raise ValueError(f"What is off must be of {HEADS} heads and {CHARACTERS} tokens, but got {off}.")
        rows = noised.expand(len(text.prompts), -1, -1, -1)
        count_pass(len(rows))
        _, attention, outputs = self.network(rows, timestep, text.embeddings, off)
        return self._traced(noised, text, timestep, capture, (attention, outputs))

    def _traced(self, noised: Tensor, text: Text, timestep: float, capture: Capture, seen_by: tuple) -> Trace:
        """What a pass saw, of its last rows: those of the text."""
        (attention, outputs), rows, grid = seen_by, len(text.prompts), tuple(noised.shape[-2:])
        seen = {
            site: (query[-rows:], replace(states, query=states.query[-rows:], key=states.key[-rows:]))
            for site, (query, states) in attention.items()
        }
        crossing = {site: states.maps() for site, (_, states) in seen.items() if site.kind == "cross"}
        owners = text.slots[0]
        return Trace(
            text, timestep, grid,
            crossing if 1 in capture.cross else {},
            {site: phrase_maps(maps[list(owners)], text.spans) for site, maps in crossing.items() if 1 in capture.phrases},
            {site: query.mT.unflatten(2, grid) for site, (query, _) in seen.items() if site in capture.queries},
            {1: torch.cat(outputs, 1)[-rows:]} if capture.features else {},
            {site: states for site, (_, states) in seen.items() if site in capture.states},
            noised,
        )  # fmt: skip

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        if len(prompt) > CHARACTERS:
            raise ValueError(f"The prompt must have {CHARACTERS} characters at most, but got {len(prompt)}.")
        own = tuple(Token(character.lower(), "word", k, k + 1) for k, character in enumerate(prompt))
        return own + (Token("", "padding"),) * (CHARACTERS - len(prompt))

    def width(self, site: Site) -> int:
        return WIDTH

    def keys(self, site: Site, latent_hw: tuple[int, int]) -> int:
        return math.prod(grid_at(latent_hw, 1)) if site.kind == "self" else CHARACTERS

    def timesteps(self, sampling: Sampling) -> tuple[float, ...]:
        if sampling.steps < 1:
            raise ValueError(f"Generation must take 1 step or more, but got {sampling.steps}.")
        return tuple(int(t) for t in np.linspace(STEPS - 1, 0, sampling.steps).round())

    def generate(
        self, prompt: str, seeds: Sequence[int], sampling: Sampling, phrase: str = "", on_step: OnStep | None = None, *,
        start: int | None = None, watch: Watch | None = None,
    ) -> tuple[Generated, ...]:  # fmt: skip
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
            maps = [states.maps()[len(seeds) :] for site, (_, states) in attention.items() if site.kind == "cross"]
            looked += [own[..., list(text.spans[0])].mean(-1) for own in maps]
            if on_step:
                on_step(step + 1, sampling.steps)
        maps = torch.stack(looked).mean(0) if phrase else [None] * len(seeds)
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
        codes = [[min(ord(character), 127) for character in prompt.ljust(CHARACTERS)[:CHARACTERS]] for prompt in prompts]
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
