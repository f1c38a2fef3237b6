"""What holds for every method, and DiffSegmenter's own behaviour on a tiny network."""

from collections.abc import Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.backbones import BACKBONES, Backbone
from ovseg.backbones.base import Capture, Text, Trace, grid_at
from ovseg.backbones.checkpoints import unet_traits
from ovseg.maths import maps
from ovseg.methods import METHODS, find_method, obstacle_to, released_for, suited_to
from ovseg.methods.diffsegmenter.method import DiffSegmenter, participle_at
from ovseg.methods.fa_seg.method import FASeg
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.models import Models
from ovseg.progress import StoppedError
from ovseg.scene import from_image
from ovseg.types import Scene
from ovseg.words.classes import parse_classes
from tests.networks import ON_A_UNET, stop_at, with_traits
from tests.self_attention import self_attention, selves

FUSED = "Cross-attention, fused"
CLASSES = parse_classes("cat, potted plant, sky")


@pytest.fixture(scope="module")
def models(precise_models: Models) -> Models:
    return precise_models


@pytest.fixture(scope="module")
def scene(precise_models: Models) -> Scene:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return from_image(precise_models, pixels, seed=4)


def counting(models: Models, monkeypatch: pytest.MonkeyPatch, rows: int) -> Backbone:
    """The backbone, whose `passes` are its traces; so many rows go into a pass."""
    backbone = models.backbone
    counter = copy(backbone)

    def trace(latent: torch.Tensor, text: Text, timestep: int, capture: Capture, seed: int) -> Trace:
        counter.passes.append((text.prompts, timestep, seed))
        return backbone.trace(latent, text, timestep, capture, seed)

    counter.trace, counter.rows_per_pass, counter.passes = trace, lambda latent_hw, capture: rows, []
    monkeypatch.setattr(Models, "backbone", property(lambda self: counter))
    return counter


QUICK = {"ovdiff": {"images": 2, "steps": 1, "parts": 2, "masks": "otsu", "sites": "0", "short_side": 0, "windows": ()}}


@pytest.fixture
def every_network(with_clip: Models, tmp_path: Path) -> Models:
    models = Models(with_clip.name, device="cpu", dtype="float64")
    models.checkpoint, models.prototype_folders = with_clip.checkpoint, (tmp_path, None)
    return models


@pytest.mark.parametrize("kind", ON_A_UNET, ids=lambda kind: kind.name)
def test_every_method_keeps_the_contract(kind: type, every_network: Models, scene: Scene) -> None:
    assert is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert all(f.metadata["help"].endswith(".") for f in fields(kind))
    assert all(len(f.metadata["label"].split()) <= 7 and f.metadata["group"] in ("main", "more") for f in fields(kind))
    assert {f.metadata["group"] for f in fields(kind)} == {"main", "more"}
    assert len({f.metadata["label"] for f in fields(kind)}) == len(fields(kind))
    assert kind.paper.arxiv and kind.paper.authors and kind.title
    reports, method = [], kind(**QUICK.get(kind.name, {}))
    result = method.segment(every_network, scene, CLASSES, lambda stage, share: reports.append((stage, share)))
    again = method.segment(every_network, scene, CLASSES)
    assert result.labels == ("background", "cat", "potted plant", "sky")
    assert result.scores().shape == (4, 60, 90) and np.isfinite(result.scores()).all()
    assert np.array_equal(result.scores(), again.scores())
    assert result.timings and all(seconds >= 0 for seconds in result.timings.values())
    assert [share for _, share in reports] == sorted(share for _, share in reports)
    assert result.evidence and {e.label for e in result.evidence} <= {"cat", "potted plant", "sky", "background", ""}


@pytest.mark.parametrize("kind", ON_A_UNET, ids=lambda kind: kind.name)
def test_words_are_prepared_once_for_many_pictures(
    kind: type, every_network: Models, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, scene = kind(**QUICK.get(kind.name, {})), replace(scene, caption="a photo of a bus")
    other = replace(scene, image=scene.image[:, ::-1].copy(), encoded=scene.latent.flip(-1), seed=9)
    expected = [method.segment(every_network, picture, CLASSES).scores() for picture in (scene, other)]
    encoded, reports, encode = [], [], type(every_network.backbone).encode_text

    def counted(self: object, prompts: Sequence[str], *arguments: object, **named: object) -> Text:
        encoded.extend(prompts)
        return encode(self, prompts, *arguments, **named)

    monkeypatch.setattr(type(every_network.backbone), "encode_text", counted)
    prepared = method.prepare(every_network, CLASSES)
    assert any("cat" in prompt for prompt in encoded) or kind.draws_first  # whose words are in its prototypes
    encoded.clear()
    for picture, scores in zip((scene, other), expected, strict=True):
        result = prepared.segment(picture, lambda stage, share: reports.append(share))
        assert np.array_equal(result.scores(), scores) and result.timings
    assert not any(word.name in prompt for prompt in encoded for word in CLASSES)
    assert reports and min(reports) >= 0 and max(reports) <= 1


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_every_method_can_be_stopped(kind: type, every_network: Models, scene: Scene) -> None:
    before = dict(every_network.backbone.network.attn_processors)
    with pytest.raises(StoppedError):
        kind(**QUICK.get(kind.name, {})).segment(every_network, scene, CLASSES, stop_at("", StoppedError))
    assert every_network.backbone.network.attn_processors == before


def test_a_method_says_which_network_it_lacks(with_clip: Models) -> None:
    bare = with_traits(with_clip, clip="local-dir:/nowhere/clip", dino="/nowhere/dino")
    assert {kind for kind in METHODS if not obstacle_to(with_clip, kind)} == set(ON_A_UNET)
    assert obstacle_to(bare, DiffSegmenter) == ""
    assert "has no CLIP (nowhere/clip). " in obstacle_to(bare, find_method("ovdiff"))
    assert "has no DINO (nowhere/dino)." in obstacle_to(bare, find_method("ovdiff"))


def test_one_pass_per_batch_of_rows_and_no_unconditional_row(
    models: Models, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = counting(models, monkeypatch, rows=2)
    DiffSegmenter(timesteps=(50, 100), draws=3).segment(models, scene, parse_classes("cat, dog|puppy, sky, car"))
    assert len(counter.passes) == 3 * 2 * 3  # ceil(5 phrases / 2 rows), 2 timesteps, 3 draws
    prompts = [prompt for batch, _, _ in counter.passes for prompt in batch]
    assert len(prompts) == 5 * 6 and all(prompt.startswith("a photograph of ") for prompt in prompts)
    assert {seed for _, _, seed in counter.passes} == {4, 5, 6}


@pytest.mark.parametrize("rows", [1, 2])
def test_classes_batched_equal_one_at_a_time(
    models: Models, scene: Scene, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    together = DiffSegmenter().segment(models, scene, CLASSES)
    counting(models, monkeypatch, rows)
    apart = DiffSegmenter().segment(models, scene, CLASSES)
    assert np.abs(together.scores() - apart.scores()).max() < 1e-4
    for one, other in zip(together.evidence, apart.evidence, strict=True):
        assert one.title == other.title
        assert one.kind == "affinity" or np.allclose(one.map, other.map, atol=1e-3)


@pytest.mark.parametrize("stride", [2, 4])
def test_maps_are_refined_at_the_grid_that_is_asked_for(models: Models, scene: Scene, stride: int) -> None:
    """The mean of the map in each place of the coarser grid, one multiplication there, expand, min-max."""
    result = DiffSegmenter(refine_stride=stride).segment(models, scene, parse_classes("cat"))
    text = models.backbone.encode_text(["a photograph of cat"], ["cat"], 1.21)
    trace = models.backbone.trace(scene.latent, text, 100, Capture(states=selves(models.backbone, stride)), seed=4)
    fused = torch.from_numpy(next(e.map for e in result.evidence if e.group == FUSED))[None, None].float()
    grid, finest = grid_at(trace.latent_hw, stride), trace.latent_hw
    edges = [
        [(k * side // count, -(-(k + 1) * side // count)) for k in range(count)]
        for side, count in zip(finest, grid, strict=True)
    ]
    means = torch.stack([fused[0, 0, a:b, c:d].mean() for a, b in edges[0] for c, d in edges[1]])
    refined = (self_attention(trace)[stride][0].to(means) @ means).reshape(1, 1, *grid)
    for size in (finest, (60, 90)):
        refined = torch.nn.functional.interpolate(refined, size, mode="bilinear")
    scores = (refined - refined.min()) / (refined.max() - refined.min())
    assert np.allclose(result.scores()[1], scores[0, 0].numpy(), atol=1e-4)
    (affinity,) = (item.affinity for item in result.evidence if item.kind == "affinity")
    assert affinity.grid == grid


def test_the_layers_that_are_named_are_read_alone(models: Models, scene: Scene) -> None:
    crossing = [site for site in models.backbone.sites if site.kind == "cross"]
    own = [number for number, site in enumerate(crossing) if site.stride == 2][1:]
    method = DiffSegmenter(layers=tuple(own), refinements=0, stride_weights=(0.0, 1.0))
    result = method.segment(models, scene, parse_classes("cat"))
    grid = next(item.map for item in result.evidence if item.group.endswith("grid"))
    text = models.backbone.encode_text(["a photograph of cat"], ["cat"], 1.21)
    trace = models.backbone.trace(scene.latent, text, 100, Capture(phrases=(2,)), seed=4)
    expected = torch.stack([trace.phrases[crossing[number]][0] for number in own]).mean(0).numpy()
    assert 0 < len(own) < len(trace.phrases) and np.allclose(grid, expected, atol=1e-5)
    assert len([item for item in result.evidence if item.group.endswith("grid")]) == 1


def test_phrases_of_one_class_count_as_their_highest(models: Models, scene: Scene) -> None:
    plain = DiffSegmenter(refinements=0)
    both = plain.segment(models, scene, parse_classes("cat|dog"))
    fused = [
        torch.from_numpy(next(e.map for e in plain.segment(models, scene, parse_classes(w)).evidence if e.group == FUSED))
        for w in ("cat", "dog")
    ]
    expected = maps.normalise(maps.resize(torch.stack(fused).amax(0)[None], (60, 90)))[0]
    assert np.allclose(both.scores()[1], expected.numpy(), atol=1e-5)


def test_grounded_diffusion_worked_out_again(with_clip: Models, picture: np.ndarray) -> None:
    """Features without the sentence, then with it; each phrase's logits; sigmoid; the best phrase; expand; threshold."""
    scene = from_image(with_clip, picture, seed=3, caption="a photo of a pet")
    method = GroundedDiffusion(words="alone", timestep=70, threshold=0.4)
    result = method.segment(with_clip, scene, parse_classes("cat, dog|puppy"))
    backbone, module = with_clip.backbone, with_clip.grounding("S1").module
    capture = Capture(features=backbone.feature_strides)
    halves = [
        backbone.trace(scene.latent, backbone.encode_text([sentence], [""]), 70, capture, seed=3).features
        for sentence in ("", "a photo of a pet")
    ]
    features = {stride: torch.cat([half[stride] for half in halves], 1) for stride in halves[0]}
    states = []
    for word in ("cat", "dog", "puppy"):
        text = backbone.encode_text([f"a photograph of a {word}"], [word])
        states.append(text.embeddings[0, list(text.spans[0])].mean(0))
    with torch.inference_mode():
        logits = module.read(module.levels(features)[-1], torch.stack(states)[None], apart=True)[0][0]
    cat, dog, puppy = logits.sigmoid()
    likely = torch.stack([cat, torch.maximum(dog, puppy)])[None]
    expected = torch.nn.functional.interpolate(likely, (60, 90), mode="bilinear")[0]
    assert np.allclose(result.scores()[1:], expected.numpy(), atol=1e-4) and (result.scores()[0] == np.float32(0.4)).all()
    assert not np.allclose(cat, torch.maximum(dog, puppy), atol=1e-2)


def test_last_token_reads_and_emphasises_the_end_of_a_phrase(models: Models, scene: Scene) -> None:
    words = parse_classes("potted plant")
    whole = DiffSegmenter().segment(models, scene, words)
    last = DiffSegmenter(last_token=True).segment(models, scene, words)
    assert not np.allclose(whole.scores(), last.scores())
    one = parse_classes("cat")
    same = DiffSegmenter(last_token=True).segment(models, scene, one).scores()
    assert np.array_equal(DiffSegmenter().segment(models, scene, one).scores(), same)


def test_draws_average_over_noise(models: Models, scene: Scene) -> None:
    base = DiffSegmenter(refinements=0)
    apart = [replace(base).segment(models, replace(scene, seed=4 + k), CLASSES) for k in range(2)]
    together = replace(base, draws=2).segment(models, scene, CLASSES)
    for index, evidence in enumerate(together.evidence):
        if evidence.group == FUSED:
            mean = (apart[0].evidence[index].map + apart[1].evidence[index].map) / 2
            assert np.allclose(evidence.map, mean, atol=1e-5)


@pytest.mark.parametrize(
    "name, settings, message",
    [
        (
            "diffsegmenter",
            {"refine_stride": 3},
            "one of 1, 2, 4, 8, where this backbone has self-attention, but got 3",
        ),
        ("diffsegmenter", {"stride_weights": (0.0, 0.0)}, "must have a weight above 0"),
        ("diffsegmenter", {"layers": (0, 99)}, r"layers must be of 0 to \d+ on this backbone, but got 99"),
        ("freeseg-diff", {"template": "a photo"}, r"must hold \{\} once"),
        ("freeseg-diff", {"draws": 0}, "must be 1 or more, but got 0 and 4"),
        ("freeseg-diff", {"query_stride": 3}, "query_stride must be one of this backbone's, 1, 2, 4, 8, but got 3"),
        ("freeseg-diff", {"layers": (99,)}, r"layers must be of 0 to \d+ on this backbone, but got 99"),
        ("ovdiff", {"extractors": ("dino", "magic")}, "must be some of diffusion, dino, clip, but got 'dino, magic'"),
        ("ovdiff", {"prompt": "a cat"}, r"must hold \{\} once"),
        ("ovdiff", {"images": 0}, "must be 1 or more"),
        ("ovdiff", {"sites": "0-99"}, r"sites must name some of 0 to \d+ on this backbone"),
        ("ovdiff", {"sites": "all"}, "sites must be numbers and ranges"),
        ("ovdiff", {"masks": "cutler"}, "CutLER needs its folder"),
        ("ovdiff", {"extractors": ("clip",), "clip_sides": (1, 1)}, "side must be one patch of"),
    ],
)
def test_bad_settings_are_one_sentence(every_network: Models, scene: Scene, name: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        find_method(name)(**QUICK.get(name, {}) | settings).segment(every_network, scene, CLASSES)
    assert "\n" not in str(caught.value)


SUITED = {
    "diffsegmenter": {
        "prompt": "a photo of a {}", "stride_weights": (0.0, 1.0, 0.0), "refine_stride": 2, "emphasis": 1.0,
        "threshold": 0.45,
    },
    "freeseg-diff": {
        "vocabulary": "open", "query_stride": 2, "grid_stride": 1, "timestep": 200, "clusters": 4, "refinement": "pamr",
        "refine_side": 128,
    },
    "ovdiff": {
        "images": 16, "prompt": "a photo of a {}", "negative": "", "steps": 10, "guidance": 6.0, "masks": "otsu",
        "extractors": ("diffusion", "clip"), "sites": "5-6", "parts": 16, "prefilter": False, "short_side": 128,
        "windows": (), "refinement": "pamr",
    },
    "grounded-diffusion": {},
}  # fmt: skip
"""What was chosen on scenes of the pocket world that nothing was trained on; names of stored prototypes hang on it."""
STAND_INS = {
    "diffsegmenter": {"captioner": "", "clip": ""},
    "freeseg-diff": {"captioner": "", "clip": "", "query_stride": 2, "grid_stride": 1},
    "ovdiff": {"clip": "", "clip_sides": (0, 0), "masks": "maskcut", "sites": "0-8"},
    "grounded-diffusion": {},
}


@pytest.mark.parametrize("name", SUITED)
def test_what_suits_a_backbone_is_told_from_its_traits(name: str) -> None:
    kind, pocket = find_method(name), Models("pocket", device="cpu")
    assert suited_to(pocket, kind) == kind(**SUITED[name])
    assert released_for(pocket, kind) == replace(kind.as_released(), **STAND_INS[name])
    for published in ("sd14", "sd15", "sd21"):
        models = Models(published, device="cpu")
        assert suited_to(models, kind) == kind() and released_for(models, kind) == kind.as_released()


def test_weights_of_resolutions_are_shares() -> None:
    assert all(sum(row.grid_weights) == pytest.approx(1, abs=2e-4) for row in BACKBONES.values())
    assert unet_traits(1024, 128, (2, 2, 4))["grid_weights"] == (0, 0.1667, 0.8333)  # nothing where no layer sees words
    assert FASeg(self_weights=(0.0, 0.5, 0.5)).recipe().stride == 2


def test_the_traits_of_the_pocket_network_are_its_own() -> None:
    pocket = Models("pocket", device="cpu")
    checkpoint, backbone = pocket.checkpoint, pocket.backbone
    assert checkpoint.cross_strides == tuple(site.stride for site in backbone.sites if site.kind == "cross")
    assert checkpoint.side == backbone.square_hw()[0] and len(checkpoint.grid_weights) == len(backbone.strides)
    assert checkpoint.latent_side == backbone.encode(np.zeros((128, 128, 3), np.uint8)).shape[-1]
    words = checkpoint.classes.split(", ")
    assert checkpoint.one_token_words and all(
        len(span) == 1 for word in words for span in backbone.encode_text([word], [word]).spans if " " not in word
    )


@pytest.mark.parametrize(
    ("prompt", "phrase", "word"),
    [
        ("a photograph of a cat sitting on grass", "cat", "sitting"),
        ("a photograph of a traffic light Hanging over a road", "traffic light", "Hanging"),
        ("a photograph of a cat on a building", "cat", ""),
        ("a photograph of cats sitting", "cat", ""),
        ("a photograph of a cat", "cat", ""),
        ("a cat sleeping beside a dog sitting", "dog", "sitting"),
    ],
)
def test_a_participle_after_the_class_belongs_to_it(prompt: str, phrase: str, word: str) -> None:
    read, start = participle_at(prompt, prompt.index(phrase) + len(phrase))
    assert read == word and prompt[start:].startswith(word)


def test_prompts_go_on_with_what_the_captioner_sees(with_clip: Models, picture: np.ndarray) -> None:
    scene = from_image(with_clip, picture)
    plain, continued = (DiffSegmenter(continued=flag).segment(with_clip, scene, CLASSES) for flag in (False, True))
    assert plain.scores().shape == continued.scores().shape and not np.allclose(plain.scores(), continued.scores())


@pytest.mark.parametrize("last_token", [False, True])
def test_a_participles_tokens_are_read_beside_the_classs(with_clip: Models, picture: np.ndarray, last_token: bool) -> None:
    method = DiffSegmenter(prompt="a photo of a {} sitting on grass", continued=True, last_token=last_token)
    text = method.encode(with_clip, parse_classes("potted plant"), picture)
    assert text.prompts[0].startswith("a photo of a potted plant sitting on grass")
    plant, sitting = (
        with_clip.backbone.encode_text(text.prompts, [words]).spans[0] for words in ("potted plant", "sitting")
    )
    assert text.spans[0] == ((plant[-1], sitting[0]) if last_token else plant + sitting)
