import numpy as np
import pytest
import torch

from ovseg.maths import maps


@pytest.mark.parametrize(
    "values, expected",
    [([[0.0, 2.0], [4.0, 1.0]], [[0.0, 0.5], [1.0, 0.25]]), ([[-1.0, 1.0]], [[0.0, 1.0]]), ([[3.0, 3.0]], [[0.0, 0.0]])],
)
def test_normalise(values: list, expected: list) -> None:
    assert torch.allclose(maps.normalise(torch.tensor(values)), torch.tensor(expected))


def test_normalise_takes_each_map_by_itself() -> None:
    out = maps.normalise(torch.tensor([[[0.0, 1.0]], [[10.0, 30.0]]]))
    assert out.tolist() == [[[0.0, 1.0]], [[0.0, 1.0]]]


def test_resize_is_bilinear_with_corners_not_aligned() -> None:
    out = maps.resize(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    assert out.tolist() == [[[0.0, 1.0, 3.0, 4.0]]]


def test_fuse_strides_normalises_after_expanding_and_weighs() -> None:
    fine, coarse = torch.tensor([[[0.0, 10.0]]]), torch.tensor([[[5.0]]])
    out = maps.fuse_strides({1: fine, 2: coarse}, {1: 0.5, 2: 2.0}, (1, 2))
    assert out.tolist() == [[[0.0, 0.5]]]  # a map of one place is constant and says nothing
    out = maps.fuse_strides({2: torch.tensor([[[0.0, 4.0, 0.0]]])}, {2: 1.0}, (1, 6))  # expanded: 0, 1, 3, 3, 1, 0
    assert torch.allclose(out, torch.tensor([[[0.0, 1 / 3, 1.0, 1.0, 1 / 3, 0.0]]]))
    with pytest.raises(ValueError, match="At least one"):
        maps.fuse_strides({1: torch.ones(1, 1, 1)}, {1: 0.0, 4: 1.0}, (1, 1))


def test_a_place_is_found_on_a_grid_up_to_its_edges() -> None:
    places = ((0.0, 0.0), (0.5, 0.49), (0.99, 0.26), (1.0, 1.0))
    assert [maps.place_at((4, 6), x, y) for x, y in places] == [(0, 0), (1, 3), (1, 5), (3, 5)]
    with pytest.raises(ValueError, match="must lie within the picture, 0 to 1, but got x 2 and y 0"):
        maps.place_at((4, 6), 2, 0)


def test_features_are_resized_as_maps_are() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, 4, 5)
    out = maps.resize(features, (7, 9))
    assert out.shape == (2, 3, 7, 9) and maps.resize(features, (4, 5)) is features
    assert torch.allclose(out[1], maps.resize(features[1], (7, 9)), atol=1e-6)


def test_the_best_phrase_of_a_class_counts_at_each_place() -> None:
    each = torch.tensor([[[1.0, 5.0]], [[4.0, 2.0]], [[9.0, 9.0]], [[3.0, 3.0]]])
    assert maps.best_of_each(each, [0, 0, -1, 1]).tolist() == [[[4.0, 5.0]], [[3.0, 3.0]]]
    assert maps.of_strides((0.1, 0.2, 0.7)) == {1: 0.1, 2: 0.2, 4: 0.7}


@pytest.mark.parametrize(
    "length, side, stride, starts",
    [(10, 4, 3, [0, 3, 6]), (10, 4, 4, [0, 4, 6]), (4, 4, 2, [0]), (3, 5, 2, [0]), (9, 4, 5, [0, 5])],
)
def test_windows_reach_the_end_and_not_beyond(length: int, side: int, stride: int, starts: list[int]) -> None:
    assert maps.window_starts(length, side, stride) == starts


@pytest.mark.parametrize("channels", [6, 80])  # fewer and more than places
def test_the_strongest_component_is_red(channels: int) -> None:
    torch.manual_seed(0)
    patterns = torch.linalg.qr(torch.randn(5 * 8, 4))[0].T  # four orthogonal patterns on a 5 x 8 grid
    patterns = torch.linalg.qr((patterns - patterns.mean(1, keepdim=True)).T)[0].T
    directions = torch.linalg.qr(torch.randn(channels, 4))[0]
    features = (directions * torch.tensor([1.0, 9.0, 3.0, 0.3])) @ patterns + 7
    colours = maps.principal(features.reshape(channels, 5, 8)).reshape(40, 3).astype(float)
    for colour, pattern in enumerate((1, 2, 0)):
        assert abs(np.corrcoef(colours[:, colour], patterns[pattern])[0, 1]) > 0.999
    assert colours.min(0).tolist() == [0, 0, 0] and colours.max(0).tolist() == [255, 255, 255]
    assert (maps.principal(torch.randn(1, 5, 8))[..., 1:] == 0).all()  # one channel has one component
