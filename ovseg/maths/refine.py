"""Edge refinement of scores against the picture: PAMR and a fully connected CRF."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

DILATIONS = (1, 2, 4, 8, 12, 24)  # pixels to the neighbours, those of PAMR's published code
NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
MOST_WEIGHTS = 2**26  # weights of neighbours that are kept: 256 MB
SHARPNESS = 0.1  # share of the local deviation of colours by which differences of colours are divided

CERTAINTY = 0.9  # probability that a CRF gives to the label of a mask; FreeSeg-Diff's released code has this value

Progress = Callable[[float], None]
"""Is called with the share of the work that is done, 0 to 1, once an iteration. It may raise to stop the work."""


def unwatched(share: float) -> None:
    """A `Progress` that does nothing."""


def pamr(
    image: Float[Tensor, "3 H W"],
    scores: Float[Tensor, "k h w"],
    iterations: int = 10,
    dilations: tuple[int, ...] = DILATIONS,
    progress: Progress = unwatched,
) -> Float[Tensor, "k H W"]:
    """Pixel-adaptive mask refinement (Araslanov and Roth 2020, arXiv 2005.08104, section 3.2).

    Each iteration replaces a score by a weighted mean of the scores of 8 neighbours at each dilation; a neighbour weighs
    more the more alike its colour is. The weights are computed once; those of a very large picture at each iteration anew,
    one neighbour at a time, so that they take little memory.

    Args:
        image: colours in any range; scaling or shifting them changes nothing.
        scores: of any size; they are first resized to the image's (bilinear, corners aligned).
    """
    height, width = image.shape[1:]
    if scores.shape[1:] != image.shape[1:]:
        scores = F.interpolate(scores[None], (height, width), mode="bilinear", align_corners=True)[0]
    scale = 1e-8 + SHARPNESS * _local_deviation(image, dilations)

    def affinities() -> Iterator[Tensor]:
        for shifted in _shifts(image, dilations):
            yield -((image - shifted).abs() / scale).mean(0)

    few = len(dilations) * len(NEIGHBOURS) * height * width <= MOST_WEIGHTS
    kept = list(affinities()) if few else None
    # The log of the softmax's denominator, gathered one neighbour at a time.
    total = torch.full((height, width), -torch.inf, dtype=image.dtype, device=image.device)
    for affinity in kept or affinities():
        total = torch.logaddexp(total, affinity)
    weights = [affinity.sub_(total).exp_() for affinity in kept] if few else None
    for iteration in range(iterations):
        progress(iteration / iterations)
        gathered = torch.zeros_like(scores)
        every = weights or ((affinity - total).exp() for affinity in affinities())
        for weight, values in zip(every, _shifts(scores, dilations), strict=True):
            gathered.addcmul_(weight, values)
        scores = gathered
    return scores


def _shifts(values: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """`values` (c, H, W) shifted to each neighbour in turn, borders replicated; all are views of one padded copy."""
    reach = max(dilations)
    padded = F.pad(values[None], (reach,) * 4, mode="replicate")[0]
    height, width = values.shape[1:]
    for dilation in dilations:
        for dy, dx in NEIGHBOURS:
            top, left = reach + dy * dilation, reach + dx * dilation
            yield padded[:, top : top + height, left : left + width]


def _local_deviation(image: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Standard deviation of each channel over the neighbours of all dilations; the centre counts once for each dilation."""
    count = 9 * len(dilations)
    mean = (len(dilations) * image + sum(_shifts(image, dilations))) / count
    squares = len(dilations) * (image - mean).pow(2)
    for shifted in _shifts(image, dilations):
        squares = squares + (shifted - mean).pow(2)
    return (squares / (count - 1)).sqrt()


def energies_of(mask: Bool[Tensor, "H W"]) -> Float[Tensor, "2 H W"]:
    """Energies for `DenseCRF.mean_field` of being outside and inside a mask, each pixel `CERTAINTY` of its label."""
    inside = torch.where(mask, CERTAINTY, 1 - CERTAINTY)
    return -torch.stack([1 - inside, inside]).log()


class DenseCRF:
    """A fully connected CRF with Potts compatibility (Krähenbühl and Koltun 2011, arXiv 1210.5644).

    Its two Gaussian kernels are applied on permutohedral lattices, each normalised by D^-1/2 on both sides. A pixel is one
    of its own neighbours, as in the authors' code. The lattices, which take most of the time of a large picture, are built
    once.

    Args:
        image: colours, 0 to 255.
        smoothness: of the kernel of positions: standard deviation in pixels, weight.
        appearance: of the kernel of positions and colours: standard deviations in pixels and in colour, weight.
    """

    def __init__(
        self,
        image: Float[Tensor, "3 H W"],
        smoothness: tuple[float, float] = (20.0, 5.0),
        appearance: tuple[float, float, float] = (20.0, 20.0, 100.0),
    ) -> None:
        height, width = image.shape[1:]
        ys, xs = torch.meshgrid(
            torch.arange(height, device=image.device), torch.arange(width, device=image.device), indexing="ij"
        )
        # The order of the axes changes which simplex of the lattice a point falls into: x first, as in the authors' code.
        places = torch.stack([xs.flatten(), ys.flatten()], 1).float()
        colours = image.reshape(3, -1).T.float()
        deviation_places, deviation_colours, weight = appearance
        self._kernels = (
            (smoothness[1], Lattice(places / smoothness[0])),
            (weight, Lattice(torch.cat([places / deviation_places, colours / deviation_colours], 1))),
        )

    def mean_field(
        self, unary: Float[Tensor, "k H W"], iterations: int = 10, progress: Progress = unwatched
    ) -> Float[Tensor, "k H W"]:
        """Probabilities of the labels, from their energies, such as the negative logarithm of probabilities."""
        energies = unary.reshape(len(unary), -1).T.float()
        beliefs = (-energies).softmax(1)
        for iteration in range(iterations):
            progress(iteration / iterations)
            support = sum(weight * lattice.filter(beliefs) for weight, lattice in self._kernels)
            beliefs = (support - energies).softmax(1)
        return beliefs.T.reshape(unary.shape)


class Lattice:
    """Gaussian filtering in d dimensions on a permutohedral lattice (Adams, Baek and Davis 2010, sections 3 and 4).

    `filter` approximates the product with the matrix exp(-|f_i - f_j|^2 / 2), normalised by D^-1/2 on both sides. Its time
    is linear in the number of points.

    Args:
        features: of each point, already divided by the standard deviations.
    """

    def __init__(self, features: Float[Tensor, "n d"]) -> None:
        keys, self._weights = _simplices(features.double())
        codes, steps = _coded(keys)
        vertices, places = torch.unique(codes, return_inverse=True)
        self._places, self._size = places, len(vertices)
        self._neighbours = [(_find(vertices, vertices + step), _find(vertices, vertices - step)) for step in steps]
        self._scale = self._smooth(torch.ones(len(features), 1, device=features.device)).clamp(min=1e-20).rsqrt()

    def filter(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """The normalised filter applied to every column."""
        return self._scale * self._smooth(self._scale * values)

    def _smooth(self, values: Tensor) -> Tensor:
        corners = self._places.shape[1]
        # Neighbours that are no vertices of the lattice are read from the last row, which stays 0.
        grid = values.new_zeros(self._size + 1, values.shape[1])
        for corner in range(corners):
            grid.index_add_(0, self._places[:, corner], values * self._weights[:, corner : corner + 1])
        for after, before in self._neighbours:
            grid[:-1] = grid[:-1] * 0.5 + (grid[before] + grid[after]) * 0.25
        out = sum(grid[self._places[:, k]] * self._weights[:, k : k + 1] for k in range(corners))
        return out / (1 + 2.0 ** -(corners - 1))


def _simplices(features: Tensor) -> tuple[Tensor, Tensor]:
    """Lattice coordinates (n, d + 1, d + 1) of the corners of each point's simplex, and their weights (n, d + 1)."""
    count, dimensions = features.shape
    corners = dimensions + 1
    numbers = torch.arange(1, corners, device=features.device)
    # Points go onto the plane of coordinates that sum to 0, scaled so that the blur has the deviation of a unit Gaussian.
    scaled = features * (corners * (2 / 3) ** 0.5 / (numbers * (numbers + 1)).sqrt())
    sums = torch.cat([scaled.flip(1).cumsum(1).flip(1), torch.zeros_like(scaled[:, :1])], 1)
    lifted = sums.clone()
    lifted[:, 1:] -= numbers * scaled
    nearest = (lifted / corners).round()
    excess = nearest.sum(1, keepdim=True)
    order = (lifted - corners * nearest).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1) + excess
    nearest = nearest + (rank < 0).double() - (rank > dimensions).double()
    rank = (rank + corners * ((rank < 0).double() - (rank > dimensions).double())).long()
    rest = (lifted - corners * nearest) / corners
    weights = torch.zeros(count, corners + 1, dtype=features.dtype, device=features.device)
    weights.scatter_add_(1, dimensions - rank, rest).scatter_add_(1, corners - rank, -rest)
    weights[:, 0] += 1 + weights[:, corners]
    remainder = torch.arange(corners, device=features.device)
    # Corner k adds k to every coordinate, and takes d + 1 from those of the k highest ranks. In 32 bits and in place: this
    # is what a CRF takes most memory for.
    keys = (corners * nearest)[:, None, :].int().repeat(1, corners, 1)
    keys += remainder[:, None].int()
    keys -= corners * (rank[:, None, :] > (dimensions - remainder)[:, None]).int()
    return keys, weights[:, :corners].float()


def _coded(keys: Tensor) -> tuple[Tensor, list[int]]:
    """A whole number for each vertex (n, d + 1), and what a step along each axis of the lattice adds to it."""
    coordinates = keys[..., :-1]  # the last follows from the others
    low = coordinates.amin((0, 1)).long() - 1
    radix = (coordinates.amax((0, 1)) - low + 2).tolist()
    corners, places, place = keys.shape[-1], [], 1
    for extent in radix:
        places.append(place)
        place *= extent
    assert place < 2**62, f"The lattice has too many places for one number each: {radix}."
    codes = sum(place * (coordinates[..., axis].long() - low[axis]) for axis, place in enumerate(places))
    every = sum(places)
    return codes, [every - (corners * places[axis] if axis < len(places) else 0) for axis in range(corners)]


def _find(vertices: Tensor, wanted: Tensor) -> Tensor:
    """Index of each of `wanted` among the sorted vertices; the number of vertices for one that is not among them."""
    places = torch.searchsorted(vertices, wanted).clamp(max=len(vertices) - 1)
    return torch.where(vertices[places] == wanted, places, len(vertices))
