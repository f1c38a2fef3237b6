"""Recording attention while a network runs: hooks that live for one call note what its layers are given."""

import itertools
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ovseg.backbones.attention_calls import AttentionCalls, Call
from ovseg.backbones.counting import count_pass
from ovseg.backbones.layer_input import AttentionCall, Input, StatesOnDemand, last_rows
from ovseg.backbones.layout import Layout
from ovseg.backbones.text import Text
from ovseg.backbones.trace import NOTHING, Ablation, Capture, Site, Trace, Watch, grid_at, timestep_of
from ovseg.layer_attention import LayerAttention


class EndOfPass(Exception):  # noqa: N818  no error: how a pass ends early
    """All of the capture is recorded; the rest of the network need not run."""


class Recorder:
    """Records what a capture asks for of passes over latents of one size, and switches off what an ablation names.

    It never leaves `backbones/`.

    Args:
        text: of the last rows of a pass; with guidance there are unconditional rows before them.

    Raises:
        ValueError: capture or ablation name what the network does not have, or the phrase of a prompt without one.
    """

    def __init__(
        self, layout: Layout, capture: Capture, text: Text, latent_hw: tuple[int, int], off: Ablation = NOTHING
    ) -> None:
        _check(layout, capture, text, off)
        self._layout, self._capture, self._text, self._off, self._hw = layout, capture, text, off, latent_hw
        self._awaited: int | None = None
        self._mask = off.mask(text)
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded, before another pass."""
        self._cross: dict[Site, Tensor] = {}
        self._phrases: dict[Site, Tensor] = {}
        self._queries: dict[Site, Tensor] = {}
        self._inputs: dict[Site, Input] = {}
        self._blocks: dict[int, list[Tensor]] = {}
        self._outputs: dict[Site, tuple[Tensor, Tensor]] = {}

    def trace(self, timestep: float, noised: Float[Tensor, "_ c y x"]) -> Trace:
        """What was recorded, as a value."""
        features = {stride: torch.cat(outputs, 1) for stride, outputs in self._blocks.items()}
        return Trace(
            self._text, timestep, self._hw, self._cross, self._phrases, self._queries, features,
            StatesOnDemand(self._inputs), noised, self._outputs,
        )  # fmt: skip

    @contextmanager
    def attached(self, network: torch.nn.Module, stops: bool = False) -> Iterator[None]:
        """Record the passes of the block; everything is as before afterwards, come what may.

        Args:
            stops: end the block as soon as all is recorded, where what the network would still compute is not needed.

        Raises:
            ValueError: a layer does not compute attention as its family's do, or has no head of a number.
        """
        capture, layout = self._capture, self._layout
        sites = [site for site in layout.sites if capture.needs(site)]
        blocks = [(stride, path) for stride in dict.fromkeys(capture.features) for path in layout.blocks[stride]]
        self._awaited = len(sites) + len(blocks) + len(capture.outputs) if stops else None
        called = [*capture.outputs] if layout.read else [*sites, *capture.outputs]
        if self._mask is not None or self._text.riders:
            called = [*called, *(site for site in layout.sites if site.kind == "cross")]
        called = [*called, *(site for site, _ in self._off.heads)]
        with ExitStack() as undo:
            undo.enter_context(counted(network))
            for stride, path in blocks:
                undo.enter_context(network.get_submodule(path).register_forward_hook(partial(self._keep, stride)))
            for site in sites if layout.read else ():
                module, read = network.get_submodule(site.name), partial(self._read, site)
                undo.enter_context(module.register_forward_pre_hook(read, with_kwargs=True))
            for site in self._off.layers:
                undo.enter_context(network.get_submodule(site.name).register_forward_hook(_zeros))
            if called:  # behind the readers, whose own use of attention is none of the layer's
                calls = AttentionCalls(lambda path, call: self._see(network.get_submodule(path), path, call), self._got)
                undo.enter_context(calls.watching(network, {site.name for site in called}))
            with suppress(EndOfPass):
                yield

    def _read(self, site: Site, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        layer = self._layout.read(module, args, kwargs, grid_at(self._hw, site.stride))
        if site.kind == "cross":
            layer = replace(layer, column_of=self._text.token_of, mask=self._mask)
        self._record(site, layer)

    def _see(self, module: torch.nn.Module, path: str, call: Call) -> tuple[Tensor | None, Collection[int]]:
        """Record the sites of a layer from its call; say which keys and heads are off."""
        own = [site for site in self._layout.sites if site.name == path]
        heads = [head for site, head in self._off.heads if site.name == path]
        if strange := [head for head in heads if not 0 <= head < call.query.shape[1]]:
            most = call.query.shape[1] - 1
            raise ValueError(f"A head of {path} must be one of 0 to {most}, but got {strange[0]}.")
        grid = grid_at(self._hw, own[0].stride)
        keys = _Keys(grid[0] * grid[1], call.key.shape[2], self._layout)
        sees_words = any(site.kind == "cross" for site in own)
        off = keys.mask(self._mask) if sees_words else None
        riding = keys.mask_of_riders(self._text.riders, call.query.device) if self._text.riders and sees_words else None
        mask = off
        if riding is not None:
            of_a_place = riding[:, keys.first_place]
            mask = of_a_place if off is None else off & of_a_place
        for site in own if not self._layout.read else ():
            if self._capture.needs(site):
                columns = keys.of_places(call.key.device) if site.kind == "self" else keys.of_words(self._text)
                parts = call.query, call.key, call.value, call.scale
                out = _output_weights(module)
                self._record(site, AttentionCall(*parts, grid, out, columns, mask, keys.first_place))
        if riding is None:
            return mask, heads
        return riding if off is None else riding & off[:, None], heads

    def _got(self, path: str, mixed: Float[Tensor, "b h n d"]) -> None:
        """Keep what the places and the riders of a joint layer gather."""
        for site in (site for site in self._capture.outputs if site.name == path):
            grid, rows = grid_at(self._hw, site.stride), len(self._text.prompts)
            gathered = mixed[-rows:].transpose(1, 2).flatten(2)
            keys = _Keys(grid[0] * grid[1], gathered.shape[1], self._layout)
            parts = keys.of_all_places, keys.of_riders(self._text.riders)
            self._outputs[site] = tuple(gathered[:, part].clone() for part in parts)
            self._count_recorded()

    def _record(self, site: Site, layer: Input) -> None:
        layer, capture = last_rows(layer, len(self._text.prompts)), self._capture
        if site in capture.queries:
            self._queries[site] = layer.queries()
        if site in capture.states:
            self._inputs[site] = layer
        if capture.crosses(site):
            # Now, while the layer's input is there: to keep it would take more than the maps.
            attention = layer.attention()
            if site.stride in capture.cross:
                self._cross[site] = attention.maps()
            if site.stride in capture.phrases:
                self._phrases[site] = phrase_maps(attention, self._text)
        self._count_recorded()

    def _keep(self, stride: int, _module: torch.nn.Module, _inputs: tuple, output: Any) -> None:
        places = self._layout.output(output, grid_at(self._hw, stride))[-len(self._text.prompts) :]
        self._blocks.setdefault(stride, []).append(places)
        self._count_recorded()

    def _count_recorded(self) -> None:
        if self._awaited is not None:
            self._awaited -= 1
            if self._awaited == 0:
                raise EndOfPass


class _Keys:
    """Which of so many keys of a layer are places, and which are words."""

    def __init__(self, places: int, keys: int, layout: Layout) -> None:
        self.places, self.keys = places, keys
        self.first_place = keys - places if layout.words_first else 0
        self.first_word = 0 if layout.read or layout.words_first else places
        self.of_all_places = slice(self.first_place, self.first_place + places)

    def of_riders(self, riders: int) -> slice:
        """Where the words that ride along are: the last ones of all words."""
        end = self.first_place or self.keys
        return slice(end - riders, end)

    def of_places(self, device: torch.device) -> Integer[Tensor, "1 m"] | None:
        """For each key its place, -1 for words."""
        if self.keys == self.places:
            return None
        columns = torch.arange(self.keys, device=device)[None] - self.first_place
        return columns.where((columns >= 0) & (columns < self.places), -1)

    def of_words(self, text: Text) -> Integer[Tensor, "b m"]:
        """For each key its token, -1 for places and for what reads no token."""
        own = text.token_of
        if own is None:
            own = torch.arange(text.tokens, device=text.embeddings.device).expand(len(text.prompts), -1)
        return F.pad(own, (self.first_word, self.keys - self.first_word - own.shape[1]), value=-1)

    def mask(self, words: Bool[Tensor, "b t"] | None) -> Bool[Tensor, "b m"] | None:
        """For each key whether it can be attended to, from the same for words."""
        if words is None:
            return None
        return F.pad(words, (self.first_word, self.keys - self.first_word - words.shape[1]), value=True)

    def mask_of_riders(self, riders: int, device: torch.device) -> Bool[Tensor, "1 n m"]:
        """For each query which keys it can attend to: none a rider's, but riders one another's and the places'."""
        is_rider, is_place = torch.zeros(2, self.keys, dtype=torch.bool, device=device)
        is_rider[self.of_riders(riders)], is_place[self.of_all_places] = True, True
        return torch.where(is_rider[:, None], is_rider | is_place, ~is_rider)[None]


def phrase_maps(attention: LayerAttention, text: Text) -> Float[Tensor, "p y x"]:
    """The attention to each phrase: the mean over its tokens."""
    counts = text.indicators()
    received = text.unpacked(attention.spread(text.packed(counts)))
    return (received / counts.sum(1, keepdim=True).to(received)).unflatten(1, attention.grid)


@contextmanager
def watching(
    network: torch.nn.Module, layout: Layout, watch: Watch, text: Text, *, latent_hw: tuple[int, int], passes: int = 1
) -> Iterator[None]:
    """Hand over a trace of every step that the network runs during the block.

    Args:
        text: the prompt of each picture; with guidance the pictures' own rows are the last ones of a pass.
        passes: how many a step takes; where guidance has one of its own, that of the pictures' own rows is the first.

    Raises:
        ValueError: a site or a stride that the network does not have.
    """
    pictures, recorder = len(text.prompts), Recorder(layout, watch.capture, text, latent_hw)
    numbers = itertools.count()

    def hand_over(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], _output: object) -> None:
        trace = recorder.trace(_timestep(args, kwargs) * layout.clock, on_grid(_noised(args, kwargs)[-pictures:], latent_hw))
        recorder.clear()
        if next(numbers) % passes == 0:
            watch.see(trace)

    with recorder.attached(network), network.register_forward_hook(hand_over, with_kwargs=True):
        yield


class Attribution:
    """The mean of what a phrase receives over all sites and steps of a drawing, a map of the latent grid for each.

    Maps are resized bicubically and what is below 0 is cut off: the mean of heads and tokens, or each of them `apart`.
    """

    def __init__(self, sites: tuple[Site, ...], *, apart: bool = False) -> None:
        crossing = tuple(site for site in sites if site.kind == "cross")
        strides = tuple(sorted({site.stride for site in crossing}))
        self.watch = Watch(Capture(states=crossing) if apart else Capture(phrases=strides), self._add)
        self._sum, self._count = 0.0, 0

    def _add(self, trace: Trace) -> None:
        means = (maps[:, None] for maps in trace.phrases.values())
        for maps in itertools.chain(means, (_maps_apart(layer, trace.text) for layer in trace.states.values())):
            grown = F.interpolate(maps, trace.latent_hw, mode="bicubic", align_corners=False)
            self._sum, self._count = self._sum + grown.clamp(min=0).mean(1), self._count + 1

    def mean(self) -> Float[Tensor, "pictures y x"]:
        """The mean over all that was added."""
        return self._sum / self._count


def _maps_apart(layer: LayerAttention, text: Text) -> Float[Tensor, "p m y x"]:
    """What each token of each row's phrase receives in each head; rows have the same phrase."""
    attended = layer.probabilities()
    own = [attended[row, :, :, list(span)] for row, span in zip(text.slots[0], text.spans, strict=True)]
    return torch.stack(own).mT.flatten(1, 2).unflatten(2, layer.grid)


def counted(network: torch.nn.Module) -> RemovableHandle:
    """Counts every pass of the network during a block."""
    return network.register_forward_pre_hook(
        lambda _module, args, kwargs: count_pass(len(_noised(args, kwargs))), with_kwargs=True
    )


def _noised(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """What a denoiser of diffusers is given to denoise."""
    return args[0] if args else kwargs["hidden_states" if "hidden_states" in kwargs else "sample"]


def on_grid(latents: Tensor, latent_hw: tuple[int, int]) -> Float[Tensor, "b c y x"]:
    """Latents, which some networks are given as a row of places (b, n, c)."""
    return latents if latents.ndim == 4 else latents.mT.unflatten(2, latent_hw)


def _timestep(args: tuple, kwargs: dict[str, Any]) -> float:
    return timestep_of(args[1] if len(args) > 1 else kwargs["timestep"])


def _zeros(_module: torch.nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
    """A layer's output without what it has to say."""
    if isinstance(output, tuple):
        return tuple(None if part is None else torch.zeros_like(part) for part in output)
    return torch.zeros_like(output)


def _output_weights(module: torch.nn.Module) -> Tensor | None:
    """The output projection's weights, where a layer has one for its attention alone."""
    out = getattr(module, "to_out", None)
    return out[0].weight if isinstance(out, torch.nn.ModuleList) else None


def _check(layout: Layout, capture: Capture, text: Text, off: Ablation) -> None:
    if capture.phrases and not all(text.spans):
        raise ValueError("Attention to phrases needs a phrase in every prompt, but a prompt has none.")
    if (capture.outputs or text.riders) and layout.read:
        raise ValueError("Words ride along where places and words share a softmax, but this network has no such layer.")
    for what, sites in (("Captured", (*capture.queries, *capture.states, *capture.outputs)), ("Switched off", off.sites)):
        if unknown := [site.name for site in sites if site not in layout.sites]:
            raise ValueError(f"{what} sites must be the backbone's own, but it has no {unknown[0]!r}.")
    if strange := [stride for stride in capture.features if stride not in layout.blocks]:
        known = ", ".join(map(str, layout.blocks))
        raise ValueError(f"Captured features must be of the strides {known}, but got {strange[0]}.")
    if strange := [token for token in off.tokens if not 0 <= token < text.tokens]:
        raise ValueError(f"Tokens that are off must be of 0 to {text.tokens - 1}, but got {strange[0]}.")
