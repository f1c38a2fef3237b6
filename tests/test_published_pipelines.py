"""Methods against what their published code answers on seeded weights (`tests/oracles/README.md`)."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from ovseg.backbones.base import Sampling, Text, query_states
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.maths.maps import enlarged as grown_places
from ovseg.maths.refine import DenseCRF, energies_of, pamr
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.freeseg_diff.regions import clusters_of, features_of, masks_of
from ovseg.methods.ovdiff.features import Extractor
from ovseg.methods.ovdiff.matching import working_hw
from ovseg.methods.ovdiff.method import OVDiff, with_background
from ovseg.methods.ovdiff.prefilter import Things, chosen_classes
from ovseg.methods.ovdiff.prototypes import NOISE_SEED, prototypes_of
from ovseg.methods.ovdiff.store import Prototypes, Side, Trimap
from ovseg.methods.ovdiff.support import masks_by_otsu, masks_by_proposals, stretched
from ovseg.models import Models
from ovseg.pocket.bundle import build_pipeline
from ovseg.pretrained.clip import IMAGENET
from ovseg.pretrained.grounding import QUERY
from ovseg.scene import POSTERIOR, from_image
from ovseg.types import Scene
from ovseg.words.classes import parse_classes
from tests.oracle_networks import ORACLES, answers, any_picture, bits, enlarged, networks_in, noise, picture, total

OVDIFF = replace(OVDiff.as_released(), clip="")
FREESEG = replace(FreeSegDiff.as_released(), clip="", captioner="", sampled=False)  # the answers are of the posterior's mean
VOC = parse_classes(
    "airplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, table, dog, horse, motorbike, person, potted plant,"
    " sheep, sofa, train, monitor"
)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Models]:
    return networks_in(tmp_path_factory.mktemp("seeded"))


@pytest.fixture(scope="module")
def large(seeded: Callable[[int], Models]) -> Models:
    return seeded(64)


@pytest.fixture(scope="module")
def small(seeded: Callable[[int], Models]) -> Models:
    return seeded(16)


def apart(one: np.ndarray | torch.Tensor, other: np.ndarray) -> float:
    assert tuple(one.shape) == other.shape
    return float(np.abs(np.asarray(one, np.float64) - other).max())


def test_the_networks_are_the_ones_of_the_answers(large: Models) -> None:
    sums, parts = answers("weight_sums"), large.backbone.pipeline
    own = {"sd64/unet": parts.unet, "sd64/vae": parts.vae, "sd64/text": parts.text_encoder}
    for name, network in {**own, "clip": large.clip._model, "dino": large.dino._model}.items():
        assert total(network) == pytest.approx(float(sums[name]), rel=1e-7), name


@pytest.mark.parametrize(("h", "w", "seed", "iterations"), [(60, 80, 1, 10), (150, 200, 2, 1)])
def test_the_crf_has_the_published_probabilities(h: int, w: int, seed: int, iterations: int) -> None:
    oracle = answers("crf")
    pixels, mask = torch.tensor(picture(h, w, seed)).permute(2, 0, 1).float(), torch.from_numpy(oracle[f"{h}x{w}/mask"])
    inside = DenseCRF(pixels).mean_field(energies_of(mask), iterations)[1]
    assert apart(inside, oracle[f"{h}x{w}/q{iterations}"]) < 1.2e-4


# OVDiff


@pytest.mark.parametrize("name", ["dino", "clip"])
@pytest.mark.parametrize("hw", [None, (448, 448), (336, 336), (448, 597), (448, 672), (448, 1000)])
def test_keys_of_support_images_and_windows(large: Models, name: str, hw: tuple[int, int] | None) -> None:
    image = noise(512, 512, 1) if hw is None else noise(*hw, 2)
    (keys,) = Extractor.of(large, OVDIFF, name, is_support=hw is None).features([image], 0)
    expected = answers("ovdiff_features_vit")[f"{name}_{'support' if hw is None else f'{hw[0]}x{hw[1]}'}"]
    assert apart(keys[:, 2::8, 2::8], expected) < 1e-5


def test_support_images_are_drawn_and_attended_to(small: Models) -> None:
    oracle, backbone, prompt = answers("ovdiff_generation"), small.backbone, "A good picture of a traffic light"
    embedding = backbone.encode_text(["A good picture of a potted plant"], [""]).embeddings[0]
    assert apart(embedding, oracle["embedding"]) < 1e-5
    sampling = Sampling(30, 8.0, OVDIFF.negative, dpm_solver=True, least_noise=True, heads_apart=True)
    assert backbone.timesteps(sampling) == tuple(oracle["timesteps"])
    (made,) = backbone.generate(prompt, [44], sampling, "traffic light")
    assert apart(made.latent[0], oracle["latent2"]) < 2e-4 * np.abs(oracle["latent2"]).max()
    assert apart(made.attribution, oracle["attribution2"]) < 1e-5
    assert apart(made.attribution, oracle["attribution_heads_first2"]) > 1e-3


def test_support_images_are_drawn_so_in_the_mode(small: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovseg.methods.ovdiff.support import support_images

    asked: list[Sampling] = []

    def generate(self: object, prompt: str, seeds: Sequence[int], sampling: Sampling, *_: object, **__: object) -> None:
        asked.append(sampling)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(small.backbone), "generate", generate)
    for method in (OVDIFF, OVDiff()):
        with pytest.raises(KeyboardInterrupt):
            support_images(small, method, "cat", lambda *_: None)
    assert [(item.least_noise, item.heads_apart) for item in asked] == [(True, True), (False, False)]


def test_masks_of_support_images() -> None:
    oracle = answers("ovdiff_masks")
    maps, counts = [stretched(a, (512, 512)) for a in oracle["attributions"]], oracle["proposals_of_each"]
    fg, bg, otsu_fg, otsu_bg = (bits(oracle[name], 8, 512, 512) for name in ("fg", "bg", "otsu_fg", "otsu_bg"))
    proposals = np.split(bits(oracle["proposals"], int(counts.sum()), 512, 512), np.cumsum(counts)[:-1])
    for k, (own, attribution) in enumerate(zip(proposals, maps, strict=True)):
        mask = masks_by_proposals(list(own), attribution, as_released=True)
        assert np.array_equal(mask.foreground, fg[k]) and np.array_equal(mask.background, bg[k]), k
    for k, mask in enumerate(masks_by_otsu(maps, list(oracle["attributions"]))):
        assert np.array_equal(mask.foreground, otsu_fg[k]) and np.array_equal(mask.background, otsu_bg[k]), k


@pytest.mark.parametrize("name", ["diffusion", "dino", "clip"])
def test_prototypes_of_each_network(large: Models, name: str) -> None:
    """Of five pictures, of which one shows the class nowhere on the grid."""
    whole = answers("ovdiff_prototypes_sd")
    fg, bg = bits(whole["masks"], 2, 5, 512, 512)
    images = [enlarged(np.random.default_rng(100 + k).integers(0, 256, (24, 24, 3), np.uint8), 512, 512) for k in range(5)]
    features = list(Extractor.of(large, OVDIFF, name, is_support=True).features(images, NOISE_SEED))
    if name == "diffusion":
        assert apart(torch.stack(features[:4])[:, :, 4::16, 4::16], whole["features"]) < 1e-4
    made = prototypes_of(iter(features), list(map(Trimap, fg, bg)), 6, skip_empty=True, by_library=True)
    oracle, start = (whole, "") if name == "diffusion" else (answers("ovdiff_prototypes_vit"), f"{name}/")
    for side, end in ((made.foreground, ""), (made.background, "_bg")):
        mean, each = oracle[f"{start}pottedplant{end}"][None], oracle[f"{start}pottedplant{end}_ind"]
        parts = oracle[f"{start}pottedplant_kmeans{end}"]
        assert apart(side.vectors, np.concatenate([mean, each, parts])) < 1e-4


@pytest.mark.parametrize(("name", "first", "last", "pictures"), [("v20", 0, 20, 1), ("v8", 0, 8, 12), ("v3", 3, 6, 12)])
def test_the_prefilters_choice(large: Models, name: str, first: int, last: int, pictures: int) -> None:
    oracle, classes = answers("ovdiff_prefilter"), VOC[first:last]
    stuff = (False,) * len(classes)
    things = Things.of(large, classes, stuff)
    assert apart(things.rows, oracle[f"{name}_text"]) < 1e-6
    for k in range(pictures):
        chosen = chosen_classes(large, any_picture(375, 500, 1000 + k), classes, stuff, things, as_released=True)
        assert chosen == tuple(np.flatnonzero(oracle[name][k])), k


def test_the_prefilters_picture(large: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    embed, seen = large.clip.image_embeddings, []
    monkeypatch.setattr(large.clip, "image_embeddings", lambda *given: seen.append(embed(*given)) or seen[-1])
    classes, stuff = VOC[3:6], (False,) * 3
    chosen_classes(large, any_picture(375, 500, 1007), classes, stuff, Things.of(large, classes, stuff), as_released=True)
    assert apart(seen[0], answers("ovdiff_prefilter")["v3_emb"][7:8]) < 1e-6


def test_the_working_size_is_cut_off() -> None:
    sizes = [(375, 500), (333, 500), (500, 334), (281, 500), (480, 640), (427, 640), (500, 500), (640, 425)]
    assert [working_hw(OVDIFF, hw) for hw in sizes] == [tuple(row) for row in answers("ovdiff_prefilter")["sizes"]]


def test_where_no_cosine_is_above_0_is_background() -> None:
    scores = torch.tensor([[[-0.2, -0.2, 0.1]], [[-0.1, 0.3, -0.5]], [[-1.0, -1.0, -1.0]]])
    decided = with_background(scores, (1, 3))
    assert decided.argmax(0).flatten().tolist() == [0, 1, 0]
    assert decided[1:].equal(scores[1:]) and decided[0].flatten().tolist() == pytest.approx([0.0, -0.2, 0.1])
    above = scores + 2
    assert with_background(above, (4, 6)) is above
    assert with_background(scores, (4, 6)).shape == (3, 4, 6)  # decided where the picture's pixels are


def by_hand(models: Models, crop: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Features of a window (3, h, w) in 0 ... 1, from the networks' parts: the diffusion network, DINO, CLIP."""
    pipeline, queries = models.backbone.pipeline, []
    square = F.interpolate(crop[None], models.backbone.square_hw(), mode="bilinear", align_corners=False)
    posterior = pipeline.vae.encode(2 * square - 1).latent_dist
    draw = [torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(s)) for s in (seed + POSTERIOR, seed)]
    latent = 0.18215 * (posterior.mean + posterior.std * draw[0])
    noised = pipeline.scheduler.add_noise(latent, draw[1], torch.tensor([200]))
    crossing = [site for site in models.backbone.sites if site.kind == "cross"]
    hooks = [
        pipeline.unet.get_submodule(f"{crossing[k].name}.to_q").register_forward_hook(
            lambda _module, _inputs, output: queries.append(output)
        )
        for k in (0, 6, 7, 8, 9, 10, 11, 12, 15)
    ]
    tokens = pipeline.tokenizer([""], padding="max_length", max_length=77, return_tensors="pt").input_ids
    pipeline.unet(noised, 200, encoder_hidden_states=pipeline.text_encoder(tokens)[0])
    _ = [hook.remove() for hook in hooks]
    sides = [int(row.shape[1] ** 0.5) for row in queries]
    maps = (row.mT.unflatten(2, (side, side)) for row, side in zip(queries, sides, strict=True))
    fine = latent.shape[2:]
    yield torch.cat([F.interpolate(each, fine, mode="bilinear", align_corners=False) for each in maps], 1)[0]
    mean, std = (torch.tensor(IMAGENET[name])[:, None, None] for name in ("mean", "std"))
    dino, pixels = models.dino._model, (crop - mean) / std
    grid = tuple(side // 8 for side in crop.shape[1:])
    places = grown_places(dino.embeddings.position_embeddings[:, 1:].mT.unflatten(2, (28, 28)), grid).flatten(2).mT
    patches = dino.embeddings.patch_embeddings(pixels[None, :, : 8 * grid[0], : 8 * grid[1]])
    start = dino.embeddings.cls_token + dino.embeddings.position_embeddings[:, :1]
    states = torch.cat([start, patches + places], 1)
    states = dino.layers[0](states)
    last = dino.layers[1]
    yield last.attention.k_proj(last.layernorm_before(states))[0, 1:].T.unflatten(1, grid)
    tower = models.clip._model.visual
    square = F.interpolate(crop[None], (448, 448), mode="bilinear", align_corners=False)[0]
    own, others = tower.positional_embedding[:1], tower.positional_embedding[1:].T.unflatten(1, (14, 14))[None]
    patches = tower.conv1(((square - mean) / std)[None]).flatten(2).mT + grown_places(others, (28, 28)).flatten(2).mT
    states = tower.ln_pre(torch.cat([(tower.class_embedding + own)[None], patches], 1))
    states = tower.transformer.resblocks[0](states)
    block = tower.transformer.resblocks[1]
    rows = slice(64, 128)
    keys = F.linear(block.ln_1(states), block.attn.in_proj_weight[rows], block.attn.in_proj_bias[rows])
    yield keys[0, 1:].T.unflatten(1, (28, 28))


def windows_by_hand(h: int, w: int) -> Iterator[tuple[slice, slice]]:
    for side in (448, 336):
        starts = [[*range(0, length - side, 224), length - side] for length in (h, w)]
        yield from ((slice(y, y + side), slice(x, x + side)) for y, x in itertools.product(*starts))
    yield slice(0, h), slice(0, w)


def random_prototypes(widths: Sequence[int], seed: int) -> dict[str, Prototypes]:
    rng = np.random.default_rng(seed)
    sides = [[rng.standard_normal((5, width), np.float32) for _ in range(2)] for width in widths]
    regions = np.zeros((1, 2, 2), np.uint8)
    of = [Prototypes(*(Side(rows, np.zeros(5, np.int32), 2, regions) for rows in both)) for both in sides]
    return dict(zip(("diffusion", "dino", "clip"), of, strict=True))


@torch.no_grad()
def test_the_whole_of_ovdiff_step_by_step(small: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-filter, working size, windows, three networks, background, PAMR, on a picture whose sides no patch fits."""
    image, seed, method = any_picture(375, 500, 1000), 7, replace(OVDIFF, refinement="pamr")
    chosen = answers("ovdiff_prefilter")["v8"][0]
    widths = (416, 32, 64)
    given = {word.name: random_prototypes(widths, k) for k, word in enumerate(VOC[:8])}
    monkeypatch.setattr("ovseg.methods.ovdiff.method.make_prototypes", lambda _models, _method, word, _report: given[word])
    result = method.segment(small, from_image(small, image, seed=seed), VOC[:8])
    working = torch.from_numpy(np.array(Image.fromarray(image).resize((597, 448), Image.Resampling.LANCZOS)))
    working = working.permute(2, 0, 1).float() / 255
    names = [word.name for word, is_in in zip(VOC[:8], chosen, strict=True) if is_in]
    total_of, count = torch.zeros(1 + len(names), 448, 597), torch.zeros(448, 597)
    for box in windows_by_hand(448, 597):
        crop = working[:, *box]
        for network, features in zip(("diffusion", "dino", "clip"), by_hand(small, crop, seed), strict=True):
            units, best = F.normalize(features, dim=0), []
            for name in ("", *names):
                rows = [given[one][network].background if not name else given[name][network].foreground for one in names]
                rows = torch.from_numpy(np.concatenate([side.vectors for side in rows]))
                best.append(torch.einsum("nd,dyx->nyx", F.normalize(rows, dim=1), units).amax(0))
            grown = F.interpolate(torch.stack(best)[None], crop.shape[1:], mode="bilinear", align_corners=False)[0]
            total_of[:, *box] += grown
            count[box] += 1
    assert (total_of.amax(0) > 0).all()
    moved = pamr(255 * working, total_of / count)
    expected = F.interpolate(moved[None], (375, 500), mode="bilinear", align_corners=False)[0]
    own = result.scores()[[0, *(1 + np.flatnonzero(chosen))]]
    assert apart(own, expected.numpy()) < 1e-5
    labels = np.array([0, *(1 + np.flatnonzero(chosen))])[expected.argmax(0).numpy()]
    assert (labels == result.label_map).mean() >= 0.9999 and len(np.unique(labels)) > 2


# FreeSeg-Diff

CAPTIONS = (
    "a brown dog laying on a kitchen floor", "a small bird sitting on a branch of a tree",
    "two people and a red car in front of a house",
)  # fmt: skip
FREESEG_CLASSES = parse_classes("dog, bird, car, person, potted plant, cat")


@pytest.mark.parametrize(("file", "refinement"), [("freeseg_closed", "crf"), ("freeseg_closed_pamr", "pamr-max")])
def test_the_whole_of_freeseg_diff(large: Models, file: str, refinement: str) -> None:
    """Labels of three pictures that are not square; with the CRF, which takes seconds, of one."""
    oracle, images = answers(file), (picture(375, 500, 31), picture(333, 500, 32), picture(300, 300, 33))
    prepared = replace(FREESEG, refinement=refinement).prepare(large, FREESEG_CLASSES)
    for number, which in enumerate(oracle["order"].tolist()):
        if refinement == "pamr-max" or which == 2:
            result = prepared.segment(from_image(large, images[which], seed=0, caption=CAPTIONS[which]))
            assert np.array_equal(result.label_map, oracle[f"map{number}"]), which


def test_features_clusters_words_and_logits_of_freeseg_diff(large: Models) -> None:
    oracle, scene = answers("freeseg_closed"), from_image(large, picture(375, 500, 31), seed=0)
    pixels = np.asarray(Image.fromarray(scene.image).resize((512, 512), Image.Resampling.BILINEAR))
    scene = replace(scene, encoded=large.backbone.encode(pixels))
    features = features_of(large, FREESEG, scene, large.backbone.encode_text([""], [""]))
    assert apart(features[:, 2::8, 2::8], oracle["features"][0]) < 1e-4
    clusters = clusters_of(features, FREESEG, 2)
    assert np.array_equal(clusters, oracle["clusters"][0])
    prepared = FREESEG.prepare(large, FREESEG_CLASSES)
    candidates = prepared.candidates(replace(scene, caption=CAPTIONS[0]))
    assert candidates.allowed == (False, True, False, False, False, False)
    seen = prepared.similarity(prepared.pictures(scene.image, masks_of(clusters, (375, 500))), candidates)
    assert apart(seen.T, torch.from_numpy(oracle["logits"][:4]).softmax(1).numpy()) < 1e-5


# DiffSegmenter and Grounded Diffusion


@pytest.mark.parametrize(
    ("number", "word", "rest"),
    [
        (0, "dog", ""), (1, "dog", " sitting on a couch"), (2, "potted plant", " in a corner"),
        (3, "people", " walking down the street, at night"), (5, "car", " - parked"),
    ],
)  # fmt: skip
def test_emphasised_prompts(large: Models, number: int, word: str, rest: str) -> None:
    """Without quotes and parentheses, which the published library takes for its own syntax."""
    backbone, method = large.backbone, DiffSegmenter.as_released()
    text = backbone.encode_text([f"a photograph of {word}{rest}"], [word], method.emphasis, [word.split()[-1]])
    assert apart(text.embeddings[0], answers("diffsegmenter_emphasis")[f"e{number}"]) < 1e-5


def test_queries_of_the_grounding_module(large: Models) -> None:
    oracle = answers("grounded_query")
    words = ["dog", "potted plant", "tv monitor"]
    for number, state in enumerate(query_states(large.backbone, words, QUERY)):
        assert apart(state, oracle[f"q{number}"]) < 1e-5
    assert apart(query_states(large.backbone, ["lion"], "a photo of a {}")[0], oracle["q3"]) < 1e-5


def test_the_published_steps_give_the_published_scores(
    models: Models, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(ORACLES / "diffsegmenter.safetensors")
    unet = UNet2DConditionModel.from_config(json.loads((ORACLES / "diffsegmenter_unet.json").read_text()))
    unet.load_state_dict({name.removeprefix("unet."): w.float() for name, w in tensors.items() if name.startswith("unet.")})
    other = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None, requires_safety_checker=False)
    pipeline = build_pipeline(other.vae, other.text_encoder, other.tokenizer, unet.eval())
    backbone = StableDiffusion(pipeline, "oracle", "cpu")
    # The oracle's own text states and noise, which come from an encoder and a random sequence that are not here.
    text = Text(("a photograph of traffic light",), tensors["embeddings"], ((4, 5),))
    monkeypatch.setattr(backbone, "encode_text", lambda *_, **__: text)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: tensors["noise"])
    monkeypatch.setattr(type(models), "backbone", property(lambda _: backbone))
    scene = Scene(np.zeros((90, 120, 3), np.uint8), tensors["latent"])
    result = DiffSegmenter(last_token=True).segment(models, scene, parse_classes("traffic light"))
    assert result.scores()[1].shape == (90, 120)
    assert np.abs(result.scores()[1] - tensors["scores"].numpy()).max() < 1e-4
    assert np.array_equal(result.label_map == 1, result.scores()[1] > 0.5)
