"""How much may be asked for: each limit refuses what is beyond it, before any work, and can be changed."""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ovseg.compare.truth import read_truth
from ovseg.demo.compare_tab import request_of
from ovseg.demo.controls import read_controls
from ovseg.demo.picture import Picture, of_file
from ovseg.demo.run import titled
from ovseg.doors import inputs
from ovseg.doors.requests import About, CaptionRequest, CompareRequest, GenerateRequest
from ovseg.limits import PREFIX, Limits, check_number, limits, quoted
from ovseg.methods import DiffSegmenter, FreeSegDiff, OVDiff, suited_to
from ovseg.methods.grammar import read_method
from ovseg.methods.ovdiff.matching import boxes_of, count_boxes
from ovseg.methods.ovdiff.settings import parse_numbers
from ovseg.methods.settings import read_setting
from ovseg.models import Models
from ovseg.pictures import decode_image, read_image
from ovseg.pretrained.captioner import as_sentence
from ovseg.server.request_cost import check_work
from ovseg.words.classes import parse_classes
from tests.attack.requests import saved

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets limits by their variables, as whoever runs a server does."""

    def put(**values: int) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"OVSEG_MAX_{name.upper()}", str(value))
        limits.cache_clear()

    yield put
    monkeypatch.undo()
    limits.cache_clear()


def test_the_environment_changes_limits() -> None:
    assert Limits.of({}) == Limits()
    assert Limits.of({"OVSEG_MAX_CLASSES": "7", "OVSEG_MAX_PIXELS": ""}) == replace(Limits(), classes=7)
    assert Limits.of({"OVSEG_MAX_UNASKED_SECONDS": "0"}).unasked_seconds == 0
    for text in ("many", "0", "-1", "1.5", "9" * 40):
        with pytest.raises(ValueError, match="The variable OVSEG_MAX_CLASSES must be a whole number, 1 or more"):
            Limits.of({"OVSEG_MAX_CLASSES": text})
    with pytest.raises(ValueError, match=r"must be one of OVSEG_MAX_WORD_CHARACTERS, .*, but got OVSEG_MAX_TEXT_LETTERS"):
        Limits.of({"OVSEG_MAX_TEXT_LETTERS": "500"})  # its name before: a limit that nobody reads is said


def test_a_wrong_limit_is_no_fault_of_the_picture(small: Callable[..., None]) -> None:
    small(megapixels=1)
    with pytest.raises(ValueError, match=r"^A variable OVSEG_MAX_\.\.\. must be one of"):
        read_image("assets/examples/cat-car.png")


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    table = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(rf"^\| `{PREFIX}([A-Z_]+)` \| ([\d,]+) \|", table, re.MULTILINE)
    assert {name.lower(): int(value.replace(",", "")) for name, value in rows} == {
        field.name: field.default for field in fields(Limits)
    }


def test_a_sentence_repeats_a_few_characters_of_what_was_sent() -> None:
    assert quoted("cat") == "'cat'" and quoted(5) == "5" and quoted("half \ud800") == "'half \\ud800'"
    assert len(quoted("x" * 10**6)) == len(quoted(["x"] * 1000)) == 80 == len(inputs.brief("x" * 10**6))
    for call in (
        lambda: DiffSegmenter(prompt="x" * 10**5).check(), lambda: read_setting(DiffSegmenter, "draws", "x" * 10**5),
        lambda: read_setting(FreeSegDiff, "words", "x" * 10**5), lambda: inputs.method(Models("pocket"), "x" * 1999, None),
        lambda: parse_numbers("x" * 10**5), lambda: read_method("diffsegmenter:" + "x" * 10**5 + "=1"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as caught:
            call()
        assert len(str(caught.value)) < 400, str(caught.value)[:500]


WORDS = [
    ("w" * 201, "words of 200 characters at most, but one has 201"),
    ("a " * 100 + "b", "phrase must have 200 characters at most, but one has 201"),
    (",".join(f"w{k}" for k in range(3000)), "classes must have 10000 characters at most, but has"),
    ("|".join(f"w{k}" for k in range(33)), "phrases of a class must be 32 at most, but got 33"),
    ("cat, \ud800", "characters that can be written"),
]


@pytest.mark.parametrize("words, sentence", WORDS, ids=lambda value: str(value)[:20])
def test_words_have_limits_everywhere(words: str, sentence: str) -> None:
    for read in (parse_classes, inputs.classes):
        with pytest.raises(ValueError, match=sentence):
            read(words)


def test_visitors_and_programs_ask_for_fewer_classes_than_the_command_line() -> None:
    many, phrases = ",".join(f"w{k}" for k in range(129)), ",".join(f"a{k}|b{k}|c{k}" for k in range(86))
    assert len(parse_classes(many)) == 129 and len(parse_classes(phrases)) == 86
    with pytest.raises(ValueError, match="The classes must be 128 at most, but got 129"):
        inputs.classes(many)
    with pytest.raises(ValueError, match="The phrases of all classes must be 256 at most, but got 258"):
        inputs.classes(phrases)


def test_limits_are_asked_where_they_count(small: Callable[..., None]) -> None:
    small(classes=2, text_characters=10, methods=1, steps=3)
    models, image = Models("pocket"), np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="The classes must be 2 at most"):
        About.of(models, image, classes="a, b, c")
    with pytest.raises(ValueError, match="caption must have 10 characters at most, but has 11"):
        About.of(models, image, caption="a cat a cat")
    with pytest.raises(ValueError, match="prefix must have 10 characters at most"):
        CaptionRequest.of(models, image, prefix="a cat a cat")
    with pytest.raises(ValueError, match="methods must be 1 at most, but names 2"):
        CompareRequest.of(models, About.of(models, image), ["diffsegmenter", "freeseg-diff"])
    with pytest.raises(ValueError, match="steps must be a whole number from 1 to 3, but got 4"):
        GenerateRequest.of("a cat", steps=4)
    with pytest.raises(ValueError, match="prompt must have 10 characters at most"):
        GenerateRequest.of("a cat a cat")


NUMBERS = [
    ("threshold", "nan"), ("threshold", "1e999"), ("threshold", "-1e999"), ("threshold", "1e30"), ("threshold", "1.01"),
    ("draws", "17"), ("draws", "1e30"), ("timesteps", "1000"), ("timesteps", "-1"), ("timesteps", ",".join("1" * 101)),
    ("stride_weights", "1e30"), ("stride_weights", "1,1e999"), ("draws", "(" * 41), ("draws", "9" * 41),
    ("prompt", "{}" + "x " * 1000), ("prompt", "{}" + "x" * 201),
]  # fmt: skip


@pytest.mark.parametrize("name, text", NUMBERS, ids=lambda value: str(value)[:20])
def test_settings_have_ranges(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must (be|have)"):
        read_setting(DiffSegmenter, name, text)


def test_controls_have_the_same_ranges() -> None:
    assert read_controls(DiffSegmenter, {"threshold": 0.25, "draws": 2.0}) == {"threshold": 0.25, "draws": 2}
    for name, value in [
        ("threshold", float("nan")), ("threshold", float("inf")), ("threshold", 1e30), ("draws", 17), ("draws", 1.5),
        ("draws", [1]), ("last_token", 1), ("threshold", True), ("prompt", 5), ("timesteps", "1000"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"^(The values of )?{name} must be"):
            read_controls(DiffSegmenter, {name: value})


def test_a_range_of_layers_is_counted_before_it_is_made() -> None:
    assert parse_numbers("0, 6-8,15") == (0, 6, 7, 8, 15)
    for text in ("0-3000000000", "0-100", "0-60, 0-60", "0-999999999"):
        with pytest.raises(ValueError, match=r"sites must be (100 at most|numbers and ranges)"):
            parse_numbers(text)
    with pytest.raises(ValueError, match="sites must be 100 at most"):
        OVDiff(sites="0-100").check()


@pytest.mark.parametrize("value", [None, -1, 1.5, float("nan"), float("inf"), 1e300, "1", True])
def test_number_fields_hold_whole_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="The seed must be a whole number from 0 to 9007199254740991, but got"):
        inputs.whole("The seed", value)
    assert inputs.whole("The seed", 7.0) == 7


def test_pixels_are_counted_before_they_are_decoded(small: Callable[..., None], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(saved(Image.new("1", (13000, 13000)), "PNG"))
    for read in (of_file, read_image):
        with pytest.raises(ValueError, match="must have 50 megapixels at most, but has 169"):
            read(bomb)
    small(pixels=100)
    with pytest.raises(ValueError, match=r"must have 0\.0001 megapixels at most"):
        decode_image(saved(Image.new("RGB", (11, 10)), "PNG"), "it")
    assert decode_image(saved(Image.new("RGB", (10, 10)), "PNG"), "it").shape == (10, 10, 3)


def test_a_truth_of_another_size_is_not_decoded(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(saved(Image.new("L", (8000, 8000)), "PNG")[:100])  # its header alone: to decode it is another error
    with pytest.raises(ValueError, match="must have the picture's size, 20 x 10, but it is 8000 x 8000"):
        read_truth(bomb, (10, 20), parse_classes("cat"))


def test_long_pictures_are_refused_where_they_are_shrunk() -> None:
    long = saved(Image.new("RGB", (340, 20)), "PNG")
    assert decode_image(long, "it").shape == (20, 340, 3)
    with pytest.raises(ValueError, match="must be 16 times the other at most, but it has 340 x 20 pixels"):
        decode_image(long, "it", 1024)


def test_a_large_jpeg_is_decoded_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    load = Image.Image.convert

    def convert(self: Image.Image, *given: Any, **named: Any) -> Image.Image:
        decoded.append(self.size)
        return load(self, *given, **named)

    monkeypatch.setattr(Image.Image, "convert", convert)
    assert decode_image(saved(Image.new("RGB", (2400, 1200)), "JPEG"), "it", 100).shape == (50, 100, 3)
    assert max(width for width, _ in decoded) == 600


def test_files_that_are_pictures_of_other_kinds_are_refused() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    for content in (postscript, saved(Image.new("1", (8, 8)), "XBM")):
        with pytest.raises(ValueError, match=r"must be an image file that Pillow reads, but it is not\.$"):
            decode_image(content, "it")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite_where_they_have_no_range(value: float) -> None:
    with pytest.raises(ValueError, match="x must be a finite number, but got"):
        check_number("x", value)


def test_work_is_counted_before_it_is_done(small: Callable[..., None]) -> None:
    models = Models("pocket")
    method = DiffSegmenter(timesteps=tuple(range(100)), draws=16)
    check_work(models, titled(models, [method]), "a, b, c, d, e", (64, 64))
    with pytest.raises(ValueError, match="must be 8000 rows of the network at most, but would be 9600"):
        check_work(models, titled(models, [method]), "a, b, c, d, e|f", (64, 64))
    with pytest.raises(ValueError, match="made of 100000000 numbers at most, but would be of 106954752"):
        check_work(
            models, titled(models, [DiffSegmenter(), FreeSegDiff()]), ",".join(f"w{k}" for k in range(50)), (1024, 1024)
        )
    check_work(models, titled(models, [FreeSegDiff(refinement="crf")]), "a", (1024, 1024))
    lighter = [FreeSegDiff(refinement="crf", refine_side=1024), FreeSegDiff(refinement="pamr")]
    check_work(models, titled(models, lighter), "a", (2048, 2000))
    with pytest.raises(ValueError, match="must have 1100000 pixels at most where a CRF moves its edges, but has 2359296"):
        check_work(models, titled(models, [FreeSegDiff(refinement="crf")]), "a", (1536, 1536))
    assert FreeSegDiff(draws=5).rows(models, ["a"], (512, 512)) == 5
    with pytest.raises(ValueError, match="in 100 pieces at most, but would in 1601"):
        check_work(models, titled(models, [DiffSegmenter(tile_side=32)]), "a", (960, 960))
    with pytest.raises(ValueError, match="side of 32 pixels or more, but got 1"):
        check_work(models, titled(models, [DiffSegmenter(tile_side=1)]), "a", (2048, 2048))
    small(rows=3)
    with pytest.raises(ValueError, match="must be 3 rows of the network at most, but would be 4"):
        check_work(models, titled(models, [DiffSegmenter()]), "a, b, c, d", (64, 64))
    with pytest.raises(ValueError, match="must be 3 rows of the network at most, but would be 5"):  # 4 tiles, the whole
        check_work(models, titled(models, [DiffSegmenter(tile_side=40)]), "a", (64, 64))


def test_windows_of_ovdiff_are_counted(with_clip: Models) -> None:
    method = OVDiff(windows=(64, 448, 900), window_stride=32, short_side=0)
    assert count_boxes(method, (300, 700)) == len(list(boxes_of(method, (300, 700)))) > 100
    without = OVDiff(windows=(), short_side=0, images=1, steps=1)
    more = replace(without, windows=(64,), window_stride=32)
    rows = [each.rows(with_clip, ["cat"], (300, 700)) for each in (without, more)]
    assert rows[1] - rows[0] == count_boxes(more, (300, 700))


def test_the_page_checks_what_run_asks_for(with_clip: Models) -> None:
    picture, variants = Picture(np.zeros((64, 96, 3), np.uint8)), titled(with_clip, [suited_to(with_clip, DiffSegmenter)])
    asked = request_of(with_clip, picture, ("cat", "a cat", None), 3, variants)
    assert (asked.words, asked.caption, asked.captioner, asked.seed) == ("cat", "a cat", "", 3)
    wrong = [
        ((None, None, None), 0, None, "A picture must be chosen first"),
        ((",".join(f"w{k}" for k in range(129)), "", None), 0, picture, "The classes must be 128 at most"),
        (("cat", "x" * 3000, None), 0, picture, "The caption must have 2000 characters at most"),
        (("cat", "", "/etc"), 0, picture, "captioner must be one that this server has"),
        (("cat", "", "blip2-opt-2.7b"), 0, picture, "captioner must be one that this server has"),
        (("cat", "", None), float("nan"), picture, "The seed must be a whole number"),
    ]
    for words, seed, given, sentence in wrong:
        with pytest.raises(ValueError, match=sentence):
            request_of(with_clip, given, words, seed, variants)


def test_a_long_prefix_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    beginning = " ".join(f"wörd{k}" for k in range(250))
    calls: list[int] = []
    from ovseg.pretrained import captioner

    letters = captioner._letters
    monkeypatch.setattr(captioner, "_letters", lambda text: calls.append(1) or letters(text))
    assert (
        as_sentence(beginning.replace("ö", "o").upper() + " and a cat.", beginning)
        == f"{beginning} AND A CAT"[:-10] + " and a cat"
    )
    assert len(calls) < 5 * len(beginning)


def test_many_prompts_are_encoded_some_at_a_time(with_clip: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovseg.backbones import stable_diffusion
    from ovseg.pretrained import clip

    words = [f"a w{k}" for k in range(7)]
    whole = with_clip.backbone.encode_text(words, [""] * 7).embeddings, with_clip.clip.text_embeddings(words)
    sizes: list[int] = []
    with_clip.backbone.pipeline.text_encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    for module in (stable_diffusion, clip):
        monkeypatch.setattr(module, "TEXT_ROWS", 3)
    parts = with_clip.backbone.encode_text(words, [""] * 7).embeddings, with_clip.clip.text_embeddings(words)
    assert sizes == [3, 3, 1]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.cpu().numpy(), other.cpu().numpy(), atol=1e-5)


def test_the_page_that_is_built_has_the_limits(with_clip: Models) -> None:
    from ovseg.demo.build import build

    page = build(with_clip)
    assert page._queue.max_size == limits().queue
    sliders = {block.elem_id: block.maximum for block in page.blocks.values() if isinstance(block, gr.Slider)}
    assert sliders["steps"] == limits().steps and sliders["dataset-count"] == limits().pictures
    (lines,) = (block for block in page.blocks.values() if block.elem_id == "methods")
    settings = [one for kind in json.loads(lines.props["about"]) for own in kind["networks"] for one in own["fields"]]
    (module,) = (one for one in settings if one["name"] == "module")
    assert module["kind"] == "choice" and module["choices"] == [["S1", "S1"]]
