"""Whether a loaded network keeps to what is read from it: two passes over the smallest grid, in a fraction of a second."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ovseg.backbones.base import Backbone, Capture, Sampling, Trace, grid_at
from ovseg.backbones.outputs import outputs_of
from ovseg.layer_attention import LayerAttention

NEAR = {torch.float64: 1e-6, torch.float32: 1e-3}  # differences that rounding explains
ROUGH = 0.05  # and those in half precision


@dataclass(frozen=True)
class NetworkCheck:
    """What the checks found: a name for each that failed."""

    failed: tuple[str, ...]

    def __str__(self) -> str:
        good = f"{len(CHECKS)} checks of the network passed"
        return f"of the network's checks these failed: {', '.join(self.failed)}" if self.failed else good


@dataclass(frozen=True)
class Passes:
    """A pass, the same with the words' states in the order `turn`, and all that layers put out, by the sites' names."""

    plain: Trace
    turned: Trace
    turn: Tensor
    outputs: Mapping[str, Sequence[Tensor | tuple]]

    def is_near(self, differences: Tensor, scale: float = 1.0) -> bool:
        """Whether rounding explains the differences of values as large as `scale`."""
        return float(differences.abs().max()) <= NEAR.get(self.plain.noised.dtype, ROUGH) * scale


@torch.no_grad()
def check_network(backbone: Backbone) -> NetworkCheck:
    """Look at a network on a latent that is not square: one place by two at its coarsest stride.

    Raises:
        ValueError: what a pass over it computes is not finite.
    """
    stride = max(*backbone.strides, *backbone.feature_strides)
    text, drawn = backbone.encode_text(["a cat"], [""]), torch.Generator().manual_seed(0)
    shape = (1, backbone.latent_shape(backbone.square_hw())[0], stride, 2 * stride)
    latent = torch.randn(shape, generator=drawn).to(text.embeddings)
    turn = torch.randperm(text.embeddings.shape[1], generator=drawn).to(latent.device)
    timestep = backbone.timesteps(Sampling(2, 1.0))[-1]
    everything = Capture(cross=backbone.strides, features=backbone.feature_strides, states=backbone.sites)
    modules = dict(getattr(backbone, "network", torch.nn.Module()).named_modules())
    with ExitStack() as undo:  # networks whose sites are named by their modules' paths
        named = {site.name for site in backbone.sites} & set(modules)
        outputs = {name: undo.enter_context(outputs_of(modules[name])) for name in named}
        plain = backbone.trace_noised(latent, text, timestep, everything)
    token_of = None if text.token_of is None else text.token_of[:, turn.to(text.token_of.device)]
    other = replace(text, embeddings=text.embeddings[:, turn], token_of=token_of)
    turned = backbone.trace_noised(latent, other, timestep, Capture(cross=backbone.strides))
    return NetworkCheck(tuple(name for name, holds in CHECKS.items() if not holds(Passes(plain, turned, turn, outputs))))


def _rows_sum_to_one(passes: Passes) -> bool:
    """By torch's kernel, over all keys, those that stand for no word and no place included."""
    every = (replace(states, column_of=None) for states in passes.plain.states.values())
    return all(passes.is_near(layer.spread(layer.key.new_ones(1, 1, layer.key.shape[2])) - 1) for layer in every)


def _outputs_come_back(passes: Passes) -> bool:
    """Up to the bias of the output projection, which is the same everywhere."""

    def comes_back(layer: LayerAttention, output: Tensor | tuple) -> bool:
        output = output[0] if isinstance(output, tuple) else output
        mixed = (layer.query @ layer.key.mT).softmax(-1) @ layer.value()
        apart = (output - mixed.transpose(1, 2).flatten(2) @ layer.out.mT).float()
        return passes.is_near(apart - apart.mean(1, keepdim=True), float(output.abs().max()))

    layers = ((layer, passes.outputs.get(site.name)) for site, layer in passes.plain.states.items())
    return all(comes_back(layer, given[-1]) for layer, given in layers if given and layer.out is not None)


def _order_is_kept(passes: Passes) -> bool:
    """Columns follow the states of the words; where a text says which token a column reads, tokens stay where they are."""
    own = passes.plain.text.token_of is not None
    pairs = (
        (maps if own else maps[..., passes.turn], passes.turned.cross[site]) for site, maps in passes.plain.cross.items()
    )
    return all(passes.is_near(one - other) for one, other in pairs)


def _grids_are_the_latents(passes: Passes) -> bool:
    def is_right(stride: int, grid: tuple[int, int], places: int) -> bool:
        return tuple(grid) == grid_at(passes.plain.latent_hw, stride) and places == grid[0] * grid[1]

    layers = (is_right(site.stride, layer.grid, layer.query.shape[2]) for site, layer in passes.plain.states.items())
    blocks = (is_right(stride, maps.shape[2:], maps[0, 0].numel()) for stride, maps in passes.plain.features.items())
    return all(layers) and all(blocks)


def _all_is_finite(passes: Passes) -> bool:
    return all(bool(tensor.isfinite().all()) for trace in (passes.plain, passes.turned) for tensor in trace.tensors())


CHECKS: dict[str, Callable[[Passes], bool]] = {
    "rows of attention sum to 1": _rows_sum_to_one,
    "queries, keys and values give the layers' outputs": _outputs_come_back,
    "columns are in the order of the words": _order_is_kept,
    "grids are those of the latent": _grids_are_the_latents,
    "features are finite": _all_is_finite,
}
