"""The parts of reading cross-attention, each against the plain way of computing it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ovseg.backbones.base import Site
from ovseg.layer_attention import LayerAttention, mean_spread
from ovseg.maths.maps import of_strides
from ovseg.methods import DiffSegmenter, suited_to
from ovseg.models import Models
from ovseg.reading import background, heads, layers, recipe, refinement, scale
from ovseg.reading.prompts import Sentence, after_caption, all_in_one, as_few, one_each, owners_of
from ovseg.reading.recipe import Recipe
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.self_attention import whole_rows

GRID, PLACES, TOKENS, HEADS, WIDTH = (3, 4), 12, 7, 3, 5


def a_layer(seed: int, grid: tuple[int, int] = GRID, keys: int | None = None) -> LayerAttention:
    """A layer of random numbers; of self-attention if there are no other keys."""
    torch.manual_seed(seed)
    places = grid[0] * grid[1]
    query, key, value = (torch.randn(2, HEADS, count, WIDTH).double() for count in (places, *[keys or places] * 2))
    out = torch.randn(9, HEADS * WIDTH).double()
    return LayerAttention(query, key, grid, make_value=lambda: value, out=out)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a few rows at once."""
    monkeypatch.setattr(heads, "AT_ONCE", 200)


def contributions(layer: LayerAttention) -> Tensor:
    """Outputs of each head at each place, by loops."""
    attended, value = whole_rows(layer), layer.value()
    out = torch.zeros(2, HEADS, layer.query.shape[2], 9).double()
    for row in range(2):
        for head in range(HEADS):
            own = layer.out[:, head * WIDTH : (head + 1) * WIDTH]
            out[row, head] = attended[row, head] @ value[row, head] @ own.T
    return out


def test_heads_count_by_what_they_contribute(small_parts: None) -> None:
    layer = a_layer(0, keys=TOKENS)
    each = contributions(layer)
    whole = each.sum(1, keepdim=True)
    expected = (each * whole).sum(-1) / (whole**2).sum(-1)
    weights = heads.by_contribution(layer)
    assert torch.allclose(weights, expected, atol=1e-6) and torch.allclose(weights.sum(1), torch.ones(1).double(), atol=1e-5)
    assert weights.min() < 0  # a head may speak against the others
    maps = torch.zeros(2, TOKENS, PLACES).double()
    for head in range(HEADS):
        maps += (expected[:, head, :, None] * whole_rows(layer)[:, head]).mT
    assert torch.allclose(heads.token_maps(layer, "contribution").flatten(2), maps, atol=1e-6)


def test_equal_heads_give_the_mean_and_one_head_itself() -> None:
    layer = a_layer(1, keys=TOKENS)
    plain = whole_rows(layer).mean(1).mT.unflatten(-1, GRID)
    assert torch.allclose(heads.token_maps(layer, "mean"), plain)
    assert torch.allclose(heads.weighted_maps(layer, torch.full_like(layer.query[..., 0], 1 / HEADS)), plain)
    value, alike = layer.value(), layer.out[:, :WIDTH].repeat(1, HEADS)
    same = LayerAttention(
        layer.query[:, :1].expand(-1, HEADS, -1, -1), layer.key[:, :1].expand(-1, HEADS, -1, -1), GRID,
        make_value=lambda: value[:, :1].expand(-1, HEADS, -1, -1), out=alike,
    )  # fmt: skip
    one = replace(same, query=same.query[:, :1], key=same.key[:, :1], make_value=lambda: value[:, :1], out=alike[:, :WIDTH])
    for rule in heads.HEADS:
        assert torch.allclose(heads.token_maps(same, rule), heads.token_maps(one, rule), atol=1e-6)
        assert torch.allclose(heads.token_maps(one, rule), whole_rows(one)[:, 0].mT.unflatten(-1, GRID), atol=1e-6)


def test_surer_heads_count_more(small_parts: None) -> None:
    layer = a_layer(2, keys=TOKENS)
    sharp = layer.query.clone()
    sharp[:, 1] *= 4
    layer = replace(layer, query=sharp)
    rows = whole_rows(layer)
    below = np.log(TOKENS) - torch.tensor(
        [[[-sum(float(p) * np.log(float(p)) for p in place) for place in head] for head in row] for row in rows]
    ).mean(-1)
    weights = heads.by_entropy(layer)
    assert torch.allclose(weights[..., 0], below / below.sum(1, keepdim=True), atol=1e-6)
    assert (weights[:, 1] > weights[:, 0]).all() and (weights[:, 1] > weights[:, 2]).all()


def likeness(layer: LayerAttention, reference: Tensor, renormalised: bool) -> float:
    """The matrices whole, and products of their entries."""
    flat = reference.flatten(1)
    wanted, grid = (flat.T @ flat / len(flat) ** 0.5).softmax(-1), reference.shape[1:]
    own = whole_rows(layer)[0].mean(0).unflatten(-1, layer.grid)
    own = F.interpolate(own[:, None].float(), grid, mode="bilinear").flatten(1)  # keys
    if renormalised:
        own = own / own.sum(-1, keepdim=True)
    own = F.interpolate(own.T.unflatten(-1, layer.grid)[None], grid, mode="nearest")[0].flatten(1).T  # queries
    return float((own * wanted).sum())


@pytest.mark.parametrize("renormalised", [True, False])
def test_layers_count_by_likeness(small_parts: None, renormalised: bool) -> None:
    reference = torch.randn(8, 6, 8)
    several = [a_layer(k, grid) for k, grid in enumerate([(3, 4), (6, 8), (12, 16)])]
    expected = torch.tensor([likeness(layer, reference, renormalised) for layer in several])
    weights = layers.by_likeness(several, reference, renormalised)
    assert torch.allclose(weights, expected / expected.sum(), atol=1e-6)
    assert (weights >= 0).all() and torch.isclose(weights.sum(), torch.tensor(1.0))
    if not renormalised:  # a coarse layer's rows grow with the grid
        assert weights[0] > 2 * weights[1] > 4 * weights[2]


def test_the_layer_that_is_the_reference_wins() -> None:
    reference = 3 * torch.randn(WIDTH, *GRID)
    flat = reference.flatten(1).T.double()[None, None].expand(2, HEADS, -1, -1)
    same = LayerAttention(flat / WIDTH**0.5, flat, GRID)
    weights = layers.by_likeness([a_layer(3), same, a_layer(4)], reference)
    assert weights.argmax() == 1


def test_layers_by_hand_share_their_strides_weight() -> None:
    sites = [Site(str(k), stride, "cross") for k, stride in enumerate((1, 2, 2, 4))]
    assert layers.by_stride(sites, {2: 1.0, 4: 0.5}).tolist() == [0.0, 0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"strides \[1, 2, 4\] must have a weight above 0"):
        layers.by_stride(sites, {8: 1.0})
    maps = [torch.rand(1, 2, 3, 4), torch.rand(1, 2, 6, 8)]
    both = layers.fused(maps, torch.tensor([0.25, 0.75]), (6, 8), smooth=False)
    assert torch.allclose(both, 0.25 * maps[0].repeat_interleave(2, -1).repeat_interleave(2, -2) + 0.75 * maps[1])


def test_scales() -> None:
    maps = torch.rand(2, 5, 6, 7)
    assert torch.allclose(scale.over_places(maps).sum((-1, -2)), torch.ones(2, 5))
    assert torch.equal(scale.over_places(torch.zeros(1, 2, 2)), torch.zeros(1, 2, 2))
    tokens = scale.over_tokens(maps - 0.2)
    assert tokens.min() == 0 and torch.allclose(tokens.sum(1), torch.ones(2, 6, 7))
    content = scale.over_content(maps[:, :3], maps[:, :3].sum(1, keepdim=True))
    assert torch.allclose(content.sum(1), torch.ones(2, 6, 7))
    alone = scale.over_content(maps[:, :1], maps[:, :1])
    assert torch.equal(alone, torch.ones(2, 1, 6, 7))  # of a single content word nothing is left


def test_blur_is_a_gaussian_of_five_places() -> None:
    image = np.random.default_rng(0).random((6, 9)).astype(np.float32)
    bell = np.exp(-0.5 * (np.arange(-2, 3) / 1.1) ** 2)
    bell /= bell.sum()
    padded, expected = np.pad(image, 2, mode="reflect"), np.zeros_like(image)
    for y in range(6):
        for x in range(9):
            expected[y, x] = sum(bell[a] * bell[b] * padded[y + a, x + b] for a in range(5) for b in range(5))
    assert np.allclose(scale.blurred(torch.from_numpy(image)), expected, atol=1e-6)
    assert scale.blurred(torch.rand(1, 1, 2)).shape == (1, 1, 2)  # smaller than the bell


def test_backgrounds() -> None:
    scores, others = torch.tensor([[[0.2, 0.9]], [[0.5, 0.1]]]), torch.tensor([[0.3, 0.0]])
    assert background.constant(scores, 0.4, others) is None
    assert torch.allclose(background.offset(scores, -0.1, others), torch.tensor([[0.2, -0.1]]))
    assert torch.allclose(background.left_over(scores, 0.4, others), torch.tensor([[0.25, 0.01]]))


def mean_matrix(several: list[LayerAttention], some: tuple[int, ...] = ()) -> Tensor:
    return torch.stack([whole_rows(one)[:, list(some) or slice(None)].mean(1) for one in several]).mean(0)


def test_maps_are_spread_once_or_often(small_parts: None) -> None:
    several, maps = [a_layer(5), a_layer(6)], torch.rand(2, 4, PLACES).double()
    matrix = mean_matrix(several)
    once = torch.einsum("bnm,bkm->bkn", matrix, maps)
    assert torch.allclose(mean_spread(several, maps, 1), once, atol=1e-6)
    assert torch.allclose(mean_spread(several, maps, 3), maps @ torch.matrix_power(matrix, 3).mT, atol=1e-6)
    walked = maps
    for _ in range(3):
        walked = 0.8 * maps + 0.2 * walked @ matrix.mT
    assert torch.allclose(refinement.restarted(several, maps, 3, 0.8), walked, atol=1e-6)
    assert torch.allclose(refinement.restarted(several, maps, 3, 0.0), mean_spread(several, maps, 3))


@pytest.mark.parametrize("some", [(), (0, 2)])
def test_entropy_is_lowered_as_by_loops(small_parts: None, some: tuple[int, ...]) -> None:
    layer, maps = a_layer(7), torch.rand(2, 3, PLACES).double()
    matrix = mean_matrix([layer], some)
    for row in range(2):
        own = matrix[row] / matrix[row].amax(0)
        for i in range(PLACES):
            for j in range(PLACES):
                value = float(own[i, j])
                own[i, j] = min(max(value + 0.4 * np.log10(np.e * value), 0), 1) if value > 0 else value
        own /= own.sum(1, keepdim=True)
        expected = maps[row]
        for _ in range(3):
            expected = expected @ own.T
            expected = expected - expected.amin(1, keepdim=True)
            expected = expected / expected.sum(1, keepdim=True)
        found = refinement.entropy_reduced(refinement.mean_rows([layer], some), maps, 0.4, 3)[row]
        assert torch.allclose(found, expected, atol=1e-6)


def test_a_chain_of_heads_is_the_product_of_all(small_parts: None) -> None:
    several, maps = [a_layer(8), a_layer(9)], torch.rand(2, 3, PLACES).double()
    product = torch.eye(PLACES).double().expand(2, -1, -1)
    for layer in several:
        for head in range(HEADS):
            own = whole_rows(layer)[:, head]
            own = own / own.amax(1, keepdim=True)
            own = own.where(own >= 0.3, 0.0)
            product = product @ (own / own.sum(-1, keepdim=True).clamp(min=1e-30))
    assert torch.allclose(refinement.chain_of_heads(several, maps, 0.3), maps @ product.mT, atol=1e-6)


@pytest.mark.parametrize("power", [2.0, 0.5])
def test_all_grids_spread_at_once(small_parts: None, power: float) -> None:
    fine, coarse, maps = a_layer(10, (4, 6)), a_layer(11, (2, 3)), torch.rand(2, 3, 4, 6).double()
    expected = torch.zeros(2, 3, 24).double()
    for weight, layer in ((0.25, fine), (0.75, coarse)):
        own = mean_matrix([layer]).unflatten(-1, layer.grid)
        own = F.interpolate(own, (4, 6), mode="bicubic", align_corners=False)  # keys, for each query
        own = own.flatten(2).clamp(min=0) ** power
        repeats = [4 // layer.grid[0], 6 // layer.grid[1]]
        own = own.unflatten(1, layer.grid).repeat_interleave(repeats[0], 1).repeat_interleave(repeats[1], 2).flatten(1, 2)
        low, high = own.amin((1, 2), keepdim=True), own.amax((1, 2), keepdim=True)
        expected += weight * maps.flatten(2) @ ((own - low) / (high - low)).mT
    found = refinement.of_all_grids([(0.25, [fine]), (0.75, [coarse])], maps, power)
    assert torch.allclose(found.flatten(2), expected, atol=1e-6)


def test_sentences_say_where_their_phrases_begin(models: Models) -> None:
    each = one_each("a photo of a {}", ["cat", "potted plant"])
    assert each[1] == Sentence("a photo of a potted plant", ("potted plant",), (13,))
    together = all_in_one("a photo of a {} now", ["apple", "potted plant"], ("sky", "Apple"))
    assert together.text == "a photo of an apple and a potted plant and sky now"
    assert together.phrases == ("apple", "potted plant", "sky") and together.others == 1
    assert owners_of([together, *each], [4, 4, 5, 6]) == [4, 4, -1, 5, 6]
    listed = all_in_one("{}", ["cat", "dog"], ("background",), between=", ")
    assert listed.text == "cat, dog, background"
    for sentence in (*each, together, listed):
        found = [sentence.text[start:][: len(p)] for p, start in zip(sentence.phrases, sentence.starts, strict=True)]
        assert found == list(sentence.phrases)
    many = [f"word {k}" for k in range(24)]
    few = as_few(models.backbone, lambda some: all_in_one("{}", some, between=", "), many)
    assert 1 < len(few) < 24 and [phrase for sentence in few for phrase in sentence.phrases] == many
    assert all(models.backbone.fits(sentence.text) for sentence in few)
    with pytest.raises(ValueError, match="must fit the text encoder"):
        as_few(models.backbone, lambda some: all_in_one("x " * 80 + "{}", some), many)
    told = after_caption("a caption " * 80, listed, models.backbone)
    assert told.endswith(" ; cat, dog, background") and told.startswith("a caption") and models.backbone.fits(told)


def test_parts_put_together_as_diffsegmenter_chooses_are_diffsegmenter(precise_models: Models, picture: np.ndarray) -> None:
    scene, classes = from_image(precise_models, picture, seed=3), parse_classes("cat, potted plant")
    method = replace(suited_to(precise_models, DiffSegmenter), emphasis=1.0, refine_stride=2)
    expected = method.segment(precise_models, scene, classes).scores()
    chosen = Recipe(weights=of_strides(method.stride_weights), stride=2)
    backbone = precise_models.backbone
    text = recipe.told(backbone, one_each(method.prompt, ["cat", "potted plant"]))
    trace = backbone.trace(scene.latent, text, 100, chosen.capture(backbone), scene.seed)
    maps = recipe.read(trace, chosen)
    scores = recipe.scored(maps.refined, [0, 1], picture.shape[:2], chosen)
    assert np.allclose(scores, expected[1:], atol=1e-5)


def test_keys_of_words_are_those_of_a_pass(precise_models: Models, picture: np.ndarray) -> None:
    """Of the first layer, whose places no word has changed yet: a question that was not asked has the same answer."""
    backbone, scene = precise_models.backbone, from_image(precise_models, picture)
    asked, other = (recipe.told(backbone, one_each("{}", [word])) for word in ("cat", "dog"))
    chosen = Recipe(weights={1: 1.0}, refine="none")
    first = recipe.crossing_of(backbone)[:1]
    capture = replace(chosen.capture(backbone), states=first)
    traces = [backbone.trace(scene.latent, text, 100, capture, scene.seed) for text in (asked, other)]
    keys = backbone.word_keys(other, first)
    later = recipe.read(replace(traces[0], text=other), chosen, keys)
    assert torch.allclose(later.fused, recipe.read(traces[1], chosen).fused, atol=1e-6)
    assert not torch.allclose(later.fused, recipe.read(traces[0], chosen).fused, atol=1e-3)
