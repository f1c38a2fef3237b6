"""Recording attention while a network runs: hooks that live for one call note what its layers are given."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

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

    def trace(self, timestep: float, noised: Float[Tensor, "_ c y x"]) -> Trace:
        """What was recorded, as a value."""
        features = {stride: torch.cat(outputs, 1) for stride, outputs in self._blocks.items()}
        return Trace(
            self._text, timestep, self._hw, self._cross, self._phrases, self._queries, features,
            StatesOnDemand(self._inputs), noised,
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
        self._awaited = len(sites) + len(blocks) if stops else None
        called = [] if layout.read else sites
        if self._mask is not None:
            called = [*called, *(site for site in layout.sites if site.kind == "cross")]
        called = [*called, *(site for site, _ in self._off.heads)]
        with ExitStack() as undo:
            undo.enter_context(counted(network))
            hooks = [network.get_submodule(path).register_forward_hook(self._keeper(stride)) for stride, path in blocks]
            for site in sites if layout.read else ():
                reader = self._reader(site)
                hooks.append(network.get_submodule(site.name).register_forward_pre_hook(reader, with_kwargs=True))
            for site in self._off.layers:
                hooks.append(network.get_submodule(site.name).register_forward_hook(_zeros))
            for hook in hooks:
                undo.callback(hook.remove)
            if called:  # behind the readers, whose own use of attention is none of the layer's
                calls = AttentionCalls(lambda path, call: self._see(network.get_submodule(path), path, call))
                undo.enter_context(calls.watching(network, {site.name for site in called}))
            with suppress(EndOfPass):
                yield

    def _reader(self, site: Site) -> Callable:
        grid = grid_at(self._hw, site.stride)

        def read(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            layer = self._layout.read(module, args, kwargs, grid)
            if site.kind == "cross":
                layer = layer.with_columns(self._text.token_of, self._mask)
            self._record(site, layer)

        return read

    def _see(self, module: torch.nn.Module, path: str, call: Call) -> tuple[Tensor | None, Collection[int]]:
        """Record the sites of a layer from its call; say which keys and heads are off."""
        own = [site for site in self._layout.sites if site.name == path]
        heads = [head for site, head in self._off.heads if site.name == path]
        if strange := [head for head in heads if not 0 <= head < call.query.shape[1]]:
            most = call.query.shape[1] - 1
            raise ValueError(f"A head of {path} must be one of 0 to {most}, but got {strange[0]}.")
        grid = grid_at(self._hw, own[0].stride)
        keys = _Keys(grid[0] * grid[1], call.key.shape[2], self._layout)
        mask = keys.mask(self._mask) if any(site.kind == "cross" for site in own) else None
        for site in own if not self._layout.read else ():
            if self._capture.needs(site):
                columns = keys.of_places(call.key.device) if site.kind == "self" else keys.of_words(self._text)
                parts = call.query, call.key, call.value, call.scale
                self._record(site, AttentionCall(*parts, grid, _output_weights(module), columns, mask))
        return mask, heads

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

    def _keeper(self, stride: int) -> Callable:
        grid = grid_at(self._hw, stride)

        def keep(_module: torch.nn.Module, _inputs: tuple, output: Any) -> None:
            places = self._layout.output(output, grid)[-len(self._text.prompts) :]
            self._blocks.setdefault(stride, []).append(places)
            self._count_recorded()

        return keep

    def _count_recorded(self) -> None:
        if self._awaited is not None:
            self._awaited -= 1
            if self._awaited == 0:
                raise EndOfPass


class _Keys:
    """Which of a layer's keys are places and which are words; where both share a softmax, places come first.

    Args:
        places: how many places there are, of so many keys.
    """

    def __init__(self, places: int, keys: int, layout: Layout) -> None:
        self.places, self.keys = places, keys
        self.first_word = 0 if layout.read else places

    def of_places(self, device: torch.device) -> Integer[Tensor, "1 m"] | None:
        """For each key its place, -1 for words."""
        if self.keys == self.places:
            return None
        columns = torch.arange(self.keys, device=device)[None]
        return columns.where(columns < self.places, -1)

    def of_words(self, text: Text) -> Integer[Tensor, "b m"]:
        """For each key its token, -1 for places and for what reads no token."""
        own = text.token_of
        if own is None:
            own = torch.arange(self.keys - self.first_word, device=text.embeddings.device).expand(len(text.prompts), -1)
        return F.pad(own, (self.first_word, 0), value=-1)

    def mask(self, words: Bool[Tensor, "b t"] | None) -> Bool[Tensor, "b m"] | None:
        """For each key whether it can be attended to, from the same for words."""
        return None if words is None else F.pad(words, (self.first_word, 0), value=True)


def phrase_maps(attention: LayerAttention, text: Text) -> Float[Tensor, "p y x"]:
    """The attention to each phrase: the mean over its tokens."""
    counts = text.indicators()
    received = text.unpacked(attention.spread(text.packed(counts)))
    return (received / counts.sum(1, keepdim=True).to(received)).unflatten(1, attention.grid)


@contextmanager
def watching(
    network: torch.nn.Module, layout: Layout, watch: Watch, text: Text, latent_hw: tuple[int, int]
) -> Iterator[None]:
    """Hand over a trace of every pass that the network runs during the block.

    Args:
        text: the prompt of each picture; with guidance the pictures' own rows are the last ones of a pass.

    Raises:
        ValueError: a site or a stride that the network does not have.
    """
    pictures, recorder = len(text.prompts), Recorder(layout, watch.capture, text, latent_hw)

    def hand_over(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], _output: object) -> None:
        trace = recorder.trace(_timestep(args, kwargs), _noised(args, kwargs)[-pictures:])
        recorder.clear()
        watch.see(trace)

    with recorder.attached(network):
        listener = network.register_forward_hook(hand_over, with_kwargs=True)
        try:
            yield
        finally:
            listener.remove()


class Attribution:
    """The mean of what a phrase receives over all sites and steps of a drawing, a map of the latent grid for each."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        self.watch = Watch(Capture(phrases=strides), self._add)
        self._sum, self._count = 0.0, 0

    def _add(self, trace: Trace) -> None:
        for own in trace.phrases.values():
            grown = F.interpolate(own[:, None], trace.latent_hw, mode="bicubic", align_corners=False)[:, 0]
            self._sum, self._count = self._sum + grown.clamp(min=0), self._count + 1

    def mean(self) -> Float[Tensor, "pictures y x"]:
        """The mean over all that was added."""
        return self._sum / self._count


@contextmanager
def counted(network: torch.nn.Module) -> Iterator[None]:
    """Count every pass of the network during the block."""
    counter = network.register_forward_pre_hook(
        lambda _module, args, kwargs: count_pass(len(_noised(args, kwargs))), with_kwargs=True
    )
    try:
        yield
    finally:
        counter.remove()


def _noised(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """What a denoiser of diffusers is given to denoise."""
    return args[0] if args else kwargs["hidden_states" if "hidden_states" in kwargs else "sample"]


def _timestep(args: tuple, kwargs: dict[str, Any]) -> float:
    return timestep_of(args[1] if len(args) > 1 else kwargs["timestep"])


def _zeros(_module: torch.nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
    """A layer's output without what it has to say."""
    if isinstance(output, tuple):
        return tuple(None if part is None else torch.zeros_like(part) for part in output)
    return torch.zeros_like(output)


def _output_weights(module: torch.nn.Module) -> Tensor | None:
    """The output projection's weights, where a layer has one of its own."""
    out = getattr(module, "to_out", None)
    return out[0].weight if isinstance(out, torch.nn.ModuleList) else None


def _check(layout: Layout, capture: Capture, text: Text, off: Ablation) -> None:
    if capture.phrases and not all(text.spans):
        raise ValueError("Attention to phrases needs a phrase in every prompt, but a prompt has none.")
    for what, sites in (("Captured", (*capture.queries, *capture.states)), ("Switched off", off.sites)):
        if unknown := [site.name for site in sites if site not in layout.sites]:
            raise ValueError(f"{what} sites must be the backbone's own, but it has no {unknown[0]!r}.")
    if strange := [stride for stride in capture.features if stride not in layout.blocks]:
        known = ", ".join(map(str, layout.blocks))
        raise ValueError(f"Captured features must be of the strides {known}, but got {strange[0]}.")
    if strange := [token for token in off.tokens if not 0 <= token < text.tokens]:
        raise ValueError(f"Tokens that are off must be of 0 to {text.tokens - 1}, but got {strange[0]}.")
