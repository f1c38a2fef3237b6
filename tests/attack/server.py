"""The page as a visitor finds it, `python app.py` in a process of its own, and a minimal client that speaks HTTP to it."""

import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.browsers import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 480
# An answer that takes longer counts as a hang; where the machine has other work, as many times longer as it is shared.
HANG_SECONDS = 30.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
NAMED = "/gradio_api/call/"
Value = Any


@dataclass
class Server:
    """A running page. `log` is what it prints."""

    address: str
    process: subprocess.Popen
    log: Path

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def memory(self) -> int:
        """Bytes of resident memory, as Linux says them."""
        return self._bytes("VmRSS")

    def peak(self) -> int:
        """The most bytes of resident memory since `forget_the_peak`."""
        return self._bytes("VmHWM")

    def forget_the_peak(self) -> None:
        """The peak is what is resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(rf"{name}:\s+(\d+)", status)[1])

    def printed(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text(errors="replace")


@contextmanager
def started(folder: Path, **variables: str) -> Iterator[Server]:
    """`python app.py` on a free port, once it answers; it ends with the block.

    Args:
        folder: for the log, uploads and prototypes of this server.
        variables: of its environment.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    own = {"GRADIO_SERVER_PORT": str(port), "OVSEG_PROTOTYPES": str(folder / "prototypes")}
    own |= {"GRADIO_TEMP_DIR": str(folder / "uploads")}
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=os.environ | QUIET | own | variables, stdout=output, stderr=output
        )
        server = Server(f"http://127.0.0.1:{port}", process, log)
        try:
            _wait_for(server)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _wait_for(server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert server.is_alive(), f"the server ended:\n{server.printed()[-2000:]}"
        try:
            httpx.get(f"{server.address}/config", timeout=5)
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise AssertionError(f"the page did not come up in {START_SECONDS} seconds")


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: of HTTP; 0 where the connection broke off.
        text: the body, or the last event's data.
        event: the last event's name, "" where the answer is no stream: "complete" or "error" of a door's call,
            `process_completed` and others of an event of the page.
        values: what an event or a call that went well gave.
    """

    status: int
    text: str
    seconds: float
    event: str = ""
    values: tuple[Value, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether what was asked for was done."""
        return bool(self.status == 200 and self.event in ("", "complete"))


@dataclass
class Visitor:
    """One visitor: a session, and the page that it loaded. It reads no stream for longer than its patience, in seconds."""

    address: str
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    patience: float = HANG_SECONDS + 5
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=httpx.Timeout(HANG_SECONDS + 5), verify=False))

    def send(self, method: str, path: str, **given: Any) -> Answer:
        """One request. `given` is what httpx takes: json, content, headers, files, params."""
        begun = time.monotonic()
        try:
            made = self.http.request(method, self.address + path, **given)
            return Answer(made.status_code, made.text, time.monotonic() - begun)
        except httpx.HTTPError as error:
            return Answer(0, f"{type(error).__name__}: {error}", time.monotonic() - begun)

    def upload(self, content: bytes, name: str = "given.png") -> dict[str, Any]:
        """A file as later requests hand it on.

        Raises:
            AssertionError: it was refused.
        """
        made = self.send("POST", "/gradio_api/upload", files={"files": (name, content)})
        assert made.status == 200, made
        return {"path": json.loads(made.text)[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def call(self, door: str, values: Value) -> Answer:
        """Call a door: `values` are all its values, in order."""
        return self.call_as(door, json.dumps({"data": values}).encode())

    def call_as(self, door: str, body: bytes) -> Answer:
        """Call a door with any body."""
        begun = time.monotonic()
        sent = self.send("POST", f"{NAMED}{door}", content=body, headers={"content-type": "application/json"})
        if sent.status != 200:
            return sent
        return self._stream(f"{NAMED}{door}/{json.loads(sent.text)['event_id']}", {}, begun)

    def press(self, page: "Page", elem_id: str, values: Mapping[int, Value] | None = None, **given: Any) -> Answer:
        """Do what a click on a part of the page does.

        Args:
            values: what takes the place of the parts' own values, by their place in the event's inputs.
            given: more of the request, such as event_data; `event` is another event of the part than a click.
        """
        event = page.event(elem_id, given.pop("event", "click"))
        data = event.usual | (values or {})
        return self.join({"fn_index": event.number, "data": [data[k] for k in range(len(data))], **given})

    def join(self, body: Mapping[str, Value]) -> Answer:
        """Join the queue with any body, and wait for the end."""
        begun = time.monotonic()
        content = json.dumps({"session_hash": self.session, **body}).encode()  # httpx itself refuses to send NaN
        sent = self.send("POST", "/gradio_api/queue/join", content=content, headers={"content-type": "application/json"})
        if sent.status != 200:
            return sent
        hash_of = body.get("session_hash", self.session)
        return self._stream("/gradio_api/queue/data", {"session_hash": hash_of}, begun)

    def hears_to_the_end(self) -> Answer:
        """Read what a job gives that this session has asked for."""
        return self._stream("/gradio_api/queue/data", {"session_hash": self.session}, time.monotonic())

    def _stream(self, path: str, params: Mapping[str, str], begun: float) -> Answer:
        """The last event of a stream: of a door's call, or of the queue."""
        event, data = "", ""
        try:
            with self.http.stream("GET", self.address + path, params=params) as made:
                for line in made.iter_lines():
                    if line.startswith("event: "):
                        event = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        data, event = _kept(line.removeprefix("data: "), data, event)
                    if (data and event) or time.monotonic() - begun > self.patience:
                        break
                status = made.status_code
        except httpx.HTTPError as error:
            return Answer(0, f"{type(error).__name__}: {error}", time.monotonic() - begun, event)
        return _answer(status, event, data, time.monotonic() - begun)


def _kept(line: str, data: str, event: str) -> tuple[str, str]:
    """The data and the name of an event: the queue names its messages inside their data."""
    if event in ("complete", "error"):
        return line, event
    message = json.loads(line) if line.startswith("{") else {}
    name = message.get("msg", "") if isinstance(message, dict) else ""
    return (line, name) if name in ("process_completed", "unexpected_error") else (data, event)


def _answer(status: int, event: str, data: str, seconds: float) -> Answer:
    if event == "process_completed":
        message = json.loads(data)
        output = message.get("output") or {}
        if message["success"]:
            return Answer(status, data, seconds, "complete", tuple(output.get("data") or ()))
        return Answer(status, json.dumps(output), seconds, "error")
    values = tuple(json.loads(data) or ()) if event == "complete" and data else ()
    return Answer(status, data, seconds, event, values)


@dataclass(frozen=True)
class Event:
    """An event of the page: its number, and its inputs as the page has them when it opens, by their place."""

    number: int
    usual: dict[int, Value]


class Page:
    """What the page says of itself: its parts and their events."""

    def __init__(self, visitor: Visitor) -> None:
        config = json.loads(visitor.send("GET", "/config").text)
        self.parts = {part["id"]: part for part in config["components"]}
        self.events: Sequence[dict[str, Any]] = config["dependencies"]

    def event(self, elem_id: str, name: str = "click") -> Event:
        """The event of this name of a part that runs on the server.

        Raises:
            AssertionError: there is none.
        """
        for event in self.events:
            targets = [(self._elem_id(target[0]), target[1]) for target in event["targets"]]
            if (elem_id, name) in targets and event["backend_fn"]:
                return Event(event["id"], {k: self._value(part) for k, part in enumerate(event["inputs"])})
        raise AssertionError(f"the page has no event {name} of {elem_id}")

    def inputs_of(self, elem_id: str, name: str = "click") -> list[str]:
        """The names of the parts whose values an event takes; "" for a part without one."""
        number = self.event(elem_id, name).number
        (found,) = (each for each in self.events if each["id"] == number)
        return [self._elem_id(part) for part in found["inputs"]]

    def place_of(self, elem_id: str, event: str, input_id: str) -> int:
        """The place of a part among the inputs of an event."""
        return self.inputs_of(elem_id, event).index(input_id)

    def _elem_id(self, part: int) -> str:
        return self.parts.get(part, {"props": {}})["props"].get("elem_id") or ""

    def _value(self, part: int) -> Value:
        return None if self.parts[part]["type"] == "state" else self.parts[part]["props"].get("value")
