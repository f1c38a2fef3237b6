"""Clustering of features: k-means on whatever device the points are on, and agglomerative clustering."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

ROUNDING = 1e-6  # share of two points' squared lengths; a squared distance below it is a rounding error and counts as 0


def kmeans(
    points: Float[Tensor, "n d"], count: int, restarts: int = 10, seed: int = 0, iterations: int = 300
) -> tuple[Int[Tensor, " n"], Float[Tensor, "k d"]]:
    """Lloyd's k-means from greedy k-means++ starts (Arthur and Vassilvitskii 2007); the best of several restarts.

    Where there are fewer points than dimensions, distances are computed from the Gram matrix: the objective is the same,
    and an iteration costs n x n x k multiplications in place of n x d x k.

    Args:
        count: of clusters; fewer are returned if fewer points are distinct.
        seed: of the starts. They are drawn on the CPU, so that the result does not depend on the device.

    Returns:
        The cluster of each point, numbered from 0, and the centres.

    Raises:
        ValueError: there are no points, or `count` or `restarts` is below 1.
    """
    if len(points) == 0 or count < 1 or restarts < 1:
        raise ValueError(f"k-means needs points, a cluster and a start, but got {len(points)}, {count} and {restarts}.")
    rows = points.float()
    space = _Gram(rows) if len(rows) < rows.shape[1] else _Points(rows)
    generator = torch.Generator().manual_seed(seed)
    best: tuple[float, Tensor] | None = None
    for _ in range(restarts):
        labels, inertia = _lloyd(space, _plus_plus(space, count, generator), iterations)
        if best is None or inertia < best[0]:
            best = inertia, labels
    labels = torch.unique(best[1], return_inverse=True)[1]
    return labels, membership(labels, int(labels.max()) + 1) @ rows


def library_kmeans(
    points: Float[Tensor, "n d"], count: int, restarts: int = 10, seed: int = 0
) -> tuple[Int[Tensor, " n"], Float[Tensor, "k d"]]:
    """The same by scikit-learn on the CPU: with the starts of the published codes, so that clusters are theirs; slower."""
    from sklearn.cluster import KMeans

    found = KMeans(min(count, len(points)), n_init=restarts, random_state=seed).fit(points.float().cpu().numpy())
    labels, centres = (torch.from_numpy(part).to(points.device) for part in (found.labels_, found.cluster_centers_))
    return labels.long(), centres


def agglomerate(points: Float[Tensor, "n d"], count: int) -> Int[Tensor, " n"]:
    """Ward's agglomerative clustering, by scikit-learn on the CPU: the cluster of each point; no more than points."""
    from sklearn.cluster import AgglomerativeClustering

    wanted = min(count, len(points))
    labels = AgglomerativeClustering(wanted).fit_predict(points.float().cpu().numpy())
    return torch.from_numpy(np.asarray(labels, np.int64)).to(points.device)


def membership(labels: Int[Tensor, " n"], count: int) -> Float[Tensor, "k n"]:
    """A matrix that, multiplied with the points, gives the mean of each cluster; an empty cluster has a row of zeros."""
    chosen = torch.nn.functional.one_hot(labels, count).T.float()
    return chosen / chosen.sum(1, keepdim=True).clamp(min=1)


class _Points:
    """Squared distances, computed from the points (n, d)."""

    def __init__(self, points: Tensor) -> None:
        self.points = points - points.mean(0)  # far from the origin, differences would lose precision
        self.squares = self.points.pow(2).sum(1)

    def at(self, index: int) -> Tensor:
        """Squared distances (n,) to one of the points, from products: one pass over the points in place of three."""
        scale = self.squares + self.squares[index]
        distances = scale - 2 * (self.points @ self.points[index])
        return torch.where(distances > ROUNDING * scale, distances, 0)

    def to_clusters(self, labels: Tensor, count: int) -> Tensor:
        """Squared distances (n, k) to the centres of clusters."""
        centres = membership(labels, count) @ self.points
        # The few centres are doubled, not the many points: a copy of these costs more than the product.
        return (self.squares[:, None] - self.points @ (2 * centres).T + centres.pow(2).sum(1)).clamp(min=0)


class _Gram:
    """The same from the inner products of centred points. A centre is represented by its weights of the points."""

    def __init__(self, points: Tensor) -> None:
        centred = points - points.mean(0)
        self.gram = centred @ centred.T
        self.squares = self.gram.diagonal()

    def at(self, index: int) -> Tensor:
        return (self.squares + self.squares[index] - 2 * self.gram[index]).clamp(min=0)

    def to_clusters(self, labels: Tensor, count: int) -> Tensor:
        weights = membership(labels, count)
        products = self.gram @ weights.T
        return (self.squares[:, None] - 2 * products + (weights * products.T).sum(1)).clamp(min=0)


def _plus_plus(space: _Points | _Gram, count: int, generator: torch.Generator) -> Tensor:
    """The nearest start of each point (n,), of `count` starts, or of as many as there are distinct points."""
    points = len(space.squares)
    first = int(torch.randint(points, (), generator=generator))
    nearest, labels = space.at(first), torch.zeros(points, dtype=torch.long, device=space.squares.device)
    for number in range(1, min(count, points)):
        chances = nearest.double().cpu()
        if chances.sum() <= 0:
            break
        trials = torch.multinomial(chances, 2 + int(math.log(count)), replacement=True, generator=generator)
        candidates = [space.at(int(index)) for index in trials]
        closest = min(candidates, key=lambda distances: float(torch.minimum(nearest, distances).sum()))
        labels[closest < nearest] = number
        nearest = torch.minimum(nearest, closest)
    return labels


def _lloyd(space: _Points | _Gram, labels: Tensor, iterations: int) -> tuple[Tensor, float]:
    """Labels and inertia once no point changes its cluster."""
    count = int(labels.max()) + 1
    for _ in range(iterations):
        distances = space.to_clusters(labels, count)
        nearest, assigned = distances.min(1)
        for empty in (torch.bincount(assigned, minlength=count) == 0).nonzero().flatten():
            farthest = int(nearest.argmax())
            assigned[farthest], nearest[farthest] = empty, 0
        if torch.equal(assigned, labels):
            break
        labels = assigned
    distances = space.to_clusters(labels, count)
    return labels, float(distances.gather(1, labels[:, None]).double().sum())
