"""What every backbone must keep to, and that one that is no U-Net needs a file and a row of `BACKBONES`, nothing else."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from ovseg.backbones import BACKBONES, Ablation, Backbone, Capture, Checkpoint, counting, load_backbone
from ovseg.backbones.attention_calls import Call
from ovseg.backbones.base import Sampling, Site, Text, Trace, Watch, grid_at, query_states, sibling
from ovseg.backbones.flux2 import Flux2Klein
from ovseg.backbones.network_check import check_network
from ovseg.backbones.recording import Recorder
from ovseg.backbones.stable_diffusion_3 import StableDiffusion3
from ovseg.backbones.weights import generator
from ovseg.layer_attention import LayerAttention
from ovseg.maths import maps
from ovseg.methods import find_method, obstacle_to, suited_to
from ovseg.methods.concept_attention.method import word_shares
from ovseg.methods.seg4diff.slots import merged, regions
from ovseg.models import Models
from ovseg.scene import from_image, from_prompt
from ovseg.words.classes import parse_classes
from tests.patch_transformer import LAYERS, load_patches
from tests.self_attention import attended, phrase_maps, self_attention, selves, whole_rows
from tests.tiny_pipelines import LAYERS as JOINT_LAYERS
from tests.tiny_pipelines import write_tiny

CLASSES = parse_classes("cat, potted plant, sky")
ROW = Checkpoint(
    "", "Patches of pixels", "Nothing: its weights are random.", load=load_patches, steps=2, guidance=2.0,
    side=64, latent_side=16, cross_strides=(1, 1, 1), grid_weights=(1.0,),
)  # fmt: skip


@pytest.fixture(scope="module")
def patches(with_clip: Models, patches_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """The transformer, found by its row of the table, beside the tiny networks that go with the tiny U-Net."""
    others = {name: getattr(with_clip.checkpoint, name) for name in ("clip", "captioner", "dino", "grounding")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "patches", replace(ROW, source=str(patches_file), **others))
        models = Models("patches", device="cpu")
        models.prototype_folders = (tmp_path_factory.mktemp("prototypes"), None)
        yield models


NO_T5 = {"text_encoder_3": None, "tokenizer_3": None}
FAMILIES = {
    "joint": "sd35m",
    "xl": "ssd1b",
    "klein": "klein",
}  # beside a U-Net and patches, a network of each of diffusers' families


@pytest.fixture(scope="module")
def folders(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The folder of a family's tiny pipeline, written when it is first asked for."""
    root = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as patch:  # no configuration says these of FLUX.2
        patch.setattr(Flux2Klein, "trained_places", 16)
        patch.setattr(Flux2Klein, "_room", 48)
        yield cache(lambda family: write_tiny(FAMILIES[family], tiny_folder, root / family / "pipeline"))


@pytest.fixture(scope="module")
def families(with_clip: Models, folders: Callable[[str], Path]) -> Callable[[str], Models]:
    """A family's tiny network, found by its path, beside the tiny networks that go with the tiny U-Net."""

    @cache
    def models(family: str) -> Models:
        made = Models(str(folders(family)), device="cpu", dtype="float64")
        others = {name: getattr(with_clip.checkpoint, name) for name in ("clip", "captioner", "dino")}
        made.checkpoint = replace(made.checkpoint, steps=2, guidance=2.0, **others)
        made.prototype_folders = (folders(family).parent / "prototypes", None)
        return made

    return models


@pytest.fixture(scope="module")
def joint(families: Callable[[str], Models]) -> Models:
    return families("joint")


@pytest.fixture(params=["unet", "patches", *FAMILIES])
def backbone(
    request: pytest.FixtureRequest, precise_models: Models, patches: Models, families: Callable[[str], Models]
) -> Backbone:
    own = {"unet": precise_models, "patches": patches}.get(request.param) or families(request.param)
    return own.backbone


@pytest.fixture
def latent(backbone: Backbone) -> torch.Tensor:
    return backbone.encode(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))


def share_of_columns(states: LayerAttention) -> torch.Tensor:
    """What of a place's attention goes to keys that have a column: all of it, unless places and words share a softmax."""
    rows = whole_rows(states).mean(1)
    return rows.sum(-1) if states.column_of is None else (rows * (states.column_of[:, None] >= 0)).sum(-1)


def everything(backbone: Backbone) -> Capture:
    return Capture(backbone.strides, (), backbone.sites, backbone.feature_strides, backbone.sites)


def test_it_keeps_to_the_protocol(backbone: Backbone) -> None:
    assert isinstance(backbone, Backbone)
    assert len(set(backbone.sites)) == len(backbone.sites) and {site.kind for site in backbone.sites} == {"self", "cross"}
    assert backbone.strides == tuple(sorted({site.stride for site in backbone.sites}))
    hw = backbone.working_hw((50, 90))
    assert backbone.latent_shape(hw) == tuple(backbone.encode(np.zeros((*hw, 3), np.uint8)).shape[1:])
    tokens = backbone.tokens("a cat")
    assert len(tokens) == backbone.encode_text(["a cat"], [""]).tokens
    assert all(sibling(site, backbone.sites).kind != site.kind for site in backbone.sites)
    assert "".join(token.text for token in tokens).replace(" ", "") == "acat"


def assert_row_is(trace: Trace, row: int, alone: Trace) -> None:
    """A row of a trace is that of a pass by itself."""
    for name in ("cross", "queries", "features"):
        for key, values in getattr(trace, name).items():
            assert torch.allclose(values[row], getattr(alone, name)[key][0], atol=1e-9)
    for site, states in trace.states.items():
        for name in ("query", "key"):
            assert torch.allclose(getattr(states, name)[row], getattr(alone.states[site], name)[0], atol=1e-9)


def test_watched_passes_are_as_traces_of_what_they_were_given(backbone: Backbone) -> None:
    prompt, sampling, seen = "a photo of a cat", Sampling(2, 3.0, "blurry"), []
    watch = Watch(everything(backbone), seen.append)
    watched, plain = (backbone.generate(prompt, [3, 4], sampling, watch=one) for one in (watch, None))
    assert all(np.array_equal(one.image, other.image) for one, other in zip(watched, plain, strict=True))
    assert tuple(trace.timestep for trace in seen) == backbone.timesteps(sampling)
    text = backbone.encode_text([prompt], [""])
    for trace in seen:
        assert trace.text.prompts == (prompt, prompt)
        for row in range(2):
            alone = backbone.trace_noised(trace.noised[row : row + 1], text, trace.timestep, everything(backbone))
            assert_row_is(trace, row, alone)
    with pytest.raises(ValueError, match="gather a phrase's attention or be watched, but both"):
        backbone.generate(prompt, [1], sampling, phrase="cat", watch=watch)


def test_all_that_it_says_it_has_can_be_captured(backbone: Backbone, latent: torch.Tensor) -> None:
    text = backbone.encode_text(["a photo of a cat", "a photo of a potted plant"], ["cat", "potted plant"])
    trace = backbone.trace(latent, text, 100, replace(everything(backbone), phrases=backbone.strides), seed=0)
    hw = tuple(latent.shape[-2:])
    assert trace.latent_hw == hw and tuple(trace.cross) == tuple(s for s in backbone.sites if s.kind == "cross")
    assert tuple(trace.queries) == backbone.sites
    for site, probabilities in trace.cross.items():
        assert probabilities.shape == (2, *grid_at(hw, site.stride), text.tokens)
        assert torch.allclose(
            probabilities.sum(-1), share_of_columns(trace.states[site]).unflatten(1, grid_at(hw, site.stride))
        )
        assert trace.queries[site].shape[-2:] == grid_at(hw, site.stride)
        assert torch.allclose(trace.phrases[site], phrase_maps(probabilities, text.spans))
    for stride, probabilities in self_attention(trace).items():
        assert probabilities.shape[1:] == (np.prod(grid_at(hw, stride)),) * 2
        shares = [share_of_columns(trace.states[site]) for site in selves(backbone, stride)]
        assert torch.allclose(probabilities.sum(-1), torch.stack(shares).mean(0))
    assert tuple(trace.states) == backbone.sites and torch.equal(trace.noised, backbone.noised(latent, 100, 0))
    rows = {site: attended(both) for site, both in trace.states.items()}
    for site, both in trace.states.items():
        assert both.key.shape[2] == backbone.keys(site, hw) and both.grid == grid_at(hw, site.stride)
        assert both.value().shape == both.key.shape
        assert both.out is None or both.out.shape[1] == backbone.width(site)  # None: fused with a feed-forward part
        assert both.query.shape[1] * both.query.shape[3] == backbone.width(site)
        if site.kind == "cross":
            assert torch.allclose(rows[site].unflatten(1, grid_at(hw, site.stride)), trace.cross[site], atol=1e-6)
    for stride in backbone.strides:
        spread = trace.spread(picture := torch.rand(2, *grid_at(hw, stride), dtype=torch.float64), stride)
        own = torch.stack([rows[site] for site in selves(backbone, stride)]).mean(0)
        assert torch.allclose(spread.flatten(1), (own @ picture.flatten(1)[..., None])[..., 0], atol=1e-6)
    assert {stride: tuple(maps.shape[-2:]) for stride, maps in trace.features.items()} == {
        stride: grid_at(hw, stride) for stride in backbone.feature_strides
    }


def test_a_prompt_may_carry_several_phrases(backbone: Backbone, latent: torch.Tensor) -> None:
    prompts, capture = ["a cat and a potted plant", "a dog"], Capture(phrases=backbone.strides, states=selves(backbone))
    text = backbone.encode_text(prompts, [("potted plant", "cat"), "dog"])
    together = backbone.trace(latent, text, 100, capture, seed=3)
    assert text.row_of == (0, 0, 1)
    picture = torch.rand(3, *grid_at(together.latent_hw, backbone.strides[0]), dtype=torch.float64)
    spread = together.spread(picture, backbone.strides[0], times=2)
    for number, (row, phrase) in enumerate([(0, "potted plant"), (0, "cat"), (1, "dog")]):
        alone = backbone.trace(latent, backbone.encode_text([prompts[row]], [phrase]), 100, capture, seed=3)
        for site, values in together.phrases.items():
            assert len(values) == 3 and torch.allclose(values[number], alone.phrases[site][0], atol=1e-9)
        by_itself = alone.spread(picture[number : number + 1], backbone.strides[0], times=2)
        assert torch.allclose(spread[number], by_itself[0], atol=1e-9)
    first, second = text.split(1)
    assert (first.spans, first.row_of, second.spans, second.row_of) == (text.spans[:2], (0, 0), text.spans[2:], (0,))
    stronger = backbone.encode_text(prompts, [("potted plant", "cat"), "dog"], 1.5, ["plant", "cat", "dog"]).embeddings
    changed = [{int(k) for k in (row != 0).any(-1).nonzero()} for row in stronger - text.embeddings]
    tokens = [{*text.spans[0][-1:], *text.spans[1]}, set(text.spans[2])]
    assert all(own <= found for own, found in zip(tokens, changed, strict=True)) and 0 not in changed[0]


def layer_of(backbone: Backbone, site: Site) -> torch.nn.Module:
    if backbone.name == "patches":
        kind, number = site.name.split()
        return (backbone.network.among_places if kind == "self" else backbone.network.to_words)[int(number)]
    return backbone.network.get_submodule(site.name)


@contextmanager
def outputs_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    outputs: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda _m, _i, out: outputs.append(out[0] if isinstance(out, tuple) else out))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def zero_outputs(module: torch.nn.Module) -> Iterator[None]:
    """A layer whose output projections are zero."""
    last = [getattr(module, "to_add_out", None), module.to_out[0] if hasattr(module, "to_out") else module.out]
    weights = [weight for layer in last if layer is not None for weight in layer.parameters()]
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        _ = [weight.zero_() for weight in weights]
        try:
            yield
        finally:
            _ = [weight.copy_(old) for weight, old in zip(weights, before, strict=True)]


def by_hand(states: LayerAttention, module: torch.nn.Module, heads_off: tuple[int, ...] = ()) -> torch.Tensor:
    """A layer's output at its places, from its attention, with some heads off."""
    mixed = whole_rows(states) @ states.value()
    mixed[:, list(heads_off)] = 0
    out = module.to_out[0] if hasattr(module, "to_out") else module.out
    return torch.nn.functional.linear(mixed.transpose(1, 2).flatten(2), states.out, out.bias)


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_a_head_a_token_and_a_layer_can_be_switched_off(backbone: Backbone, latent: torch.Tensor, kind: str) -> None:
    sites = [site for site in backbone.sites if site.kind == kind]
    site, several = sites[0], next(site for site in sites if getattr(layer_of(backbone, site), "heads", 2) > 1)
    text, module = backbone.encode_text(["a cat", "a dog"], ["cat", "dog"]), layer_of(backbone, site)
    token = text.spans[0][0]
    # The last block is read too, so that the pass goes on behind the layer.
    capture = Capture((), (), (), backbone.feature_strides, tuple({site, several}))

    def traced(off: Ablation, layer: torch.nn.Module = module) -> tuple[Trace, torch.Tensor]:
        with outputs_of(layer) as outputs:
            trace = backbone.trace(latent, text, 100, capture, 3, off=off)
        return trace, outputs[0]

    plain, output = traced(Ablation())
    assert torch.allclose(output, by_hand(plain.states[site], module), atol=1e-9)
    one_head, without_head = traced(Ablation(heads=((several, 1),)), layer_of(backbone, several))
    assert torch.allclose(without_head, by_hand(plain.states[several], layer_of(backbone, several), (1,)), atol=1e-9)
    no_token, without_token = traced(Ablation(tokens=(token,)))
    assert torch.allclose(without_token, by_hand(no_token.states[site], module), atol=1e-9)
    no_layer, _ = traced(Ablation(layers=(site,)))
    with zero_outputs(module):
        silent, nothing = traced(Ablation())
    assert (nothing == 0).all()
    assert all(torch.allclose(no_layer.features[stride], maps, atol=1e-9) for stride, maps in silent.features.items())
    sees_words = kind == "cross" or no_token.states[site].column_of is not None
    assert sees_words == (not torch.allclose(without_token, output, atol=1e-6))
    for other in (one_head, no_token, no_layer):
        last = backbone.feature_strides[0]
        assert not torch.allclose(other.features[last], plain.features[last], atol=1e-6)
    again, _ = traced(Ablation())
    assert all(torch.equal(again.features[stride], maps) for stride, maps in plain.features.items())


def test_a_token_that_is_off_gets_nothing_and_the_others_its_share(backbone: Backbone, latent: torch.Tensor) -> None:
    text, site = backbone.encode_text(["a cat"], ["cat"]), next(s for s in backbone.sites if s.kind == "cross")
    capture, token = Capture(cross=(site.stride,)), text.spans[0][0]
    plain, off = (
        backbone.trace(latent, text, 100, capture, 3, off=one).cross[site] for one in (Ablation(), Ablation(tokens=(token,)))
    )
    assert (off[..., token] == 0).all() and (plain[..., token] > 0).all()
    # Before this layer, the first that sees words, nothing has changed: what the others get grows, by head.
    others = [k for k in range(text.tokens) if k != token]
    assert (off[..., others] > plain[..., others]).all() and not torch.allclose(
        off.sum(-1), plain.sum(-1) - plain[..., token]
    )


@pytest.mark.parametrize("option", [{"words": "words.safetensors"}, {"offload": True}])
def test_offloading_and_saved_words_need_a_pipeline(patches: Models, option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="saved words need a pipeline of diffusers, but patches is none"):
        load_backbone("patches", "cpu", torch.float32, **option)


def test_what_cannot_be_switched_off_is_refused(backbone: Backbone, latent: torch.Tensor) -> None:
    text, site = backbone.encode_text(["a cat"], ["cat"]), backbone.sites[0]
    for off in (Ablation(heads=((site, 99),)), Ablation(layers=(Site("elsewhere", 1, "self"),)), Ablation(tokens=(999,))):
        with pytest.raises(ValueError, match=r"must be (one )?of|must be the backbone's own|must be this network's"):
            backbone.trace(latent, text, 100, Capture(features=backbone.feature_strides), 3, off=off)
    last = backbone.trace(latent, text, 100, Capture(states=(site,)), 3).states[site].query.shape[1] - 1
    with pytest.raises(ValueError, match=f"must be (one of 0 to {last}, but got {last + 1}|of {last + 1} heads)"):
        backbone.trace(latent, text, 100, Capture(), 3, off=Ablation(heads=((site, last + 1),)))


def test_rows_together_are_as_rows_alone(backbone: Backbone, latent: torch.Tensor) -> None:
    words = ["cat", "dog", "potted plant"]
    text = backbone.encode_text([f"a photo of a {word}" for word in words], words)
    together = backbone.trace(latent, text, 100, everything(backbone), seed=3)
    for row, part in enumerate(text.split(1)):
        assert_row_is(together, row, backbone.trace(latent, part, 100, everything(backbone), seed=3))


def test_a_latent_for_each_prompt_is_as_each_alone(backbone: Backbone, latent: torch.Tensor) -> None:
    text, both = backbone.encode_text(["", "a cat"], ["", ""]), torch.cat([latent, latent.flip(-1)])
    together = backbone.trace(both, text, 100, everything(backbone), seed=3)
    for row, part in enumerate(text.split(1)):
        assert_row_is(together, row, backbone.trace(both[row : row + 1], part, 100, everything(backbone), seed=3))


def test_noise_follows_the_seed_and_the_timestep(backbone: Backbone, latent: torch.Tensor) -> None:
    text, capture = backbone.encode_text(["a cat"], ["cat"]), Capture(features=backbone.feature_strides[:1])

    def features(timestep: int, seed: int) -> torch.Tensor:
        return next(iter(backbone.trace(latent, text, timestep, capture, seed).features.values()))

    assert torch.equal(features(100, 1), features(100, 1))
    assert not torch.allclose(features(100, 1), features(100, 2), atol=1e-3)
    assert not torch.allclose(features(100, 1), features(600, 1), atol=1e-3)
    with pytest.raises(ValueError, match=r"timestep must be from 0 to (999|1000), but got -1"):
        features(-1, 1)


def test_pictures_are_drawn_by_seed_and_their_passes_counted(backbone: Backbone) -> None:
    with counting() as count:
        made = backbone.generate("a photo of a cat", [3, 4], Sampling(2, 3.0), phrase="cat")
    assert (count.passes, count.rows) == (4 if backbone.name.endswith("klein/pipeline") else 2, 8)
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
    method = suited_to(patches, find_method("freeseg-diff"), {"words": "classes", "refinement": "none"})
    with counting() as count:
        result = replace(method, draws=2, clusters=3).segment(patches, from_image(patches, picture), CLASSES)
    assert (count.passes, count.rows) == (2, 2)
    regions = result.evidence[0].map
    assert regions.shape == patches.backbone.encode(picture[:52, :80]).shape[-2:] and len(np.unique(regions)) == 3


def test_ovdiff_draws_and_compares_with_the_transformer(patches: Models, picture: np.ndarray) -> None:
    method = suited_to(
        patches, find_method("ovdiff"), {"images": 2, "steps": 1, "parts": 2, "masks": "otsu", "short_side": 0}
    )
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


def test_a_folder_is_read_by_the_family_that_its_index_names(
    joint: Models, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    assert isinstance(joint.backbone, StableDiffusion3) and joint.backbone.fingerprint.count("-") == 3
    assert len(joint.backbone.sites) == 2 * JOINT_LAYERS + 1  # one block has attention of its places alone besides
    shutil.copytree(folders("joint"), tmp_path / "other")
    index = tmp_path / "other" / "model_index.json"
    for told, sentence in (
        ({"_class_name": "KandinskyPipeline"}, r"must be one of StableDiffusionPipeline, .* but got 'Kandinsky"),
        ({}, "model_index.json must name a class of diffusers' pipelines, but does not"),
    ):
        named = {name: value for name, value in json.loads(index.read_text()).items() if name != "_class_name"}
        index.write_text(json.dumps(named | told))
        with pytest.raises(ValueError, match=sentence):
            _ = Models(str(tmp_path / "other"), "cpu").backbone


def test_joint_attention_shares_a_row_among_words_places_and_rows_of_nothing(joint: Models) -> None:
    backbone = joint.backbone
    latent, text = torch.randn(1, 4, 24, 40, dtype=torch.float64), backbone.encode_text(["a cat"], ["cat"])
    trace = backbone.trace(latent, text, 100, everything(backbone), seed=0)
    assert text.tokens == 32 and text.embeddings.shape[1] == 32 + 256 and (text.embeddings[:, 32:] == 0).all()
    for site in (site for site in trace.cross if site.kind == "cross"):
        whole, places = whole_rows(trace.states[site]).mean(1), trace.states[sibling(site, backbone.sites)]
        nothing = whole[..., 240 + 32 :].sum(-1).unflatten(1, places.grid)
        own = attended(places).sum(-1).unflatten(1, places.grid)
        assert torch.allclose(trace.cross[site].sum(-1) + own + nothing, torch.ones(1, dtype=torch.float64))
        assert (nothing > 0).all() and (own > 0).all() and (trace.cross[site] > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_is_that_of_the_familys_own_scheduler(folders: Callable[[str], Path], family: str) -> None:
    backbone = Models(str(folders(family)), "cpu").backbone
    scheduler, latent = backbone._sampler(Sampling(10, 1.0)), torch.randn(2, *backbone.latent_shape((32, 64)))
    scheduler.set_timesteps(10, **backbone._shifting(10))
    timestep, noise = scheduler.timesteps[3], torch.randn(latent[:1].shape, generator=generator(5))
    if family == "xl":
        expected = scheduler.scale_model_input(scheduler.add_noise(latent, noise, timestep[None]), timestep)
    else:
        expected = scheduler.scale_noise(latent, timestep[None], noise)
    assert torch.allclose(backbone.noised(latent, float(timestep), 5), expected, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_keeps_to_the_checks_or_is_refused(folders: Callable[[str], Path], family: str) -> None:
    models = Models(str(folders(family)), "cpu", "bfloat16")
    assert (
        not models.network_check.failed and models.backbone.encode_text(["a cat"], [""]).embeddings.dtype == torch.bfloat16
    )
    with torch.no_grad():
        next(models.backbone.network.parameters()).fill_(torch.inf)
    with pytest.raises(ValueError, match="must be finite, but in bfloat16 some are not"):
        check_network(models.backbone)


@pytest.mark.parametrize("negative", ["", "a dog on grass"])
@pytest.mark.parametrize("family", ["unet", *FAMILIES])
def test_a_picture_is_that_of_the_plain_pipeline(
    tiny_folder: Path, folders: Callable[[str], Path], family: str, negative: str
) -> None:
    folder = tiny_folder if family == "unet" else folders(family)
    backbone, sampling = Models(str(folder), "cpu").backbone, Sampling(3, 4.0, negative)
    plain = DiffusionPipeline.from_pretrained(folder, **(NO_T5 if family == "joint" else {}))
    plain.set_progress_bar_config(disable=True)
    told = {"num_inference_steps": 3, "guidance_scale": 4.0, **({"negative_prompt": negative} if negative else {})}
    if family == "klein":
        told = {"height": 64, "width": 64, "max_sequence_length": 48, "num_inference_steps": 3, "guidance_scale": 4.0}
        told["negative_prompt_embeds"] = plain.encode_prompt(negative, max_sequence_length=48)[0]
    latent = plain(prompt="a photo of a cat", generator=generator(3), output_type="latent", **told).images
    seen: list[Trace] = []
    watch = Watch(Capture(cross=backbone.strides), seen.append)
    for made in (
        backbone.generate("a photo of a cat", [3], sampling),
        backbone.generate("a photo of a cat", [3], sampling, watch=watch),
    ):
        assert torch.equal(made[0].latent if family != "klein" else backbone._unscaled(made[0].latent), latent)
    pixels = plain(prompt="a photo of a cat", generator=generator(3), output_type="np", **told).images[0]
    assert np.abs(made[0].image / 255 - pixels).max() < 1.5 / 255 and pixels.std() > 0.02
    assert tuple(trace.timestep for trace in seen) == backbone.timesteps(sampling)


def test_a_piece_of_two_tokenizers_is_one_token(folders: Callable[[str], Path]) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folders("joint"), **NO_T5)
    words = WordLevel({"[pad]": 0, "a": 1, "potted": 2, "plant": 3, "[unk]": 4}, unk_token="[unk]")
    pieces = Tokenizer(words)
    pieces.pre_tokenizer = Whitespace()
    pipeline.tokenizer_3 = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token="[pad]", unk_token="[unk]")
    pipeline.text_encoder_3 = T5EncoderModel(
        T5Config(vocab_size=5, d_model=256, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ).eval()
    backbone = StableDiffusion3(pipeline, "with T5", "cpu")
    text = backbone.encode_text(["a potted plant"], ["potted plant"])
    assert text.tokens == 32 and text.embeddings.shape[1] == 288
    first = [column for column in text.columns(0, text.spans[0]) if column >= 32]
    assert first == [33, 34] and text.token_of[0, 32] == 1 and (text.token_of[0, 35:] == -1).all()
    site = next(site for site in backbone.sites if site.kind == "cross")
    trace = backbone.trace(torch.randn(1, 4, 16, 16), text, 100, Capture(cross=(2,), phrases=(2,), states=(site,)), seed=0)
    rows, places = whole_rows(trace.states[site]).mean(1), 64
    for token in text.spans[0]:
        columns = [places + column for column in text.columns(0, (token,))]
        received = rows[..., columns].sum(-1).unflatten(1, (8, 8))
        assert torch.allclose(trace.cross[site][..., token], received, atol=1e-6)
    assert torch.allclose(trace.phrases[site], trace.cross[site][..., list(text.spans[0])].mean(-1), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_run_on_each_family(families: Callable[[str], Models], family: str, picture: np.ndarray) -> None:
    models = families(family)
    scene = from_image(models, picture, seed=2)
    small = {"ovdiff": {"images": 2, "steps": 1, "parts": 2, "masks": "otsu", "sites": "0-2", "negative": ""}}
    for name in ("diffsegmenter", "freeseg-diff", "ovdiff"):
        method = replace(suited_to(models, find_method(name)), **small.get(name, {}))
        result = method.segment(models, scene, CLASSES[:2])
        assert result.label_map.shape == picture.shape[:2] and np.isfinite(result.scores()).all()
        grids = {grid_at(scene.latent.shape[-2:], stride) for stride in models.backbone.strides}
        assert all(item.affinity.grid in grids for item in result.evidence if item.kind == "affinity")


def latent_of(backbone: Backbone, rows: int, columns: int) -> torch.Tensor:
    """A latent of random numbers."""
    channels = backbone.latent_shape(backbone.square_hw())[0]
    return torch.randn(1, channels, rows, columns, dtype=torch.float64)


def riding(joint: Models, words: tuple[str, ...] = ("cat", "potted plant", "sky")) -> tuple[Text, Text]:
    """A prompt as it is, and with words that ride along."""
    text = joint.backbone.encode_text(["a dog on grass"], [""])
    return text, text.with_riders(query_states(joint.backbone, words))


@pytest.mark.parametrize("family", ["joint", "klein"])
def test_nothing_sees_the_words_that_ride_along(families: Callable[[str], Models], family: str) -> None:
    """The picture is the same with and without them; were they seen, it would not be."""
    assert (riding(families(family))[1].token_of[:, -3:] == -1).all()
    backbone, stride = families(family).backbone, families(family).backbone.coarsest_stride
    latent = latent_of(backbone, 24, 40)
    (plain, with_words), predicted = riding(families(family)), []
    hook = backbone.network.register_forward_hook(lambda _m, _i, out: predicted.append(out[0]))
    # The last block's output is recorded, so that the whole network runs; a pass that ends early predicts nothing.
    capture = Capture(features=backbone.feature_strides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "_count_recorded", lambda self: None)
        traces = [backbone.trace(latent, text, 300, capture, seed=1) for text in (plain, with_words)]
        seen_by_all = replace(with_words, riders=0)
        other = backbone.trace(latent, seen_by_all, 300, capture, seed=1)
    hook.remove()
    assert torch.allclose(predicted[0], predicted[1], atol=1e-12) and not torch.allclose(
        predicted[0], predicted[2], atol=1e-4
    )
    assert torch.allclose(traces[0].features[stride], traces[1].features[stride], atol=1e-12)
    assert not torch.allclose(traces[0].features[stride], other.features[stride], atol=1e-4)
    site, capture = next(site for site in backbone.sites if site.kind == "cross"), Capture(cross=(stride,))
    capture = replace(capture, states=(site,))
    maps = [backbone.trace(latent, text, 300, capture, seed=1) for text in (plain, with_words)]
    assert torch.allclose(maps[0].cross[site], maps[1].cross[site], atol=1e-12)
    assert torch.allclose(maps[0].states[site].maps(), maps[1].states[site].maps(), atol=1e-6)


@pytest.mark.parametrize("family", ["joint", "klein"])
def test_a_word_that_rides_along_gathers_from_places_and_riders(families: Callable[[str], Models], family: str) -> None:
    """The first layer worked out: what it is given is known, as nothing came before it."""
    backbone, (_, text) = families(family).backbone, riding(families(family))
    latent, first = latent_of(backbone, 12, 20), backbone.sites[1]
    with pytest.MonkeyPatch.context() as patch:
        calls: list = []
        see = Recorder._see

        def noted(self: Recorder, module: torch.nn.Module, path: str, call: Call) -> tuple:
            calls.append(call)
            return see(self, module, path, call)

        patch.setattr(Recorder, "_see", noted)
        trace = backbone.trace(latent, text, 300, Capture(outputs=(first,)), seed=1)
    call, count = calls[0], calls[0].key.shape[2]
    logits = (call.query @ call.key.mT * call.scale)[0]
    # Stable Diffusion 3 has its words behind the places, FLUX.2 before them; riders are the last words.
    covered = math.prod(grid_at((12, 20), first.stride))
    begin, end = {"joint": (0, count), "klein": (count - covered, count - covered)}[family]
    places, riders = range(begin, begin + covered), range(end - 3, end)
    attends = torch.zeros(logits.shape[-2:], dtype=torch.bool)
    for query in range(count):
        for key in range(count):
            attends[query, key] = (key in places or key in riders) if query in riders else key not in riders
    mixed = (logits.masked_fill(~attends, -torch.inf).softmax(-1) @ call.value[0]).transpose(0, 1).flatten(1)
    at_places, at_riders = mixed[list(places)], mixed[list(riders)]
    of_places, of_words = trace.outputs[first]
    assert torch.allclose(of_places[0], at_places) and torch.allclose(of_words[0], at_riders)
    shares = word_shares(of_places, of_words)
    expected = (at_riders @ at_places.T).exp()
    assert torch.allclose(shares.double(), expected / expected.sum(0), atol=1e-6)


def test_words_ride_along_in_joint_attention_alone(precise_models: Models, joint: Models) -> None:
    text = precise_models.backbone.encode_text(["a cat"], [""])
    with pytest.raises(ValueError, match="Words ride along where places and words share a softmax"):
        precise_models.backbone.trace(
            torch.randn(1, 4, 16, 16).double(), text.with_riders(text.embeddings[0, :1]), 100, Capture(), seed=0
        )
    kind = find_method("concept-attention")
    assert "do not share" in obstacle_to(precise_models, kind) and not obstacle_to(joint, kind)


def test_concept_attention_worked_out_again(joint: Models, picture: np.ndarray) -> None:
    scene, method = from_image(joint, picture, seed=2), find_method("concept-attention")(others=("grass", "Cat"))
    with counting() as count:
        result = method.segment(joint, scene, CLASSES)
    assert (count.passes, count.rows) == (1, 1) == (1, method.rows(joint, ["cat"], (8, 8)))
    backbone, words = joint.backbone, ["cat", "potted plant", "sky", "grass"]  # a class is no other word
    text = backbone.encode_text([""], [""]).with_riders(query_states(backbone, words))
    sites = tuple(site for site in backbone.sites if site.kind == "cross")
    trace = backbone.trace(scene.latent, text, 500, Capture(outputs=sites), seed=2)
    shares = [(of_words[0] @ of_places[0].T).softmax(0) for of_places, of_words in trace.outputs.values()]
    mean = torch.stack(shares).mean(0).unflatten(-1, (13, 20))
    expected = maps.resize(torch.cat([mean[3:], mean[:3]]), picture.shape[:2])
    assert np.allclose(result.scores(), expected.numpy(), atol=1e-5) and len(sites) == JOINT_LAYERS
    assert len(result.evidence) == 4 and result.evidence[3].label == "background"
    with pytest.raises(ValueError, match="layers must be of 0 to 2 on this backbone, but got 7"):
        replace(method, layers=(1, 7)).segment(joint, scene, CLASSES)


def test_seg4diff_reads_one_layer_as_it_is(joint: Models, picture: np.ndarray) -> None:
    scene, kind = from_image(joint, picture, seed=2), find_method("seg4diff")
    assert suited_to(joint, kind).layer == 1 and kind().layer == 9
    with counting() as count:
        result = kind(layer=1, scale="none", threshold=0.0).segment(joint, scene, CLASSES)
    assert (count.passes, count.rows) == (1, 1)
    text = joint.backbone.encode_text(["cat potted plant sky"], [("cat", "potted plant", "sky")])
    site = [site for site in joint.backbone.sites if site.kind == "cross"][1]
    trace = joint.backbone.trace(scene.latent, text, 515, Capture(cross=(2,)), seed=2)
    shares = torch.stack([trace.cross[site][0, ..., list(span)].mean(-1) for span in text.spans])
    expected = maps.resize(shares, picture.shape[:2]).numpy()
    assert np.allclose(result.scores()[1:], expected, atol=1e-6) and (result.label_map > 0).all()
    stretched = kind(layer=1, threshold=0.4).segment(joint, scene, CLASSES)
    low, high = expected.min((1, 2), keepdims=True), expected.max((1, 2), keepdims=True)
    assert np.allclose(stretched.scores()[1:], (expected - low) / (high - low), atol=1e-4)
    (wordless,) = (item.map for item in result.evidence if item.kind == "regions")
    assert wordless.shape == (13, 20) and wordless.min() == 0
    with pytest.raises(ValueError, match="layer must be one of 0 to 2 on this backbone, but got 9"):
        kind().segment(joint, scene, CLASSES)


def test_slots_that_are_alike_are_one_segment() -> None:
    left, right = torch.zeros(2, 4, 6) + 0.01
    left[:, :3], right[:, 4:] = 1.0, 1.0
    slots = torch.stack([left, right, left * 1.1 + 0.001, left * 2])
    assert len(merged(slots, 0.035)) == 2 and len(merged(slots, 0.0)) == 4 and len(merged(slots, 1e9)) == 1
    each = slots / slots.sum((1, 2), keepdim=True)  # a group is the mean of its slots, however they came together
    assert torch.allclose(merged(slots, 1e9)[0], each.mean(0), atol=1e-7)
    two = torch.tensor([[[0.8, 0.2]], [[0.2, 0.8]]])  # 0.6 log 4 = 0.832 from each other, by KL either way
    assert len(merged(two, 0.83)) == 2 and len(merged(two, 0.84)) == 1
    found = regions(slots, 0.035)
    assert (found[:, :3] == 0).all() and (found[:, 4:] == 1).all()  # the larger one has the first number
