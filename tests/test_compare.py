import csv
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from ovseg.__main__ import main
from ovseg.compare import (
    CLAIMED,
    CONFUSED,
    MISSED,
    RIGHT,
    Comparison,
    Entry,
    Failure,
    Truth,
    Variant,
    compare,
    comparison_sheet,
    read_legend,
    read_truth,
    run_variants,
    variant_of,
)  # fmt: skip
from ovseg.compare.sheet import _Drawing, _sentences
from ovseg.files import RunFolder
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.files import Result, files_of
from ovseg.output.sheet import GAP, MARGIN, Key, Panel, Sheet, shortened, typeset
from ovseg.output.tables import Table
from ovseg.progress import StoppedError
from ovseg.scene import from_image
from ovseg.types import Scene, Segmentation
from ovseg.words.classes import parse_classes
from tests.networks import stop_at

IMAGE = np.zeros((2, 4, 3), np.uint8)
CLASSES = ("cat", "dog")


def entry(title: str, labels: tuple[str, ...], label_map: list, **more: object) -> Entry:
    scores = np.eye(len(labels), dtype=np.float32)[np.array(label_map)].transpose(2, 0, 1)
    return Entry(title, Segmentation(IMAGE, labels, scores, timings={"looking": 0.25, "scoring": 0.5}), 0.8, **more)


ONE = entry("one", ("background", "cat", "dog"), [[0, 1, 1, 2], [0, 0, 0, 2]], method="m", settings={"draws": 1})
# The same but for one place, with its labels in another order.
TWO = entry("two", ("background", "dog", "cat"), [[0, 2, 2, 1], [0, 0, 1, 1]], passes=3, peak_bytes=12_000_000, rows=6)
# Finds grass, which nobody asked for.
THREE = entry("three", ("background", "grass", "cat"), [[1, 2, 2, 2], [1, 1, 1, 0]])
TRUTH = Truth(np.array([[0, 1, 2, 2], [0, 1, 0, 255]], np.uint8), ("background", *CLASSES))
ALL = Comparison(IMAGE, CLASSES, (ONE, TWO, THREE), (Failure("four", "It must be B, but got A|C."),), TRUTH)


def test_labels_go_by_their_names() -> None:
    assert ALL.labels == ("background", "cat", "dog", "grass")
    assert ALL.label_maps["two"].tolist() == [[0, 1, 1, 2], [0, 0, 2, 2]]
    assert ALL.label_maps["three"].tolist() == [[3, 1, 1, 1], [3, 3, 3, 0]]
    assert [ALL.indices(e).tolist() for e in ALL.entries] == [[0, 1, 2], [0, 2, 1], [0, 3, 1]]


def test_agreement_counts_those_that_say_the_same() -> None:
    assert ALL.votes.tolist() == [[3, 3, 3, 2], [3, 3, 2, 2]]  # grass, which nobody asked for, is background here
    assert ALL.agreement == 5 / 8
    pair = Comparison(IMAGE, CLASSES, (ONE, TWO))
    assert pair.agreement == 7 / 8
    assert pair.agreement_on_classes == 4 / 5  # three places are background for both
    nothing = entry("none", ("background", *CLASSES), [[0] * 4] * 2)
    assert math.isnan(Comparison(IMAGE, CLASSES, (nothing,)).agreement_on_classes)


def test_disagreement_and_mutual_iou_between_two() -> None:
    where = ALL.maps_of_classes["one"] != ALL.maps_of_classes["two"]
    assert where.tolist() == [[False] * 4, [False, False, True, False]]
    # background 3 of 4, cat 2 of 2, dog 2 of 3
    assert ALL.mutual_iou[0, 1] == pytest.approx((3 / 4 + 1 + 2 / 3) / 3)
    # background, with grass, which nobody asked for, 4 of 5, cat 2 of 3, dog 0 of 2
    assert ALL.mutual_iou[0, 2] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    assert np.array_equal(ALL.mutual_iou, ALL.mutual_iou.T) and np.diagonal(ALL.mutual_iou).tolist() == [1, 1, 1]
    assert Comparison(IMAGE, CLASSES).mutual_iou.shape == (0, 0)


def test_iou_against_the_truth() -> None:
    # one: background 3 of 4, cat 1 of 3, dog 1 of 2; the place of 255 does not count
    assert ALL.iou(ONE) == pytest.approx({"background": 3 / 4, "cat": 1 / 3, "dog": 1 / 2})
    assert ALL.mean_iou(ONE) == pytest.approx((3 / 4 + 1 / 3 + 1 / 2) / 3)
    # three: its grass counts as background
    assert ALL.iou(THREE) == pytest.approx({"background": 3 / 4, "cat": 1 / 4, "dog": 0})


def test_mean_iou_is_over_the_labels_of_the_truth() -> None:
    without_dogs = replace(ALL, truth=Truth(np.array([[0, 1, 1, 0], [0, 0, 0, 0]], np.uint8), TRUTH.labels))
    assert without_dogs.iou(ONE) == pytest.approx({"background": 4 / 6, "cat": 1, "dog": 0})
    assert without_dogs.mean_iou(ONE) == pytest.approx((4 / 6 + 1) / 2)
    nowhere = replace(ALL, truth=Truth(np.full((2, 4), 255, np.uint8), TRUTH.labels))
    assert math.isnan(nowhere.mean_iou(ONE))


def test_error_map_tells_four_outcomes_apart() -> None:
    assert ALL.error_map(ONE).tolist() == [[RIGHT, RIGHT, CONFUSED, RIGHT], [RIGHT, MISSED, RIGHT, 255]]
    assert ALL.error_map(TWO).tolist() == [[RIGHT, RIGHT, CONFUSED, RIGHT], [RIGHT, MISSED, CLAIMED, 255]]
    assert ALL.error_map(THREE).tolist() == [[RIGHT, RIGHT, CONFUSED, CONFUSED], [RIGHT, MISSED, RIGHT, 255]]


def test_the_values_of_an_error_map() -> None:
    # The page's colours of errors stand in this order.
    assert (RIGHT, MISSED, CLAIMED, CONFUSED) == (0, 1, 2, 3)


def test_what_needs_a_truth_says_so() -> None:
    blind = replace(ALL, truth=None)
    for ask in (blind.iou, blind.mean_iou, blind.error_map):
        with pytest.raises(ValueError, match="truth must be given first"):
            ask(ONE)
    assert "IoU" not in blind.figures().markdown() and blind.record()["entries"][0]["iou"] is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"entries": (ONE, ONE)}, "'one' is there twice"),
        ({"failures": (Failure("one", ""),)}, "'one' is there twice"),
        ({"image": np.zeros((4, 2, 3), np.uint8)}, "one must be of the picture's shape"),
        ({"truth": Truth(np.zeros((4, 2), np.uint8), TRUTH.labels)}, r"truth must have the shape \(2, 4\)"),
        ({"truth": Truth(TRUTH.label_map, ("background", "dog", "cat"))}, "classes cat, dog, but it is about dog, cat"),
        ({"classes": tuple(map(str, range(253))), "truth": None}, "At most 254 classes can be compared, but got 256"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ALL, **change)
    with pytest.raises(ValueError, match="one of one, two, three, but got 'four'"):
        ALL.entry("four")


def test_figures_as_markdown_csv_and_json() -> None:
    table = ALL.figures()
    head, _, one, two, _, four = table.markdown().splitlines()
    columns = "method | mean IoU | IoU background | IoU cat | IoU dog | seconds | passes | rows | peak MB | stages"
    assert head == f"| {columns} |"
    assert one == "| one | 52.78 | 75.00 | 33.33 | 50.00 | 0.80 | – | – | – | looking 0.25 s, scoring 0.50 s |"
    assert "| 3 | 6 | 12 |" in two and four.endswith("| – | – | – | failed: It must be B, but got A\\|C. |")
    assert table.csv().splitlines()[1].startswith("one,52.77777777")
    assert ALL.between_entries().markdown().splitlines()[2] == "| one | 100.00 | 80.56 | 48.89 |"
    record = json.loads(json.dumps(ALL.record(), allow_nan=False))
    assert record["entries"][0]["settings"] == {"draws": 1} and record["entries"][1]["iou"]["dog"] == pytest.approx(1 / 3)
    assert record["failures"] == [{"title": "four", "sentence": "It must be B, but got A|C."}]
    assert record["agreement_on_classes"] == pytest.approx(ALL.agreement_on_classes) and ALL.agreement_on_classes > 0
    assert record["agreement"] == 0.625 and record["mutual_iou"][0][1] == pytest.approx(0.8056, abs=1e-4)


def saved(path: Path, values: list, mode: str = "P") -> Path:
    picture = Image.fromarray(np.array(values, np.uint8), mode="L")
    if mode == "P":
        picture = Image.frombytes("P", picture.size, picture.tobytes())
        picture.putpalette([0] * 768)
    (picture if mode in "PL" else picture.convert(mode)).save(path)
    return path


def test_truth_is_read_in_the_order_of_the_words(tmp_path: Path) -> None:
    values, classes = [[0, 1, 2], [255, 2, 1]], parse_classes("cat|kitten, dog")
    for mode in ("P", "L"):
        truth = read_truth(saved(tmp_path / "t.png", values, mode), (2, 3), classes)
        assert truth.label_map.tolist() == values and truth.labels == ("background", "cat", "dog")
    assert read_truth(str(tmp_path / "t.png"), (2, 3), classes).label_map.tolist() == values


def test_truth_is_read_by_the_names_of_a_legend(tmp_path: Path) -> None:
    path = saved(tmp_path / "t.png", [[0, 7, 3], [255, 9, 7]])
    truth = read_truth(path, (2, 3), parse_classes("cat|kitten, dog"), {0: "background", 3: "Kitten", 7: "dog", 9: "tree"})
    assert truth.label_map.tolist() == [[0, 2, 1], [255, 0, 2]]


def test_what_segment_writes_is_a_truth(tmp_path: Path) -> None:
    RunFolder(tmp_path).write(files_of(Result(TWO.segmentation, {}), ("masks",)))
    truth = read_truth(tmp_path / "mask.png", (2, 4), parse_classes("cat, dog"), read_legend(tmp_path / "legend.json"))
    assert truth.label_map.tolist() == [[0, 1, 1, 2], [0, 0, 2, 2]]
    assert Comparison(IMAGE, CLASSES, (TWO,), truth=truth).mean_iou(TWO) == 1


@pytest.mark.parametrize(
    "values, mode, legend, message",
    [
        ([[0, 1]], "P", None, "picture's size, 3 x 2, but it is 2 x 1"),
        ([[0, 1, 1], [0, 0, 0]], "RGB", None, "its mode is RGB"),
        ([[0, 1, 5], [0, 0, 0]], "P", None, "one of 0 background, 1 cat, 2 dog or 255, but it holds 5"),
        ([[0, 1, 1], [0, 0, 0]], "P", {0: "background"}, "it holds 1"),
        ([[0, 1, 1], [0, 0, 0]], "P", {0: "background", 1: "tree"}, "name one of the classes cat, dog, but it names"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(
    tmp_path: Path, values: list, mode: str, legend: dict | None, message: str
) -> None:
    path = saved(tmp_path / "t.png", values, mode)
    if legend and "tree" not in legend.values():
        legend = {**legend, 4: "cat"}
    with pytest.raises(ValueError, match=message):
        read_truth(path, (2, 3), parse_classes("cat, dog"), legend)


def test_a_comparison_gives_what_the_methods_give(with_clip: Models, picture: np.ndarray) -> None:
    scene, classes = from_image(with_clip, picture, seed=3), parse_classes("cat, traffic light")
    methods = [DiffSegmenter(), DiffSegmenter(refinements=-1), FreeSegDiff(words="classes"), GroundedDiffusion()]
    steps = []
    result = compare(
        with_clip,
        scene,
        classes,
        [variant_of(with_clip, method) for method in methods],
        lambda stage, share: steps.append((stage, share)),
        truth=Truth(np.zeros((60, 90), np.uint8), ("background", "cat", "traffic light")),
    )
    titles = [
        "DiffSegmenter", "DiffSegmenter, refinements by self-attention -1",
        "FreeSeg-Diff, classes that may be found classes", "Grounded Diffusion",
    ]  # fmt: skip
    assert [e.title for e in result.entries] == [titles[0], *titles[2:]]
    assert result.failures == (Failure(titles[1], "draws must be 1 or more and refinements 0 or more, but got 1 and -1."),)
    assert result.seed == 3 and result.classes == ("cat", "traffic light")
    alone = methods[0].segment(with_clip, scene, classes).label_map
    assert np.array_equal(result.label_maps["DiffSegmenter"], alone)
    first = result.entries[0]
    assert first.method == "diffsegmenter" and first.settings["timesteps"] == (100,) and first.peak_bytes is None
    assert (first.passes, first.rows) == (1, 2) and result.entries[2].passes == 1
    assert first.seconds >= sum(first.segmentation.timings.values())
    assert steps[0] == ("DiffSegmenter: encoding the words", 0.0)
    shares = [share for _, share in steps]
    assert shares == sorted(shares) and 0.75 <= shares[-1] <= 1


def test_nobody_pays_for_encoding_the_picture(
    with_clip: Models, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes, latent, late, clock = parse_classes("cat, dog"), from_image(with_clip, picture).latent, [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])

    def slowly() -> torch.Tensor:
        late[0] += 10_000
        return latent

    scene, variants = Scene(picture, slowly), [Variant(title, DiffSegmenter()) for title in ("first", "second")]
    first, second = run_variants(with_clip, scene, classes, variants)
    assert late == [10_000] and 0 < first.seconds < 10_000 and 0 < second.seconds < 10_000
    assert DiffSegmenter().reads_latent and not OVDiff().reads_latent


def test_what_was_done_before_a_stop_is_kept(with_clip: Models, picture: np.ndarray) -> None:
    scene, classes, kept = from_image(with_clip, picture), parse_classes("cat"), []
    variants = [Variant("first", GroundedDiffusion()), Variant("second", GroundedDiffusion())]
    with pytest.raises(StoppedError):
        kept.extend(run_variants(with_clip, scene, classes, variants, stop_at("second", StoppedError)))
    assert [e.title for e in kept] == ["first"] and isinstance(kept[0], Entry)


def test_bad_orders_are_refused_before_any_work(with_clip: Models, picture: np.ndarray) -> None:
    scene, classes = from_image(with_clip, picture), parse_classes("cat")

    never = stop_at("", AssertionError)
    twice = [Variant("same", GroundedDiffusion())] * 2
    for variants, message in (([], "At least one method"), (twice, "'same' is there twice")):
        with pytest.raises(ValueError, match=message):
            compare(with_clip, scene, classes, variants, never)
    truth = Truth(np.zeros((2, 2), np.uint8), ("background", "cat"))
    with pytest.raises(ValueError, match="truth must have the shape"):
        compare(with_clip, scene, classes, twice[:1], never, truth=truth)
    outcome = next(run_variants(with_clip, scene, classes, twice))
    assert isinstance(outcome, Entry) and outcome.title == "same"


def panels_of(sheet: np.ndarray, height: int) -> list[np.ndarray]:
    """The pictures of the first row of a sheet whose panels are 400 pixels wide, by their places."""
    left = [MARGIN + k * (400 + GAP) for k in range((sheet.shape[1] - 2 * MARGIN + GAP) // (400 + GAP))]
    column = sheet[:, left[0] + 200]
    top = next(y for y in range(MARGIN + 30, len(column)) if (column[y : y + height] != 255).any(-1).all())
    return [sheet[top : top + height, x : x + 400] for x in left]


def test_sheet_shows_the_picture_and_every_entrys_masks() -> None:
    grey = np.full((2, 4, 3), 100, np.uint8)
    entries = tuple(replace(e, segmentation=replace(e.segmentation, image=grey)) for e in ALL.entries)
    known = replace(ALL, image=grey, entries=entries)
    sheet = comparison_sheet(known)
    panels = panels_of(sheet, 200)
    assert len(panels) == 4 and (panels[0] == 100).all()
    colours = view.palette_for(grey, 4)
    for panel, entry in zip(panels[1:], entries, strict=True):
        for y, row in enumerate(known.label_maps[entry.title]):
            for x, label in enumerate(row):
                shown = panel[100 * y + 50, 100 * x + 50].astype(float)
                assert np.allclose(shown, 100 + 0.45 * (colours[label] - 100.0) if label else 100, atol=1)
    second = sheet[:, MARGIN + 400 + GAP + 250]  # of the first entry: its third place, a dog taken for a cat
    confused = 0.85 * view.ERROR_COLOURS[CONFUSED] + 0.15 * 65
    assert (np.abs(second - confused).max(-1) < 2).sum() == 100
    hatched = panels_of(comparison_sheet(known, hatched=True), 200)
    assert np.array_equal(hatched[0], panels[0]) and not np.array_equal(hatched[1], panels[1])
    assert comparison_sheet(replace(known, truth=None)).shape[0] < sheet.shape[0]


def test_a_sheet_names_all_classes_that_were_asked_for_and_is_dark_where_fewer_agree() -> None:
    drawing = _Drawing(replace(ALL, entries=(THREE,), image=np.full((2, 4, 3), 100, np.uint8)), False)
    assert [key.name for key in drawing.class_keys()] == ["cat", "dog", "grass"]  # THREE has no dog
    assert drawing.column(THREE)[0].note == f"mean IoU {100 * ALL.mean_iou(THREE):.1f} · 0.80 s"
    doubt = _Drawing(replace(ALL, image=np.full((2, 4, 3), 100, np.uint8)), False).doubt()
    assert doubt.shape == (200, 400, 3) and (doubt[50, 50] == 193).all()  # all agree: 100 * 0.4 + 255 * 0.6
    assert (doubt[50, 350] == round(193 * 0.2 + 148 * 0.8)).all()  # one of three does not


def test_a_text_that_is_too_long_ends_with_dots() -> None:
    font, text = ImageFont.load_default(20), "a title that is far too long"
    assert shortened(text, font, round(font.getlength(text)) + 1) == text
    for width in (60, 120):
        short = shortened(text, font, width)
        assert text.startswith(short.removesuffix("…")) and short.endswith("…")
        assert font.getlength(short) <= width < font.getlength(text[: len(short) + 1] + "…")


def test_sheet_says_what_failed_and_wraps() -> None:
    panel = Panel(np.zeros((100, 400, 3), np.uint8), "a title that is far too long for one panel" * 3)
    one = typeset(Sheet([[panel]] * 5))
    assert one.shape[1] == 2 * MARGIN + 5 * 400 + 4 * GAP
    six = typeset(Sheet([[panel]] * 6))
    assert six.shape[1] == 2 * MARGIN + 3 * 400 + 2 * GAP and six.shape[0] > 2 * 100 + one.shape[0] - 100 - MARGIN
    tall = [[Panel(np.full((60, 200, 3), shade, np.uint8)) for shade in (10, 70)]]
    inside = typeset(Sheet(tall))[MARGIN:-MARGIN, MARGIN]
    assert len(inside) == 2 * 60 + GAP // 2 and (inside[:60] == 10).all() and (inside[-60:] == 70).all()
    long = [("Classes", [Key(np.full((26, 40, 3), k, np.uint8), "a name that is long") for k in range(8)])]
    lined = typeset(Sheet(tall, long))[MARGIN + len(inside) + GAP :]
    tops = [int(np.argwhere((lined == k).all(-1).sum(1) > 10)[0, 0]) for k in range(1, 8)]  # one swatch a line, 10 px apart
    assert tops == [36 * k + 1 for k in range(1, 8)] and (lined[0] < 255).any()
    keys = [("Classes", [Key(np.zeros((26, 40, 3), np.uint8), f"name {k}") for k in range(40)])]
    assert typeset(Sheet([[panel]] * 5, keys)).shape[0] > one.shape[0] + 2 * 26
    heading, forty = keys[0]
    assert typeset(Sheet([[panel]] * 5, [(heading, forty[:2])])).shape[0] == one.shape[0] + GAP + 26  # both on one line
    alone = replace(ALL, entries=ALL.entries[:1], failures=())
    assert _sentences(alone) == [] and "All 3 say the same on" in _sentences(ALL)[0]
    failed = replace(ALL, failures=(Failure("four", "It must be B. " * 40),))
    assert comparison_sheet(failed).shape[0] > comparison_sheet(replace(ALL, failures=())).shape[0] + 40


def test_numbers_of_a_table_stand_to_the_right() -> None:
    lines = Table(("method", "IoU"), (("a|b", 1.0), ("c", None)), {"IoU": 1}).markdown().splitlines()
    assert lines == ["| method | IoU |", "| --- | ---: |", "| a\\|b | 1.0 |", "| c | – |"]


def test_the_command_writes_sheet_tables_and_the_files_of_each_method(
    tmp_path: Path, network: list[str], capsys: pytest.CaptureFixture
) -> None:
    picture, truth, out = tmp_path / "p.png", tmp_path / "t.png", tmp_path / "out"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(picture)
    saved(truth, np.random.default_rng(1).integers(0, 3, (40, 60)).tolist())
    methods = "diffsegmenter, diffsegmenter:threshold=0.6:timesteps=100+300, diffsegmenter:mode=released:prompt=none"
    methods += ", grounded-diffusion"
    arguments = ["compare", str(picture), "--classes", "cat|kitten, traffic light", "--methods", methods]
    arguments += ["--set", "diffsegmenter:emphasis=1.1", "--truth", str(truth), "--out", str(out), "--seed", "2"]
    assert main([*arguments, *network]) == 0
    record = json.loads((out / "comparison.json").read_text())
    first, second = record["entries"]
    assert first["settings"]["emphasis"] == second["settings"]["emphasis"] == 1.1 and record["seed"] == 2
    assert first["title"] == "DiffSegmenter, emphasis of the class word 1.1" and second["settings"]["timesteps"] == [
        100,
        300,
    ]
    assert second["settings"]["threshold"] == 0.6 and first["settings"]["timesteps"] == [100]
    failed = {failure["title"]: failure["sentence"] for failure in record["failures"]}
    assert "must hold {} once" in failed["DiffSegmenter, released, emphasis of the class word 1.1, prompt none"]
    assert "grounding module" in failed["Grounded Diffusion"]
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert len(rows) == 4 and float(rows[0]["mean IoU"]) == pytest.approx(100 * first["mean_iou"])
    page = (out / "comparison.md").read_text()
    assert page.strip() in capsys.readouterr().out and "| mean IoU |" in page
    assert Image.open(out / "sheet.png").size[0] == 2 * MARGIN + 3 * 400 + 2 * GAP

    alone = tmp_path / "alone"
    again = ["segment", str(picture), "--classes", "cat|kitten, traffic light", "--seed", "2", "--out", str(alone)]
    assert main([*again, "--set", "emphasis=1.1", *network]) == 0
    folder = out / "1-diffsegmenter-emphasis-of-the-class-word-1-1"
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir() if path.name[0] != "."}
    assert (folder / "mask.png").read_bytes() == (alone / "mask.png").read_bytes()
    cards = [json.loads((where / "run.json").read_text()) for where in (folder, alone)]
    assert cards[0]["seed"] == cards[1]["seed"] == 2
    for card in cards:
        assert card["cost"].pop("passes") == 1 and card["cost"].pop("seconds") >= sum(card.pop("seconds").values()) - 1e-3
        card["network"] = card["network"].partition(" s; ")[2]  # without how long its checks took
    assert cards[0] == cards[1]
    failing = ["compare", str(picture), "--classes", "cat", "--methods", "diffsegmenter:prompt=none", "--out", str(out)]
    assert main([*failing, *network]) == 2 and "but all failed" in capsys.readouterr().err.splitlines()[-1]
