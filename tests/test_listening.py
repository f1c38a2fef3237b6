"""Jobs that nobody listens to end, and free the network for those who wait."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
import httpx
import orjson
import pytest
from gradio.server_messages import ProcessCompletedMessage
from starlette.types import Message, Receive, Scope, Send

from ovseg.demo.build import launch
from ovseg.limits import Limits
from ovseg.models import Models
from ovseg.scene import from_prompt
from ovseg.server import listeners as streams
from ovseg.server.listeners import Listeners, stream_of
from ovseg.server.stopped_jobs import StoppedJobMiddleware
from ovseg.types import Scene
from tests.attack.server import Answer, Visitor

SECONDS = 300.0  # until a test gives up


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listeners(clock: Clock) -> Listeners:
    listeners = Listeners(clock)
    listeners.begin()
    return listeners


def test_nobody_has_left_where_streams_are_not_seen(clock: Clock) -> None:
    assert not Listeners(clock).have_left("session", "job", asked=0.0)


def test_a_visitor_who_never_listens_has_left(listeners: Listeners, clock: Clock) -> None:
    assert not listeners.have_left("session", "job", asked=clock.now - streams.GRACE)
    assert listeners.have_left("session", "job", asked=clock.now - streams.GRACE - 1)


@pytest.mark.parametrize("key", ["session", "job"])
def test_who_listens_to_the_session_or_the_job_is_there(listeners: Listeners, clock: Clock, key: str) -> None:
    listeners.opened(key)
    listeners.opened(key)
    clock.now += 1000
    assert not listeners.have_left("session", "job", asked=100.0)
    assert listeners.have_left("other", "other job", asked=100.0)
    listeners.closed(key)
    clock.now += 1000
    assert not listeners.have_left("session", "job", asked=100.0)
    listeners.closed(key)
    assert not listeners.have_left("session", "job", asked=100.0)
    clock.now += streams.GRACE + 1
    assert listeners.have_left("session", "job", asked=100.0)
    listeners.opened(key)
    assert not listeners.have_left("session", "job", asked=100.0)


def test_those_who_are_gone_are_forgotten(listeners: Listeners, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "REMEMBERED", 10.0)
    for number in range(100):
        listeners.opened(f"session {number}")
        listeners.closed(f"session {number}")
        clock.now += 1
    assert len(listeners._open) == 0 and len(listeners._closed) <= 12


@pytest.mark.parametrize(
    "method, path, query, expected",
    [
        ("GET", "/gradio_api/queue/data", b"session_hash=abc", "abc"),
        ("GET", "/a/root/gradio_api/queue/data/", b"x=1&session_hash=abc", "abc"),
        ("GET", "/gradio_api/queue/data", b"", None),
        ("GET", "/gradio_api/call/segment/12ab", b"", "12ab"),
        ("GET", "/gradio_api/call/v2/segment/12ab", b"", "12ab"),
        ("POST", "/gradio_api/call/segment", b"", None),
        ("POST", "/gradio_api/queue/join", b"session_hash=abc", None),
        ("GET", "/gradio_api/heartbeat/abc", b"", "page abc"),
        ("GET", "/config", b"", None),
    ],
)
def test_streams_are_told_from_other_requests(method: str, path: str, query: bytes, expected: str | None) -> None:
    scope = {"type": "http", "method": method, "path": path, "query_string": query}
    assert stream_of(scope) == expected
    assert stream_of(scope | {"type": "websocket"}) is None


def heard(path: str, body: bytes) -> bytes:
    """What comes through of a part of an answer."""
    said: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def send(message: Message) -> None:
        said.append(message["body"])

    asyncio.run(StoppedJobMiddleware(app)({"type": "http", "path": path}, None, send))
    return b"".join(said)


def test_the_end_of_a_stopped_job_is_one_without_values_or_sentences() -> None:
    path, end = "/gradio_api/queue/data", ProcessCompletedMessage(output={}, success=True).model_dump()
    (line,) = heard(path, b"data: %b\n\n" % orjson.dumps(end, default=str)).split(b"data: ")[1:]
    assert orjson.loads(line) == end | {"output": {"error": []}}
    good = orjson.dumps(ProcessCompletedMessage(output={"data": [1]}, success=True).model_dump(), default=str)
    assert heard(path, good) == good
    assert heard("/config", line) == line and b"[]" not in heard("/config", orjson.dumps(end, default=str))


@pytest.fixture(scope="module")
def address(with_clip: Models) -> Iterator[str]:
    yield launch(with_clip, "127.0.0.1", None, wait=False).rstrip("/")
    gr.close_all(verbose=False)


@dataclass
class SlowDrawing:
    """What draws the prompt "slow", step after step, until it is stopped or has done enough."""

    begun: list[int] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def draw(self, models: Models, prompt: str, *given: Any, on_step: Any, **more: Any) -> Scene:
        """Any other prompt is drawn as usual."""
        while prompt == "slow" and not self.enough.wait(0.01):
            self.begun.append(len(self.begun))
            on_step(0, 1000)
        return from_prompt(models, "a cat", *given, on_step=on_step, **more)

    def wait_for(self, steps: int) -> None:
        """Wait until so many more steps were begun."""
        goal, end = len(self.begun) + steps, time.monotonic() + SECONDS
        while len(self.begun) < goal:
            assert time.monotonic() < end, "it did not go on"
            time.sleep(0.02)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDrawing]:
    drawing = SlowDrawing()
    monkeypatch.setattr("ovseg.doors.requests.from_prompt", drawing.draw)
    yield drawing
    drawing.enough.set()


def limit_of(monkeypatch: pytest.MonkeyPatch, busy_seconds: int) -> None:
    monkeypatch.setattr("ovseg.demo.work.limits", lambda: replace(Limits(), busy_seconds=busy_seconds))


def asks(address: str, prompt: str) -> str:
    """Where the answer of a drawing is read that a program has asked for."""
    asked = httpx.post(f"{address}/gradio_api/call/generate", json={"data": [prompt, 0, 1, None, ""]}, timeout=SECONDS)
    return f"{address}/gradio_api/call/generate/{asked.json()['event_id']}"


def draws(address: str) -> Answer:
    return Visitor(address, patience=SECONDS).call("generate", ["a cat", 0, 1, None, ""])


@pytest.mark.parametrize("reads", [False, True], ids=["never", "no more"])
def test_a_program_that_does_not_read_its_answer_does_not_hold_the_network(
    address: str, slow: SlowDrawing, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    answer = asks(address, "slow")
    with httpx.stream("GET", answer, timeout=SECONDS) if reads else nullcontext():
        slow.wait_for(1)
    monkeypatch.setattr(streams, "GRACE", 1.0)
    assert draws(address).is_good


def test_a_program_that_reads_gets_its_answer_however_long_it_takes_where_nobody_waits(
    address: str, slow: SlowDrawing, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_of(monkeypatch, 0)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(httpx.get, asks(address, "slow"), timeout=SECONDS)
        slow.wait_for(50)
        slow.enough.set()
        assert "event: complete" in long.result().text


def test_a_long_job_gives_way_to_those_who_wait(address: str, slow: SlowDrawing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "GRACE", SECONDS)
    limit_of(monkeypatch, 10**6)
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(httpx.get, asks(address, "slow"), timeout=SECONDS)
        slow.wait_for(1)
        other = pool.submit(httpx.get, asks(address, "a cat"), timeout=SECONDS)
        slow.wait_for(50)
        assert not long.done() and not other.done()
        limit_of(monkeypatch, 0)
        assert "event: complete" in other.result().text
        assert "event: error" in long.result().text and "Stopped after 0 seconds, because others wait" in long.result().text


def test_no_request_goes_past_the_line(address: str) -> None:
    answer = httpx.post(f"{address}/gradio_api/run/generate", json={"data": ["a cat", 0, 1, None, ""]})
    assert answer.status_code == 404 and "join the queue" in answer.text
