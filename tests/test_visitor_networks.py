"""A setting that names a network, a file or a repository is not a visitor's to choose, also of a method that is not ours."""

import asyncio
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
import pytest
import torch
from mcp.types import CallToolResult

import ovseg.methods
from ovseg.demo import build, launch
from ovseg.demo.link import Link
from ovseg.demo.method_panel import restored
from ovseg.doors import inputs
from ovseg.doors.visitor_networks import captioners, check_networks, choices
from ovseg.methods import METHODS, Method, find_method, suited_to
from ovseg.methods.base import Prepared
from ovseg.methods.grammar import read_method
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.types import Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord
from tests.attack.requests import GOOD
from tests.attack.server import Page, Visitor
from tests.test_doors import data_address, with_session

LOADED: list[tuple[str, ...]] = []  # what the method below was asked to load
OWN, OTHER = "institute/own", "institute/other"
PATHS = ("/etc/passwd", "../x", "~/x", "./x", "local-dir:/etc", "file:///etc", "C:\\x", "a/../../x", "ovseg", "ovseg/demo")


@dataclass(frozen=True, eq=False)
class StrangersClasses(Prepared):
    """Finds nothing."""

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Background everywhere."""
        return Segmentation.from_scores(scene.image, self.names, torch.zeros(len(self.names), 4, 4), 0.5)


@dataclass(frozen=True)
class Stranger(Method):
    """A method of somebody else, who has marked what names networks."""

    name: ClassVar[str] = "stranger"
    title: ClassVar[str] = "Stranger"
    paper: ClassVar[Paper] = Paper("Another title", "Another author", "2026", "2601.00001", "")

    weights: str = knob(OWN, "The repository of its network.", label="Weights", group="main", kind="network")
    helpers_of: tuple[str, ...] = knob((), "Repositories of more.", label="Helpers", kind="network")
    prompt: str = knob("a {}", "What is asked.", label="Prompt")

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> Prepared:
        """Note what would be loaded."""
        LOADED.append((self.weights, *self.helpers_of))
        return StrangersClasses(models, classes)


@pytest.fixture(scope="module")
def strangers() -> Iterator[None]:
    """The stranger's method stands beside ours, wherever these are asked for."""
    more = (*METHODS, Stranger)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in [*sys.modules.items()]:
            if name.startswith("ovseg") and vars(module).get("METHODS") is METHODS:
                patch.setattr(module, "METHODS", more)
        for read, rest in ((find_method, ()), (read_method, ((),))):
            patch.setattr(inspect.unwrap(read), "__defaults__", (more, *rest))
        assert ovseg.methods.METHODS is more
        yield


@pytest.fixture(scope="module")
def address(with_clip: Models, strangers: None) -> Iterator[str]:
    """A page of the tiny networks with the stranger's method, for MCP clients too."""
    yield launch(with_clip, "127.0.0.1", None, mcp=True, wait=False).rstrip("/")
    gr.close_all(verbose=False)


@pytest.fixture
def visitor(address: str) -> Visitor:
    """Somebody who opens the page."""
    LOADED.clear()
    return Visitor(address)


def is_refused(text: str) -> bool:
    """Whether a text says in one sentence that a network is not to be chosen."""
    return "weights must be one that this server has, institute/own, but got" in text and "Traceback" not in text


@pytest.mark.parametrize("name", [OTHER, PATHS[0], "C:\\x"])
def test_no_door_lets_a_visitor_name_a_network(name: str, visitor: Visitor) -> None:
    file = visitor.upload(GOOD)
    for answer in (
        visitor.call("segment", [file, "cat", "stranger", {"weights": name}]),
        visitor.call("compare", [file, "cat", [f"stranger:weights={name}"]]) if ":" not in name else None,
    ):
        assert answer is None or (answer.event == "error" and is_refused(answer.text)), answer
    answer = visitor.call("segment", [file, "cat", "stranger", {"helpers_of": [OTHER, name]}])
    assert answer.event == "error" and "helpers_of must be one that this server has, none, but got" in answer.text
    assert not LOADED
    assert visitor.call("segment", [file, "cat", "stranger", {"weights": OWN, "prompt": name}]).is_good
    assert LOADED == [(OWN,)]


def test_no_mcp_client_names_a_network(visitor: Visitor) -> None:
    def ask(name: str) -> CallToolResult:
        given = {"picture": data_address(GOOD), "classes": "cat", "method": "stranger", "settings": {"weights": name}}
        return asyncio.run(with_session(f"{visitor.address}/", lambda session: session.call_tool("segment", given)))

    refused = ask(OTHER)
    assert refused.isError and is_refused(refused.content[0].text) and not LOADED
    assert not ask(OWN).isError and LOADED == [(OWN,)]


def lines_of(page: Page) -> dict[str, Any]:
    """The part of the page that has the methods."""
    return next(part for part in page.parts.values() if part["props"].get("elem_id") == "methods")


def offered(about: str, field: str) -> dict[str, Any]:
    """What the page tells the browser of a setting of the stranger's method."""
    (stranger,) = (one for one in json.loads(about) if one["name"] == "stranger")
    return next(one for one in stranger["networks"][0]["fields"] if one["name"] == field)


def test_the_page_lets_no_visitor_name_a_network(visitor: Visitor) -> None:
    page = Page(visitor)
    lines = lines_of(page)["props"]
    assert offered(lines["props"]["about"], "weights")["choices"] == [[OWN, OWN]]
    for field, names, sentence in (
        ("weights", (OTHER, "/etc/passwd"), "weights must be one that this server has, institute/own, but got"),
        ("helpers_of", (OTHER,), "helpers_of must be one that this server has, none, but got"),
    ):
        for name in names:
            value = json.loads(json.dumps(lines["value"])) | {"used": ["stranger"]}
            value["settings"]["stranger"]["values"][field] = name
            run = visitor.press(page, "run", {page.place_of("run", "click", "methods"): value})
            added = visitor.press(
                page, "methods", {0: value}, event="variant", event_data={"method": "stranger", "before": None}
            )
            for answer in (run, added):
                assert answer.event == "error" and sentence in answer.text, answer
    assert not LOADED


@pytest.mark.parametrize("runs", ["run=stranger%3Bweights%3D{}", "run=stranger&run=stranger%3Bweights%3D{}"])
@pytest.mark.parametrize("name", [OTHER, "/etc/passwd"])
def test_no_link_names_a_network(name: str, runs: str, visitor: Visitor, with_clip: Models) -> None:
    query = runs.format(name)
    with pytest.raises(ValueError, match="weights must be one that this server has, institute/own, but got"):
        restored(with_clip, Link.of_query(query).methods)
    (number,) = (event["id"] for event in Page(visitor).events if "load" in [on for _, on in event["targets"]])
    opened = visitor.join({"fn_index": number, "data": [query, ""]})
    assert opened.is_good and name not in opened.text
    allowed = visitor.join({"fn_index": number, "data": ["picture=scene-12&run=stranger%3Bprompt%3Done+of+{}", ""]})
    assert allowed.is_good and OWN in allowed.text and "one of {}" in allowed.text


def test_the_owner_may_allow_repositories_but_no_paths(
    visitor: Visitor, with_clip: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVSEG_ALLOW_DOWNLOADS", "1")
    file = visitor.upload(GOOD)
    asked = {"weights": OTHER, "helpers_of": f"{OTHER},{OWN}"}
    assert visitor.call("segment", [file, "cat", "stranger", asked]).is_good and LOADED == [(OTHER, OTHER, OWN)]
    for path in PATHS:
        answer = visitor.call("segment", [file, "cat", "stranger", {"weights": path}])
        assert answer.event == "error" and "weights must be one that this server has" in answer.text, path
    assert len(LOADED) == 1
    (lines,) = (part for part in build(with_clip).blocks.values() if part.elem_id == "methods")
    assert offered(lines.props["about"], "weights")["kind"] == "text"
    assert lines.value["settings"]["stranger"]["values"]["weights"] == OWN


def field_of(kind: type[Method], name: str) -> Any:
    """A field by its name."""
    return next(field for field in fields(kind) if field.name == name)


OURS = [
    ("grounded-diffusion", "module", "{folder}", "module must be one that this server has, S1, but got"),
    ("grounded-diffusion", "module", "{groundings}/S1", "module must be one"),
    ("diffsegmenter", "captioner", "{folder}", "captioner must be one that this server has"),
    ("freeseg-diff", "captioner", "blip-base", "captioner must be one that this server has"),
    ("diffsegmenter", "clip", "ViT-L-14/openai", "clip must be one that this server has"),
    ("ovdiff", "clip", "local-dir:{folder}", "clip must be one that this server has"),
]


@pytest.mark.parametrize("method, field, name, sentence", OURS)
def test_visitors_choose_among_the_networks_of_our_methods(
    method: str, field: str, name: str, sentence: str, with_clip: Models, tmp_path: Path
) -> None:
    asked = {field: name.format(folder=tmp_path, groundings=with_clip.groundings)}
    with pytest.raises(ValueError, match=sentence):
        check_networks(with_clip, suited_to(with_clip, find_method(method), asked))
    with pytest.raises(ValueError, match=sentence):
        inputs.method(with_clip, method, asked)


def test_what_there_is_is_offered(with_clip: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in METHODS:
        check_networks(with_clip, suited_to(with_clip, kind))
    grounded, freeseg = find_method("grounded-diffusion"), find_method("freeseg-diff")
    assert choices(with_clip, grounded, field_of(grounded, "module")) == ("S1",) and captioners(with_clip) == ("",)
    assert choices(with_clip, freeseg, field_of(freeseg, "template")) is None
    clip = field_of(freeseg, "clip")
    released = freeseg.as_released().clip
    assert choices(with_clip, freeseg, clip) == ("",)
    monkeypatch.setattr(Models, "has_clip", lambda models, name: name == released)
    assert choices(with_clip, freeseg, clip) == ("", released)
    check_networks(with_clip, suited_to(with_clip, freeseg, {"clip": released}))
    monkeypatch.setenv("OVSEG_ALLOW_DOWNLOADS", "1")
    assert "blip-base" in captioners(with_clip) and choices(with_clip, freeseg, clip) is None
    check_networks(with_clip, suited_to(with_clip, freeseg, {"captioner": "blip-base", "clip": "ViT-L-14/openai"}))


def test_every_setting_that_names_a_network_is_marked() -> None:
    marked = {f"{kind.name} {field.name}" for kind in METHODS for field in fields(kind) if field.metadata["kind"]}
    helpers = ("captioner", "clip", "module", "weights")
    named = {f"{kind.name} {field.name}" for kind in METHODS for field in fields(kind) if field.name in helpers}
    assert marked == named and len(marked) == 8
