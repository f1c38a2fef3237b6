"""Recording attention while a U-Net runs: processors and hooks that live for one call."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import AttentionStates, Capture, Site, Text, Trace, Watch, grid_at
from ovseg.backbones.counting import count_pass
from ovseg.backbones.unet_layout import Layout


class Enough(Exception):  # noqa: N818  no error: how a pass ends early
    """All of the capture is recorded; the rest of the network need not run."""


class Recorder:
    """Collects what the processors and hooks of one pass see. It never leaves `backbones/`.

    Args:
        awaited: how many sites and modules are to be recorded; once all are, the pass is ended by `Enough`. None: never.
    """

    def __init__(self, awaited: int | None = None) -> None:
        self._awaited = awaited
        self.cross: dict[Site, Tensor] = {}
        self.queries: dict[Site, Tensor] = {}
        self.states: dict[Site, AttentionStates] = {}
        self.blocks: dict[int, list[Tensor]] = {}
        self._self_sums: dict[int, Tensor] = {}
        self._self_sites: dict[int, int] = {}

    def add_self_attention(self, stride: int, probabilities: Float[Tensor, "b n n"]) -> None:
        """Add one site's mean over heads to its stride's sum."""
        if stride in self._self_sums:
            self._self_sums[stride] += probabilities
        else:
            self._self_sums[stride] = probabilities
        self._self_sites[stride] = self._self_sites.get(stride, 0) + 1

    def count_recorded(self) -> None:
        """One more of what was awaited is recorded.

        Raises:
            Enough: it was the last.
        """
        if self._awaited is not None:
            self._awaited -= 1
            if self._awaited == 0:
                raise Enough

    def self_attention(self) -> dict[int, Float[Tensor, "b _n _n"]]:
        """Mean over the sites of each stride."""
        return {stride: total / self._self_sites[stride] for stride, total in self._self_sums.items()}

    def features(self) -> dict[int, Float[Tensor, "b _c _y _x"]]:
        """The outputs of each stride's blocks, one after the other in channels."""
        return {stride: torch.cat(outputs, 1) for stride, outputs in self.blocks.items()}

    def last_rows(self, count: int) -> "Recorder":
        """The same of the last `count` rows alone."""
        part = Recorder()
        part.cross = {site: maps[-count:] for site, maps in self.cross.items()}
        part.queries = {site: queries[-count:] for site, queries in self.queries.items()}
        part.states = {s: AttentionStates(both.query[-count:], both.key[-count:]) for s, both in self.states.items()}
        part.blocks = {stride: [output[-count:] for output in outputs] for stride, outputs in self.blocks.items()}
        part._self_sums = {stride: total[-count:] for stride, total in self._self_sums.items()}
        part._self_sites = dict(self._self_sites)
        return part

    def clear(self) -> None:
        """Forget what was recorded, before another pass."""
        for kept in (self.cross, self.queries, self.states, self.blocks, self._self_sums, self._self_sites):
            kept.clear()

    def trace(self, text: Text, timestep: int, latent_hw: tuple[int, int], noised: Tensor) -> Trace:
        """What was recorded, as a value."""
        return Trace(
            text, timestep, latent_hw, dict(self.cross), self.self_attention(), dict(self.queries), self.features(),
            dict(self.states), noised,
        )  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What a processor computed at its site in one pass; `probabilities` are None where nobody asked for them.

    Args:
        query: of all heads, one after the other in the last axis; `key` likewise.
        scale: what a product of query and key is multiplied by.
    """

    query: Float[Tensor, "b n c"]
    key: Float[Tensor, "b m c"]
    heads: int
    scale: float
    probabilities: Float[Tensor, "b n m"] | None
    is_cross: bool

    def states(self) -> AttentionStates:
        """Queries, scaled, and keys, heads apart."""
        query, key = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key))
        return AttentionStates(query * self.scale, key)


class ObservingProcessor(ABC):
    """Plain attention that shows its queries, its keys and its probabilities, averaged over heads, to `see`.

    One head at a time: the probabilities of all heads together, 8 x 4096 x 4096 for Stable Diffusion's finest grid,
    never exist at once. Where `needs_probabilities` is false, torch's fast kernel never makes any.
    """

    needs_probabilities = True

    @abstractmethod
    def see(self, seen: Seen) -> None:
        """Receive what was computed in one pass."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The layer's output (b, n, channels), equal to the default processor's up to rounding; diffusers calls it."""
        assert hidden_states.ndim == 3 and attention_mask is None and attn.group_norm is None
        is_cross = encoder_hidden_states is not None
        context = encoder_hidden_states if is_cross else hidden_states
        if is_cross and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        if self.needs_probabilities:
            mixed, probabilities = _attend(attn, query, key, value)
        else:
            mixed, probabilities = _attend_fast(attn, query, key, value), None
        self.see(Seen(query, key, attn.heads, attn.scale, probabilities, is_cross))
        return attn.to_out[1](attn.to_out[0](mixed))


class RecordingProcessor(ObservingProcessor):
    """Keeps what a capture asks for at one site of one pass."""

    def __init__(self, recorder: Recorder, site: Site, latent_hw: tuple[int, int], capture: Capture) -> None:
        self.recorder, self.site, self.grid = recorder, site, grid_at(latent_hw, site.stride)
        self.keeps_queries = site in capture.queries
        self.capture = capture
        strides = capture.cross if site.kind == "cross" else capture.self_attention
        self.needs_probabilities = self.keeps_queries or site.stride in strides

    def see(self, seen: Seen) -> None:
        """Keep them, on their grid."""
        if self.keeps_queries:
            self.recorder.queries[self.site] = seen.query.transpose(1, 2).unflatten(2, self.grid)
        if self.site in self.capture.states:
            self.recorder.states[self.site] = seen.states()
        if seen.is_cross and self.site.stride in self.capture.cross:
            self.recorder.cross[self.site] = seen.probabilities.unflatten(1, self.grid)
        elif not seen.is_cross and self.site.stride in self.capture.self_attention:
            self.recorder.add_self_attention(self.site.stride, seen.probabilities)
        self.recorder.count_recorded()


class Attribution:
    """The sum of what some tokens receive, over all sites and steps, on the latent grid; one map for each picture."""

    def __init__(self, columns: tuple[int, ...], latent_hw: tuple[int, int], pictures: int) -> None:
        self.columns, self.latent_hw, self.pictures = list(columns), latent_hw, pictures
        self._sum, self._count = 0.0, 0

    def add(self, probabilities: Float[Tensor, "b n t"], grid: tuple[int, int]) -> None:
        """Add one site's probabilities of one step."""
        # With guidance the pipeline runs the unconditional rows first, so the pictures' own are the last ones.
        own = probabilities[-self.pictures :, :, self.columns].mean(-1).unflatten(1, grid)
        grown = F.interpolate(own[:, None], self.latent_hw, mode="bicubic", align_corners=False)[:, 0]
        self._sum, self._count = self._sum + grown.clamp(min=0), self._count + 1

    def mean(self) -> Float[Tensor, "pictures y x"]:
        """The mean over all that was added."""
        return self._sum / self._count


class AttributingProcessor(ObservingProcessor):
    """Adds what one site gives to some tokens."""

    def __init__(self, attribution: Attribution, site: Site) -> None:
        self.attribution, self.grid = attribution, grid_at(attribution.latent_hw, site.stride)

    def see(self, seen: Seen) -> None:
        """Add the probabilities."""
        self.attribution.add(seen.probabilities, self.grid)


@contextmanager
def attributing(
    unet: UNet2DConditionModel, sites: Sequence[Site], columns: tuple[int, ...], latent_hw: tuple[int, int], pictures: int
) -> Iterator[Attribution]:
    """Gather what token columns receive from all cross-attention during the block; nothing for no columns."""
    attribution = Attribution(columns, latent_hw, pictures)
    crossing = [site for site in sites if site.kind == "cross"] if columns else []
    with _observed(unet, {site: AttributingProcessor(attribution, site) for site in crossing}):
        yield attribution


@contextmanager
def _observed(unet: UNet2DConditionModel, chosen: Mapping[Site, ObservingProcessor]) -> Iterator[None]:
    """Other processors at some sites during the block, and those from before afterwards, come what may.

    Every pass in the block is counted.
    """
    before = dict(unet.attn_processors)
    counter = unet.register_forward_pre_hook(lambda _, inputs: count_pass(len(inputs[0])))
    try:
        # `set_attn_processor` empties the dictionary it is given, so each call gets a copy of its own.
        unet.set_attn_processor({**before, **{f"{site.name}.processor": chosen[site] for site in chosen}})
        yield
    finally:
        counter.remove()
        unet.set_attn_processor(dict(before))


def _attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Output (b, n, c) and probabilities (b, n, tokens), the mean over heads, in float32 or better."""
    outputs, mean = [], 0.0
    # In half precision a product of query and key can be too large for a number, where torch's fast kernel, which scales
    # within, gives one. So the query is scaled first, by the scale's power of two, which changes no digit.
    first = 2.0 ** math.floor(math.log2(attn.scale))
    for q, k, v in zip(*(part.chunk(attn.heads, dim=-1) for part in (query, key, value)), strict=True):
        if attn.upcast_attention:
            q, k = q.float(), k.float()
        logits = (q * first) @ k.transpose(1, 2) * (attn.scale / first)
        probabilities = torch.softmax(logits.float() if attn.upcast_softmax else logits, dim=-1)
        outputs.append(probabilities.to(v.dtype) @ v)
        mean = mean + probabilities.to(torch.promote_types(probabilities.dtype, torch.float32)) / attn.heads
    return torch.cat(outputs, dim=-1), mean


def _attend_fast(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Output (b, n, c) by torch's own kernel."""
    query, key, value = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=attn.scale).transpose(1, 2).flatten(2)


@contextmanager
def watching(
    unet: UNet2DConditionModel, layout: Layout, watch: Watch, text: Text, latent_hw: tuple[int, int]
) -> Iterator[None]:
    """Hand over a trace of every pass that the network runs during the block.

    Args:
        text: the prompt of each picture; with guidance the pictures' own rows are the last ones of a pass.

    Raises:
        ValueError: a site or a stride that the network does not have.
    """
    pictures = len(text.prompts)
    with recording(unet, layout, watch.capture, latent_hw) as recorder:

        def hand_over(_module: torch.nn.Module, inputs: tuple, _output: object) -> None:
            noised, timestep = inputs[0][-pictures:], int(inputs[1])
            trace = recorder.last_rows(pictures).trace(text, timestep, latent_hw, noised)
            recorder.clear()
            watch.see(trace)

        listener = unet.register_forward_hook(hand_over)
        try:
            yield
        finally:
            listener.remove()


@contextmanager
def recording(
    unet: UNet2DConditionModel, layout: Layout, capture: Capture, latent_hw: tuple[int, int], stops: bool = False
) -> Iterator[Recorder]:
    """Record what `capture` asks for during the block; processors and hooks are as before afterwards, come what may.

    Args:
        stops: end the block as soon as all of it is recorded, where what the network would still compute is not needed.

    Raises:
        ValueError: a site or a stride that the network does not have.
    """
    _check(layout, capture)
    wanted = [site for site in layout.sites if _wanted(site, capture)]
    blocks = [(stride, path) for stride in dict.fromkeys(capture.features) for path in layout.blocks[stride]]
    recorder = Recorder(len(wanted) + len(blocks) if stops else None)
    hooks = [unet.get_submodule(path).register_forward_hook(_keeper(recorder, stride)) for stride, path in blocks]
    try:
        with _observed(unet, {site: RecordingProcessor(recorder, site, latent_hw, capture) for site in wanted}):
            yield recorder
    except Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()


def _check(layout: Layout, capture: Capture) -> None:
    unknown = [site.name for site in (*capture.queries, *capture.states) if site not in layout.sites]
    if unknown:
        raise ValueError(f"Captured sites must be the backbone's own, but it has no {unknown[0]!r}.")
    strange = [stride for stride in capture.features if stride not in layout.blocks]
    if strange:
        known = ", ".join(map(str, layout.blocks))
        raise ValueError(f"Captured features must be of the strides {known}, but got {strange[0]}.")


def _wanted(site: Site, capture: Capture) -> bool:
    strides = capture.cross if site.kind == "cross" else capture.self_attention
    return site.stride in strides or site in capture.queries or site in capture.states


def _keeper(recorder: Recorder, stride: int) -> Callable[[torch.nn.Module, tuple, Tensor | tuple], None]:
    def keep(module: torch.nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        recorder.blocks.setdefault(stride, []).append(output[0] if isinstance(output, tuple) else output)
        recorder.count_recorded()

    return keep
