"""What every backbone must keep to, and that one that is no U-Net needs a file and a row of `BACKBONES`, nothing else."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from ovseg.backbones import BACKBONES, Ablation, Backbone, Capture, Checkpoint, counting
from ovseg.backbones.base import Sampling, Site, Trace, Watch, grid_at, sibling
from ovseg.backbones.stable_diffusion_3 import StableDiffusion3
from ovseg.backbones.weights import generator
from ovseg.layer_attention import LayerAttention
from ovseg.maths import maps
from ovseg.methods import find_method, suited_to
from ovseg.models import Models
from ovseg.scene import from_image, from_prompt
from ovseg.words.classes import parse_classes
from tests.joint_transformer import LAYERS as JOINT_LAYERS
from tests.joint_transformer import build_joint_pipeline
from tests.patch_transformer import LAYERS, PatchTransformer, load_patches
from tests.self_attention import attended, phrase_maps, self_attention, selves, whole_rows

CLASSES = parse_classes("cat, potted plant, sky")
ROW = Checkpoint(
    "", "Patches of pixels", "Nothing: its weights are random.", load=load_patches, steps=2, guidance=2.0,
    side=64, latent_side=16, cross_strides=(1, 1, 1), grid_weights=(1.0,),
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


@pytest.fixture(scope="module")
def joint_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint") / "pipeline"
    build_joint_pipeline(tiny_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def joint(with_clip: Models, joint_folder: Path) -> Models:
    """The network with joint attention, found by its path, beside the tiny networks that go with the tiny U-Net."""
    models = Models(str(joint_folder), device="cpu", dtype="float64")
    others = {name: getattr(with_clip.checkpoint, name) for name in ("clip", "captioner", "dino")}
    models.checkpoint = replace(models.checkpoint, steps=2, guidance=2.0, **others)
    models.prototype_folders = (joint_folder.parent / "prototypes", None)
    return models


@pytest.fixture(params=["unet", "patches", "joint"])
def backbone(request: pytest.FixtureRequest, precise_models: Models, patches: Models, joint: Models) -> Backbone:
    return {"unet": precise_models, "patches": patches, "joint": joint}[request.param].backbone


@pytest.fixture
def latent(backbone: Backbone) -> torch.Tensor:
    return backbone.encode(np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8))


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
        assert both.value().shape == both.key.shape and both.out.shape[1] == backbone.width(site)
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
    site = next(site for site in backbone.sites if site.kind == kind)
    text, module = backbone.encode_text(["a cat", "a dog"], ["cat", "dog"]), layer_of(backbone, site)
    token = text.spans[0][0]
    # The last block is read too, so that the pass goes on behind the layer.
    capture = Capture((), (), (), backbone.feature_strides, (site,))

    def traced(off: Ablation) -> tuple[Trace, torch.Tensor]:
        with outputs_of(module) as outputs:
            trace = backbone.trace(latent, text, 100, capture, 3, off=off)
        return trace, outputs[0]

    plain, output = traced(Ablation())
    assert torch.allclose(output, by_hand(plain.states[site], module), atol=1e-9)
    one_head, without_head = traced(Ablation(heads=((site, 1),)))
    assert torch.allclose(without_head, by_hand(plain.states[site], module, (1,)), atol=1e-9)
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


def test_what_cannot_be_switched_off_is_refused(backbone: Backbone, latent: torch.Tensor) -> None:
    text, site = backbone.encode_text(["a cat"], ["cat"]), backbone.sites[0]
    for off in (Ablation(heads=((site, 99),)), Ablation(layers=(Site("elsewhere", 1, "self"),)), Ablation(tokens=(999,))):
        with pytest.raises(ValueError, match=r"must be (one )?of|must be the backbone's own|must be this network's"):
            backbone.trace(latent, text, 100, Capture(features=backbone.feature_strides), 3, off=off)


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
    with pytest.raises(ValueError, match=r"timestep must be from 0 to (999|1000), but got -1"):
        features(-1, 1)


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


def test_a_folder_is_read_by_the_family_that_its_index_names(joint: Models, joint_folder: Path, tmp_path: Path) -> None:
    assert isinstance(joint.backbone, StableDiffusion3) and joint.backbone.fingerprint.count("-") == 3
    assert len(joint.backbone.sites) == 2 * JOINT_LAYERS + 1  # one block has attention of its places alone besides
    shutil.copytree(joint_folder, tmp_path / "other")
    index = tmp_path / "other" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "KandinskyPipeline"}))
    with pytest.raises(
        ValueError, match="must be one of StableDiffusionPipeline, StableDiffusion3Pipeline, but got 'Kandinsky"
    ):
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


@pytest.mark.parametrize("seed", [3, 4])
def test_a_picture_of_stable_diffusion_3_is_that_of_the_plain_pipeline(joint_folder: Path, seed: int) -> None:
    backbone, sampling = Models(str(joint_folder), "cpu").backbone, Sampling(3, 4.0, "a dog on grass")
    plain = StableDiffusion3Pipeline.from_pretrained(joint_folder, text_encoder_3=None, tokenizer_3=None)
    plain.set_progress_bar_config(disable=True)
    told = {"negative_prompt": sampling.negative, "num_inference_steps": 3, "guidance_scale": 4.0}
    latent = plain("a photo of a cat", generator=generator(seed), output_type="latent", **told).images
    seen: list[Trace] = []
    watch = Watch(Capture(cross=backbone.strides), seen.append)
    for made in (
        backbone.generate("a photo of a cat", [seed], sampling),
        backbone.generate("a photo of a cat", [seed], sampling, watch=watch),
    ):
        assert torch.equal(made[0].latent, latent)
    pixels = plain("a photo of a cat", generator=generator(seed), output_type="np", **told).images[0]
    assert np.abs(made[0].image / 255 - pixels).max() < 1.5 / 255 and pixels.std() > 0.02
    assert tuple(trace.timestep for trace in seen) == backbone.timesteps(sampling)
    assert any(timestep != int(timestep) for timestep in backbone.timesteps(sampling))


def test_a_piece_of_two_tokenizers_is_one_token(tiny_folder: Path) -> None:
    pipeline = build_joint_pipeline(tiny_folder)
    words = WordLevel({"[pad]": 0, "a": 1, "potted": 2, "plant": 3, "[unk]": 4}, unk_token="[unk]")
    pieces = Tokenizer(words)
    pieces.pre_tokenizer = Whitespace()
    pipeline.tokenizer_3 = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token="[pad]", unk_token="[unk]")
    pipeline.text_encoder_3 = T5EncoderModel(
        T5Config(vocab_size=5, d_model=48, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
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


def test_methods_run_on_joint_attention(joint: Models, picture: np.ndarray) -> None:
    scene = from_image(joint, picture, seed=2)
    assert scene.latent.shape[-2:] == (26, 40)
    small = {"ovdiff": {"images": 2, "steps": 1, "parts": 2, "masks": "otsu", "sites": "0-2"}}
    for name in ("diffsegmenter", "freeseg-diff", "ovdiff"):
        method = replace(suited_to(joint, find_method(name)), **small.get(name, {}))
        result = method.segment(joint, scene, CLASSES[:2])
        assert result.label_map.shape == picture.shape[:2] and np.isfinite(result.scores()).all()
        assert [item.affinity.grid for item in result.evidence if item.kind == "affinity"] in ([], [(13, 20)])
