"""The modes "released": every setting of the published pipelines, and what each of them does on tiny networks."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.__main__ import main
from ovseg.backbones import BACKBONES
from ovseg.backbones.base import Sampling
from ovseg.backbones.outputs import outputs_of
from ovseg.factory.splits import UNSEEN
from ovseg.methods import METHODS, find_method, modes_of, released_for, words_on_released
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.methods.freeseg_diff.masks import refined
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.freeseg_diff.naming import meanings_of, nouns_of, spoken_of
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.methods.ovdiff import prefilter
from ovseg.methods.ovdiff.features import Extractor
from ovseg.methods.ovdiff.matching import boxes_of
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.ovdiff.prefilter import Things, chosen_classes, which_are_stuff
from ovseg.methods.ovdiff.prototypes import make_prototypes
from ovseg.models import Models
from ovseg.pocket.world import THINGS
from ovseg.pocket.world import scene as pocket_scene
from ovseg.pretrained.captioner import WHOLE, Captioner
from ovseg.pretrained.clip import Clip
from ovseg.scene import POSTERIOR, from_image, latent_of
from ovseg.types import Scene
from ovseg.words import class_filter
from ovseg.words.classes import parse_classes
from ovseg.words.nouns import every_noun, votes
from tests.networks import ON_A_UNET

RELEASED = {
    "diffsegmenter": {
        "threshold": 0.5, "timesteps": (100,), "draws": 1, "stride_weights": (0.1, 0.1, 0.5, 0.3), "refinements": 1,
        "layers": (), "refine_stride": 1, "emphasis": 1.21, "prompt": "a photograph of {}", "last_token": True,
        "continued": True, "captioner": "blip-large", "greedy": True, "squashed": True, "sampled": True, "filtered": True,
        "clip": "ViT-L-14-quickgelu/openai",
    },
    "ovdiff": {
        "images": 32, "prompt": "A good picture of a {}",
        "negative": "text, low quality, blurry, cartoon, meme, low resolution, bad, poor, faded",
        "steps": 30, "guidance": 8.0, "first_seed": 42, "drawn_released": True, "masks": "cutler", "skip_empty": True,
        "extractors": ("diffusion", "dino", "clip"), "sites": "0, 6-12, 15", "timestep": 200, "squashed": True,
        "sampled": True, "clip": "ViT-B-16-quickgelu/openai", "clip_sides": (448, 512), "imagenet": True,
        "dino_longest": 800,
        "plain": True, "parts": 32, "by_library": True, "kinds": "all", "background": "prototypes", "stuff_filter": True,
        "stuff": "released", "stuff_cosine": 0.85, "prefilter": True, "prefilter_released": True, "short_side": 448,
        "windows": (448, 336), "window_stride": 224, "windows_always": True, "refinement": "none",
    },
    "freeseg-diff": {
        "words": "caption", "vocabulary": "closed", "captioner": "blip-base", "beginning": "a picture of ",
        "least_tokens": 10, "every_vote": True, "clip": "ViT-B-32-quickgelu/openai", "squashed": True, "sampled": True,
        "features": "diffusion", "timestep": 0, "draws": 1,
        "query_stride": 4, "layers": (), "grid_stride": 2, "clusters": 4, "adaptive": False,
        "algorithm": "scikit-learn", "crop": "whole",
        "template": "{}", "ensemble": False, "one_each": True, "refinement": "crf", "refine_side": 0,
    },
    "grounded-diffusion": {
        "threshold": 0.5, "timestep": 1, "module": "S1", "words": "alone", "steps": 50, "guidance": 5.0, "ddim": True,
        "top_instance": True, "statistics": "picture",
    },
}  # fmt: skip
CLASSES = parse_classes("cat, dog, potted plant, sky")


@pytest.fixture
def models(with_store: Models) -> Models:
    return with_store


@pytest.mark.parametrize("kind", [find_method(name) for name in RELEASED], ids=lambda kind: kind.name)
def test_every_setting_of_the_released_pipeline(kind: type, models: Models) -> None:
    mode = modes_of(models, kind)["released"]
    print("\n".join(f"{kind.name} {name} = {value!r}" for name, value in asdict(mode).items()))
    assert asdict(mode) == RELEASED[kind.name] | {"tile_side": 0} and mode == kind.as_released()


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_nothing_is_said_twice(kind: type) -> None:
    assert all(getattr(kind(), name) != value for name, value in kind.released.items())


def test_helper_networks_that_are_named_are_in_the_tables() -> None:
    import open_clip

    from ovseg.pretrained.captioner import CAPTIONERS

    assert CAPTIONERS["blip-large"].source == "Salesforce/blip-image-captioning-large"
    assert CAPTIONERS["blip-base"].source == "Salesforce/blip-image-captioning-base"
    for kind in (DiffSegmenter, OVDiff, FreeSegDiff):
        name, _, tag = kind.as_released().clip.partition("/")
        assert (name, tag) in open_clip.list_pretrained()
    assert (
        {kind.released_on for kind in METHODS if not kind.yardstick}
        == {"sd14", "sd15", "sd21", "sd3m", "sd35m"}
        <= set(BACKBONES)
    )
    assert BACKBONES["sd14"].source == "CompVis/stable-diffusion-v1-4" and FreeSegDiff.released_on == "sd14"


def test_the_pocket_backbone_says_what_stands_in(capsys: pytest.CaptureFixture) -> None:
    pocket = Models("pocket", device="cpu")
    said = {kind.name: words_on_released(pocket, kind) for kind in METHODS}
    assert all(said[kind.name].startswith("The released code runs on sd") == (not kind.yardstick) for kind in METHODS)
    assert "captioner 'blip-large' is the backbone's own here" in said["diffsegmenter"]
    assert "query_stride 4 is 2 here, grid_stride 2 is 1 here" in said["freeseg-diff"]
    assert "masks 'cutler' is 'maskcut' here" in said["ovdiff"] and "non-commercial" not in said["ovdiff"]
    sd15 = Models("sd15", device="cpu")
    assert words_on_released(sd15, DiffSegmenter) == ""
    assert "licensed for non-commercial use alone" in words_on_released(sd15, OVDiff)
    assert words_on_released(sd15, FreeSegDiff) == "The released code runs on sd14, this backbone is sd15."
    assert main(["methods", "ovdiff"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "Mode released:" in listed and "masks 'cutler' is 'maskcut' here" in listed
    assert "imagenet (Colours of ImageNet for CLIP): true or false; released: true; with pocket: false" in listed


QUICK = {"ovdiff": {"images": 1, "steps": 1, "parts": 2, "extractors": ("diffusion", "clip"), "masks": "otsu-256"}}


@pytest.mark.parametrize("kind", ON_A_UNET, ids=lambda kind: kind.name)
def test_the_released_modes_run_on_the_pocket_backbone(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVSEG_PROTOTYPES", str(tmp_path))
    pocket = Models("pocket", device="cpu")
    method = replace(released_for(pocket, kind), **QUICK.get(kind.name, {}))
    assert getattr(method, "clip", "") == "" and (kind is not GroundedDiffusion or method.words == "alone")
    result = method.segment(pocket, from_image(pocket, pocket_scene("val", 5).image[:96], seed=1), parse_classes("cat, dog"))
    assert result.scores().shape == (3, 96, 128) and np.isfinite(result.scores()).all()


# DiffSegmenter


def spoken(monkeypatch: pytest.MonkeyPatch, sentences: dict[str, str]) -> list[str]:
    """The captioner says these sentences for these beginnings; the beginnings that it was asked for."""
    asked: list[str] = []

    def go_on(self: Captioner, image: np.ndarray, prefix: str = "") -> str:
        asked.append(prefix)
        return sentences.get(prefix, prefix)

    monkeypatch.setattr(Captioner, "go_on", go_on)
    return asked


def test_sentences_go_on_greedily_with_twenty_tokens_in_all(
    captioner_folder: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner, given = Captioner(str(captioner_folder)), []
    generate = captioner._model.generate
    monkeypatch.setattr(captioner._model, "generate", lambda **options: given.append(options) or generate(**options))
    for prefix, tokens in (("", 0), ("a photo of a cat", 5)):
        captioner.go_on(picture, prefix)
        assert given[-1]["num_beams"] == 1 and not given[-1]["do_sample"]
        own = len(captioner._processor.tokenizer(prefix).input_ids)
        assert given[-1]["max_new_tokens"] == WHOLE - max(own - 1, 0) and own >= tokens


def test_the_filter_takes_two_captions_every_noun_and_clips_own_words(
    models: Models, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spoken(monkeypatch, {"": "two cats near a traffic light", "A picture of": "A picture of grass"})
    compared: list[list[str]] = []
    states = Clip.word_states
    monkeypatch.setattr(Clip, "word_states", lambda self, words: compared.append(list(words)) or states(self, words))
    monkeypatch.setattr(type(models.backbone), "encode_text", None)  # the backbone's text encoder is not asked
    classes = parse_classes("cat, dog, light, grass, bus")
    seen = class_filter.look_as_released(models, picture, classes)
    assert asked == ["", "A picture of"]
    assert compared == [["cat", "dog", "light", "grass", "bus"], ["cat", "traffic", "light", "picture", "grass"]]
    alike = states(models.clip, compared[0]) @ states(models.clip, compared[1]).T
    logits = models.clip.similarity([picture], [f"A photo of a {word.name}" for word in classes])[0]
    least = min(models.checkpoint.clip_ratio * float(logits.max()), float(logits.max()))
    expected = [bool(alike[k].max() > 0.8 or logits[k] >= least) for k in range(5)]
    assert [item.present for item in seen] == expected and all(expected[k] for k in (0, 2, 3))
    spoken(monkeypatch, {"": "", "A picture of": ""})
    assert all(item.caption_score == 0 for item in class_filter.look_as_released(models, picture, classes))


def test_a_words_state_is_the_mean_of_its_tokens_in_clip(models: Models) -> None:
    """Against the pocket CLIP's text network as transformers has it: open_clip's weights are the same ones."""
    clip, tokens = models.clip, models.clip._tokenizer(["potted plant", "cat"])
    with outputs_of(clip._model.ln_final) as own:
        clip._model.encode_text(tokens)
    ends = (tokens == clip._model.text_eos_id if hasattr(clip._model, "text_eos_id") else tokens).int().argmax(1)
    states = clip.word_states(["potted plant", "cat"])
    for state, row, end in zip(states, own[0], ends, strict=True):
        mean = row[1:end].mean(0)
        assert torch.allclose(state, mean / mean.norm(), atol=1e-5)
    assert int(ends[0]) == 3 and int(ends[1]) == 2


def test_classes_that_the_filter_does_not_find_have_no_pixels(
    models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"cat": False, "dog": True, "potted plant": False, "sky": True}

    def look(models: Models, image: np.ndarray, classes: tuple, captioner: str, clip: str) -> list[class_filter.Presence]:
        assert (captioner, clip) == ("", "")
        return [class_filter.Presence(word.name, 0.0, 0.0, found[word.name]) for word in classes]

    monkeypatch.setattr("ovseg.methods.diffsegmenter.method.look_as_released", look)
    filtered = DiffSegmenter(filtered=True).segment(models, wide, CLASSES)
    alone = DiffSegmenter().segment(models, wide, parse_classes("dog, sky"))
    assert np.allclose(filtered.scores()[[2, 4]], alone.scores()[1:], atol=1e-4)
    assert not filtered.scores()[[1, 3]].any() and set(np.unique(filtered.label_map)) <= {0, 2, 4}
    assert {item.label for item in filtered.evidence} == {"dog", "sky", ""}


def test_the_released_picture_is_squashed_plainly_and_its_latent_drawn(models: Models, picture: np.ndarray) -> None:
    backbone = models.backbone
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    square = torch.nn.functional.interpolate(pixels, backbone.square_hw(), mode="bilinear", align_corners=False)[0]
    expected = backbone.encode(square.permute(1, 2, 0).numpy())
    assert torch.equal(latent_of(models, picture, 3, square=True), expected)
    assert torch.equal(from_image(models, picture, 3, square=True).latent, expected)
    large = np.random.default_rng(1).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    smooth = backbone.encode(np.asarray(Image.fromarray(large).resize(backbone.square_hw(), Image.Resampling.BILINEAR)))
    assert not torch.allclose(latent_of(models, large, 3, square=True), smooth, atol=1e-3)
    drawn = latent_of(models, picture, 3, square=True, sample_posterior=True)
    # The noise of the posterior must not be the noise that is added at the timestep.
    shift, noise = drawn - expected, torch.randn(drawn.shape, generator=torch.Generator().manual_seed(3))
    assert float(torch.corrcoef(torch.stack([shift.flatten(), noise.flatten()]))[0, 1]) < 0.5


def test_diffsegmenter_looks_at_the_squashed_picture(models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[torch.Tensor] = []
    trace = type(models.backbone).trace

    def kept(self: object, latent: torch.Tensor, *arguments: object, **options: object) -> object:
        traced.append(latent)
        return trace(self, latent, *arguments, **options)

    monkeypatch.setattr(type(models.backbone), "trace", kept)
    for squashed, sampled in itertools.product((False, True), repeat=2):
        DiffSegmenter(squashed=squashed, sampled=sampled).segment(models, wide, parse_classes("cat"))
        expected = latent_of(models, wide.image, wide.seed, square=squashed, sample_posterior=sampled)
        assert torch.equal(traced[-1], expected)


def test_the_captioner_that_goes_on_is_the_named_one(
    models: Models, captioner_folder: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spoken(monkeypatch, {"a photograph of cat": "a photograph of cat sitting on grass"})
    method = DiffSegmenter(continued=True, greedy=True, last_token=True, captioner=str(captioner_folder))
    text = method.encode(models, parse_classes("cat"), picture)
    assert asked == ["a photograph of cat"] and text.prompts == ("a photograph of cat sitting on grass",)
    assert text.spans == ((4, 5),)
    assert method.helpers(models)["captioner"]().source == str(captioner_folder)
    with pytest.raises(ValueError, match="captioner must be one of"):
        replace(method, captioner="nobody").prepare(models, parse_classes("cat"))


def test_every_noun_of_a_caption_by_itself() -> None:
    assert every_noun("two cats near a traffic light") == ("cat", "traffic", "light")
    assert every_noun("a dog, a dog and a hot dog") == ("dog", "dog", "hot dog")
    assert every_noun("a photo of a potted plant") == ("photo", "plant") and every_noun("") == ()


def test_the_diffusion_network_sees_squares_and_drawn_latents(
    models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[tuple[tuple[int, ...], int | None]] = []
    encode = type(models.backbone).encode

    def kept(self: object, image: np.ndarray, sample_seed: int | None = None) -> torch.Tensor:
        encoded.append((image.shape[:2], sample_seed))
        return encode(self, image, sample_seed)

    monkeypatch.setattr(type(models.backbone), "encode", kept)
    for settings in ({"squashed": True, "sampled": True}, {}):
        list(Extractor.of(models, OVDiff(sites="0", **settings), "diffusion").features([wide.image], 5))
    backbone = models.backbone
    assert encoded == [(backbone.square_hw(), 5 + POSTERIOR), (backbone.working_hw(wide.image.shape[:2]), None)]


def test_the_prefilter_looks_at_what_the_mode_says(models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []
    embed = Clip.image_embeddings
    monkeypatch.setattr(
        Clip, "image_embeddings", lambda self, images, side=0: sides.append(side) or embed(self, images, side)
    )
    small = OVDiff(images=1, steps=1, parts=2, masks="otsu", sites="0", extractors=("dino",), short_side=0, windows=())
    for as_released in (False, True):
        replace(small, prefilter_released=as_released).segment(models, wide, parse_classes("cat, dog"))
    assert sides == [0, prefilter.SQUARE]


# OVDiff


@pytest.mark.parametrize("most", [2, 10])
def test_more_words_than_are_tried_are_named_by_falling_probability(
    models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(prefilter, "MOST_CANDIDATES", most)
    stuff, clip, sentences = (False,) * 8, models.clip, []
    seen = clip.image_embeddings([wide.image], prefilter.SQUARE)
    names = ["cat", "dog", "bus", "house", "person", "flower", "sheep", "bicycle"]
    rising = (clip.text_embeddings([f"a {name}" for name in names]) @ seen[0]).argsort().tolist()
    classes = parse_classes(", ".join(names[k] for k in rising))  # the likeliest comes last
    embed, rows = clip.subset_embeddings, Things.of(models, classes, stuff)
    monkeypatch.setattr(clip, "subset_embeddings", lambda texts: (sentences.extend(texts), embed(texts))[1])
    for as_released in (True, False):
        sentences.clear()
        chosen_classes(models, wide.image, classes, stuff, rows, as_released=as_released)
        fit = (clip.image_embeddings([wide.image], prefilter.SQUARE * as_released) @ rows.rows.T)[0]
        passed = [k for k, p in enumerate(fit.softmax(0)) if p >= 1 / 8]
        falling = sorted(passed, key=lambda k: -float(fit[k]))
        assert len(passed) >= 3
        order = falling[:2] if most == 2 and as_released else sorted(falling[:most])
        assert max(sentences, key=len) == " and ".join(f"a {classes[k].name}" for k in order)


def test_windows_as_large_as_a_square_picture_count(models: Models) -> None:
    method = OVDiff.as_released()
    assert len(list(boxes_of(method, (448, 597)))) == 8  # and the whole: nine
    assert len(list(boxes_of(method, (448, 448)))) == 5 == len(list(boxes_of(OVDiff(), (448, 448)))) + 1


def test_what_is_stuff_in_the_released_table(models: Models) -> None:
    words = parse_classes("sky, food, sea, gizmo, cat, trade name")
    assert which_are_stuff(models, words, "released") == (True, False, False, False, False, True)


def test_settings_that_are_as_before_keep_their_files(models: Models) -> None:
    """Prototypes that were made before a setting existed are still found: what is usual is not in their description."""
    assert set(OVDiff(masks="otsu").made_by(models, "clip")) == {
        "prompt", "negative", "steps", "guidance", "first_seed", "backbone", "images", "masks", "parts", "network",
    }  # fmt: skip
    released = replace(OVDiff.as_released(), clip="", masks="otsu")
    always = {"skip_empty", "drawn_released", "by_library"}
    for extractor, names in (("clip", {"clip_side", "imagenet"}), ("diffusion", {"sampled"}), ("dino", {"plain"})):
        usual = set(OVDiff(masks="otsu").made_by(models, extractor))
        assert set(released.made_by(models, extractor)) - usual == names | always


def test_cutler_is_asked_for_before_pictures_are_drawn(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVSEG_CUTLER", raising=False)
    drawn: list[object] = []
    monkeypatch.setattr(type(models.backbone), "generate", lambda *_, **__: drawn.append(1))
    with pytest.raises(ValueError, match=r"CutLER needs its folder .* licence \(CC BY-NC-SA 4.0"):
        make_prototypes(models, OVDiff(masks="cutler", sites="0"), "cat")
    assert not drawn


# FreeSeg-Diff


@pytest.mark.parametrize(
    ("caption", "given"),
    [
        ("a small brown dog on a kitchen floor", ("dog", "dog", "dog", "kitchen", "floor")),
        ("two dogs and a dog", ("dogs", "dog")),
        ("a group of cats near a traffic light", ("group", "cats", "traffic", "light")),
        ("a hot dog on a plate", ("hot dog", "plate")),
        ("running quickly", ()),
    ],
)
def test_every_noun_votes(caption: str, given: tuple[str, ...]) -> None:
    assert votes(caption) == given


@pytest.mark.parametrize(
    ("caption", "words", "found"),
    [
        ("a brown dog laying on a kitchen floor", ("brown dog", "dog", "kitchen", "floor"), "dog"),
        ("a small bird sitting on a branch of a tree", ("small bird", "bird", "branch", "tree"), ""),
        ("two people and a red car in front of a house", ("people", "red car", "car", "house"), "car"),
    ],
)
def test_the_released_open_list(models: Models, wide: Scene, caption: str, words: tuple[str, ...], found: str) -> None:
    classes = parse_classes("dog, car, person")
    prepared = FreeSegDiff(vocabulary="open", every_vote=True).prepare(models, classes)
    candidates = prepared.candidates(replace(wide, caption=caption))
    names = [word.name for word in candidates.names]
    assert names == ["dog", "car", "person", *(word for word in words if word != found)]
    assert [name for name, may in zip(names, candidates.allowed, strict=True) if not may] == [
        name for name in ("dog", "car", "person") if name != found
    ]


def test_a_caption_has_a_beginning_that_is_taken_off_and_a_least_length(
    captioner_folder: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner, given = Captioner(str(captioner_folder)), []
    generate, decode = captioner._model.generate, captioner._processor.batch_decode
    monkeypatch.setattr(captioner._model, "generate", lambda **options: given.append(options) or generate(**options))
    assert captioner.describe(picture) == captioner.caption(picture)
    monkeypatch.setattr(captioner._processor, "batch_decode", lambda *_, **__: ["a picture of a cat."])
    assert captioner.describe(picture, "a picture of ", 10) == "a cat"
    own = len(captioner._processor.tokenizer("a picture of ").input_ids) - 1
    assert (given[-1]["max_new_tokens"], given[-1]["min_new_tokens"], given[-1]["num_beams"]) == (30 - own, 10 - own, 3)
    monkeypatch.setattr(captioner._processor, "batch_decode", decode)
    few = captioner._model.generate(**{**given[-1], "min_new_tokens": 7, "max_new_tokens": 7})
    assert few.shape[1] >= 7


def test_the_mode_begins_its_captions(models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(
        Captioner, "describe", lambda _self, _image, beginning, least: asked.append((beginning, least)) or "a cat"
    )
    for method in (replace(FreeSegDiff.as_released(), clip="", captioner=""), FreeSegDiff()):
        assert method.prepare(models, CLASSES).candidates(wide).caption == "a cat"
    assert asked == [("a picture of ", 10), ("", 0)]


def test_clips_middle_square_begins_at_a_whole_pixel(models: Models) -> None:
    clip = models.clip
    side = clip._model.visual.image_size[0]
    image = np.random.default_rng(0).integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
    floored, plain = clip.image_embeddings([image], floored=True), clip.image_embeddings([image])
    assert torch.equal(floored, clip.image_embeddings([np.ascontiguousarray(image[:, 1 : side + 1])]))
    assert torch.equal(plain, clip.image_embeddings([np.ascontiguousarray(image[:, 2 : side + 2])]))


def test_the_released_latent_is_drawn_from_a_smoothly_squashed_picture(
    models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[tuple[np.ndarray, int | None]] = []
    encode = type(models.backbone).encode

    def kept(self: object, image: np.ndarray, sample_seed: int | None = None) -> torch.Tensor:
        encoded.append((image, sample_seed))
        return encode(self, image, sample_seed)

    monkeypatch.setattr(type(models.backbone), "encode", kept)
    squared = np.asarray(Image.fromarray(wide.image).resize(models.backbone.square_hw()[::-1], Image.Resampling.BILINEAR))
    for sampled in (True, False):
        method = FreeSegDiff(words="classes", refinement="none", squashed=True, sampled=sampled)
        method.segment(models, wide, CLASSES)
        assert np.array_equal(encoded[-1][0], squared) and encoded[-1][1] == (wide.seed + POSTERIOR if sampled else None)


def test_repeated_nouns_move_the_mean(models: Models) -> None:
    meanings, classes = meanings_of(models, CLASSES), CLASSES
    assert nouns_of("the front of a dog and a dog", True) == ("dog", "dog")
    assert nouns_of("the front of a dog and a dog", False) == ("dog",)
    words = ["zebra", "gizmo", "bus", "house", "person", "tree"]
    rows = torch.stack([models.backbone.encode_text([word], [""]).embeddings[0].float().mean(0) for word in words])
    apart = 1 - torch.stack([torch.corrcoef(torch.stack([row, meaning]))[0, 1:] for row in rows for meaning in meanings])
    nearest, proposed = apart.reshape(len(words), -1).min(1)
    order = nearest.argsort().tolist()
    for repeats in (order[0], order[-1]):
        said = [*range(len(words)), *[repeats] * 40]
        heard = {int(proposed[k]) for k in said if nearest[k] <= nearest[said].mean() + 1e-6}
        got = spoken_of(models, classes, meanings, [words[k] for k in said])
        assert got == tuple(k in heard for k in range(len(classes)))
    assert nearest[order[0]] < nearest.mean() < nearest[order[-1]]


def test_pamr_can_be_divided_by_its_highest_value() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    mask = torch.zeros(40, 40)
    mask[18:22, 18:22] = 1
    plain, stretched_mask = (refined(image, [mask], by, torch.device("cpu"))[0] for by in ("pamr", "pamr-max"))
    assert plain.max() < 0.5 and torch.allclose(stretched_mask, plain / plain.max())
    assert not refined(image, [torch.zeros(40, 40)], "pamr-max", torch.device("cpu"))[0].any()


# Grounded Diffusion


def test_pictures_are_drawn_as_the_mode_says(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    suited, released = GroundedDiffusion(), GroundedDiffusion.as_released()
    assert suited.sampling(models) == models.checkpoint.sampling()
    assert released.sampling(models) == Sampling(50, 5.0, ddim=True) and released.sampling(models, 3).steps == 3
    kinds = [type(models.backbone._scheduler(method.sampling(models, 2))).__name__ for method in (suited, released)]
    assert kinds == [type(models.backbone.pipeline.scheduler).__name__, "DDIMScheduler"]
    assert "ddim" not in suited.sampling(models).described() and released.sampling(models).described()["ddim"]


def test_ddim_ends_at_the_step_whose_features_are_read(models: Models) -> None:
    """With the checkpoint's own schedule of 1000 steps: 981, 961, ... 1, as the released sampler has them."""
    scheduler = models.backbone._scheduler(Sampling(50, 5.0, ddim=True))
    scheduler = type(scheduler).from_config(scheduler.config, steps_offset=1)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))


def test_the_factorys_commands_take_the_mode(models: Models, detector_folder: Path) -> None:
    from argparse import ArgumentParser

    from ovseg.commands import triplets

    parser = ArgumentParser()
    triplets.add_options(parser)
    given = ["--split", "S1", "--detector", str(detector_folder), "--count", "3", "--seed", "9", "--out", "unused"]
    factories: Sequence = [
        triplets._factory(parser.parse_args([*given, *more]), models)
        for more in (["--latents"], ["--mode", "released"], ["--mode", "released", "--steps", "7"])
    ]
    assert all(set(factory.classes) == set(THINGS) - set(UNSEEN["S1"]) for factory in factories)
    assert all((factory.count, factory.seed) == (3, 9) for factory in factories)
    assert [factory.features for factory in factories] == [False, True, True]
    assert [factory.single for factory in factories] == [False, True, True]
    assert [factory.sampling.steps for factory in factories] == [models.checkpoint.steps, 50, 7]
    assert [factory.sampling.ddim for factory in factories] == [False, True, True]
    assert factories[1].settings()["guidance"] == 5.0 and "ddim" not in factories[0].settings()


def test_no_setting_of_a_mode_is_unknown() -> None:
    for kind in METHODS:
        known = {field.name for field in fields(kind)}
        for checkpoint in BACKBONES.values():
            assert {*kind.suited(checkpoint), *kind.stand_ins(checkpoint)} <= known
