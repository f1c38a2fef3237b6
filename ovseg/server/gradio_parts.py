"""What is used of Gradio's private parts, all of it: no other file of the project reads them.

Gradio promises nothing of them. `tests/test_gradio_parts.py` lists them, and looks for each in the Gradio that is installed.
"""

import datetime
import json
import re
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.blocks import Block
from gradio.context import LocalContext
from gradio.data_classes import ImageData
from gradio.queueing import Event
from gradio.route_utils import FnIndexInferError
from gradio.state_holder import SessionState
from gradio.utils import get_function_description, get_upload_folder
from gradio_client.utils import is_file_obj_with_meta

from ovseg.doors.inputs import written_file

__all__ = ["Block", "BlockFunction", "FnIndexInferError", "ImageData", "SessionState"]

CALLER = "x-ovseg-caller"
"""The header of `ovseg.server.visitors`."""
LOOKS_EVERY = 0.005
"""Seconds between two looks for jobs."""
RECENT_RUNS = 20
"""How many runs say what the next one takes."""
NETWORK_LINE = "network"
"""The line in which the jobs of the networks wait."""
CALL = re.compile(r"/gradio_api/call/(?:v2/)?(?P<name>[^/]+)/?$")
ANSWER = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/(?P<event>[^/]+)/?$")
PAGE = re.compile(r"/gradio_api/heartbeat/(?P<session>[^/]+)/?$")


def event_in(path: str) -> str | None:
    """The event whose answer is asked for at this address; None where it is another address."""
    asked = ANSWER.search(path)
    return asked["event"] if asked else None


def page_session_in(path: str) -> str | None:
    """The session whose page keeps this stream open while it is looked at; None where it is another address."""
    looked_at = PAGE.search(path)
    return looked_at["session"] if looked_at else None


def messages_session_in(path: str, query: bytes) -> str | None:
    """The session whose messages are asked for; empty where it is not named, None where it is another address."""
    if not path.rstrip("/").endswith("/queue/data"):
        return None
    return parse_qs(query.decode("latin-1")).get("session_hash", [""])[0]


def is_upload(path: str) -> bool:
    """Whether files are sent to this address."""
    return path.rstrip("/").endswith("/upload")


def is_mcp_call(path: str) -> bool:
    """Whether MCP clients send their calls to this address."""
    return path.rstrip("/").endswith(("/gradio_api/mcp", "/gradio_api/mcp/http"))


def asks_for_job(path: str) -> bool:
    """Whether jobs are asked for at this address."""
    return bool(CALL.search(path)) or path.rstrip("/").endswith("/queue/join")


def job_asked_for(page: gr.Blocks, path: str, body: bytes) -> str | None:
    """The session that asks for a job of the networks, empty where it is none; None where something else is asked for."""
    called = CALL.search(path)
    try:
        values = json.loads(body)
        number, session = values.get("fn_index"), str(values.get("session_hash") or "")
    except (ValueError, AttributeError, RecursionError):
        return None  # Gradio says what is wrong with it
    events = page.fns.values()
    event = next((e for e in events if (e.api_name == called["name"] if called else e._id == number)), None)
    return None if event is None or event.concurrency_id != NETWORK_LINE else session


def awaited_jobs(page: gr.Blocks) -> Iterator[tuple[str, str, str]]:
    """Of each job of the networks that waits or is at work: session, address, and what `CALLER` says."""
    queue = page._queue
    line = queue.event_queue_per_concurrency_id.get(NETWORK_LINE)  # made with the first job
    waiting = line.queue if line else []
    at_work = [event for batch in queue.active_jobs if batch for event in batch if event.concurrency_id == NETWORK_LINE]
    for event in [*waiting, *at_work]:
        request = event.request
        yield event.session_hash, request.client.host if request.client else "", request.headers.get(CALLER, "")


class RecentTimes:
    """The mean seconds of an event's last runs, from which Gradio tells visitors in line how long they wait.

    Gradio's own is the mean of all. Here the first, which loads networks, counts only until there is another.
    """

    def __init__(self) -> None:
        self._runs: list[float] = []

    @property
    def avg_time(self) -> float:
        """Seconds that the next run is expected to take."""
        return statistics.fmean(self._runs[1:] or self._runs)

    def add(self, time: float) -> None:
        """Count a run that took so many seconds."""
        self._runs = [*self._runs[:1], *self._runs[1:][1 - RECENT_RUNS :], time]


def expect_recent_times(page: gr.Blocks) -> None:
    """Tell visitors in line the wait that recent runs let expect."""
    page._queue.process_time_per_fn.default_factory = RecentTimes


def look_for_jobs_less_often(page: gr.Blocks) -> None:
    """Let a page that nobody asks for anything rest: to look every millisecond takes a twentieth of a processor."""
    page._queue.sleep_when_free = page._queue.progress_update_sleep_when_free = LOOKS_EVERY


def page_of(scope: Mapping[str, Any]) -> gr.Blocks:
    """The page that a request is made to."""
    return scope["app"].get_blocks()


def knows_event(page: gr.Blocks, event: str) -> bool:
    """Whether an event was begun and its answer not read yet."""
    queue = page._queue
    begun = event in queue.event_ids_to_events or event in queue.pending_messages_per_session
    return begun or any(event in events for events in queue.pending_event_ids_session.values())


def has_messages(page: gr.Blocks, session: str) -> bool:
    """Whether there are messages for a session."""
    return session in page._queue.pending_messages_per_session


@dataclass(frozen=True)
class Job:
    """An event of a page's queue that is worked on."""

    page: gr.Blocks
    event: Event

    @property
    def name(self) -> str:
        """Its name, which is also that of the stream of a program that asked for it."""
        return self.event._id

    @property
    def session(self) -> str:
        """The session that asked for it."""
        return self.event.session_hash

    @property
    def asked(self) -> float:
        """When it was asked for, by `time.monotonic`."""
        return self.event.enqueue_time

    @property
    def caller(self) -> str:
        """For which request of an MCP client it was asked for; empty where it was another visitor's."""
        return self.event.request.headers.get(CALLER, "")

    @property
    def is_alive(self) -> bool:
        """False as soon as Gradio has seen that its visitor is gone, or has stopped it."""
        return self.event.alive and self.name in self.page._queue.pending_event_ids_session.get(self.session, ())

    @property
    def others_wait(self) -> bool:
        """Whether another one waits until this one has ended."""
        return any(other.alive for other in self.page._queue.event_queue_per_concurrency_id[self.event.concurrency_id].queue)


def job_of_this_thread() -> Job | None:
    """The job that this thread works on; None where it is none of a page's queue."""
    page, name = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = None if page is None else page._queue.event_ids_to_events.get(name)
    return None if event is None else Job(page, event)


def is_stopped() -> bool:
    """Whether the job that this thread works on is none of its page's queue any more, because a program stopped it."""
    page, name = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    return page is not None and name is not None and name not in page._queue.event_ids_to_events


def idle_seconds(page: gr.Blocks) -> dict[str, float]:
    """For how long each session that is kept has asked for nothing."""
    now = datetime.datetime.now()
    return {session: (now - used).total_seconds() for session, used in list(page.state_holder.time_last_used.items())}


def forget(page: gr.Blocks, sessions: Iterable[str]) -> None:
    """Drop what is kept of sessions: what they were shown, and messages that they never read."""
    holder, queue = page.state_holder, page._queue
    for session in sessions:
        with holder.lock:
            holder.session_data.pop(session, None)
            holder.time_last_used.pop(session, None)
        queue.pending_messages_per_session.pop(session, None)
        queue.pending_event_ids_session.pop(session, None)


def is_door(event: BlockFunction) -> bool:
    """Whether programs may call an event by its name."""
    return event.api_visibility == "public"


def door_of(event: BlockFunction) -> tuple[str, Callable]:
    """The name of a door, and its function."""
    return event.api_name, event.fn


def parts_now(event: BlockFunction, state: SessionState | None) -> list[Block]:
    """The parts of the page that an event reads, as a session sees them now: choices may have been changed for it."""
    return [state[part._id] if state and part._id in state and not part.stateful else part for part in event.inputs]


def click_data(event_data: gr.EventData | None) -> Any:
    """What a browser sends of a click or a choice; None where it was neither."""
    return None if event_data is None else event_data._data


def read_own_files(page: gr.Blocks, number: int) -> None:
    """Let a door take the address of a file of this server: Gradio would fetch it, which it may not from its own machine."""
    for part in page.fns[number].inputs:
        part.async_move_resource_to_block_cache = _own_or(part.async_move_resource_to_block_cache)


def _own_or(fetch: Callable[..., Awaitable[str | None]]) -> Callable[..., Awaitable[str | None]]:
    async def file_at(address: str | Path | None, *rest: Any) -> str | None:
        own = own_file(str(address))
        return await fetch(str(own) if own else address, *rest)

    return file_at


def own_file(address: str) -> Path | None:
    """The file that was uploaded here which an address of this server names; None of another address."""
    path = Path(unquote(address.partition("/gradio_api/file=")[2]))
    with suppress(OSError, ValueError):  # a name may be too long, or hold a zero
        return path if path.is_file() and path.resolve().is_relative_to(upload_folder().resolve()) else None
    return None


def take_bare_pictures(page: gr.Blocks) -> None:
    """Let MCP clients send a picture file as base64 alone, too, where the page is served to them."""
    server = page.mcp_server_obj
    if server:
        convert = server.convert_strings_to_filedata

        def with_addresses(values: dict[str, Any], places: list[list[str | int]]) -> Any:
            files = {str(place[0]) for place in places if len(place) == 1}
            written = {name for name in files if written_file(values.get(name)) is not None}
            bare = {name for name in written if values[name][:5] != "data:"}
            return convert(values | {name: f"data:image/png;base64,{values[name]}" for name in bare}, places)

        server.convert_strings_to_filedata = with_addresses


def describe_values(page: gr.Blocks, number: int, door: Callable) -> None:
    """Give the values of a door, an event of this number, the names and the descriptions of its docstring."""
    _, parameters, _ = get_function_description(door)
    for part, (name, words) in zip(page.fns[number].inputs, parameters.items(), strict=True):
        part.label = name
        part.api_info()["additional_description"] = words


def write_mcp_answers(page: gr.Blocks, content_of: Callable[[Any, str], Sequence[Any]]) -> None:
    """Let a function write the answers to MCP clients, where the page is served to them.

    Args:
        content_of: from a door's outputs and the server's address to MCP's content.
    """
    if page.mcp_server_obj:
        page.mcp_server_obj.postprocess_output_data = content_of


def read_by(part: gr.Image, preprocess: Callable[[ImageData | None], Any]) -> gr.Image:
    """A part of the page whose values are read by this function.

    Of a class of our own, Gradio would write a file beside its source.
    """
    part.preprocess = preprocess
    return part


def path_of(picture: ImageData) -> str | None:
    """The file of an uploaded picture; None where it came in another way."""
    return picture.path


def file_of(value: Any) -> Path | None:
    """The file that a value of JSON describes; None where it describes none."""
    return Path(value["path"]) if is_file_obj_with_meta(value) and isinstance(value["path"], str) else None


def upload_folder() -> Path:
    """The folder of files that were sent, and of those that may be handed out."""
    return Path(get_upload_folder())
