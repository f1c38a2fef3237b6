"""What the page does, without a browser."""

import json
import re
import threading
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ovseg.compare import Entry, Failure
from ovseg.demo import build
from ovseg.demo.board import board_picture
from ovseg.demo.board_file import BOARD_FILE, board_bytes, read_board
from ovseg.demo.compare_tab import begins
from ovseg.demo.controls import control_of, read_controls, values_of
from ovseg.demo.link import Link
from ovseg.demo.looking import best_here, place_views, results_as_files, thresholds_of
from ovseg.demo.method_panel import build_method_panel, chosen, restored
from ovseg.demo.picture import Picture, example_names, of_example, of_kept, of_origin, of_scene
from ovseg.demo.run import RunRequest, Thresholds, differing, drawn, expected_seconds, run, titled
from ovseg.demo.static_files import static
from ovseg.demo.word_panel import chips_value
from ovseg.demo.work import sent_once, stream, stream_parts
from ovseg.methods import METHODS, DiffSegmenter, FreeSegDiff, Method, at_first, modes_of, obstacle_to, suited_to
from ovseg.methods.grammar import Configuration, read_method
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.ovdiff.store import store_of
from ovseg.models import Models
from ovseg.pocket.world import LABELS, scene
from ovseg.progress import Relay, Report, silent
from ovseg.server.durations import Durations, in_words
from ovseg.types import Segmentation
from ovseg.words.classes import parse_classes
from ovseg.words.notes import known_words
from tests.board_page import values
from tests.networks import run_of, with_traits


def test_building_the_page_loads_no_weight() -> None:
    models = Models("pocket", device="cpu")
    page = build(models)
    assert isinstance(page, gr.Blocks)
    assert "_backbone" not in vars(models)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_controls_give_back_the_methods_settings(kind: type) -> None:
    controls = {field.name: control_of(kind, field) for field in fields(kind)}
    for method in modes_of(Models("pocket"), kind).values():
        values = values_of(method)
        assert read_controls(kind, values) == {name: getattr(method, name) for name in controls} and [*values] == [*controls]
        for name, value in values.items():
            assert fits(controls[name], value), (name, value)


def fits(control: dict, value: object) -> bool:
    """Whether a control can show a value."""
    if control["kind"] == "number":
        return control["low"] <= value <= control["high"]
    return [value, value] in control.get("choices", [[value, value]]) and isinstance(value, bool) == (
        control["kind"] == "switch"
    )


def test_an_empty_control_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="threshold must have a value, but it is empty"):
        read_controls(DiffSegmenter, {"threshold": None})


def test_a_link_holds_everything_that_was_chosen() -> None:
    models = Models("pocket")
    changed = suited_to(models, DiffSegmenter, {"timesteps": (50, 300), "last_token": True})
    methods = (Configuration.of(models, changed), Configuration(OVDiff))
    link = Link("scene-12", "cat|kitten, traffic light & sky", 7, methods)
    assert Link.of_query(link.query()) == link and link.methods[0].build(models) == changed
    assert "run=diffsegmenter:timesteps=50%2B300:last_token=true&run=ovdiff" in link.query()
    assert Link.of_query("") == Link() and not Link.is_in({"__theme": "dark"}) and Link.is_in({"run": "ovdiff"})


def test_a_link_of_before_still_opens() -> None:
    query = "run=diffsegmenter%3Btimesteps%3D50%2C+300%3Bprompt%3Da+photo%3A+%7B%7D%2C+6%22&run=ovdiff%3Bclip%3D"
    changed = Configuration(DiffSegmenter, settings={"timesteps": (50, 300), "prompt": 'a photo: {}, 6"'})
    assert Link.of_query(query) == Link(methods=(changed, Configuration(OVDiff, settings={"clip": ""})))


@pytest.mark.parametrize(
    "query, sentence",
    [
        ("run=magic", "method must be one of"),
        ("run=ovdiff;magic=3", "setting of OVDiff must be one of"),
        ("run=ovdiff;images=many", "images must be a whole number"),
        ('run=ovdiff:prompt="a', "Quotation marks must come in pairs"),
        ("seed=-3", "seed of a link must be a whole number"),
        ("&".join(["run=ovdiff"] * 13), "methods of a link must be 12 at most, but got 13"),
        ("words=" + "a" * 9000, "8000 characters at most"),
    ],
)
def test_a_wrong_link_is_one_sentence(query: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Link.of_query(query)


def test_a_second_run_of_a_method_becomes_a_variant() -> None:
    models = Models("pocket")
    value = restored(models, list(map(read_method, ("diffsegmenter", "diffsegmenter:threshold=0.7", "ovdiff"))))
    assert value["used"] == ["diffsegmenter", "ovdiff"] and len(value["variants"]) == 1
    methods = chosen(models, json.loads(json.dumps(value)))
    # The variant stands behind its method, to be seen beside it.
    assert [variant.method.name for variant in methods] == ["diffsegmenter", "diffsegmenter", "ovdiff"]
    assert methods[1].method.threshold == 0.7 and methods[0].method == suited_to(models, DiffSegmenter)
    value["variants"][0]["used"] = False
    assert chosen(models, value) == methods[::2]
    with pytest.raises(ValueError, match="At least one method must be ticked"):
        chosen(models, value | {"used": []})
    with pytest.raises(ValueError, match="must differ from the others in a setting, but OVDiff is there twice"):
        differing((methods[2], methods[2]))


@pytest.mark.parametrize(
    "wrong", [None, 5, [], {}, {"used": 3}, {"variants": [1]}, {"settings": {}}, {"settings": {"ovdiff": {"values": [1]}}}]
)
def test_what_is_no_panels_value_is_one_sentence(wrong: object) -> None:
    models = Models("pocket")
    value = {**restored(models, [read_method("ovdiff")]), **wrong} if wrong and isinstance(wrong, dict) else wrong
    with pytest.raises(ValueError, match="must be those of the page's own lines"):
        chosen(models, value)


def test_a_first_run_with_settings_fills_the_controls() -> None:
    models = Models("pocket")
    value = restored(models, [read_method("diffsegmenter:mode=released:threshold=0.7")])
    assert value["settings"]["diffsegmenter"]["mode"] == "released"
    (variant,) = chosen(models, value)
    assert variant.method == read_method("diffsegmenter:mode=released:threshold=0.7").build(models)


class VariantButton:
    """What pressing "Add these settings as a variant" does to a method's controls, which `values` has by their fields."""

    def __init__(self, models: Models, kind: type[Method]) -> None:
        with gr.Blocks() as page:
            build_method_panel(models)
        (self.pressed,) = [fn for fn in page.fns.values() if fn.targets[0][1] == "variant"]
        self.models, self.name, self.value, self.before = models, kind.name, restored(models, [Configuration(kind)]), None

    @property
    def values(self) -> dict[str, object]:
        return self.value["settings"][self.name]["values"]

    def open(self) -> None:
        self.before = deepcopy(self.value["settings"][self.name])

    def press(self) -> None:
        self.value = self.pressed.fn(self.value, gr.EventData(None, {"method": self.name, "before": self.before}))

    def methods(self) -> dict[str, Method]:
        """What Run would take, by their titles; it refuses two that are the same."""
        return {variant.title: variant.method for variant in differing(chosen(self.models, self.value))}


def test_adding_a_variant_leaves_the_method_as_it_was() -> None:
    models = Models("pocket")
    page = VariantButton(models, DiffSegmenter)
    page.open()
    page.values.update({"threshold": 0.7, "timesteps": "50, 300"})
    page.press()
    assert page.methods() == {
        "DiffSegmenter": suited_to(models, DiffSegmenter),
        "DiffSegmenter, background threshold 0.7, noise levels 50+300": suited_to(
            models, DiffSegmenter, {"threshold": 0.7, "timesteps": (50, 300)}
        ),
    }
    page.values["draws"] = 2
    page.open()  # the method itself has now two draws
    page.values["threshold"] = 0.3
    page.press()
    assert page.values["draws"] == 2 and page.values["threshold"] == suited_to(models, DiffSegmenter).threshold
    assert list(page.methods()) == [
        "DiffSegmenter, noise samples 2", "DiffSegmenter, background threshold 0.7, noise levels 50+300",
        "DiffSegmenter, background threshold 0.3, noise samples 2",
    ]  # fmt: skip


def test_a_variant_of_settings_that_the_method_has_takes_them_along() -> None:
    models = Models("pocket")
    page = VariantButton(models, DiffSegmenter)
    page.values["draws"] = 2
    page.open()
    page.press()
    assert page.methods()["DiffSegmenter"] == suited_to(models, DiffSegmenter)
    assert list(page.methods()) == ["DiffSegmenter", "DiffSegmenter, noise samples 2"]
    with pytest.raises(gr.Error, match="A variant must differ from DiffSegmenter in a setting, but nothing is changed"):
        page.press()


def test_a_quick_comparison_begins_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    models, durations = Models("pocket"), Durations()
    one, two = (
        restored(models, [*map(read_method, names)]) for names in (["diffsegmenter"], ["diffsegmenter", "freeseg-diff"])
    )
    assert not begins(models, "cat", one, durations)  # how long it takes is not known yet
    durations.learn("diffsegmenter", 3.0)
    durations.learn("freeseg-diff", 8.0)
    assert begins(models, "cat", one, durations) and not begins(models, "cat", two, durations)
    assert not begins(models, "", one, durations) and not begins(models, "cat", one | {"used": []}, durations)
    monkeypatch.setattr(DiffSegmenter, "undrawn", lambda method, models, phrases: phrases)
    assert not begins(models, "cat", one, durations)
    monkeypatch.undo()
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    assert not begins(models, "cat", one, durations)


def test_a_scenes_truth_follows_the_words_and_their_synonyms() -> None:
    index = next(k for k in range(100) if "cat" in scene("val", k, 64).things)
    picture, plain = of_scene(index), scene("val", index, 512)
    assert picture.image.shape == (512, 512, 3) and picture.scene == index and "cat" in picture.words
    truth = picture.truth_of(parse_classes("zebra, feline|kitten"))
    assert np.array_equal(truth.label_map == 2, plain.labels == LABELS.index("cat")) and not (truth.label_map == 1).any()
    assert np.array_equal(of_origin(f"scene-{index}").image, picture.image)


def test_examples_have_words_and_can_be_linked() -> None:
    for name in example_names():
        picture = of_example(name)
        assert picture.words and np.array_equal(of_origin(picture.origin).image, picture.image)
        if picture.truth_file:
            assert picture.truth_of(parse_classes(picture.words)).label_map.max() > 0


@pytest.mark.parametrize(
    "origin, sentence",
    [
        ("scene--1", "picture of a link must be"), ("scene-9999999999", "picture of a link must be"),
        ("example-../../secret", "example must be one of"), ("file-/etc/passwd", "picture of a link must be"),
        ("x", "picture of a link must be"),
    ],
)  # fmt: skip
def test_other_origins_are_refused(origin: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        of_origin(origin)


def test_an_uploaded_truth_must_fit(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    Image.fromarray(np.array([[0, 1, 2]] * 4, np.uint8)).save(tmp_path / "small.png")
    picture = Picture(image, truth_file=tmp_path / "small.png")
    with pytest.raises(ValueError, match="must have the picture's size, 6 x 4"):
        picture.truth_of(parse_classes("cat, dog"))


def test_methods_end_one_after_the_other_and_a_failure_stays_alone(with_clip: Models, picture: np.ndarray) -> None:
    methods = (DiffSegmenter(refinements=0, prompt="none"), FreeSegDiff(words="classes", query_stride=4, refinement="none"))
    request = RunRequest(Picture(picture), "cat, dog", "a cat", "", titled(with_clip, methods), 3)
    durations, parts = Durations(), []
    results = run(with_clip, request, durations, silent, parts.append)
    assert [len(part.waiting) for part in parts] == [2, 1, 0] and parts[-1] is results
    (failure,), (entry,) = results.comparison.failures, results.comparison.entries
    assert isinstance(failure, Failure) and "The prompt must hold {} once" in failure.sentence
    assert isinstance(entry, Entry) and entry.segmentation.labels == ("background", "cat", "dog")
    assert [card["seed"] for card in results.cards.values()] == [3]
    assert durations.expected("freeseg-diff") == pytest.approx(entry.seconds) and durations.expected("diffsegmenter") is None
    assert [drawn["state"] for drawn in results.drawn] == ["failed", "done"]


@pytest.mark.parametrize(
    "words, caption, names", [("", "a cat and a dog", ["cat", "dog"]), ("sky|clouds,  cat", "", ["sky", "cat"])]
)
def test_typed_words_are_taken_and_a_caption_gives_the_others(
    with_clip: Models, picture: np.ndarray, words: str, caption: str, names: list[str]
) -> None:
    results = run_of(with_clip, [DiffSegmenter(refinements=0)], Picture(picture), words, caption)
    assert [word.name for word in results.classes] == names and results.caption == caption
    assert results.comparison.classes == tuple(names)


def test_files_are_made_at_the_threshold_of_the_board(with_clip: Models, picture: np.ndarray) -> None:
    results = run_of(with_clip, [DiffSegmenter(refinements=0)], Picture(picture))
    for threshold, empty in ((None, False), (1.0, True)):
        (made,) = results_as_files(Thresholds(threshold).on(results.comparison)).values()
        assert bool((made.segmentation.label_map == 0).all()) == empty
        assert made.card["method"]["threshold"] == (0.5 if threshold is None else 1.0)
        assert (made.card["shares"]["background"] == 1.0) == empty
    (plain,) = results.comparison.entries
    moved = results.at(thresholds_of(0.4, {"dog": 0.25, "gone": 0.5}))
    (made,) = results_as_files(moved.comparison).values()
    expected = plain.segmentation.with_threshold(0.4).with_class_thresholds({"dog": 0.65})
    assert np.array_equal(made.segmentation.label_map, expected.label_map) and not (expected.label_map == 2).all()
    assert not np.array_equal(expected.label_map, plain.segmentation.with_threshold(0.4).label_map)
    assert made.card["class_thresholds"] == {"dog": 0.65} and made.card["shares"] == expected.shares
    assert moved.drawn != results.drawn and results.at(Thresholds()).drawn == results.drawn
    for common, offsets in ((2, {}), ("0.5", {}), (None, {"dog": 7}), (None, {"dog": None}), (None, [1]), (None, None)):
        with pytest.raises(ValueError, match="threshold"):
            thresholds_of(common, offsets)


def test_the_first_drawing_of_ovdiff_is_in_its_time(with_clip: Models, tmp_path: Path) -> None:
    models = with_traits(with_clip)
    models.prototype_folders = (tmp_path, None)
    method, classes = OVDiff(extractors=("diffusion",), images=2, steps=1), parse_classes("cat, dog")
    (drawing, other), durations = titled(models, [method, DiffSegmenter()]), Durations()
    durations.learn("ovdiff", 1.0, 5)
    durations.learn("diffsegmenter", 3.0, 2)
    one = expected_seconds(models, drawing, classes[:1], durations)
    assert one > 1.0 and expected_seconds(models, other, classes, durations) == 3.0
    made_by = method.made_by(models, "diffusion")
    for word in ("cat", "dog"):
        (tmp_path / store_of(models)._name(word, "diffusion", made_by)).touch()
    assert expected_seconds(models, drawing, classes, durations) == 1.0


def test_a_place_is_read_with_x_to_the_right_and_y_down() -> None:
    scores = np.zeros((3, 4, 8), np.float32)
    scores[1, 3, 1], scores[2, 1, 3] = 0.9, 0.8
    made = Segmentation(np.zeros((4, 8, 3), np.uint8), ("background", "cat", "dog"), scores)
    assert best_here(Entry("M", made, 1.0), x=1.5 / 8, y=3.5 / 4).startswith("cat 0.90")
    assert best_here(Entry("M", made, 1.0), x=3.5 / 8, y=1.5 / 4).startswith("dog 0.80")
    assert best_here(Entry("M", made, 1.0), x=1.0, y=1.0)
    assert place_views.__doc__


def test_the_chips_know_what_the_backbone_knows() -> None:
    assert {"cat", "kitten", "sky"} <= set(known_words(Models("pocket").checkpoint)) and "zebra" not in known_words(
        Models("pocket").checkpoint
    )
    assert known_words(Models("sd15").checkpoint) is None
    value = chips_value(Models("pocket"), ())
    assert value["unknown"] == "the pocket world does not know" and len(set(value["colours"][:8])) == 8


def test_a_photograph_on_a_small_network_is_warned_of() -> None:
    pocket, picture = Models("pocket"), of_scene(3)
    pictures = (picture, replace(picture, origin=""), replace(picture, origin="", caption="a drawn cat"))
    made = [run_of(pocket, [suited_to(pocket, DiffSegmenter)], own, "cat") for own in pictures]
    notes = [drawn(results, "a")["note"] for results in made]
    assert notes[0] == notes[2] == "" and "masks on photographs mean little" in notes[1]


def test_durations_are_learned() -> None:
    durations = Durations()
    assert in_words(durations.expected("a")) == ""
    durations.learn("a", 10.0, 2)
    assert durations.expected("a") == durations.expected("a", 2) == 10.0
    # A second run counts alone, as the first one loaded weights; rows add to what a run takes at least.
    for seconds, rows in ((2.0, 2), (4.0, 6)):
        durations.learn("a", seconds, rows)
        assert durations.expected("a") == seconds and durations.expected("a", 10) == 6.0
    # One run that waited for others is an outlier.
    durations.learn("a", 90.0, 6)
    assert durations.expected("a") == 4.0
    assert [in_words(seconds) for seconds in (0.31, 12.4, 200)] == ["0.3 s", "12 s", "3 min"]


def test_progress_comes_as_the_work_goes() -> None:
    read = threading.Semaphore(0)

    def work(report: Report) -> str:
        for number, stage in enumerate(("one", "two")):
            report(stage, number / 2)
            read.acquire(timeout=10)
        return "result"

    events = []
    for event in stream(work):
        events.append(event)
        read.release()
    assert events == [("one", 0.0, None), ("two", 0.5, None), ("done", 1.0, "result")]


def test_four_reports_a_second_leave_however_many_there_are() -> None:
    now, shown = [0.0], []

    def work(report: Report, publish: object) -> str:
        for number in range(4000):  # in ten seconds
            now[0] = number / 400
            report(f"step {number}", number / 4000)
            if number == 2000:
                publish("part")
        return "all"

    for stage, share, part in stream_parts(work, lambda: now[0]):
        shown.append((now[0], stage.partition(",")[0], share, part))
    reports = [stage for _, stage, _, part in shown if part is None]
    assert reports[0].startswith("step ") and len(reports) <= 4 * 10 + 1
    assert [event[1:] for event in shown if event[3]] == [("step 2000", 0.5, "part"), ("done", 1.0, "all")]


def test_a_report_that_had_to_wait_is_shown_unless_a_newer_one_came() -> None:
    now, relay = [0.0], Relay(lambda: now[0])
    events = relay.events()
    relay.report("first", 0.0)
    assert next(events) == ("first", 0.0, None)
    now[0] = 0.1
    for number in range(3):
        relay.report(f"too soon {number}", 0.1 * number)
    relay.publish("part")
    assert next(events) == ("too soon 2", 0.2, "part")
    now[0] = 0.26
    assert next(events) == ("too soon 2", 0.2, None)
    relay.report("unread", 0.9)
    relay.end()
    assert list(events) == []


def test_parts_are_handed_on_at_once() -> None:
    def work(report: Report, publish: object) -> str:
        report("one", 0.25)
        publish("part")
        return "all"

    assert list(stream_parts(work)) == [("one", 0.25, None), ("one", 0.25, "part"), ("done", 1.0, "all")]


def test_the_last_values_of_an_event_are_sent_once() -> None:
    closed = []

    @sent_once
    def handler(count: int) -> Iterator[tuple[int, str]]:
        try:
            for number in range(count):
                yield number, "value"
        finally:
            closed.append(count)

    assert list(handler(2)) == [(0, "value"), (1, "value"), (gr.skip(), gr.skip())]
    running = handler(3)
    next(running)
    running.close()
    assert closed == [2, 3]


def test_closing_the_stream_stops_the_work_at_its_next_report() -> None:
    go, ended, steps = threading.Event(), threading.Event(), []

    def work(report: Report) -> None:
        try:
            for step in range(100):
                report("step", step / 100)
                steps.append(step)
                go.wait(60)
        finally:
            ended.set()

    running = stream(work)
    next(running)
    running.close()
    go.set()
    assert ended.wait(60)
    assert len(steps) <= 2


def test_errors_of_visitors_and_of_programs_are_told_apart() -> None:
    def bad_input(report: Report) -> None:
        raise ValueError("The picture must be one, but is none.")

    def bug(report: Report) -> None:
        raise RuntimeError("broken")

    with pytest.raises(gr.Error, match="must be one, but is none"):
        list(stream(bad_input))
    with pytest.raises(RuntimeError, match="broken"):
        list(stream(bug))


def test_the_page_ticks_what_can_run_at_once(with_clip: Models) -> None:
    models = Models(with_clip.name, device="cpu")
    can_run = tuple(kind for kind in METHODS if kind.listed_first and not obstacle_to(models, kind))
    assert any(not kind.listed_first and not obstacle_to(models, kind) for kind in METHODS)  # and stays unticked
    assert OVDiff in can_run
    assert at_first(models) == tuple(kind for kind in can_run if not kind.draws_first) != can_run
    models.checkpoint = replace(models.checkpoint, prototypes="shipped")
    assert at_first(models) == can_run


def test_the_tour_stops_at_parts_of_look_inside_that_are_there() -> None:
    stops = re.findall(r"\[INSIDE, \"#inside \.([\w-]+)\"", static("tour.js"))
    classes = {name for names in re.findall(r'class="([^"]+)"', static("inside.html")) for name in names.split()}
    assert len(stops) == 4 and set(stops) <= classes


@pytest.mark.parametrize(
    "kept", ["", "[]", "{}", '{"picture": 3, "truth": null}', '{"picture": "data:,AAAA", "truth": null}']
)
def test_a_kept_picture_that_is_none_is_one_sentence(kept: str) -> None:
    with pytest.raises(ValueError, match="that your browser kept"):
        of_kept(kept)


def test_a_kept_picture_comes_back_with_its_truth() -> None:
    picture, truth = of_scene(12).image[:96], np.eye(96, 512, dtype=np.uint8)
    kept = board_picture(picture, ("background", "cat"), truth)
    back = of_kept(json.dumps({"picture": kept["url"], "truth": kept["truth"]}))
    assert np.array_equal(back.image, picture) and not back.origin
    assert np.array_equal(back.truth_of(parse_classes("cat")).label_map, truth)


def kept(folder: Path, content: bytes, name: str = BOARD_FILE) -> Path:
    path = folder / "ovseg.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def value() -> dict[str, Any]:
    return values(48, 64)["finished"]


def test_it_is_the_same_board_but_a_run_of_its_own(tmp_path: Path, value: dict[str, Any]) -> None:
    opened = read_board(kept(tmp_path, board_bytes(value)))
    assert opened["run"] != value["run"] and opened | {"run": value["run"]} == json.loads(json.dumps(value))


def test_what_is_no_board_is_one_sentence(tmp_path: Path, value: dict[str, Any]) -> None:
    changes = {
        "of another kind": {"width": "64"}, "a picture of the board": {"picture": "data:image/png;base64,aGk="},
        "one of its pictures is none": {"truth": "data:text/html,<script>"}, "one of its texts has": {"hues": ["x" * 9999]},
        "one of its numbers is nan": {"lines": [float("nan")]}, "other fields": {"more": 1},
        "one of its maps is none": {"entries": [value["entries"][0] | {"best": value["entries"][0]["best"][:-30]}]},
        "its picture has more than": {"width": 10**9}, "of its entries": {"entries": ["a"]},
    }  # fmt: skip
    for said, change in changes.items():
        with pytest.raises(ValueError, match=said):
            read_board(kept(tmp_path, board_bytes(value | change)))
    with pytest.raises(ValueError, match="one of its pictures is none"):  # a map is none
        read_board(kept(tmp_path, board_bytes(value | {"picture": value["entries"][0]["best"]})))
    plain = tmp_path / "plain.zip"
    plain.write_bytes(np.random.default_rng(0).bytes(500))
    for path in (plain, kept(tmp_path, b"{"), kept(tmp_path, b"x", "other.json")):
        with pytest.raises(ValueError, match="must be a zip that this page made, with a board in it, but it cannot be read"):
            read_board(path)
