"""What is used of Gradio's private parts, all of it: no other file of the project reads them.

Gradio promises nothing of them. `PRIVATE_PARTS` lists them, and a test looks for each in the Gradio that is installed.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

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

__all__ = ["Block", "BlockFunction", "FnIndexInferError", "ImageData", "SessionState"]

PRIVATE_PARTS: tuple[str, ...] = (
    "gradio.block_function.BlockFunction.api_name",
    "gradio.block_function.BlockFunction.api_visibility",
    "gradio.block_function.BlockFunction.fn",
    "gradio.block_function.BlockFunction.inputs",
    "gradio.blocks.Block._id",
    "gradio.blocks.Block.stateful",
    "gradio.blocks.Blocks._queue",
    "gradio.blocks.Blocks.fns",
    "gradio.blocks.Blocks.mcp_server_obj",
    "gradio.blocks.Blocks.preprocess_data",
    "gradio.blocks.Blocks.process_api",
    "gradio.blocks.Blocks.state_holder",
    "gradio.components.Component.api_info",
    "gradio.components.Component.preprocess",
    "gradio.context.LocalContext.blocks",
    "gradio.context.LocalContext.event_id",
    "gradio.data_classes.ImageData.path",
    "gradio.events.EventData._data",
    "gradio.mcp.GradioMCPServer.postprocess_output_data",
    "gradio.queueing.Event._id",
    "gradio.queueing.Event.alive",
    "gradio.queueing.Event.concurrency_id",
    "gradio.queueing.Event.enqueue_time",
    "gradio.queueing.Event.session_hash",
    "gradio.queueing.EventQueue.queue",
    "gradio.queueing.Queue.event_ids_to_events",
    "gradio.queueing.Queue.event_queue_per_concurrency_id",
    "gradio.queueing.Queue.pending_event_ids_session",
    "gradio.queueing.Queue.pending_messages_per_session",
    "gradio.route_utils.FnIndexInferError",
    "gradio.routes.App.get_blocks",
    "gradio.state_holder.SessionState.__contains__",
    "gradio.state_holder.SessionState.__getitem__",
    "gradio.state_holder.StateHolder.lock",
    "gradio.state_holder.StateHolder.session_data",
    "gradio.state_holder.StateHolder.time_last_used",
    "gradio.utils.get_function_description",
    "gradio.utils.get_upload_folder",
    "gradio_client.utils.is_file_obj_with_meta",
)
"""Modules, classes and attributes by their names in Gradio."""

PRIVATE_ROUTES: tuple[str, ...] = (
    "/gradio_api/call/{api_name}/{event_id}",
    "/gradio_api/call/v2/{api_name}/{event_id}",
    "/gradio_api/heartbeat/{session_hash}",
    "/gradio_api/queue/data",
    "/gradio_api/upload",
)
"""The addresses that requests are told apart by."""

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
    def is_alive(self) -> bool:
        """False as soon as Gradio has seen that its visitor is gone."""
        return self.event.alive

    @property
    def others_wait(self) -> bool:
        """Whether another one waits until this one has ended."""
        return any(other.alive for other in self.page._queue.event_queue_per_concurrency_id[self.event.concurrency_id].queue)


def job_of_this_thread() -> Job | None:
    """The job that this thread works on; None where it is none of a page's queue."""
    page, name = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = None if page is None else page._queue.event_ids_to_events.get(name)
    return None if event is None else Job(page, event)


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


def describe_values(page: gr.Blocks, number: int, door: Callable) -> None:
    """Give the values of a door the names and the descriptions of its docstring.

    Args:
        number: of the event that the door is on the page.
    """
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
