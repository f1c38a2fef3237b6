"""What the page does, without a browser."""

import json
import threading
from dataclasses import fields, replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from ovseg.demo import build
from ovseg.demo.canvas import best_class_map, canvas_value
from ovseg.demo.controls import LIVE, control_values, method_controls, pick_method, settings_from
from ovseg.demo.segment_tab import Shown, write_files
from ovseg.demo.work import stream
from ovseg.methods import METHODS, DiffSegmenter, modes_of
from ovseg.methods.settings import parse_value
from ovseg.models import Models
from ovseg.progress import Report
from ovseg.types import Segmentation


def small() -> Segmentation:
    scores = np.random.default_rng(0).random((3, 6, 9), dtype=np.float32)
    scores[0] = 0.5
    return Segmentation(np.zeros((6, 9, 3), np.uint8), ("background", "cat", "dog"), scores, threshold=0.5)


def test_building_the_page_loads_no_weight() -> None:
    models = Models("pocket", device="cpu")
    page = build(models)
    assert isinstance(page, gr.Blocks)
    assert "_backbone" not in vars(models)
    assert {"generate", "segment"} <= {fn.api_name for fn in page.fns.values()}


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.77, 1.0])
def test_the_browsers_rule_gives_the_label_map(threshold: float) -> None:
    result = small().with_threshold(threshold)
    best, high, low = best_class_map(result).astype(int).transpose(2, 0, 1)
    shown = np.where((high * 256 + low) / 65535 <= threshold, 0, best)
    assert np.array_equal(shown, result.label_map)


def test_a_background_with_its_own_score_is_a_label_of_the_canvas() -> None:
    result = Segmentation(np.zeros((6, 9, 3), np.uint8), ("background", "cat", "dog"), small().scores)
    assert np.array_equal(best_class_map(result)[..., 0], result.label_map)
    assert canvas_value(result, 0.6, "key")["threshold"] is None


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_controls_give_back_the_methods_settings(kind: type) -> None:
    controls = method_controls(kind, kind())
    settings = settings_from(kind, [control.value for control in controls])
    assert settings == {f.name: getattr(kind(), f.name) for f in fields(kind) if f.name not in LIVE}


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_every_mode_fills_the_controls(kind: type) -> None:
    for method in modes_of(Models("pocket"), kind).values():
        settings = settings_from(kind, control_values(method))
        live = {f.name: f.default for f in fields(kind) if f.name in LIVE}
        assert replace(kind(), **settings) == replace(method, **live)


def test_the_chosen_methods_values_are_found_among_all() -> None:
    count = len(method_controls(DiffSegmenter, DiffSegmenter()))
    kind, values = pick_method(METHODS, "diffsegmenter", list(range(count)))
    assert kind is DiffSegmenter and list(values) == list(range(count))
    with pytest.raises(ValueError, match="must be one of diffsegmenter"):
        pick_method(METHODS, "magic", [])


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (int, "3", 3), (float, "0.5", 0.5), (float, "1", 1.0), (bool, "Yes", True), (bool, "false", False),
        (str, "a {}", "a {}"), (tuple[int, ...], "50, 100", (50, 100)), (tuple[float, ...], "(0.1, 1)", (0.1, 1.0)),
        (tuple[int, ...], "", ()),
    ],
)  # fmt: skip
def test_texts_become_values(kind: object, text: str, value: object) -> None:
    assert parse_value("field", kind, text) == value


@pytest.mark.parametrize(
    "kind, text", [(int, "3.5"), (int, "x"), (float, ""), (bool, "perhaps"), (tuple[int, ...], "1, a"), (int, "True")]
)
def test_texts_that_are_no_values_are_refused(kind: object, text: str) -> None:
    with pytest.raises(ValueError, match="field must be"):
        parse_value("field", kind, text)


def test_progress_comes_as_the_work_goes() -> None:
    def work(report: Report) -> str:
        report("one", 0.0)
        report("two", 0.5)
        return "result"

    assert list(stream(work)) == [("one", 0.0, None), ("two", 0.5, None), ("done", 1.0, "result")]


def test_closing_the_stream_stops_the_work_at_its_next_report() -> None:
    go, ended, steps = threading.Event(), threading.Event(), []

    def work(report: Report) -> None:
        try:
            for step in range(100):
                report("step", step / 100)
                steps.append(step)
                go.wait(10)
        finally:
            ended.set()

    running = stream(work)
    next(running)
    running.close()
    go.set()
    assert ended.wait(10)
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


def test_files_are_made_at_the_threshold_of_the_slider(tmp_path: Path) -> None:
    shown = Shown(small(), {"method": {"threshold": 0.5}, "shares": {}})
    files = [Path(name) for name in write_files(shown, 1.0, tmp_path)]
    assert [file.name for file in files] == ["overlay.png", "mask.png", "legend.json", "run.json", "README.txt"]
    card = json.loads(files[3].read_text())
    assert card["method"]["threshold"] == 1.0 and card["shares"]["background"] == 1.0
