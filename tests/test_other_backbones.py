"""What every backbone must keep to, and that one that is no U-Net needs a file and a row of `BACKBONES`, nothing else."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ovseg.backbones import BACKBONES, Backbone, Capture, Checkpoint, counting
from ovseg.backbones.base import Sampling, Watch, grid_at
from ovseg.maths import maps
from ovseg.methods import find_method, suited_to
from ovseg.models import Models
from ovseg.scene import from_image, from_prompt
from ovseg.words.classes import parse_classes
from tests.patch_transformer import LAYERS, PatchTransformer, load_patches
from tests.self_attention import self_attention, selves

CLASSES = parse_classes("cat, potted plant, sky")
ROW = Checkpoint(
    "", "Patches of pixels", "Nothing: its weights are random.", load=load_patches, steps=2, guidance=2.0,
    settings={
        "diffsegmenter": {"stride_weights": (1.0,)},
        "freeseg-diff": {"query_stride": 1, "grid_stride": 1, "words": "classes", "refinement": "none"},
        "ovdiff": {"images": 2, "steps": 1, "parts": 2, "masks": "otsu", "sites": "0-2", "short_side": 0, "windows": ()},
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def patches(with_clip: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """The transformer, found by its row of the table, beside the tiny networks that go with the tiny U-Net."""
    folder = tmp_path_factory.mktemp("patches")
    torch.manual_seed(0)
    save_file(PatchTransformer().state_dict(), folder / "weights.safetensors")
    others = {name: getattr(with_clip.checkpoint, name) for name in ("clip", "captioner", "dino", "grounding")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "patches", replace(ROW, source=str(folder / "weights.safetensors"), **others))
        models = Models("patches", device="cpu")
        models.prototype_folders = (folder / "prototypes", None)
        yield models


@pytest.fixture(params=["unet", "patches"])
def backbone(request: pytest.FixtureRequest, precise_models: Models, patches: Models) -> Backbone:
    return (patches if request.param == "patches" else precise_models).backbone


@pytest.fixture
def latent(backbone: Backbone) -> torch.Tensor:
    return backbone.encode(np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8))


def everything(backbone: Backbone) -> Capture:
    return Capture(backbone.strides, (), backbone.sites, backbone.feature_strides, backbone.sites)


def test_it_keeps_to_the_protocol(backbone: Backbone) -> None:
    assert isinstance(backbone, Backbone)
    assert len(set(backbone.sites)) == len(backbone.sites) and {site.kind for site in backbone.sites} == {"self", "cross"}
    assert backbone.strides == tuple(sorted({site.stride for site in backbone.sites}))
    hw = backbone.working_hw((50, 90))
    assert backbone.latent_shape(hw) == tuple(backbone.encode(np.zeros((*hw, 3), np.uint8)).shape[1:])
    tokens = backbone.tokens("a cat")
    assert len(tokens) == backbone.encode_text(["a cat"], [""]).embeddings.shape[1]
    assert "".join(token.text for token in tokens).replace(" ", "") == "acat"


def test_watched_passes_are_as_traces_of_what_they_were_given(backbone: Backbone) -> None:
    prompt, sampling, seen = "a photo of a cat", Sampling(2, 3.0), []
    backbone.generate(prompt, [3], sampling, watch=Watch(everything(backbone), seen.append))
    assert tuple(trace.timestep for trace in seen) == backbone.timesteps(sampling)
    for trace in seen:
        alone = backbone.trace_noised(
            trace.noised, backbone.encode_text([prompt], [""]), trace.timestep, everything(backbone)
        )
        for name in ("cross", "queries", "features"):
            for key, values in getattr(trace, name).items():
                assert torch.allclose(values, getattr(alone, name)[key], atol=1e-9)
        for stride, values in self_attention(trace).items():
            assert torch.allclose(values, self_attention(alone)[stride], atol=1e-9)


def test_all_that_it_says_it_has_can_be_captured(backbone: Backbone, latent: torch.Tensor) -> None:
    text = backbone.encode_text(["a photo of a cat", "a photo of a potted plant"], ["cat", "potted plant"])
    trace = backbone.trace(latent, text, 100, replace(everything(backbone), phrases=backbone.strides), seed=0)
    hw = tuple(latent.shape[-2:])
    assert trace.latent_hw == hw and tuple(trace.cross) == tuple(s for s in backbone.sites if s.kind == "cross")
    assert tuple(trace.queries) == backbone.sites
    for site, probabilities in trace.cross.items():
        assert probabilities.shape == (2, *grid_at(hw, site.stride), text.embeddings.shape[1])
        assert torch.allclose(probabilities.sum(-1), torch.ones(1, dtype=probabilities.dtype))
        assert trace.queries[site].shape[-2:] == grid_at(hw, site.stride)
        assert torch.allclose(trace.phrases[site], maps.phrase_maps(probabilities, text.spans))
    for stride, probabilities in self_attention(trace).items():
        assert probabilities.shape[1:] == (np.prod(grid_at(hw, stride)),) * 2
        assert torch.allclose(probabilities.sum(-1), torch.ones(1, dtype=probabilities.dtype))
    assert tuple(trace.states) == backbone.sites and torch.equal(trace.noised, backbone.noised(latent, 100, 0))
    attended = {s: (both.query @ both.key.mT).softmax(-1).mean(1) for s, both in trace.states.items()}
    for site, both in trace.states.items():
        assert both.query.shape[1] * both.query.shape[3] == backbone.width(site)
        if site.kind == "cross":
            assert torch.allclose(attended[site].unflatten(1, grid_at(hw, site.stride)), trace.cross[site], atol=1e-6)
    for stride in backbone.strides:
        spread = trace.spread(picture := torch.rand(2, *grid_at(hw, stride), dtype=torch.float64), stride)
        own = torch.stack([attended[site] for site in selves(backbone, stride)]).mean(0)
        assert torch.allclose(spread.flatten(1), (own @ picture.flatten(1)[..., None])[..., 0], atol=1e-6)
    assert {stride: tuple(maps.shape[-2:]) for stride, maps in trace.features.items()} == {
        stride: grid_at(hw, stride) for stride in backbone.feature_strides
    }


def test_rows_together_are_as_rows_alone(backbone: Backbone, latent: torch.Tensor) -> None:
    words = ["cat", "dog", "potted plant"]
    text = backbone.encode_text([f"a photo of a {word}" for word in words], words)
    together = backbone.trace(latent, text, 100, everything(backbone), seed=3)
    for row, part in enumerate(text.split(1)):
        alone = backbone.trace(latent, part, 100, everything(backbone), seed=3)
        for name in ("cross", "queries", "features"):
            for key, values in getattr(together, name).items():
                assert torch.allclose(values[row], getattr(alone, name)[key][0], atol=1e-9)
        for stride, values in self_attention(together).items():
            assert torch.allclose(values[row], self_attention(alone)[stride][0], atol=1e-9)


def test_a_latent_for_each_prompt_is_as_each_alone(backbone: Backbone, latent: torch.Tensor) -> None:
    text, both = backbone.encode_text(["", "a cat"], ["", ""]), torch.cat([latent, latent.flip(-1)])
    together = backbone.trace(both, text, 100, everything(backbone), seed=3)
    for row, part in enumerate(text.split(1)):
        alone = backbone.trace(both[row : row + 1], part, 100, everything(backbone), seed=3)
        for site, values in together.queries.items():
            assert torch.allclose(values[row], alone.queries[site][0], atol=1e-9)


def test_noise_follows_the_seed_and_the_timestep(backbone: Backbone, latent: torch.Tensor) -> None:
    text, capture = backbone.encode_text(["a cat"], ["cat"]), Capture(features=backbone.feature_strides[:1])

    def features(timestep: int, seed: int) -> torch.Tensor:
        return next(iter(backbone.trace(latent, text, timestep, capture, seed).features.values()))

    assert torch.equal(features(100, 1), features(100, 1))
    assert not torch.allclose(features(100, 1), features(100, 2), atol=1e-3)
    assert not torch.allclose(features(100, 1), features(600, 1), atol=1e-3)
    with pytest.raises(ValueError, match="timestep must be from 0 to 999, but got 1000"):
        features(1000, 1)


def test_pictures_are_drawn_by_seed_and_their_passes_counted(backbone: Backbone) -> None:
    with counting() as count:
        made = backbone.generate("a photo of a cat", [3, 4], Sampling(2, 3.0), phrase="cat")
    assert (count.passes, count.rows) == (2, 8)
    (again,) = backbone.generate("a photo of a cat", [4], Sampling(2, 3.0))
    assert np.array_equal(made[1].image, again.image) and not np.array_equal(made[0].image, again.image)
    assert made[1].attribution.shape == made[1].latent.shape[-2:] and again.attribution is None
    assert np.array_equal(backbone.decode(made[0].latent), made[0].image)
    assert made[0].image.shape[:2] == backbone.square_hw()


def test_the_transformer_loses_nothing_of_a_picture(patches: Models, picture: np.ndarray) -> None:
    image = picture[:, :88]
    assert np.array_equal(patches.backbone.decode(patches.backbone.encode(image)), image)


def test_diffsegmenter_reads_the_transformers_attention(patches: Models, picture: np.ndarray) -> None:
    scene = from_image(patches, picture, seed=2)
    method = suited_to(patches, find_method("diffsegmenter"))
    with counting() as count:
        result = method.segment(patches, scene, CLASSES)
    assert (count.passes, count.rows) == (2, 3)  # two rows a pass, as the backbone says
    words = [word.name for word in CLASSES]
    text = patches.backbone.encode_text([f"a photograph of {word}" for word in words], words, 1.21)
    trace = patches.backbone.trace(scene.latent, text, 100, Capture((1,), states=selves(patches.backbone)), scene.seed)
    crossing = torch.stack(list(trace.cross.values()))
    assert len(crossing) == LAYERS
    said = maps.normalise(
        torch.stack([crossing[:, row, :, :, list(span)].mean((0, -1)) for row, span in enumerate(text.spans)])
    )
    refined = torch.einsum("bnm,bm->bn", self_attention(trace)[1], said.flatten(1)).unflatten(1, trace.latent_hw)
    scores = maps.normalise(maps.resize(refined, picture.shape[:2]))
    assert np.allclose(result.scores()[1:], scores.numpy(), atol=1e-5)
    assert result.label_map.shape == picture.shape[:2] and len(np.unique(result.label_map)) > 1


def test_freeseg_diff_clusters_the_transformers_queries(patches: Models, picture: np.ndarray) -> None:
    method = suited_to(patches, find_method("freeseg-diff"))
    with counting() as count:
        result = replace(method, draws=2, clusters=3).segment(patches, from_image(patches, picture), CLASSES)
    assert (count.passes, count.rows) == (2, 2)
    regions = result.evidence[0].map
    assert regions.shape == patches.backbone.encode(picture[:52, :80]).shape[-2:] and len(np.unique(regions)) == 3


def test_ovdiff_draws_and_compares_with_the_transformer(patches: Models, picture: np.ndarray) -> None:
    method = suited_to(patches, find_method("ovdiff"))
    result = method.segment(patches, from_image(patches, picture), CLASSES[:2])
    assert result.labels == ("background", "cat", "potted plant") and np.isfinite(result.scores()).all()
    with pytest.raises(ValueError, match="sites must name some of 0 to 2 on this backbone"):
        replace(method, sites="0-3").segment(patches, from_image(patches, picture), CLASSES[:2])


def test_a_prompt_becomes_a_scene_with_the_transformer(patches: Models) -> None:
    scene = from_prompt(patches, "a photo of a cat", seed=1)
    assert scene.image.shape == (64, 64, 3) and np.array_equal(patches.backbone.decode(scene.latent), scene.image)


def test_a_grounding_module_of_another_network_is_refused(patches: Models, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="S1 was trained on another"):
        find_method("grounded-diffusion")().segment(patches, from_image(patches, picture), CLASSES)
