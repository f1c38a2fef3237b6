"""Recording attention while a U-Net runs: processors and hooks that live for one call."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import Capture, Site, count_pass, grid_at
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


class ObservingProcessor(ABC):
    """Plain attention that shows its queries and its probabilities, averaged over heads, to `see`.

    One head at a time: the probabilities of all heads together, 8 x 4096 x 4096 for Stable Diffusion's finest grid,
    never exist at once.
    """

    @abstractmethod
    def see(self, query: Float[Tensor, "b n d"], probabilities: Float[Tensor, "b n t"], is_cross: bool) -> None:
        """Receive the queries and the probabilities of one pass."""

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
        mixed, probabilities = _attend(attn, query, key, value)
        self.see(query, probabilities, is_cross)
        return attn.to_out[1](attn.to_out[0](mixed))


class RecordingProcessor(ObservingProcessor):
    """Keeps what a capture asks for at one site of one pass."""

    def __init__(self, recorder: Recorder, site: Site, latent_hw: tuple[int, int], capture: Capture) -> None:
        self.recorder, self.site, self.grid = recorder, site, grid_at(latent_hw, site.stride)
        self.keeps_queries = site in capture.queries
        self.capture = capture

    def see(self, query: Float[Tensor, "b n d"], probabilities: Float[Tensor, "b n t"], is_cross: bool) -> None:
        """Keep them, on their grid."""
        if self.keeps_queries:
            self.recorder.queries[self.site] = query.transpose(1, 2).unflatten(2, self.grid)
        if is_cross and self.site.stride in self.capture.cross:
            self.recorder.cross[self.site] = probabilities.unflatten(1, self.grid)
        elif not is_cross and self.site.stride in self.capture.self_attention:
            self.recorder.add_self_attention(self.site.stride, probabilities)
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

    def see(self, query: Float[Tensor, "b n d"], probabilities: Float[Tensor, "b n t"], is_cross: bool) -> None:
        """Add the probabilities."""
        self.attribution.add(probabilities, self.grid)


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
    for q, k, v in zip(*(part.chunk(attn.heads, dim=-1) for part in (query, key, value)), strict=True):
        if attn.upcast_attention:
            q, k = q.float(), k.float()
        probabilities = torch.softmax(q @ k.transpose(1, 2) * attn.scale, dim=-1)
        outputs.append(probabilities.to(v.dtype) @ v)
        mean = mean + probabilities.to(torch.promote_types(probabilities.dtype, torch.float32)) / attn.heads
    return torch.cat(outputs, dim=-1), mean


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
    unknown = [site.name for site in capture.queries if site not in layout.sites]
    if unknown:
        raise ValueError(f"Captured queries must be of the backbone's own sites, but it has no {unknown[0]!r}.")
    strange = [stride for stride in capture.features if stride not in layout.blocks]
    if strange:
        known = ", ".join(map(str, layout.blocks))
        raise ValueError(f"Captured features must be of the strides {known}, but got {strange[0]}.")


def _wanted(site: Site, capture: Capture) -> bool:
    strides = capture.cross if site.kind == "cross" else capture.self_attention
    return site.stride in strides or site in capture.queries


def _keeper(recorder: Recorder, stride: int) -> Callable[[torch.nn.Module, tuple, Tensor | tuple], None]:
    def keep(module: torch.nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        recorder.blocks.setdefault(stride, []).append(output[0] if isinstance(output, tuple) else output)
        recorder.count_recorded()

    return keep
