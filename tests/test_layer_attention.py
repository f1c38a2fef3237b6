"""`LayerAttention` against loops over heads, places and keys."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ovseg.layer_attention import LayerAttention, all_heads, as_rows

GRID, HEADS, WIDTH, WORDS = (2, 3), 3, 4, 7
PLACES = GRID[0] * GRID[1]


def layer(seed: int, others: int = WORDS, *, places_first: bool = True) -> LayerAttention:
    """Two rows of a layer whose keys are the places and others, which have no column."""
    numbers = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(2, HEADS, count, WIDTH, generator=numbers, dtype=torch.float64)
        for count in (PLACES, PLACES + others, PLACES + others)
    )
    columns = [*range(PLACES), *[-1] * others] if places_first else [*[-1] * others, *range(PLACES)]
    return LayerAttention(query, key, GRID, torch.tensor([columns]), make_value=lambda: value)


def naive(attention: LayerAttention) -> Tensor:
    """What each head attends to, by column (row, head, place, column)."""
    found = torch.zeros(2, HEADS, PLACES, attention.columns, dtype=torch.float64)
    for row, head, place in torch.cartesian_prod(torch.arange(2), torch.arange(HEADS), torch.arange(PLACES)).tolist():
        weights = (attention.key[row, head] @ attention.query[row, head, place]).exp()
        if attention.mask is not None:
            weights = weights * attention.mask[row]
        for key, weight in enumerate(weights / weights.sum()):
            if attention.column_of[0, key] >= 0:
                found[row, head, place, attention.column_of[0, key]] += weight
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_rows_maps_and_products_are_those_of_the_matrix(masked: bool) -> None:
    attention = layer(0)
    if masked:
        mask = torch.ones(2, PLACES + WORDS, dtype=torch.bool)
        mask[0, 1], mask[1, -2:] = False, False
        attention = replace(attention, mask=mask)
    expected = naive(attention)
    assert torch.allclose(attention.probabilities(), expected)
    assert torch.allclose(attention.probabilities(slice(2, 4)), expected[:, :, 2:4]) and (expected.sum(-1) < 1).all()
    assert torch.allclose(attention.maps(), expected.mean(1).reshape(2, *GRID, PLACES))
    for shape in ((), (1,), (2 * WIDTH + 1,), (2, 3)):  # more maps than a head is wide, too
        values = torch.rand(2, *shape, PLACES, dtype=torch.float64)
        product = torch.einsum("bnm,b...m->b...n", expected.mean(1), values)
        assert torch.allclose(attention.spread(values), product)
    assert torch.allclose(torch.from_numpy(attention.at(1, 2)).flatten().double(), expected[0, :, 5].mean(0), atol=1e-6)
    assert torch.allclose(torch.from_numpy(attention.whole()[1, 2]).flatten().double(), expected[0, :, 5].mean(0), atol=1e-3)


def test_several_keys_may_count_for_one_column() -> None:
    attention = replace(layer(1), column_of=torch.tensor([[0, 1, 2, 0, 1, 2, *[-1] * 6, 2]]))
    assert attention.columns == 3 and torch.allclose(attention.probabilities(), naive(attention))
    values = torch.rand(2, 3, dtype=torch.float64)
    assert torch.allclose(attention.spread(values), torch.einsum("bhnm,bm->bhn", naive(attention), values).mean(1))


def test_the_heads_of_several_layers_are_those_of_one() -> None:
    layers = [layer(2), layer(3, others=0), layer(4, places_first=False)]
    together = all_heads(layers)
    assert together.probabilities().shape[1] == 3 * HEADS and together.columns == PLACES
    mean = torch.stack([naive(one).mean(1) for one in layers]).mean(0)
    assert torch.allclose(together.probabilities().mean(1), mean)
    kept = all_heads([one.kept() for one in layers])
    assert torch.allclose(kept.probabilities()[0].mean(0).double(), mean[0], atol=2e-3)
    with pytest.raises(ValueError, match="one grid and as many heads to be joined, but got 2 kinds"):
        all_heads([layers[0], replace(layers[1], grid=(3, 2))])


def test_what_is_kept_is_the_first_row_without_values() -> None:
    attention = layer(5)
    assert attention.value().shape == attention.key.shape
    kept = pickle.loads(pickle.dumps(as_rows([attention.kept(), layer(6).kept()])))
    assert (
        kept.query.dtype == torch.float16
        and len(kept.key) == 2
        and kept.nbytes == 2 * 2 * (2 * PLACES + WORDS) * HEADS * WIDTH
    )
    assert torch.allclose(kept.probabilities()[1].double(), naive(layer(6))[0], atol=5e-3)
    with pytest.raises(ValueError, match="but they were let go"):
        kept.value()
