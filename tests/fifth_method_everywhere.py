"""What a method must find without a word about it: page, command line, doors, About, Results, doctor. `test_fifth_method`
runs these tests in a process in which the documented method is the last of the methods."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.__main__ import main
from ovseg.demo.about_tab import about_html
from ovseg.demo.build import build
from ovseg.demo.doors import Doors
from ovseg.demo.link import Link
from ovseg.demo.method_panel import at_first
from ovseg.demo.picture import Picture
from ovseg.demo.results_tab import results_html
from ovseg.demo.run import RunRequest, run, titled
from ovseg.doctor.checks import check_methods
from ovseg.doors import inputs
from ovseg.doors.requests import About, CompareRequest, SegmentRequest
from ovseg.evaluation.protocols import PROTOCOLS
from ovseg.evaluation.results import RUNS
from ovseg.evaluation.sizes import Size, measure_size
from ovseg.methods import METHODS, Method, find_method, suited_to
from ovseg.methods.grammar import Configuration
from ovseg.models import Models
from ovseg.progress import silent
from ovseg.server.durations import Durations
from ovseg.server.request_cost import check_work
from ovseg.words.classes import parse_classes

FIFTH = METHODS[-1]


@pytest.fixture
def file(picture: np.ndarray, tmp_path: Path) -> Path:
    Image.fromarray(picture).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_it_is_the_fifth() -> None:
    assert FIFTH.name == "raw-attention" and find_method(FIFTH.name) is FIFTH and issubclass(FIFTH, Method)


def test_the_page_has_its_line_and_runs_it(models: Models, picture: np.ndarray) -> None:
    page = build(models)
    (lines,) = (block for block in page.blocks.values() if getattr(block, "elem_id", None) == "methods")
    told = json.loads(lines.props["about"])[-1]
    (on_it,) = told["networks"]
    assert (told["name"], on_it["fields"][0]["name"]) == (FIFTH.name, "threshold") and FIFTH in at_first(models)
    asked = RunRequest(Picture(picture), "cat, dog", "", "", titled(models, [suited_to(models, FIFTH)]), 0)
    results = run(models, asked, durations := Durations(), silent, lambda part: None)
    assert [entry.method for entry in results.comparison.entries] == [FIFTH.name] and durations.expected(FIFTH.name)


def test_a_link_brings_it_back(models: Models) -> None:
    method = suited_to(models, FIFTH, {"threshold": 0.25})
    link = Link("picture", "cat", 3, (Configuration.of(models, method),))
    assert [part.build(models) for part in Link.of_query(link.query()).methods] == [method]


def test_the_command_line_knows_it(models: Models, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    networks = ["--backbone", models.name, "--device", "cpu"]
    assert main(["methods"]) == 0 and f"{FIFTH.name} ({FIFTH.title})" in capsys.readouterr().out
    shared = [str(file), "--classes", "cat, dog", *networks]
    chosen = ["--method", FIFTH.name, "--set", "threshold=0.3"]
    assert main(["segment", *shared, *chosen, "--out", str(tmp_path / "one")]) == 0
    assert main(["compare", *shared, "--methods", f"{FIFTH.name},{METHODS[0].name}", "--out", str(tmp_path / "two")]) == 0
    compared = json.loads((tmp_path / "two" / "comparison.json").read_text())
    assert FIFTH.title in json.dumps(compared)
    task = ["--dataset", "pocket-val", "--count", "1", "--method", FIFTH.name, *networks]
    assert main(["evaluate", *task, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["ablate", *task, "--out", str(tmp_path / "table")]) == 2
    assert "which have a table" in capsys.readouterr().err


def test_programs_can_ask_for_it(models: Models, picture: np.ndarray) -> None:
    assert FIFTH.name in Doors.segment.__doc__
    about = About.of(models, picture, classes="cat, dog")
    variant = inputs.method(models, FIFTH.name, {"threshold": 0.3})
    assert SegmentRequest(about, variant).run(models)["labels"] == ["background", "cat", "dog"]
    assert FIFTH.title in [variant.title for variant in CompareRequest.of(models, about).variants]


def test_about_names_its_paper_and_leaves_out_the_rest() -> None:
    section = about_html(Models("pocket")).split(f'id="about-{FIFTH.name}">')[1].split("</section>")[0]
    assert FIFTH.title in section and FIFTH.paper.arxiv in section and "<img" not in section


def test_results_leave_out_what_it_has_not() -> None:
    html = results_html(Models("pocket"))
    assert f"results-{METHODS[0].name}" in html and f"results-{FIFTH.name}" not in html
    assert [shown.name for shown in RUNS if shown.method == FIFTH.name] == [FIFTH.name]


def test_doctor_checks_it(models: Models, picture: np.ndarray) -> None:
    findings = {finding.name: finding for finding in check_methods(models, picture, parse_classes("cat"))}
    assert findings[FIFTH.title].state == "ok"


def test_its_work_is_counted_and_timed(models: Models) -> None:
    with pytest.raises(ValueError, match="rows of the network at most, but would be"):
        check_work(models, titled(models, [suited_to(models, FIFTH)]) * 300, ",".join(f"w{k}" for k in range(50)), (8, 8))
    taken = measure_size(models, suited_to(models, FIFTH), Size(2, 64, 8), peak=1e9)
    assert (taken.method, taken.rows, taken.size.images) == (FIFTH.name, 2, None)


def test_published_harnesses_take_it() -> None:
    assert PROTOCOLS["groupvit"].fitted(FIFTH(), "voc").threshold == 0.95
