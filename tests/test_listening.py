"""Jobs that nobody listens to end, and free the network for those who wait."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import httpx
import pytest

from ovseg.demo import listening
from ovseg.demo.build import launch
from ovseg.demo.listening import Listeners, stream_of
from ovseg.factory.orders import Order
from ovseg.factory.synthesize import Synthesis
from ovseg.models import Models
from ovseg.progress import Report
from tests.attack.server import Page, Visitor

SECONDS = 60.0  # until a test gives up
PICTURES = 64


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
    assert not listeners.have_left("session", "job", asked=clock.now - listening.GRACE)
    assert listeners.have_left("session", "job", asked=clock.now - listening.GRACE - 1)


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
    clock.now += listening.GRACE + 1
    assert listeners.have_left("session", "job", asked=100.0)
    listeners.opened(key)
    assert not listeners.have_left("session", "job", asked=100.0)


def test_those_who_are_gone_are_forgotten(listeners: Listeners, clock: Clock) -> None:
    for number in range(100):
        listeners.opened(f"session {number}")
        listeners.closed(f"session {number}")
        clock.now += 1
    assert len(listeners._open) == 0 and len(listeners._closed) <= listening.GRACE + 2


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
        ("GET", "/config", b"", None),
    ],
)
def test_streams_are_told_from_other_requests(method: str, path: str, query: bytes, expected: str | None) -> None:
    scope = {"type": "http", "method": method, "path": path, "query_string": query}
    assert stream_of(scope) == expected
    assert stream_of(scope | {"type": "websocket"}) is None


@pytest.fixture(scope="module")
def address(with_clip: Models) -> Iterator[str]:
    yield launch(with_clip, "127.0.0.1", None, wait=False)
    gr.close_all(verbose=False)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of each picture that a data set begins; each takes a while, in which it reports."""
    begun, original = [], Synthesis._make

    def slowly(self: Synthesis, out: Any, item: Order, report: Report) -> None:
        begun.append(item.number)
        for step in range(20):
            time.sleep(0.02)
            report("waiting", step / 100)
        original(self, out, item, report)

    monkeypatch.setattr(Synthesis, "_make", slowly)
    monkeypatch.setattr(listening, "GRACE", 1.0)
    return begun


def join(visitor: Visitor, elem_id: str, values: dict[int, Any]) -> None:
    """Join the queue, and listen to nothing."""
    event = Page(visitor).event(elem_id)
    data = event.usual | values
    body = {"fn_index": event.number, "data": [data[k] for k in range(len(data))], "session_hash": visitor.session}
    assert visitor.send("POST", "/gradio_api/queue/join", json=body).status == 200


def wait_until(condition: Any) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_a_visitor_who_joins_and_leaves_does_not_hold_the_network(address: str, pictures: list[int]) -> None:
    join(Visitor(address), "dataset-make", {1: PICTURES})
    wait_until(lambda: pictures)
    answer = Visitor(address).call("generate", ["a photo of a cat", 0, 1])
    assert answer.is_good and len(pictures) < PICTURES / 2


def test_a_visitor_who_stops_listening_does_not_hold_the_network(address: str, pictures: list[int]) -> None:
    visitor = Visitor(address)
    join(visitor, "dataset-make", {1: PICTURES})
    with httpx.stream("GET", f"{address}/gradio_api/queue/data", params={"session_hash": visitor.session}) as stream:
        lines = stream.iter_lines()
        while not pictures:
            next(lines)
    answer = Visitor(address).call("generate", ["a photo of a cat", 0, 1])
    assert answer.is_good and len(pictures) < PICTURES / 2


def test_a_program_that_never_reads_its_answer_does_not_hold_the_network(
    address: str, pictures: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr("ovseg.doors.requests.from_prompt", _slow(steps))
    assert Visitor(address).send("POST", "/gradio_api/call/generate", json={"data": ["a cat", 0, 1, None, ""]}).status == 200
    wait_until(lambda: steps)
    join(Visitor(address), "dataset-make", {1: 1})
    wait_until(lambda: pictures)
    assert len(steps) < 500


def _slow(steps: list[int]) -> Any:
    def draw(*given: Any, on_step: Any, **more: Any) -> None:
        for step in range(1000):
            steps.append(step)
            on_step(step, 1000)
            time.sleep(0.02)
        raise ValueError("it was drawn to its end")

    return draw


def test_who_listens_gets_the_whole_data_set(address: str, pictures: list[int]) -> None:
    answer = Visitor(address).press(Page(Visitor(address)), "dataset-make", {1: 4})
    assert answer.is_good and pictures == [0, 1, 2, 3] and "4 pictures made" in answer.text
