"""Malformed requests, made from tables: pictures, words, numbers, shapes of JSON, tricks with sessions and events."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from tests.attack.server import Answer, Page, Visitor

GUARD = "background"  # no class word: what is checked before the words is seen, and no network runs


@dataclass(frozen=True)
class Case:
    """One request. `kind` is the table that it comes from; `send` does it, by a visitor with the page that was loaded."""

    kind: str
    name: str
    send: Callable[[Visitor, Page], Answer]


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


GOOD = saved(Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)), "PNG")


def bomb(width: int, height: int) -> bytes:
    """A PNG that says that it has so many pixels, and holds hardly any."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def bad_files() -> Iterator[tuple[str, bytes]]:
    """Files that are no pictures, damaged ones, and pictures that are too large."""
    yield from [
        ("empty", b""), ("text", b"hello"), ("zeros", bytes(5000)), ("pdf", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF"),
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'), ("html", b"<html><script>1</script>"),
        ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"),
        ("zip", b"PK\x03\x04" + bytes(100)), ("signature alone", b"\x89PNG\r\n\x1a\n"), ("gif header", b"GIF89a"),
        ("long", saved(Image.new("RGB", (1700, 10)), "PNG")), ("white bomb", saved(Image.new("1", (9000, 9000)), "PNG")),
    ]  # fmt: skip
    for size in ((2**31 - 1, 2**31 - 1), (65000, 65000), (13000, 13000), (0, 0), (0, 100), (50_000_001, 1)):
        yield f"bomb {size}", bomb(*size)
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "TGA", "PCX"):
        whole = saved(picture, kind)
        for share in (0.01, 0.1, 0.5):
            yield f"{kind} cut at {share}", whole[: int(len(whole) * share)]
        for number in range(4):
            changed = bytearray(whole)
            for place in random.integers(0, min(len(whole), 300), 6):
                changed[place] = random.integers(0, 256)
            yield f"{kind} changed {number}", bytes(changed)


def pictures(page: Page) -> Iterator[Case]:
    """Each file by the page's two uploads, as a truth, and by a door; beside it a value that is wrong in any case."""

    def uploaded(content: bytes, elem_id: str, event: str, visitor: Visitor, page: Page) -> Answer:
        return visitor.press(page, elem_id, {0: visitor.upload(content)}, event=event)

    def as_truth(content: bytes, visitor: Visitor, page: Page) -> Answer:
        visitor.press(page, "scene-number", {0: 12}, event="submit")
        visitor.press(page, "truth", {1: visitor.upload(content, "truth.png")}, event="change")
        return visitor.press(page, "run")

    def by_door(content: bytes, visitor: Visitor, page: Page) -> Answer:
        return visitor.call("segment", [visitor.upload(content), GUARD])

    for name, content in bad_files():
        yield Case("pictures", f"{name}, on the page", partial(uploaded, content, "upload", "upload"))
        yield Case("pictures", f"{name}, in Look inside", partial(uploaded, content, "inside-upload", "change"))
        yield Case("pictures", f"{name}, through the door", partial(by_door, content))
        if len(content) < 100 or name.endswith("0.1"):
            yield Case("pictures", f"{name}, as a truth", partial(as_truth, content))


BAD_WORDS: dict[str, Any] = {
    "one word of 30,000 characters": "w" * 30_000, "a word of 201 characters": "w" * 201, "many words": "a " * 40_000,
    "300 classes": ",".join(f"w{k}" for k in range(300)), "129 classes": ",".join(f"w{k}" for k in range(129)),
    "2,000 phrases": "|".join(f"w{k}" for k in range(2000)), "258 phrases": ",".join(f"a{k}|b{k}|c{k}" for k in range(86)),
    "262,144 words": ",".join(f"{k:x}" for k in range(2**18)), "bars": "||||", "commas and a bar": ",,|,,",
    "twice": "cat, CAT", "background": "background", "a surrogate": "cat \ud800", "another surrogate": "\udfff",
    "a bar at the end": "cat|", "characters of 4 bytes": "\U0001f408" * 300, "combining": "a" + "\u0301" * 3000,
    "zero bytes": "\0" * 300 + "|", "right to left": "\u202e" * 250, "a script": "<img src=x onerror=alert(1)>|",
    "a path": "/etc/passwd|", "braces": "{}|{}", "a bar and spaces": " | ",
}  # fmt: skip
NO_TEXTS: dict[str, Any] = {"a number": 5, "a list": ["cat"], "an object": {"a": 1}, "true": True, "nothing": None}


def words(page: Page) -> Iterator[Case]:
    """Class words, captions and prompts, wherever they are taken."""

    def pressed(text: str, elem_id: str, place: str, visitor: Visitor, page: Page) -> Answer:
        visitor.press(page, "scene-number", {0: 12}, event="submit")
        return visitor.press(page, elem_id, {page.place_of(elem_id, "click", place): text})

    def by_door(values: Sequence[Any], visitor: Visitor, page: Page) -> Answer:
        return visitor.call("segment", [visitor.upload(GOOD), *values])

    def drawn(text: Any, visitor: Visitor, page: Page) -> Answer:
        return visitor.call("generate", ["cat", 0, 1, 1.0, text])

    for name, text in BAD_WORDS.items():
        for elem_id, place in (("check-classes", "classes"), ("dataset-make", "dataset-classes"), ("run", "classes")):
            yield Case("words", f"{name}, {elem_id}", partial(pressed, text, elem_id, place))
    for name, text in (BAD_WORDS | NO_TEXTS).items():
        long = text if not isinstance(text, str) or len(text) > 2000 else text * 2001
        yield Case("words", f"{name}, segment", partial(by_door, [text]))
        yield Case("words", f"{name}, as a caption", partial(by_door, ["cat", "magic", None, 0, long]))
        yield Case("words", f"{name}, not to be drawn", partial(drawn, long))


BAD_NUMBERS: dict[str, Any] = {
    "NaN": float("nan"), "1e999": float("inf"), "-1e999": float("-inf"), "1e30": 1e30, "-1": -1, "2 to the 64": 2**64,
    "text": "x", "nothing": None, "a list": [1], "an object": {"a": 1}, "a surrogate": "\ud800", "1e308": 1e308,
}  # fmt: skip
FIELDS = {
    "scene-number": ("scene-number", "submit"), "picture-seed": ("draw", "click"), "steps": ("draw", "click"),
    "dataset-count": ("dataset-make", "click"), "dataset-pairs": ("dataset-make", "click"),
    "dataset-seed": ("dataset-make", "click"), "seed": ("run", "click"), "inside-seed": ("inside-look", "click"),
    "inside-steps": ("inside-look", "click"), "inside-guidance": ("inside-look", "click"),
}  # fmt: skip


def numbers(page: Page) -> Iterator[Case]:
    """Wrong numbers for each field of the page and each number of the doors."""

    def pressed(field: str, of: tuple[str, str], value: Any, visitor: Visitor, page: Page) -> Answer:
        given = {page.place_of(*of, field): value}
        if of[0] == "run":
            given[page.place_of("run", "click", "classes")] = GUARD
        return visitor.press(page, of[0], given, event=of[1])

    def turned(method: str, setting: str, value: Any, visitor: Visitor, page: Page) -> Answer:
        place = page.place_of("run", "click", "methods")
        lines = json.loads(json.dumps(page.event("run").usual[place])) | {"used": [method]}
        lines["settings"][method]["values"][setting] = value
        return visitor.press(page, "run", {place: lines, page.place_of("run", "click", "classes"): GUARD})

    def called(door: str, values: Sequence[Any], visitor: Visitor, page: Page) -> Answer:
        return visitor.call(door, [*([] if door == "generate" else [visitor.upload(GOOD)]), *values])

    settings = page.event("run").usual[page.place_of("run", "click", "methods")]["settings"]
    for name, value in BAD_NUMBERS.items():
        for field, of in FIELDS.items():
            yield Case("numbers", f"{name} for {field}", partial(pressed, field, of, value))
        for method, held in settings.items():
            for setting in held["values"]:
                yield Case("numbers", f"{name} for {method}'s {setting}", partial(turned, method, setting, value))
        asked = {"segment": [GUARD, "diffsegmenter", None, value], "compare": [GUARD, None, value], "generate": ["", value]}
        for door, values in asked.items():
            yield Case("numbers", f"{name} for the seed of {door}", partial(called, door, values))
        for setting in ("threshold", "draws", "timesteps", "stride_weights", "prompt", "last_token"):
            values = ["cat", "diffsegmenter", {setting: value, "magic": 1}]
            yield Case("numbers", f"{name} for {setting} of segment", partial(called, "segment", values))


BODIES: dict[str, bytes] = {
    "nothing": b"", "half": b"{", "null": b"null", "list": b"[]", "number": b"5", "text": b'"x"', "object": b"{}",
    "data null": b'{"data": null}', "data number": b'{"data": 5}', "data text": b'{"data": "x"}',
    "data object": b'{"data": {}}', "data empty": b'{"data": []}', "deep": b"[" * 100_000,
    "nested": b'{"data": ' + b"[" * 500 + b"]" * 500 + b"}", "deep objects": b'{"a":' * 50_000,
    "NaN": b'{"data": [NaN]}', "infinity": b'{"data": [-Infinity]}', "a surrogate": b'{"data": ["\\ud800"]}',
    "not UTF-8": b'{"data": ["\xff\xfe"]}', "UTF-16": '{"data": []}'.encode("utf-16"), "comment": b'{"data": [] /* */}',
    "twice": b'{"data": [1], "data": [2]}', "long number": b'{"data": [' + b"9" * 5000 + b"]}",
    "zero byte": b'{"data": ["\\u0000"]}', "trailing": b'{"data": []} x',
    "many values": json.dumps({"data": [0] * 5000}).encode(),
    "session number": b'{"data": [], "session_hash": 5, "fn_index": 30}',
    "session list": b'{"data": [], "session_hash": [], "fn_index": 30}',
    "session object": b'{"data": [], "session_hash": {}, "fn_index": 30}',
    "index text": b'{"data": [], "session_hash": "s", "fn_index": "x"}',
    "index below": b'{"data": [], "session_hash": "s", "fn_index": -1}',
    "index above": b'{"data": [], "session_hash": "s", "fn_index": 99999}',
    "index fraction": b'{"data": [], "session_hash": "s", "fn_index": 1.5}',
    "index huge": b'{"data": [], "session_hash": "s", "fn_index": 99999999999999999999999}',
    "index null": b'{"data": [], "session_hash": "s", "fn_index": null}',
    "session of a surrogate": b'{"data": [], "session_hash": "\\ud800", "fn_index": 30}',
}  # fmt: skip
ROUTES = (
    "call/segment", "call/compare", "call/caption", "call/generate", "call/magic", "call/v2/segment", "call/v2/magic",
    "queue/join", "run/segment", "run/magic", "api/segment", "cancel", "reset", "component_server", "upload",
)  # fmt: skip
PATHS = (
    "/gradio_api/call/segment/nothing", "/gradio_api/call/magic/nothing", "/gradio_api/queue/data",
    "/gradio_api/queue/data?session_hash=nobody", "/gradio_api/queue/data?session_hash=%ED%A0%80",
    "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/gradio_api/file=app.py", "/gradio_api/file=",
    "/gradio_api/file=%00", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/proxy=x", "/nothing", "/gradio_api/nothing",
    "/gradio_api/upload_progress?upload_id=x", "/static/../app.py", "/static/%2e%2e/%2e%2e/app.py", "/assets/nothing",
    "/gradio_api/custom_component/a/b/c/d", "/gradio_api/stream/a/b/1/playlist.m3u8", "/gradio_api/heartbeat",
    "/gradio_api/app_id/x", "/monitoring/x", "/svelte/x", "/gradio_api/deep_link?session_hash=x", "/?deep_link=x",
    "/?words=%ED%A0%80", "/gradio_api/run/segment", "/gradio_api/queue/join", "/manifest.json/x", "/%00",
    "/gradio_api/file=http://127.0.0.1:9/a.png", "/gradio_api/call", "/login",
)  # fmt: skip


def shapes(page: Page) -> Iterator[Case]:
    """Bodies of every shape to every route that takes one, and paths that lead nowhere."""

    def posted(route: str, body: bytes, visitor: Visitor, page: Page) -> Answer:
        if route.startswith("call/") and not route.startswith("call/v2"):
            return visitor.call_as(route.removeprefix("call/"), body)
        return visitor.send("POST", f"/gradio_api/{route}", content=body, headers={"content-type": "application/json"})

    def asked(method: str, path: str, visitor: Visitor, page: Page) -> Answer:
        return visitor.send(method, path)

    for route in ROUTES:
        for name, body in BODIES.items():
            yield Case("shapes", f"{name} to {route}", partial(posted, route, body))
    for path in PATHS:
        for method in ("GET", "POST", "DELETE"):
            yield Case("shapes", f"{method} {path}", partial(asked, method, path))


VALUES: dict[str, Any] = {
    "nothing": None, "text": "x" * 300, "a number": 1e30, "a list": [[]], "an object": {"path": "/etc/passwd"},
    "a file": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "a surrogate": "\ud800",
}  # fmt: skip


def values_of_events(page: Page) -> Iterator[Case]:
    """Each event of the page with the same wrong value everywhere, with no value and with too many; in new sessions."""

    def joined(number: int, data: Sequence[Any], visitor: Visitor, page: Page) -> Answer:
        return visitor.join({"fn_index": number, "data": data})

    for event in page.events:
        if event["backend_fn"] and event["api_visibility"] != "public":
            count = len(event["inputs"])
            wrong = {name: [value] * count for name, value in VALUES.items()} if count else {}
            for name, data in (wrong | {"no values": [], "too many": [None] * (count + 50)}).items():
                yield Case("values", f"{name} to event {event['id']}", partial(joined, event["id"], data))


EVENT_DATA: dict[str, Any] = {
    "nothing": None, "text": "x", "a number": 5, "a list": [], "an object": {}, "NaN": {"index": [float("nan"), 0]},
    "an index of text": {"index": "x", "value": "y"}, "an index far away": {"index": 10**30, "value": None},
    "an index below": {"index": -50, "value": None}, "an index of texts": {"index": ["a", "b"], "value": None},
    "an index of nothing": {"index": None, "value": None}, "a long index": {"index": [0] * 10_000, "value": None},
    "a token of text": {"token": "x"}, "a token far away": {"token": 10**9}, "a layer of text": {"layer": "x", "level": []},
    "a layer far away": {"layer": 10**9, "level": -1}, "weights of text": {"weights": "x"},
    "weights of lists": {"weights": {"a": []}}, "a threshold of text": {"threshold": "x"},
    "a surrogate": {"index": "\ud800", "value": "\ud800", "token": "\ud800"},
}  # fmt: skip
WITH_DATA = (
    ("examples", "select"), ("inside-examples", "select"), ("board", "select"), ("board", "look"), ("inside", "heads"),
    ("inside", "token"), ("inside", "select"), ("inside", "weigh"),
)  # fmt: skip
TRICKS: dict[str, dict[str, Any]] = {
    "a session of 20,000 characters": {"session_hash": "s" * 20_000}, "no session": {"session_hash": None},
    "an empty session": {"session_hash": ""}, "a session like a path": {"session_hash": "../../etc"},
    "a batch": {"batched": True}, "a batch of a list": {"batched": [1]}, "a trigger that is none": {"trigger_id": 10**9},
    "a trigger of text": {"trigger_id": "x"}, "an event of its own": {"event_id": "mine"}, "simple": {"simple_format": True},
    "an event of an object": {"event_id": {}}, "data of a door": {"fn_index": 0, "data": [None]},
    "a door that is none": {"fn_index": 10**6}, "an event of the browser": {"fn_index": 5}, "a token": {"oauth_token": [1]},
}  # fmt: skip
HEADERS = {
    "another host": {"host": "evil.example"}, "no host": {"host": ""}, "a long host": {"host": "h" * 5000},
    "another origin": {"origin": "https://evil.example"}, "a null origin": {"origin": "null"},
}  # fmt: skip
FILE_NAMES = ("../../../etc/cron.d/x", "a" * 4000, "\0", "", "/etc/passwd", "con.png", "..", "a b.png", "\u202egnp.png")


def tricks(page: Page) -> Iterator[Case]:
    """Clicks with data of every shape, and requests in the name of somebody or something else."""

    def clicked(of: tuple[str, str], data: Any, visitor: Visitor, page: Page) -> Answer:
        return visitor.press(page, of[0], event=of[1], event_data=data)

    def tricked(given: dict[str, Any], visitor: Visitor, page: Page) -> Answer:
        return visitor.join({"fn_index": page.event("scene-number", "submit").number, "data": [-5], **given})

    def uploaded(header: dict[str, str], visitor: Visitor, page: Page) -> Answer:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n--b--\r\n'
        return visitor.send("POST", "/gradio_api/upload", content=body, headers=kind | header)

    def named(name: str, visitor: Visitor, page: Page) -> Answer:
        return visitor.send("POST", "/gradio_api/upload", files={"files": (name, b"hello")})

    for of in WITH_DATA:
        for name, data in EVENT_DATA.items():
            yield Case("tricks", f"{of[0]}.{of[1]} with {name}", partial(clicked, of, data))
    for name, given in TRICKS.items():
        yield Case("tricks", name, partial(tricked, given))
    for name, header in HEADERS.items():
        yield Case("tricks", f"an upload with {name}", partial(uploaded, header))
    for name in FILE_NAMES:
        yield Case("tricks", f"an upload called {name[:20]!r}", partial(named, name))


TABLES: dict[str, Callable[[Page], Iterator[Case]]] = {
    "pictures": pictures, "words": words, "numbers": numbers, "shapes": shapes, "values": values_of_events, "tricks": tricks,
}  # fmt: skip


def every_case(page: Page) -> list[Case]:
    """All malformed requests against a page."""
    return [case for table in TABLES.values() for case in table(page)]
