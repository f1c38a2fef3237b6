"""The grounding module: pictures, words and both rows of guidance stay apart. What it answers: `test_grounding_import`."""

import pytest
import torch
import torch.nn.functional as F

from ovseg.backbones import Capture
from ovseg.models import Models
from ovseg.pretrained.grounding import SD1_FUSED, GroundingModule, GroundingSize, step_features

CHANNELS = {8: 24, 4: 20, 2: 12, 1: 8}
SMALL = GroundingSize(CHANNELS, text=16, fused={8: 4, 4: 4, 2: 8, 1: 8}, model=32, heads=4, feed_forward=48, layers=2)


def captured(batch: int, grid: tuple[int, int] = (16, 24)) -> dict[int, torch.Tensor]:
    torch.manual_seed(1)
    return {s: torch.randn(batch, c, -(-grid[0] // s), -(-grid[1] // s)) for s, c in CHANNELS.items()}


def module(independent: bool = False) -> GroundingModule:
    torch.manual_seed(0)
    return GroundingModule(SMALL, independent).eval()


def test_stable_diffusion_1_gives_the_published_size() -> None:
    size = GroundingSize({8: 15_360, 4: 14_080, 2: 8_320, 1: 5_120}, text=768, fused=SD1_FUSED)
    with torch.device("meta"):
        built = GroundingModule(size)
    count = sum(parameter.numel() for parameter in built.parameters())
    assert built.width == 240 and count == pytest.approx(18.80e6, rel=0.002)
    decoder = sum(p.numel() for p in built.layers.parameters())
    assert decoder == pytest.approx(12.60e6, rel=0.002)
    assert built.tokens.in_features == 3840


def test_features_are_those_without_the_sentence_and_then_those_with_it(models: Models) -> None:
    backbone, latent = models.backbone, torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(2))
    features = step_features(backbone, latent, "a photo of a cat", 40, seed=3)
    capture = Capture(features=backbone.feature_strides)
    rows = [backbone.trace(latent, backbone.encode_text([said], [""]), 40, capture, 3) for said in ("", "a photo of a cat")]
    assert sorted(features) == [1, 2, 4, 8]
    for stride, both in features.items():
        without, given = both.chunk(2, 1)
        assert torch.allclose(without, rows[0].features[stride], atol=1e-5)
        assert torch.allclose(given, rows[1].features[stride], atol=1e-5)
        assert not torch.allclose(without, given, atol=1e-3)


@torch.no_grad()
def test_logits_have_the_pictures_size_on_any_grid() -> None:
    words = torch.randn(2, 3, 16)
    for grid in ((16, 24), (18, 10)):
        assert module()(captured(2, grid), words, (70, 50)).shape == (2, 3, 70, 50)


@torch.no_grad()
def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    features, words, built = captured(3), torch.randn(3, 2, 16), module()
    together = built(features, words, (32, 48))
    for k in range(3):
        alone = built({s: f[k : k + 1] for s, f in features.items()}, words[k : k + 1], (32, 48))
        assert torch.allclose(together[k], alone[0], atol=1e-5)


@torch.no_grad()
def test_independent_words_do_not_see_each_other() -> None:
    features, words = captured(1), torch.randn(1, 3, 16)
    apart, joint = module(independent=True), module()
    assert torch.allclose(apart(features, words, (16, 24))[:, :1], apart(features, words[:, :1], (16, 24)), atol=1e-5)
    assert not torch.allclose(joint(features, words, (16, 24))[:, :1], joint(features, words[:, :1], (16, 24)), atol=1e-3)


def test_it_learns_a_mask_and_keeps_its_statistics() -> None:
    built = module().train()
    features, words, target = captured(2), torch.randn(2, 1, 16), torch.zeros(2, 1, 16, 24)
    target[..., 4:12, 6:18] = 1
    optimizer = torch.optim.Adam(built.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = F.binary_cross_entropy_with_logits(built(features, words, (16, 24)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    built.eval()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    with torch.no_grad():
        built(features, words, (16, 24))
    assert all(torch.equal(before[name], value) for name, value in built.state_dict().items())


@torch.no_grad()
def test_where_nothing_is_on_the_latent_grid_the_finest_features_are_enlarged() -> None:
    torch.manual_seed(0)
    lone = GroundingModule(GroundingSize({2: 12}, 16, {2: 8}, model=32, heads=4, feed_forward=48, layers=1)).eval()
    features, words = {2: captured(2)[2]}, torch.randn(2, 3, 16)
    (level,) = lone.levels(features)
    enlarged = F.interpolate(lone.reduce["2"](features[2]), scale_factor=2, mode="bilinear")
    assert level.shape == (2, 8, 16, 24) and torch.allclose(level, lone.blocks[0](enlarged), atol=1e-5)
    assert lone(features, words, (64, 96)).shape == (2, 3, 64, 96) and len(lone.blocks) == 1
    two = GroundingModule(
        GroundingSize({4: 20, 2: 12}, 16, {4: 4, 2: 8}, model=32, heads=4, feed_forward=48, layers=1)
    ).eval()
    both = two.levels({stride: captured(2)[stride] for stride in (4, 2)})
    assert [level.shape[1:] for level in both] == [(4, 8, 12), (12, 16, 24)] and len(two.blocks) == 2


def test_strides_must_agree() -> None:
    with pytest.raises(ValueError, match="fused must have the strides of channels"):
        GroundingSize({8: 4, 1: 4}, text=8, fused={8: 4})
