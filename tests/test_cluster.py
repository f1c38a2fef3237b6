import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from ovseg.maths.cluster import agglomerate, kmeans, membership


def inertia_of(points: torch.Tensor, labels: torch.Tensor) -> float:
    """The k-means objective: the sum of the points' squared distances to the centres of their clusters."""
    centres = membership(labels, int(labels.max()) + 1).double() @ points.double()
    return float((points.double() - centres[labels]).pow(2).sum())


@pytest.mark.parametrize(("count", "dimensions"), [(300, 20), (120, 400)])
def test_kmeans_reaches_scikit_learns_inertia(count: int, dimensions: int) -> None:
    rng = np.random.default_rng(0)
    middles = rng.normal(0, 2, (7, dimensions))
    points = (middles[rng.integers(0, 7, count)] + rng.normal(0, 1.5, (count, dimensions))).astype(np.float32) + 30
    labels, centres = kmeans(torch.from_numpy(points), 6)
    theirs = KMeans(6, n_init=10, random_state=0).fit(points).inertia_
    ours = inertia_of(torch.from_numpy(points), labels)
    assert ours <= theirs * 1.001
    for k in range(6):
        assert torch.allclose(centres[k], torch.from_numpy(points)[labels == k].mean(0), atol=1e-3)
        assert (torch.cdist(torch.from_numpy(points)[labels == k], centres).argmin(1) == k).all()


def test_both_ways_of_measuring_distances_agree() -> None:
    torch.manual_seed(0)
    points = torch.randn(40, 3)
    wide = torch.cat([points, torch.zeros(40, 60)], 1)
    assert torch.equal(kmeans(points, 4, seed=3)[0], kmeans(wide, 4, seed=3)[0])


def test_kmeans_is_seeded_and_gives_fewer_clusters_where_points_repeat() -> None:
    torch.manual_seed(0)
    points = torch.randn(50, 8)
    assert torch.equal(kmeans(points, 5, seed=1)[0], kmeans(points, 5, seed=1)[0])
    once = [inertia_of(points, kmeans(points, 5, restarts=1, seed=seed)[0]) for seed in range(8)]
    assert len({round(value, 3) for value in once}) > 1  # other starts, other results
    best = [inertia_of(points, kmeans(points, 5, restarts=5, seed=seed)[0]) for seed in range(8)]
    assert all(b <= o * 1.00001 for b, o in zip(best, once, strict=True)) and sum(best) < sum(once)
    twice = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(10, 1)
    labels, centres = kmeans(twice, 5)
    assert len(centres) == 2 and torch.equal(labels[::2].unique(), labels[:1]) and labels[0] != labels[1]
    one, centre = kmeans(torch.ones(6, 3), 4)
    assert one.unique().tolist() == [0] and torch.equal(centre, torch.ones(1, 3))
    with pytest.raises(ValueError, match="needs points, a cluster and a start, but got 0, 3 and 10"):
        kmeans(torch.zeros(0, 4), 3)


def test_inertia_worked_out_by_hand() -> None:
    points = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 1.0]])
    assert inertia_of(points, torch.tensor([0, 0, 1])) == 2.0
    assert inertia_of(points, torch.tensor([0, 0, 0])) == pytest.approx(38 / 3 + 2 / 3)


def test_agglomerative_clusters() -> None:
    points = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0]])
    labels = agglomerate(points, 3)
    assert labels[0] == labels[1] and labels[2] == labels[3] and len(labels.unique()) == 3
    assert len(agglomerate(points, 9).unique()) == 5
