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
from ovseg.backbones.weights import check_finite
from ovseg.maths.maps import phrase_maps


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
        self.phrases: dict[Site, Tensor] = {}
        self.given: dict[Site, Given] = {}
        self.blocks: dict[int, list[Tensor]] = {}

    def count_recorded(self) -> None:
        """One more of what was awaited is recorded.

        Raises:
            Enough: it was the last.
        """
        if self._awaited is not None:
            self._awaited -= 1
            if self._awaited == 0:
                raise Enough

    def features(self) -> dict[int, Float[Tensor, "b _c _y _x"]]:
        """The outputs of each stride's blocks, one after the other in channels."""
        return {stride: torch.cat(outputs, 1) for stride, outputs in self.blocks.items()}

    def last_rows(self, count: int) -> "Recorder":
        """The same of the last `count` rows alone."""
        part = Recorder()
        part.cross = {site: maps[-count:] for site, maps in self.cross.items()}
        part.queries = {site: queries[-count:] for site, queries in self.queries.items()}
        part.phrases = {site: maps[-count:] for site, maps in self.phrases.items()}
        part.given = {site: given.last_rows(count) for site, given in self.given.items()}
        part.blocks = {stride: [output[-count:] for output in outputs] for stride, outputs in self.blocks.items()}
        return part

    def clear(self) -> None:
        """Forget what was recorded, before another pass."""
        for kept in (self.cross, self.queries, self.phrases, self.given, self.blocks):
            kept.clear()

    def trace(self, text: Text, timestep: int, latent_hw: tuple[int, int], noised: Tensor) -> Trace:
        """What was recorded, as a value."""
        return Trace(
            text, timestep, latent_hw, dict(self.cross), dict(self.phrases), dict(self.queries), self.features(),
            StatesOnDemand(dict(self.given)), noised,
        )  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What a site was given in one pass: its places, and the tokens that they attend to; None where to each other.

    Queries and keys are made of it: together they would take twice the memory of the places.
    """

    attn: Attention
    places: Float[Tensor, "b n c"]
    tokens: Float[Tensor, "b m e"] | None

    @torch.no_grad()
    def states(self) -> AttentionStates:
        """Queries, scaled, and keys, heads apart.

        Raises:
            ValueError: they are too large for the precision.
        """
        context = self.places if self.tokens is None else self.tokens
        both = (self.attn.to_q(self.places), self.attn.to_k(context))
        query, key = (part.unflatten(-1, (self.attn.heads, -1)).transpose(1, 2) for part in both)
        check_finite("The network's attention and features", query.dtype, query, key)
        return AttentionStates(query * self.attn.scale, key)

    def last_rows(self, count: int) -> "Given":
        """The same of the last `count` rows alone."""
        return Given(self.attn, self.places[-count:], None if self.tokens is None else self.tokens[-count:])


class StatesOnDemand(Mapping[Site, AttentionStates]):
    """Queries and keys by site, made each time that they are looked up."""

    def __init__(self, given: dict[Site, Given]) -> None:
        self._given = given

    def __getitem__(self, site: Site) -> AttentionStates:
        return self._given[site].states()

    def __iter__(self) -> Iterator[Site]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


@dataclass(frozen=True)
class Seen:
    """What a processor saw at its site in one pass.

    Args:
        query: of all heads, one after the other in the last axis.
        probabilities: the mean over heads; None where nobody asked for them.
    """

    given: Given
    query: Float[Tensor, "b n c"]
    probabilities: Float[Tensor, "b n m"] | None


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
        self.see(Seen(Given(attn, hidden_states, context if is_cross else None), query, probabilities))
        return attn.to_out[1](attn.to_out[0](mixed))


class RecordingProcessor(ObservingProcessor):
    """Keeps what a capture asks for at one site of one pass."""

    def __init__(self, recorder: Recorder, site: Site, wanted: "Wanted") -> None:
        self.recorder, self.site, self.grid = recorder, site, grid_at(wanted.latent_hw, site.stride)
        self.capture, self.spans = wanted.capture, wanted.text.spans
        self.needs_probabilities = site.kind == "cross" and site.stride in (*self.capture.cross, *self.capture.phrases)

    def see(self, seen: Seen) -> None:
        """Keep them, on their grid."""
        if self.site in self.capture.queries:
            self.recorder.queries[self.site] = seen.query.transpose(1, 2).unflatten(2, self.grid)
        if self.site in self.capture.states:
            self.recorder.given[self.site] = seen.given
        if self.needs_probabilities:
            maps = seen.probabilities.unflatten(1, self.grid)
            if self.site.stride in self.capture.cross:
                self.recorder.cross[self.site] = maps
            if self.site.stride in self.capture.phrases:
                # With guidance there are unconditional rows before those of the text.
                self.recorder.phrases[self.site] = phrase_maps(maps[-len(self.spans) :], self.spans)
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
    with recording(unet, layout, Wanted(watch.capture, text, latent_hw)) as recorder:

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


@dataclass(frozen=True)
class Wanted:
    """What is recorded of passes over latents of (y, x) places; their last rows are those of the text."""

    capture: Capture
    text: Text
    latent_hw: tuple[int, int]

    def needs(self, site: Site) -> bool:
        """Whether anything of a site is recorded."""
        capture = self.capture
        crossed = site.kind == "cross" and site.stride in (*capture.cross, *capture.phrases)
        return crossed or site in capture.queries or site in capture.states


@contextmanager
def recording(unet: UNet2DConditionModel, layout: Layout, wanted: Wanted, stops: bool = False) -> Iterator[Recorder]:
    """Record what is wanted during the block; processors and hooks are as before afterwards, come what may.

    Args:
        stops: end the block as soon as all of it is recorded, where what the network would still compute is not needed.

    Raises:
        ValueError: a site or a stride that the network does not have, or the phrase of a prompt without one.
    """
    _check(layout, wanted)
    sites = [site for site in layout.sites if wanted.needs(site)]
    blocks = [(stride, path) for stride in dict.fromkeys(wanted.capture.features) for path in layout.blocks[stride]]
    recorder = Recorder(len(sites) + len(blocks) if stops else None)
    hooks = [unet.get_submodule(path).register_forward_hook(_keeper(recorder, stride)) for stride, path in blocks]
    try:
        with _observed(unet, {site: RecordingProcessor(recorder, site, wanted) for site in sites}):
            yield recorder
    except Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()


def _check(layout: Layout, wanted: Wanted) -> None:
    capture = wanted.capture
    if capture.phrases and not all(wanted.text.spans):
        raise ValueError("Attention to phrases needs a phrase in every prompt, but a prompt has none.")
    unknown = [site.name for site in (*capture.queries, *capture.states) if site not in layout.sites]
    if unknown:
        raise ValueError(f"Captured sites must be the backbone's own, but it has no {unknown[0]!r}.")
    strange = [stride for stride in capture.features if stride not in layout.blocks]
    if strange:
        known = ", ".join(map(str, layout.blocks))
        raise ValueError(f"Captured features must be of the strides {known}, but got {strange[0]}.")


def _keeper(recorder: Recorder, stride: int) -> Callable[[torch.nn.Module, tuple, Tensor | tuple], None]:
    def keep(module: torch.nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        recorder.blocks.setdefault(stride, []).append(output[0] if isinstance(output, tuple) else output)
        recorder.count_recorded()

    return keep
