"""Visitors of a public page: many at once, many one after the other, and those who leave, stop or meet a server that was
killed. Prints the figures that docs/security.md holds: python -m pytest -m attack -s tests/attack/test_visitors.py
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ovseg.methods.ovdiff.store import Store
from ovseg.methods.ovdiff.word_folder import read
from ovseg.pocket.world import scene
from tests.attack.server import HANG_SECONDS, Page, Server, Visitor, started

pytestmark = [pytest.mark.attack, pytest.mark.timeout(3600)]

BEST = re.compile(r'"best":"([^"]+)"')  # the best class of each pixel, in what the board is sent
AT_ONCE, IN_A_ROW, FIRST = 50, 200, 10
GROWTH = 100e6  # bytes of resident memory between the first ten visitors and the last
RIGHT, SLACK = 1 / 3, 3.0  # how far a wait may be from what was expected: a share of it, and seconds that all waits have
MOST_BYTES = 1.5e9  # that one request may add
MOST_SECONDS = 60 + 5  # for which one request may keep the network from others: `Limits.busy_seconds`, and a step


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("visitors")) as server:
        yield server


@dataclass(frozen=True)
class Seen:
    """What a visitor saw of a run: places in line and expected waits with the seconds at which they were said, the end."""

    said: tuple[tuple[float, int, float | None], ...]
    seconds: float
    masks: tuple[str, ...]


def watched(visitor: Visitor, page: Page, elem_id: str, values: dict[int, object], begun: float) -> Seen:
    """Press a button, and watch until the run ends.

    Raises:
        AssertionError: it did not end well.
    """
    event, said, masks = page.event(elem_id), [], dict[str, None]()
    data = event.usual | values
    body = {"fn_index": event.number, "data": [data[k] for k in range(len(data))], "session_hash": visitor.session}
    assert visitor.send("POST", "/gradio_api/queue/join", json=body).status == 200
    waits = httpx.Timeout(600.0)
    with httpx.stream("GET", f"{visitor.address}/gradio_api/queue/data", params={"session_hash": visitor.session},
                      timeout=waits) as stream:  # fmt: skip
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "estimation":
                said.append((time.monotonic() - begun, message["rank"], message["rank_eta"]))
            masks |= dict.fromkeys(BEST.findall(line))  # each comes once, in the step with which its method ends
            if message.get("msg") == "process_completed":
                assert message["success"] and masks, message["output"]
                return Seen(tuple(said), time.monotonic() - begun, tuple(masks))
    raise AssertionError("the stream ended before the run")


def visit(server: Server, number: int, together: threading.Barrier | None = None) -> Seen:
    """A new visitor segments one scene by one method, with words of its own.

    Args:
        together: where those meet who press Run at the same moment.
    """
    visitor = Visitor(server.address)
    page = Page(visitor)
    assert visitor.press(page, "scene-number", {0: number}, event="submit").is_good
    words = ", ".join(dict.fromkeys(scene("val", number).things))
    places = {name: page.place_of("run", "click", name) for name in ("classes", "methods")}
    method = page.event("run").usual[places["methods"]] | {"used": ["diffsegmenter"]}
    if together:
        together.wait(300)
    return watched(visitor, page, "run", {places["classes"]: words, places["methods"]: method}, time.monotonic())


def test_fifty_visitors_at_once_each_get_their_own_answer_and_a_true_wait(server: Server) -> None:
    numbers = range(100, 100 + AT_ONCE)
    alone = [visit(server, number) for number in numbers]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        meeting = threading.Barrier(AT_ONCE)
        together = list(pool.map(lambda number: visit(server, number, meeting), numbers))
    wrong = [n for n, one, many in zip(numbers, alone, together, strict=True) if one.masks != many.masks]
    assert not wrong and len({one.masks for one in alone}) > AT_ONCE * 0.9
    firsts = [next(((at, eta) for at, _, eta in seen.said if eta is not None), None) for seen in together]
    assert all(firsts), "a visitor saw no expected wait"
    waits = [(seen.seconds - at, eta) for seen, (at, eta) in zip(together, firsts, strict=True)]
    errors = sorted(abs(wait - eta) / max(wait, eta, 1e-9) for wait, eta in waits)
    shares = sorted(wait / max(eta, 1e-9) for wait, eta in waits)  # all alike where the machine became faster or slower
    print(
        f"\n{AT_ONCE} at once: all right; waits up to {max(seen.seconds for seen in together):.0f} s,"
        f" {errors[AT_ONCE // 2]:.0%} wrong (median), {errors[-1]:.0%} at most;"
        f" a wait was {shares[0]:.2f} to {shares[-1]:.2f} of what was expected (median {shares[AT_ONCE // 2]:.2f})"
    )
    assert all(abs(wait - eta) <= RIGHT * max(wait, eta) + SLACK for wait, eta in waits)


def test_new_visitors_in_a_row_leave_no_memory_behind(server: Server) -> None:
    for number in range(FIRST):
        visit(server, number)
    after_ten = server.memory()
    for number in range(FIRST, IN_A_ROW):
        visit(server, number)
    growth = server.memory() - after_ten
    print(
        f"\n{IN_A_ROW} in a row: {growth / 1e6:+.0f} MB between visitor {FIRST} and {IN_A_ROW}, at {after_ten / 1e6:.0f} MB"
    )
    assert growth < GROWTH


def ask_for_a_data_set(visitor: Visitor) -> None:
    """Ask for 64 pictures, which takes minutes, and listen to nothing."""
    page = Page(visitor)
    event = page.event("dataset-make")
    data = event.usual | {page.place_of("dataset-make", "click", "dataset-count"): 64}
    body = {"fn_index": event.number, "data": [data[k] for k in range(len(data))], "session_hash": visitor.session}
    assert visitor.send("POST", "/gradio_api/queue/join", json=body).status == 200


def seconds_until_free(server: Server) -> float:
    """How long another visitor waits for the network."""
    begun = time.monotonic()
    waiting = Visitor(server.address, patience=MOST_SECONDS + HANG_SECONDS)
    answer = waiting.call("generate", ["a photo of a cat", 0, 1, None, ""])
    assert answer.is_good, answer
    return time.monotonic() - begun


def test_who_joins_and_never_listens_does_not_hold_the_network(server: Server) -> None:
    before = server.memory()
    ask_for_a_data_set(Visitor(server.address))
    time.sleep(1)
    waited = seconds_until_free(server)
    print(f"\njoined and never listened: the network was free after {waited:.1f} s")
    assert waited < HANG_SECONDS and server.memory() - before < MOST_BYTES


@pytest.mark.parametrize("how", ["leaves", "stops"])
def test_who_leaves_or_stops_frees_the_network(server: Server, how: str) -> None:
    visitor = Visitor(server.address)
    ask_for_a_data_set(visitor)
    with httpx.stream("GET", f"{server.address}/gradio_api/queue/data", params={"session_hash": visitor.session},
                      timeout=60) as stream:  # fmt: skip
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_generating":
                break
        if how == "stops":
            number = Page(visitor).event("dataset-make").number
            body = {"session_hash": visitor.session, "fn_index": number, "event_id": message["event_id"]}
            assert visitor.send("POST", "/gradio_api/cancel", json=body).status == 200
            waited = seconds_until_free(server)
    if how == "leaves":
        waited = seconds_until_free(server)
    print(f"\n{how}: the network was free after {waited:.1f} s")
    assert waited < HANG_SECONDS


def test_who_asks_for_much_gives_way_to_who_waits(server: Server) -> None:
    visitor = Visitor(server.address, patience=MOST_SECONDS + HANG_SECONDS)
    ask_for_a_data_set(visitor)
    with ThreadPoolExecutor(1) as pool:
        reads = pool.submit(visitor.hears_to_the_end)
        waited = seconds_until_free(server)
        given_way = reads.result()
    print(f"\na data set of 64 pictures, while another waits: the network was free after {waited:.1f} s")
    assert waited < MOST_SECONDS and "because others wait" in given_way.text


def test_a_server_that_is_killed_loses_nothing_that_was_whole(tmp_path: Path) -> None:
    for seconds in (2.0, 5.0):
        with started(tmp_path) as server:
            picture = Visitor(server.address).upload(Path("assets/examples/cat-car.png").read_bytes())
            asked = [picture, f"green thing {seconds}", "ovdiff", {"images": 4}]
            thread = threading.Thread(target=lambda a=server.address, v=asked: Visitor(a).call("segment", v), daemon=True)
            thread.start()
            time.sleep(seconds)
            server.process.kill()
            server.process.wait()
    whole = [read(path) for path, _ in Store(tmp_path / "prototypes").files()]
    with started(tmp_path) as server:
        assert visit(server, 100).masks
    print(f"\nkilled twice: {len(whole)} files of the store, all whole; the page came up again")
