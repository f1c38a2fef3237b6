"""What is used of Gradio's private parts is there in the Gradio that is installed, and used in one file alone."""

import ast
import asyncio
import datetime
import importlib
import inspect
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.data_classes import ImageData
from gradio.queueing import Event, ProcessTime
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

from ovseg.demo.build import build
from ovseg.models import Models
from ovseg.server.gradio_parts import LOOKS_EVERY, RECENT_RUNS, click_data, expect_recent_times
from ovseg.server.page import Page

ROOT = Path(__file__).resolve().parents[1]
USERS = sorted([*(ROOT / "ovseg" / "server").glob("*.py"), *(ROOT / "ovseg" / "demo").glob("*.py"), ROOT / "app.py"])
HOME = ROOT / "ovseg" / "server" / "gradio_parts.py"
PUBLIC = {"gradio", "gradio.components"}
PARTS_OF: dict[str, tuple[str, ...]] = {
    "gradio.block_function.BlockFunction": ("api_name", "api_visibility", "fn", "inputs"),
    "gradio.blocks.Block": ("_id", "async_move_resource_to_block_cache", "stateful"),
    "gradio.blocks.Blocks": ("_queue", "fns", "mcp_server_obj", "preprocess_data", "process_api", "state_holder"),
    "gradio.components.Component": ("api_info", "preprocess"),
    "gradio.context.LocalContext": ("blocks", "event_id"),
    "gradio.data_classes.ImageData": ("path",),
    "gradio.events.EventData": ("_data",),
    "gradio.mcp.GradioMCPServer": ("convert_strings_to_filedata", "postprocess_output_data"),
    "gradio.queueing.Event": ("_id", "alive", "concurrency_id", "enqueue_time", "request", "session_hash"),
    "gradio.queueing.EventQueue": ("queue",),
    "gradio.queueing.Queue": (
        "active_jobs", "event_ids_to_events", "event_queue_per_concurrency_id",
        "pending_event_ids_session", "pending_messages_per_session", "process_time_per_fn",
        "progress_update_sleep_when_free", "sleep_when_free",
    ),
    "gradio.queueing.ProcessTime": ("add", "avg_time"),
    "gradio.route_utils": ("FnIndexInferError",),
    "gradio.routes.App": ("get_blocks",),
    "gradio.state_holder.SessionState": ("__contains__", "__getitem__"),
    "gradio.state_holder.StateHolder": ("lock", "session_data", "time_last_used"),
    "gradio.utils": ("get_function_description", "get_upload_folder"),
    "gradio_client.utils": ("is_file_obj_with_meta",),
}  # fmt: skip
PRIVATE_PARTS: tuple[str, ...] = tuple(f"{owner}.{name}" for owner, names in PARTS_OF.items() for name in names)
"""Modules, classes and attributes by their names in Gradio."""

PRIVATE_ROUTES: tuple[str, ...] = (
    "/gradio_api/call/{api_name}",
    "/gradio_api/call/{api_name}/{event_id}",
    "/gradio_api/call/v2/{api_name}/{event_id}",
    "/gradio_api/heartbeat/{session_hash}",
    "/gradio_api/queue/data",
    "/gradio_api/queue/join",
    "/gradio_api/upload",
)
"""The addresses that requests are told apart by."""
PRIVATE_NAMES = {name.rpartition(".")[2] for name in PRIVATE_PARTS}
# Names of ours, of Python's and of Gradio's public parts that are attributes in that file.
OTHERS = {
    "compile", "search", "rstrip", "endswith", "decode", "get", "event", "page", "now", "total_seconds", "items", "pop",
    "values", "label", "Blocks", "Image", "EventData", "datetime", "client", "headers", "host", "is_file", "is_relative_to",
    "fullmatch", "resolve", "partition", "loads", "name", "session", "fmean", "_runs", "default_factory",
}  # fmt: skip


@pytest.fixture(scope="module")
def things() -> Iterator[dict[str, Any]]:
    """One of each kind of Gradio's things, by the name of its class, as they are while a page is served."""
    with Page() as page:
        box = gr.Textbox()
        box.change(lambda text: text, box, box, concurrency_id="network", concurrency_limit=1)
    page.queue()
    app = App.create_app(page)
    (door,) = (event for event in page.fns.values() if event.fn)
    event = Event("a session", door, None, None)
    queue = page._queue
    queue.create_event_queue_for_fn(door)
    held = [page, queue, event, door, box, app, page.state_holder, queue.event_queue_per_concurrency_id["network"]]
    yield {name: thing for thing in held for name in (kind.__name__ for kind in type(thing).__mro__)} | {
        "ImageData": ImageData(path="a.png"), "EventData": gr.EventData(None, {}), "SessionState": SessionState(page),
        "Block": box, "ProcessTime": ProcessTime(),
    }  # fmt: skip


def found(things: dict[str, Any], name: str) -> Any:
    """What a name of `PRIVATE_PARTS` stands for: a thing of the module, or an attribute of one of its classes.

    Raises:
        AttributeError, ImportError: there is none.
    """
    parts = name.split(".")
    depth = next(k for k, part in enumerate(parts) if part[0].isupper() or k == len(parts) - 1)
    thing = getattr(importlib.import_module(".".join(parts[:depth])), parts[depth])
    for attribute in parts[depth + 1 :]:
        with suppress(AttributeError):
            return getattr(thing, attribute)
        thing = getattr(things[parts[depth]], attribute)
    return thing


@pytest.mark.parametrize("name", PRIVATE_PARTS)
def test_gradio_still_has(name: str, things: dict[str, Any]) -> None:
    found(things, name)


@pytest.mark.parametrize("route", PRIVATE_ROUTES)
def test_gradio_still_answers_at(route: str, things: dict[str, Any]) -> None:
    assert route in things["App"].openapi()["paths"]


def test_a_part_that_gradio_has_no_more_is_named(things: dict[str, Any]) -> None:
    for name in ("gradio.queueing.Queue.waiting_room", "gradio.queueing.Waiter", "gradio.waiting.room"):
        with pytest.raises((AttributeError, ImportError), match=re.escape(name.rpartition(".")[2]) + "|gradio.waiting"):
            found(things, name)


def test_times_are_those_of_the_clocks_that_we_compare_with(things: dict[str, Any]) -> None:
    before = time.monotonic()
    event = Event(None, things["BlockFunction"], None, None)
    assert before <= event.enqueue_time <= time.monotonic() and event.session_hash == event._id
    holder, now = StateHolder(), datetime.datetime.now()
    holder.set_blocks(things["Blocks"])
    assert isinstance(holder["a session"], SessionState) and holder.time_last_used["a session"] >= now


def test_a_wait_is_told_from_the_last_runs_and_not_from_the_first(things: dict[str, Any]) -> None:
    queue, event = things["Queue"], things["BlockFunction"]
    expect_recent_times(things["Blocks"])
    for seconds in (90.0, *[8.0] * 5, *[2.0] * RECENT_RUNS):
        queue.process_time_per_fn[event].add(seconds)
        if seconds == 90.0:
            assert queue.process_time_per_fn[event].avg_time == 90.0
    waiting = [Event(f"visitor {k}", event, None, None) for k in range(3)]
    queue.event_queue_per_concurrency_id["network"].queue.extend(waiting)
    for one in waiting:
        queue.pending_messages_per_session[one.session_hash] = asyncio.Queue()
    queue.broadcast_estimations("network")
    told = [queue.pending_messages_per_session[one.session_hash].get_nowait().rank_eta for one in waiting]
    assert told == [2.0, 4.0, 6.0]


def test_a_page_that_nobody_asks_seldom_looks_for_jobs(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, rests = build(models)._queue, []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        queue.stopped = True

    monkeypatch.setattr(asyncio, "sleep", rest)
    for look in (queue.start_processing, queue.start_progress_updates):
        queue.stopped = False
        asyncio.run(look())
    assert rests == [LOOKS_EVERY] * 2 and LOOKS_EVERY >= 0.005


def test_the_page_overrides_what_gradio_calls() -> None:
    ours, theirs = (inspect.signature(kind.preprocess_data).parameters for kind in (Page, gr.Blocks))
    assert [*ours] == [*theirs]
    theirs = inspect.signature(gr.Blocks.process_api).parameters
    assert [*theirs][:3] == ["self", "block_fn", "inputs"] and "event_data" in theirs
    assert click_data(gr.EventData(None, {"index": 3})) == {"index": 3} and click_data(None) is None


@pytest.mark.parametrize("path", [path for path in USERS if path != HOME], ids=lambda path: str(path.relative_to(ROOT)))
def test_other_files_use_what_gradio_promises(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names = [node.module] if isinstance(node, ast.ImportFrom) else names
        for name in names:
            assert not name.startswith(("gradio.", "gradio_client")) or name in PUBLIC, f"{path.name} imports {name}"
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert isinstance(node.value, ast.Name) and node.value.id in ("self", "listeners"), f"{path.name}: {node.attr}"


def test_the_list_is_complete() -> None:
    tree = ast.parse(HOME.read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert used <= PRIVATE_NAMES | OTHERS, used - PRIVATE_NAMES - OTHERS
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("gradio")]
    listed = {part for name in PRIVATE_PARTS for part in (name, name.rpartition(".")[0])}
    assert {f"{node.module}.{alias.name}" for node in froms for alias in node.names} <= listed
