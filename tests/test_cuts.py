import numpy as np
import pytest
import scipy.linalg
import torch

from ovseg.maths.cuts import foreground, mask_cut, second_eigenvector, sharpen


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.fixture
def scene_features() -> tuple[torch.Tensor, list[np.ndarray]]:
    """Ground, a large object and a small one, each with its own direction and some noise; not square."""
    torch.manual_seed(0)
    owner = np.zeros((18, 24), int)
    owner[3:12, 4:13] = 1
    owner[11:16, 17:22] = 2
    directions = torch.eye(16)[:3]
    features = directions[torch.from_numpy(owner)].permute(2, 0, 1) + 0.1 * torch.randn(16, 18, 24)
    return features, [owner == 1, owner == 2]


def test_objects_are_cut_out_one_after_the_other(scene_features: tuple[torch.Tensor, list[np.ndarray]]) -> None:
    features, objects = scene_features
    masks = mask_cut(features)
    assert len(masks) >= 2 and overlap(masks[0], objects[0]) > 0.9
    assert max(overlap(mask, objects[1]) for mask in masks[1:]) > 0.9
    assert all(not (one & other).any() for k, one in enumerate(masks) for other in masks[:k])
    again = mask_cut(features)
    assert all(np.array_equal(one, other) for one, other in zip(masks, again, strict=True))


def test_lanczos_finds_what_the_dense_solver_finds(scene_features: tuple[torch.Tensor, list[np.ndarray]]) -> None:
    columns = torch.nn.functional.normalize(scene_features[0].flatten(1), dim=0)
    weights = torch.where(columns.T @ columns > 0.15, 1.0, 1e-5).double().numpy()
    degrees = np.diag(weights.sum(1))
    vectors = scipy.linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 1])[1][:, 0]
    ours = second_eigenvector(columns, 0.15)
    cosine = abs(np.dot(ours, vectors)) / np.linalg.norm(ours) / np.linalg.norm(vectors)
    assert cosine > 1 - 1e-6


def test_the_background_is_the_half_with_the_corners() -> None:
    vector = np.full((6, 8), 0.5, np.float32)
    vector[2:4, 3:6] = -0.9
    inside = np.zeros((6, 8), bool)
    inside[2:4, 3:6] = True
    assert np.array_equal(foreground(vector), inside) and np.array_equal(foreground(-vector), inside)
    vector[5, 0] = -0.8  # another part, not joined to the strongest one
    assert np.array_equal(foreground(vector), inside)


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_three_corners_are_background_whichever_is_missing(corner: tuple[int, int]) -> None:
    vector = np.full((6, 8), 0.9, np.float32)  # the larger magnitude, so that the corners alone decide
    vector[2:4, 3:6], vector[corner] = -0.6, -0.5
    assert np.array_equal(foreground(vector), vector == np.float32(-0.6))


def test_parts_that_touch_at_a_corner_are_two() -> None:
    vector = np.full((6, 8), 0.5, np.float32)
    vector[2:4, 3:6] = -0.9
    vector[1, 2] = -0.8
    assert foreground(vector).sum() == 6 and not foreground(vector)[1, 2]


def test_a_cut_with_two_corners_is_the_half_of_the_strongest_place() -> None:
    vector = np.full((6, 8), 0.4, np.float32)
    vector[:, :3] = -0.6  # two corners of four; the larger magnitude decides
    assert np.array_equal(foreground(vector), vector < 0)
    assert np.array_equal(foreground(-vector), vector < 0)


@pytest.mark.parametrize(("places", "count"), [(3, 0), (12, 1)])  # 0.7 % and 2.8 % of the picture
def test_a_speck_is_no_object(places: int, count: int) -> None:
    torch.manual_seed(0)
    owner = np.zeros((18, 24), int)
    owner[8, 4 : 4 + places] = 1
    features = torch.eye(16)[torch.from_numpy(owner)].permute(2, 0, 1) + 0.05 * torch.randn(16, 18, 24)
    masks = mask_cut(features, objects=1)
    assert len(masks) == count and all(np.array_equal(mask, owner == 1) for mask in masks)


def test_a_mask_is_moved_to_the_edges_and_its_holes_are_filled() -> None:
    image = np.full((48, 60, 3), 40, np.uint8)
    image[10:34, 14:42] = 200
    mask = np.zeros((12, 15), bool)
    mask[3:8, 4:10] = True  # a little smaller than the bright part
    mask[5, 6] = False
    truth = image[..., 0] > 100
    assert overlap(sharpen(mask, image), truth) > 0.95
    speck = np.zeros((12, 15), bool)
    speck[0, 14] = True
    assert sharpen(speck, image) is None or sharpen(speck, image).mean() < 0.02
