"""What every request passes before Gradio sees it, and what a page takes in, against a page that is served."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ovseg.demo.build import build, launch
from ovseg.demo.picture import of_file
from ovseg.limits import limits
from ovseg.models import Models
from ovseg.pictures import read_image
from ovseg.server import guard
from ovseg.server.component_values import check_characters, check_value
from tests.attack.judging import faults_of, message_of, try_all
from tests.attack.requests import GOOD, every_case, saved
from tests.attack.server import HANG_SECONDS, Answer, Page, Visitor


@pytest.fixture(scope="module")
def visitor(with_clip: Models) -> Iterator[Visitor]:
    """A visitor of a page of tiny networks."""
    yield Visitor(launch(with_clip, "127.0.0.1", None, wait=False).rstrip("/"))
    gr.close_all(verbose=False)


@pytest.fixture(scope="module")
def page(visitor: Visitor) -> Page:
    return Page(visitor)


def test_malformed_requests_are_refused_by_sentences(visitor: Visitor, page: Page) -> None:
    """Every 40th of the requests of `tests/attack`, which take minutes, and all that send nothing for a value."""
    cases = [case for k, case in enumerate(every_case(page)) if k % 40 == 0 or case.name.startswith("nothing")]
    cases = [case for case in cases if "generate" not in case.name]
    figures = try_all(visitor.address, cases, page)
    assert len(cases) > 50 and set(figures.sent) == {"pictures", "words", "numbers", "shapes", "values", "tricks"}
    assert not figures.faults, "\n".join(figures.examples)


def test_what_opaque_means() -> None:
    for text in ('{"error": null}', '{"error": "Error"}', "Internal Server Error", '{"detail": [{"msg": "x"}]}', ""):
        assert faults_of(Answer(500, text, 0.1)) == ["opaque"], text
    assert faults_of(Answer(200, '{"error": null}', 0.1, "error")) == ["opaque"]
    assert faults_of(Answer(0, "ReadError", 0.1)) == ["crashes"]
    assert faults_of(Answer(200, "", HANG_SECONDS + 1)) == ["hangs"]
    assert faults_of(Answer(400, '{"error": "The file /root/x/y must be one."}', 0.1)) == ["server paths"]
    assert faults_of(Answer(400, '{"error": "The file must be one, but is none."}', 0.1)) == []


HEADERS = {
    "content-security-policy": "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    "x-content-type-options": "nosniff", "referrer-policy": "same-origin", "permissions-policy": "camera=()",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/nothing", "/gradio_api/call/segment/nothing"])
def test_every_answer_has_the_headers(visitor: Visitor, path: str) -> None:
    made = visitor.http.get(visitor.address + path)
    for name, part in HEADERS.items():
        assert part in made.headers[name], name


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200), ({"origin": "{own}"}, 200), ({"origin": "https://evil.example"}, 403), ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 421), ({"host": "localhost:1"}, 200), ({"host": "evil.example", "origin": "{own}"}, 421),
    ],
)  # fmt: skip
def test_uploads_come_from_the_page_itself(visitor: Visitor, headers: dict[str, str], status: int) -> None:
    given = {name: value.format(own=visitor.address) for name, value in headers.items()}
    answer = visitor.send("POST", "/gradio_api/upload", files={"files": ("a.png", GOOD)}, headers=given)
    assert answer.status == status
    assert status == 200 or " must " in message_of(answer)


def test_a_public_page_has_the_names_that_its_owner_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert guard.allowed_hosts("0.0.0.0") == () and "127.0.0.1" in guard.allowed_hosts("127.0.0.1")
    monkeypatch.setenv("OVSEG_HOSTS", "Example.org, www.example.org")
    assert guard.allowed_hosts("0.0.0.0") == guard.allowed_hosts("127.0.0.1") == ("example.org", "www.example.org")
    assert [guard._name(host) for host in ("Example.org:80", "[::1]:7860", "::1", "a.b.")] == [
        "example.org",
        "::1",
        "",
        "a.b",
    ]


def test_doors_of_a_public_page_can_be_called_from_other_websites(visitor: Visitor) -> None:
    def scope(host: str, path: str) -> dict[str, Any]:
        headers = [(b"host", host.encode()), (b"origin", b"https://other.example")]
        return {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}

    public = guard.Guard(lambda *_: None, ())
    assert public.refusal(scope("name.hf.space", "/gradio_api/call/segment")) is None
    assert public.refusal(scope("name.hf.space", "/gradio_api/upload")).status_code == 403
    assert public.refusal(scope("127.0.0.1:7860", "/gradio_api/call/segment")).status_code == 403


def test_long_requests_are_refused(visitor: Visitor) -> None:
    most = limits().request_bytes
    body = b'{"data": ["' + b"x" * most + b'"]}'
    kind = {"content-type": "application/json"}
    parts = (body[k : k + 100_000] for k in range(0, len(body), 100_000))  # in parts: without a length beforehand
    for content in (body, parts):
        answer = visitor.send("POST", "/gradio_api/queue/join", content=content, headers=kind)
        assert answer.status == 413 and message_of(answer) == guard.long_body(most)
    large = bytes(limits().upload_bytes + 1000)
    answer = visitor.send("POST", "/gradio_api/upload", files={"files": ("a.png", large)})
    assert answer.status == 413 and "maximum allowed size" in answer.text


SAME = {
    "transparent.png": saved(Image.new("RGBA", (40, 30), (255, 0, 0, 90)), "PNG"),
    "grey-16.png": saved(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "PNG"),
    "float.tif": saved(Image.fromarray(np.linspace(0, 900, 1200, dtype=np.float32).reshape(30, 40)), "TIFF"),
    "animated.gif": saved(Image.new("P", (40, 30), 7), "GIF", save_all=True, append_images=[Image.new("P", (40, 30), 9)]),
    "colours.jpg": saved(Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 50).convert("CMYK"), "JPEG"),
}  # fmt: skip


@pytest.fixture(scope="module")
def upload(with_clip: Models) -> gr.Image:
    """The page's own upload."""
    return next(part for part in build(with_clip).blocks.values() if part.elem_id == "upload")


@pytest.mark.parametrize("name", SAME)
def test_the_page_reads_pictures_as_the_command_line_does(
    visitor: Visitor, page: Page, upload: gr.Image, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(SAME[name])
    expected = read_image(tmp_path / name)
    assert np.array_equal(of_file(tmp_path / name).image, expected)
    answer = visitor.press(page, "inside-upload", {0: visitor.upload(SAME[name], name)}, event="change")
    assert answer.is_good
    payload = upload.data_model(path=str(tmp_path / name), orig_name=name)
    assert upload.preprocess(payload) == str(tmp_path / name)  # the file as it came


def test_a_bad_picture_is_one_sentence_on_the_page(visitor: Visitor, page: Page) -> None:
    for elem_id, event in (("upload", "upload"), ("inside-upload", "change")):
        for content in (b"", b"hello", GOOD[:100]):
            answer = visitor.press(page, elem_id, {0: visitor.upload(content)}, event=event)
            assert answer.event == "error" and "must be an image file that Pillow reads, but" in message_of(answer)


@pytest.mark.parametrize(
    "part, good, bad",
    [
        (gr.Slider(0, 5, label="S"), [0, 5, 2.5], [None, 6, -1, "1", True, float("nan"), float("inf")]),
        (gr.Number(label="S"), [None, 5, -3.5], ["1", True, float("nan"), 1e301, []]),
        (gr.Number(minimum=0, label="S"), [None, 5], [-1]),
        (gr.Checkbox(label="S"), [True, False], [None, 1, "true"]),
        (gr.Radio(["a", "b"], label="S"), [None, "a"], ["c", ["a"], 1]),
        (gr.Dropdown([1, 2], label="S"), [1], [True, "1", 3]),
        (gr.Dropdown(["a"], multiselect=True, label="S"), [None, [], ["a"]], ["a", ["b"], [1]]),
        (gr.Dropdown(["a"], multiselect=True, allow_custom_value=True, label="S"), [["a", "b"]], ["a", [1], [[]]]),
        (gr.CheckboxGroup(["a"], label="S"), [[], ["a"]], [None, "a", ["b"], [[]]]),
        (gr.Textbox(label="S"), [None, "x", 5], [[], {}]),
        (gr.File(label="S"), [None, {"path": "x"}, [{"path": "x"}]], ["x", {}, [{"path": "x"}] * 2, {"path": 5}]),
        (gr.Image(label="S"), [None, {"path": "x"}], ["x", {}, {"path": None}, []]),
    ],
)  # fmt: skip
def test_parts_of_the_page_hold_what_they_can(part: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check_value(part, value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^S must be .*, but got "):
            check_value(part, value)


def test_half_a_letter_is_found_however_deep() -> None:
    deep: Any = "\ud800"
    for _ in range(5000):
        deep = [deep]
    for value in (deep, {"\ud800": 1}, {"a": ["b", "\udfff"]}):
        with pytest.raises(ValueError, match="characters that can be written"):
            check_characters(value)
    check_characters({"a": ["b", 5, None, "é"]})


def test_a_run_of_the_page_gives_what_it_gave(visitor: Visitor) -> None:
    answer = visitor.call("segment", [visitor.upload(GOOD), "cat, dog", "diffsegmenter", {"refinements": 0}])
    assert answer.is_good and json.loads(answer.text)[0]["size"] == [48, 64]
    assert Image.open(io.BytesIO(GOOD)).size == (64, 48)
