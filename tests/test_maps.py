import pytest
import torch

from ovseg.maths import maps


@pytest.mark.parametrize(
    "values, expected",
    [
        ([[0.0, 2.0], [4.0, 1.0]], [[0.0, 0.5], [1.0, 0.25]]),
        ([[-1.0, 1.0]], [[0.0, 1.0]]),
        ([[3.0, 3.0]], [[0.0, 0.0]]),
    ],
)
def test_normalise(values: list, expected: list) -> None:
    assert torch.allclose(maps.normalise(torch.tensor(values)), torch.tensor(expected))


def test_normalise_takes_each_map_by_itself() -> None:
    out = maps.normalise(torch.tensor([[[0.0, 1.0]], [[10.0, 30.0]]]))
    assert out.tolist() == [[[0.0, 1.0]], [[0.0, 1.0]]]


def test_phrase_maps_average_each_rows_own_columns() -> None:
    attention = torch.arange(12.0).reshape(2, 1, 2, 3)  # two rows, a 1 x 2 grid, three tokens
    out = maps.phrase_maps(attention, [(1,), (0, 2)])
    assert out.tolist() == [[[1.0, 4.0]], [[7.0, 10.0]]]


def test_propagate_mixes_what_a_place_attends_to() -> None:
    affinity = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])  # place 0 looks at itself, place 1 at both
    assert maps.propagate(affinity, torch.tensor([[[4.0, 2.0]]])).tolist() == [[[4.0, 3.0]]]
    assert maps.propagate(affinity, torch.tensor([[[4.0, 2.0]]]), times=2).tolist() == [[[4.0, 3.5]]]


def test_resize_is_bilinear_with_corners_not_aligned() -> None:
    out = maps.resize(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    assert out.tolist() == [[[0.0, 1.0, 3.0, 4.0]]]


def test_fuse_strides_normalises_after_expanding_and_weighs() -> None:
    fine, coarse = torch.tensor([[[0.0, 10.0]]]), torch.tensor([[[5.0]]])
    out = maps.fuse_strides({1: fine, 2: coarse}, {1: 0.5, 2: 2.0}, (1, 2))
    assert out.tolist() == [[[0.0, 0.5]]]  # a map of one place is constant and says nothing


def test_fuse_strides_needs_a_weight() -> None:
    with pytest.raises(ValueError, match="At least one"):
        maps.fuse_strides({1: torch.ones(1, 1, 1)}, {1: 0.0, 4: 1.0}, (1, 1))
