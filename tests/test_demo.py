"""What the page does, without a browser."""

import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ovseg.compare import Entry, Failure
from ovseg.demo import build
from ovseg.demo.controls import build_control, fields_of, read_controls, shown
from ovseg.demo.link import Link
from ovseg.demo.looking import best_here, place_views, results_as_files
from ovseg.demo.method_panel import at_first, build_method_panel, restored
from ovseg.demo.picture import Picture, example_names, of_example, of_origin, of_scene
from ovseg.demo.run import RunRequest, expected_seconds, run, titled
from ovseg.demo.word_panel import chips_value, known_words
from ovseg.demo.work import sent_once, stream, stream_parts
from ovseg.methods import METHODS, DiffSegmenter, FreeSegDiff, Method, modes_of, obstacle_to, suited_to
from ovseg.methods.grammar import Configuration, read_method
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.ovdiff.store import store_of
from ovseg.models import Models
from ovseg.pocket.world import LABELS, scene
from ovseg.progress import Relay, Report, silent
from ovseg.server.durations import Durations, in_words
from ovseg.types import Segmentation
from ovseg.words.classes import parse_classes


def test_building_the_page_loads_no_weight() -> None:
    models = Models("pocket", device="cpu")
    page = build(models)
    assert isinstance(page, gr.Blocks)
    assert "_backbone" not in vars(models)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_controls_give_back_the_methods_settings(kind: type) -> None:
    groups = fields_of(kind, True) + fields_of(kind, False)
    assert {field.name for field in groups} == {field.name for field in fields(kind)}
    for method in modes_of(Models("pocket"), kind).values():
        values = [build_control(kind, field, getattr(method, field.name)).value for field in groups]
        names = [field.name for field in groups]
        assert read_controls(kind, names, values) == {name: getattr(method, name) for name in names}
        assert values == [shown(getattr(method, name)) for name in names]


def test_an_empty_control_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="threshold must have a value, but it is empty"):
        read_controls(DiffSegmenter, ["threshold"], [None])


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
        ("run=ovdiff:images=many", "images must be a whole number"),
        ("run=ovdiff:images", "must be FIELD=VALUE, but got 'images'"),
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
    with gr.Blocks():
        panel = build_method_panel(models)
    values = restored(models, panel, list(map(read_method, ("diffsegmenter", "diffsegmenter:threshold=0.7", "ovdiff"))))
    assert values[:4] == [True, True, False, False]
    values[4] = values[4].value
    methods = panel.chosen(models, values)
    assert [method.name for method in methods] == ["diffsegmenter", "ovdiff", "diffsegmenter"]
    assert methods[2].threshold == 0.7 and methods[0] == suited_to(models, DiffSegmenter)
    with pytest.raises(ValueError, match="At least one method must be ticked"):
        panel.chosen(models, [False] * 4 + [[], {}] + values[6:])
    with pytest.raises(ValueError, match="must differ from the others in a setting, but OVDiff is there twice"):
        titled(models, (methods[1], methods[1]))


def test_a_first_run_with_settings_fills_the_controls() -> None:
    models = Models("pocket")
    with gr.Blocks():
        panel = build_method_panel(models)
    values = restored(models, panel, [read_method("diffsegmenter:threshold=0.7")])
    values[4] = values[4].value
    (method,) = panel.chosen(models, values)
    assert method == suited_to(models, DiffSegmenter, {"threshold": 0.7})


class VariantButton:
    """What pressing "Add these settings as a variant" does to a method's controls, which `controls` has by their fields."""

    def __init__(self, models: Models, kind: type[Method]) -> None:
        with gr.Blocks() as page:
            self.panel = build_method_panel(models)
        self.models, (self.row,) = models, [row for row in self.panel.rows if row.kind is kind]
        (self.pressed,) = [fn for fn in page.fns.values() if (self.row.add._id, "click") in fn.targets]
        opened = [fn for fn in page.fns.values() if fn.outputs == [self.row.before]]
        assert [page.blocks[fn.targets[0][0]].elem_id for fn in opened] == [f"open-{kind.name}"]
        self.opened = opened[0]
        self.kept, self.ticked, self.before, self.mode = {}, [], None, self.row.mode.value
        self.controls = {name: control.value for name, control in zip(self.row.names, self.row.controls, strict=True)}

    def open(self) -> None:
        self.before = self.opened.fn(self.mode, *self.controls.values())

    def press(self) -> None:
        given = [self.ticked, self.kept, self.before, *self.controls.values()]
        variants, self.kept, self.before, self.mode, *values = self.pressed.fn(*given)
        self.ticked, self.controls = variants.value, dict(zip(self.controls, values, strict=True))

    def methods(self) -> dict[str, Method]:
        """What Run would take, by their titles; it refuses two that are the same."""
        values = restored(self.models, self.panel, [Configuration(self.row.kind)])
        own = [control for row in self.panel.rows for control in row.controls].index(self.row.controls[0])
        begin = len(self.panel.rows) + 2
        values[begin - 2 : begin] = self.ticked, self.kept
        values[begin + own : begin + own + len(self.controls)] = self.controls.values()
        return {variant.title: variant.method for variant in titled(self.models, self.panel.chosen(self.models, values))}


def test_adding_a_variant_leaves_the_method_as_it_was() -> None:
    models = Models("pocket")
    page = VariantButton(models, DiffSegmenter)
    page.open()
    page.controls |= {"threshold": 0.7, "timesteps": "50, 300"}
    page.press()
    assert page.methods() == {
        "DiffSegmenter": suited_to(models, DiffSegmenter),
        "DiffSegmenter, background threshold 0.7, noise levels 50+300": suited_to(
            models, DiffSegmenter, {"threshold": 0.7, "timesteps": (50, 300)}
        ),
    }
    page.controls["draws"] = 2
    page.open()  # the method itself has now two draws
    page.controls["threshold"], page.mode = 0.3, "released"
    page.press()
    assert (
        page.mode == "suited"
        and page.controls["draws"] == 2
        and page.controls["threshold"] == suited_to(models, DiffSegmenter).threshold
    )
    assert list(page.methods()) == [
        "DiffSegmenter, noise samples 2", "DiffSegmenter, background threshold 0.7, noise levels 50+300",
        "DiffSegmenter, background threshold 0.3, noise samples 2",
    ]  # fmt: skip


def test_a_variant_of_settings_that_the_method_has_takes_them_along() -> None:
    models = Models("pocket")
    page = VariantButton(models, DiffSegmenter)
    page.controls["draws"] = 2
    page.open()
    page.press()
    assert page.methods()["DiffSegmenter"] == suited_to(models, DiffSegmenter) and page.mode == "suited"
    assert list(page.methods()) == ["DiffSegmenter", "DiffSegmenter, noise samples 2"]
    with pytest.raises(gr.Error, match="A variant must differ from DiffSegmenter in a setting, but nothing is changed"):
        page.press()


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


def test_methods_end_one_after_the_other_and_a_failure_stays_alone(with_clip: Models) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    methods = (DiffSegmenter(refinements=0, prompt="none"), FreeSegDiff(words="classes", query_stride=4, refinement="none"))
    request, durations, parts = RunRequest(Picture(image), "cat, dog", "a cat", "", methods, 3), Durations(), []
    results = run(with_clip, request, durations, silent, parts.append)
    assert [len(part.waiting) for part in parts] == [2, 1, 0] and parts[-1] is results
    (failure,), (entry,) = results.comparison.failures, results.comparison.entries
    assert isinstance(failure, Failure) and "The prompt must hold {} once" in failure.sentence
    assert isinstance(entry, Entry) and entry.segmentation.labels == ("background", "cat", "dog")
    assert [card["seed"] for _, card in results.cards] == [3]
    assert durations.expected("freeseg-diff") == entry.seconds and durations.expected("diffsegmenter") is None
    assert [drawn["state"] for drawn in results.drawn] == ["failed", "done"]


@pytest.mark.parametrize(
    "words, caption, names", [("", "a cat and a dog", ["cat", "dog"]), ("sky|clouds,  cat", "", ["sky", "cat"])]
)
def test_typed_words_are_taken_and_a_caption_gives_the_others(
    with_clip: Models, words: str, caption: str, names: list[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    request = RunRequest(Picture(image), words, caption, "", (DiffSegmenter(refinements=0),), 0)
    results = run(with_clip, request, Durations(), silent, lambda part: None)
    assert [word.name for word in results.classes] == names and results.caption == caption
    assert results.comparison.classes == tuple(names)


def test_files_are_made_at_the_threshold_of_the_board(with_clip: Models) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    request = RunRequest(Picture(image), "cat, dog", "", "", (DiffSegmenter(refinements=0),), 0)
    results = run(with_clip, request, Durations(), silent, lambda part: None)
    for threshold, empty in ((None, False), (1.0, True)):
        (made,) = results_as_files(results, threshold).values()
        assert bool((made.segmentation.label_map == 0).all()) == empty
        assert made.card["method"]["threshold"] == (0.5 if threshold is None else 1.0)
        assert (made.card["shares"]["background"] == 1.0) == empty


def test_the_first_drawing_of_ovdiff_is_in_its_time(with_clip: Models, tmp_path: Path) -> None:
    models = Models(with_clip.name, "cpu")
    models.checkpoint, models.prototype_folders = with_clip.checkpoint, (tmp_path, None)
    method, classes = OVDiff(extractors=("diffusion",), images=2, steps=1), parse_classes("cat, dog")
    durations = Durations()
    durations.learn("ovdiff", 1.0)
    durations.learn("diffsegmenter", 3.0)
    one = expected_seconds(models, method, classes[:1], durations)
    assert one > 1.0 and expected_seconds(models, DiffSegmenter(), classes, durations) == 3.0
    made_by = method.made_by(models, "diffusion")
    for word in ("cat", "dog"):
        (tmp_path / store_of(models)._name(word, "diffusion", made_by)).touch()
    assert expected_seconds(models, method, classes, durations) == 1.0


def test_a_place_is_read_with_x_to_the_right_and_y_down() -> None:
    scores = np.zeros((3, 4, 8), np.float32)
    scores[1, 3, 1], scores[2, 1, 3] = 0.9, 0.8
    made = Segmentation(np.zeros((4, 8, 3), np.uint8), ("background", "cat", "dog"), scores)
    assert best_here(Entry("M", made, 1.0), x=1.5 / 8, y=3.5 / 4).startswith("cat 0.90")
    assert best_here(Entry("M", made, 1.0), x=3.5 / 8, y=1.5 / 4).startswith("dog 0.80")
    assert best_here(Entry("M", made, 1.0), x=1.0, y=1.0)
    assert place_views.__doc__


def test_the_chips_know_what_the_backbone_knows() -> None:
    assert {"cat", "kitten", "sky"} <= set(known_words(Models("pocket"))) and "zebra" not in known_words(Models("pocket"))
    assert known_words(Models("sd15")) is None
    value = chips_value(Models("pocket"), ())
    assert value["unknown"] == "the pocket world does not know" and len(set(value["colours"][:8])) == 8


def test_durations_are_learned() -> None:
    durations = Durations()
    assert in_words(durations.expected("a")) == ""
    durations.learn("a", 10.0)
    durations.learn("a", 20.0)
    assert durations.expected("a") == pytest.approx(13.0)
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
    can_run = tuple(kind for kind in METHODS if not obstacle_to(models, kind))
    assert OVDiff in can_run
    assert at_first(models) == tuple(kind for kind in can_run if not kind.draws_first) != can_run
    models.checkpoint = replace(models.checkpoint, has_prototypes=True)
    assert at_first(models) == can_run
