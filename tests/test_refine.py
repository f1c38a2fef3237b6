"""PAMR against a loop over its formula; the CRF against matrices that are written out."""

from functools import partial

import numpy as np
import pytest
import torch

from ovseg.maths import refine
from ovseg.maths.refine import NEIGHBOURS, DenseCRF, Lattice, pamr
from ovseg.progress import StoppedError


def pamr_by_loops(image: torch.Tensor, scores: torch.Tensor, iterations: int, dilations: tuple[int, ...]) -> torch.Tensor:
    """Pixel by pixel, as the formula is written."""
    _, height, width = image.shape

    def at(values: torch.Tensor, y: int, x: int) -> torch.Tensor:
        return values[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)]

    offsets = [(dy * d, dx * d) for d in dilations for dy, dx in NEIGHBOURS]
    weights = torch.zeros(height, width, len(offsets), dtype=image.dtype)
    for y in range(height):
        for x in range(width):
            around = [at(image, y + dy, x + dx) for dy, dx in offsets] + [at(image, y, x)] * len(dilations)
            deviation = torch.stack(around).std(0)
            logits = [
                -((at(image, y, x) - at(image, y + dy, x + dx)).abs() / (1e-8 + 0.1 * deviation)).mean()
                for dy, dx in offsets
            ]
            weights[y, x] = torch.stack(logits).softmax(0)
    for _ in range(iterations):
        moved = torch.stack(
            [torch.stack([at(scores, y + dy, x + dx) for y in range(height) for x in range(width)]) for dy, dx in offsets]
        )
        scores = (weights.reshape(-1, len(offsets)).T[..., None] * moved).sum(0).T.reshape(scores.shape)
    return scores


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4)])
def test_pamr_is_its_formula(dilations: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image, scores = torch.rand(3, 7, 9), torch.rand(2, 7, 9)
    assert torch.allclose(pamr(image, scores, 3, dilations), pamr_by_loops(image, scores, 3, dilations), atol=1e-5)


def test_pamrs_weights_are_computed_once_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    image, scores, calls = torch.rand(3, 12, 16), torch.rand(2, 12, 16), []
    plain = refine._shifts
    monkeypatch.setattr(refine, "_shifts", lambda values, *more: calls.append(len(values)) or plain(values, *more))
    kept = pamr(image, scores, 5, (1, 2))
    assert calls.count(3) == 2 + 1 and calls.count(2) == 5  # of colours: for their deviation, and for the weights
    monkeypatch.setattr(refine, "MOST_WEIGHTS", 16 * 12 * 16 - 1)
    calls.clear()
    assert torch.equal(pamr(image, scores, 5, (1, 2)), kept) and calls.count(3) == 2 + 1 + 5


@pytest.mark.parametrize("refine", ["pamr", "crf"])
def test_a_refinement_says_how_far_it_is_and_can_be_stopped(refine: str) -> None:
    torch.manual_seed(0)
    image, scores, shares = 255 * torch.rand(3, 12, 16), torch.rand(2, 12, 16), []
    run = partial(pamr, image, scores, 5, (1, 2)) if refine == "pamr" else partial(DenseCRF(image).mean_field, scores, 5)
    run(progress=shares.append)
    assert shares == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])  # once an iteration

    def stop(share: float) -> None:
        if share > 0.3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(progress=stop)


def test_vertices_of_a_wide_lattice_keep_numbers_of_their_own() -> None:
    keys = torch.tensor([[[0, 0, 0, 0]], [[4000, 0, 0, -4000]], [[0, 4000, 0, -4000]], [[0, 0, 4000, -4000]]]).int()
    codes, _ = refine._coded(keys)
    steps = codes[1:, 0] - codes[0, 0]
    assert codes.dtype == torch.int64 and len(set(steps.tolist())) == 3 and steps.max() > 2**31


def test_pamr_does_not_care_for_the_range_of_colours_and_expands() -> None:
    torch.manual_seed(0)
    image, scores = torch.rand(3, 12, 16), torch.rand(2, 6, 8)
    result = pamr(image, scores)
    assert result.shape == (2, 12, 16)
    expanded = pamr(torch.rand(3, 1, 4), torch.tensor([[[0.0, 3.0]]]), iterations=0)
    assert torch.allclose(expanded, torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]))  # corners aligned
    assert torch.allclose(pamr(image * 255, scores), result, atol=1e-4)
    assert torch.allclose(pamr(image, torch.full((1, 12, 16), 0.3)), torch.tensor(0.3), atol=1e-5)
    assert torch.isfinite(pamr(torch.full((3, 12, 16), 0.5), scores)).all()  # one colour


def test_pamr_keeps_no_tensor_of_all_neighbours() -> None:
    """Every tensor made on the way is the size of a padded input: none has a place per neighbour."""
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out._is_view():
                sizes.append(out.numel())
            return out

    with Watch():
        pamr(torch.rand(3, 40, 40), torch.rand(2, 40, 40), 1)
    assert max(sizes) <= 3 * (40 + 48) ** 2


def gaussian(features: torch.Tensor) -> torch.Tensor:
    return (-torch.cdist(features, features).pow(2) / 2).exp()


@pytest.mark.parametrize("dimensions", [2, 5])
def test_the_lattice_filters_like_the_matrix(dimensions: int) -> None:
    torch.manual_seed(0)
    features = torch.rand(900, dimensions, dtype=torch.float64) * (12 if dimensions == 2 else 4)
    kernel = gaussian(features)
    scale = kernel.sum(1).rsqrt()
    values = torch.stack([(features[:, 0] > features[:, 0].mean()).double(), torch.rand(900, dtype=torch.float64)], 1)
    expected = scale[:, None] * (kernel @ (scale[:, None] * values))
    result = Lattice(features.float()).filter(values.float()).double()
    assert float((result - expected).abs().mean()) < 0.02
    assert all(float(torch.corrcoef(torch.stack([result[:, k], expected[:, k]]))[0, 1]) > 0.97 for k in range(2))


def crf_by_matrices(image: torch.Tensor, unary: torch.Tensor, iterations: int) -> torch.Tensor:
    height, width = image.shape[1:]
    places = torch.tensor([(y, x) for y in range(height) for x in range(width)]).double()
    colours = image.reshape(3, -1).T.double()
    kernels = []
    for weight, features in ((5, places / 20), (100, torch.cat([places / 20, colours / 20], 1))):
        kernel = gaussian(features)
        scale = kernel.sum(1).rsqrt()
        kernels.append(weight * scale[:, None] * kernel * scale)
    energies = unary.reshape(len(unary), -1).T.double()
    beliefs = (-energies).softmax(1)
    for _ in range(iterations):
        beliefs = (sum(kernels) @ beliefs - energies).softmax(1)
    return beliefs.T.reshape(unary.shape)


def test_the_crf_moves_a_mask_to_the_edge_that_the_colours_have() -> None:
    rng = np.random.default_rng(0)
    image = torch.full((3, 24, 30), 60.0)
    image[:, :, 14:] = 190
    image += torch.from_numpy(rng.normal(0, 4, image.shape)).float()
    guess = torch.zeros(24, 30)
    guess[:, 10:] = 1  # four columns too far
    probability = torch.where(guess > 0, 0.9, 0.1)
    unary = -torch.stack([1 - probability, probability]).log()
    result, expected = DenseCRF(image).mean_field(unary), crf_by_matrices(image, unary, 10)
    assert torch.equal(result.argmax(0), expected.argmax(0))
    assert result.argmax(0)[:, :14].max() == 0 and result.argmax(0)[:, 14:].min() == 1
    assert torch.allclose(result.sum(0), torch.tensor(1.0), atol=1e-5)
    # One step as well: with a wrong sign every second step would undo the one before.
    assert torch.equal(DenseCRF(image).mean_field(unary, 1).argmax(0), crf_by_matrices(image, unary, 1).argmax(0))
