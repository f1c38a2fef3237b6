"""The doors for programs, against a page that is served: what they list, answer and refuse."""

import asyncio
import base64
import io
import json
import queue
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Tool
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from ovseg.__main__ import main
from ovseg.demo.build import build, launch
from ovseg.demo.looking import results_as_files
from ovseg.demo.picture import of_file
from ovseg.doors import inputs
from ovseg.doors.requests import About, CompareRequest, GenerateRequest, SegmentRequest
from ovseg.limits import limits
from ovseg.methods import DiffSegmenter, GroundedDiffusion, at_first, suited_to
from ovseg.models import Models
from ovseg.output.files import zip_of
from ovseg.pictures import decode_image
from ovseg.progress import Report, StoppedError, silent
from ovseg.scene import from_prompt
from ovseg.server.sentences import without_paths
from ovseg.server.uploaded_files import sent_file
from ovseg.server.visitors import Visitors
from tests.attack.judging import faults_of, message_of
from tests.attack.requests import bad_files
from tests.attack.server import Answer, Visitor
from tests.networks import run_of

ROOT = Path(__file__).resolve().parents[1]
DOORS = ["segment", "compare", "caption", "generate"]


@pytest.fixture(scope="module")
def address(with_clip: Models) -> Iterator[str]:
    """The page of tiny networks, served to programs and to MCP clients."""
    url = launch(with_clip, "127.0.0.1", None, mcp=True, wait=False)
    yield url
    gr.close_all(verbose=False)


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that is not square, and has no size that a network likes."""
    path = tmp_path_factory.mktemp("given") / "given.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def page(with_clip: Models) -> gr.Blocks:
    return build(with_clip)


@pytest.fixture(scope="module")
def visitor(address: str) -> Visitor:
    """A program that speaks HTTP alone."""
    return Visitor(address.rstrip("/"))


@pytest.fixture(scope="module")
def given(visitor: Visitor, file: Path) -> dict[str, Any]:
    """The picture, uploaded."""
    return visitor.upload(file.read_bytes())


def test_exactly_four_doors_are_listed(page: gr.Blocks) -> None:
    listed = page.get_api_info()
    assert list(listed["named_endpoints"]) == [f"/{name}" for name in DOORS] and not listed["unnamed_endpoints"]
    open_to_programs = [fn.api_name for fn in page.fns.values() if fn.api_visibility != "private"]
    assert open_to_programs == DOORS


def test_the_doors_stand_in_the_same_line_as_the_page(page: gr.Blocks) -> None:
    on_network = [fn for fn in page.fns.values() if fn.concurrency_id == "network"]
    assert set(DOORS) < {fn.api_name for fn in on_network} and all(fn.concurrency_limit == 1 for fn in on_network)


def test_every_value_has_a_name_a_type_and_a_description(page: gr.Blocks) -> None:
    for name, door in page.get_api_info()["named_endpoints"].items():
        assert len(door["description"]) > 40, name
        for value in door["parameters"]:
            assert value["label"] == value["parameter_name"] and value["type"], value
            assert len(value["python_type"]["description"]) > 10, value
        assert all(value["type"] for value in door["returns"])


def test_masks_are_the_same_from_the_zip_the_api_and_the_command_line(
    client: Client, with_clip: Models, tiny_folder: Path, file: Path, tmp_path: Path
) -> None:
    words = "cat, dog|puppy, sky"
    main(["segment", str(file), "--classes", words, "--backbone", str(tiny_folder), "--seed", "3",
          "--set", "refinements=0", "--out", str(tmp_path / "cli"), "--files", "all"])  # fmt: skip
    given = {"classes": words, "settings": {"refinements": 0}, "seed": 3}
    answer = client.predict(handle_file(file), **given, api_name="/segment")
    results = run_of(with_clip, [suited_to(with_clip, DiffSegmenter, {"refinements": 0})], of_file(file), words, seed=3)
    with zipfile.ZipFile(io.BytesIO(zip_of(results_as_files(results.comparison)))) as archive:
        archive.extractall(tmp_path)
    (zipped,) = {path.parent for path in tmp_path.glob("*/mask.png")} - {tmp_path / "cli"}
    from_zip, from_cli = (np.asarray(Image.open(folder / "mask.png")) for folder in (zipped, tmp_path / "cli"))
    assert len(np.unique(from_zip)) > 2 and np.array_equal(from_zip, from_cli)
    assert np.array_equal(label_map_of(answer), from_zip)
    for folder in (zipped, tmp_path / "cli"):
        coco = COCO(folder / "coco.json")
        by_label = {coco.cats[item["category_id"]]["name"]: item for item in coco.anns.values()}
        assert set(by_label) == {found["label"] for found in answer["masks"]}
        for found in answer["masks"]:
            told = by_label[found["label"]]
            assert coco_mask.area(coco.annToRLE(told)) == told["area"] == found["area"]
            assert coco_mask.area(found["segmentation"]) == found["area"]
            assert np.array_equal(coco.annToMask(told), coco_mask.decode(found["segmentation"]))


def label_map_of(answer: dict[str, Any]) -> np.ndarray:
    """The label map that an answer's run lengths make."""
    label_map = np.zeros(answer["size"], np.uint8)
    for found in answer["masks"]:
        label_map[coco_mask.decode(found["segmentation"]).astype(bool)] = answer["labels"].index(found["label"])
    return label_map


def test_an_answer_says_what_a_result_holds(client: Client, with_clip: Models, file: Path) -> None:
    answer = client.predict(
        handle_file(file), "cat, dog", "grounded-diffusion", {"threshold": 0.2}, 5, "a cat", api_name="/segment"
    )
    method = suited_to(with_clip, GroundedDiffusion, {"threshold": 0.2})
    (entry,) = run_of(with_clip, [method], of_file(file), caption="a cat", seed=5).comparison.entries
    made = entry.segmentation
    assert np.array_equal(label_map_of(answer), made.label_map) and answer["shares"] == made.shares
    for found in answer["masks"]:
        index = made.labels.index(found["label"])
        assert found["score"] == pytest.approx(made.scores()[index][made.label_map == index].mean(), abs=1e-6)
    assert answer["settings"]["threshold"] == answer["threshold"] == 0.2 and answer["method"] == "grounded-diffusion"
    assert (answer["seed"], answer["caption"], answer["size"]) == (5, "a cat", [50, 71])
    assert set(answer["seconds"]) == {*made.timings, "total"} and min(answer["seconds"].values()) >= 0


def test_methods_are_compared_and_a_failure_stays_alone(client: Client, file: Path) -> None:
    names = ["diffsegmenter:refinements=0:timesteps=100+300", "grounded-diffusion", "diffsegmenter:prompt=none"]
    answer = client.predict(handle_file(file), "cat, dog", names, 2, api_name="/compare")
    assert [result["title"] for result in answer["results"]] == [
        "DiffSegmenter, noise levels 100+300, refinements by self-attention 0",
        "Grounded Diffusion",
    ]
    assert answer["results"][0]["settings"]["timesteps"] == [100, 300] and answer["seed"] == 2
    first, second = (label_map_of(result) for result in answer["results"])
    assert answer["agreement"] == pytest.approx((first == second).mean())
    (failure,) = answer["failures"]
    assert failure["title"] == "DiffSegmenter, prompt none" and "must hold {} once" in failure["sentence"]


def test_captions_and_drawings_are_those_of_the_library(client: Client, with_clip: Models, file: Path) -> None:
    captioned = client.predict(handle_file(file), "a photo", api_name="/caption")
    assert captioned["caption"] == with_clip.captioner().caption(of_file(file).image, "a photo")
    path, drawn = client.predict("a cat", 4, 2, 3.0, api_name="/generate")
    made = from_prompt(with_clip, "a cat", 4, steps=2, guidance=3.0)
    assert np.array_equal(np.asarray(Image.open(path)), made.image)
    assert (drawn["seed"], drawn["steps"], drawn["guidance"], drawn["size"]) == (4, 2, 3.0, [64, 64])


def test_only_present_leaves_classes_out_and_pictures_are_shrunk_as_asked(client: Client, file: Path) -> None:
    words = "cat, dog, sky, car, tree, boat"
    answer = client.predict(
        handle_file(file), words, settings={"refinements": 0}, only_present=True, longest_side=36, api_name="/segment"
    )
    assert answer["size"] == [25, 36] and 1 < len(answer["labels"]) < 7


FILE = "a picture"  # stands for the uploaded one
BAD = [
    ("segment", [], "takes values for picture, classes"),
    ("segment", [FILE] * 20, "takes values for picture, classes"),
    ("segment", [None], "picture must be an uploaded file"),
    ("segment", [7], "picture must be an uploaded file"),
    ("segment", ["given.png"], "picture must be an uploaded file"),
    ("segment", ["aaaa" * 30], "must be an image file"),
    ("segment", ["http://127.0.0.1:7860/gradio_api/file=/etc/passwd"], "picture must be an uploaded file"),
    ("segment", [{"path": "/etc/passwd"}], "picture must be an uploaded file"),
    ("segment", [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], "picture must be an uploaded file"),
    ("segment", [{"path": "app.py", "meta": {"_type": "gradio.FileData"}}], "picture must be an uploaded file"),
    ("segment", [{"path": "http://127.0.0.1:9/a.png", "meta": {"_type": "gradio.FileData"}}], "an uploaded file or an http"),
    ("segment", [{"path": 5, "meta": {"_type": "gradio.FileData"}}], "picture must be an uploaded file"),
    ("segment", [{"path": "a.png", "meta": "_type"}], "picture must be an uploaded file"),
    ("segment", [FILE, None], "classes must be text, but got null"),
    ("segment", [FILE, ["cat"]], r'classes must be text, but got \["cat"\]'),
    ("segment", [FILE, "cat||dog"], "Every phrase between bars must be a word"),
    ("segment", [FILE, "w" * 5000], "words of 200 characters at most, but one has 5000"),
    ("segment", [FILE, "cat", "magic"], "method must be one of diffsegmenter, ovdiff"),
    ("segment", [FILE, "cat", None], "method must be text, but got null"),
    ("segment", [FILE, "cat", "diffsegmenter", {"magic": 1}], "setting of DiffSegmenter must be one of"),
    ("segment", [FILE, "cat", "diffsegmenter", [1]], "settings must be an object"),
    ("segment", [FILE, "cat", "diffsegmenter", {"threshold": "high"}], "threshold must be a number, but got 'high'"),
    ("segment", [FILE, "cat", "diffsegmenter", {"threshold": None}], "threshold must be text, a number"),
    ("segment", [FILE, "cat", "diffsegmenter", {"timesteps": []}], "timesteps must be text, a number"),
    ("segment", [FILE, "cat", "diffsegmenter", {"timesteps": [5000]}], "timestep"),
    ("segment", [FILE, "cat", "diffsegmenter", {"mode": "fast"}], "mode of DiffSegmenter must be one of"),
    (
        "segment",
        [FILE, "cat", "grounded-diffusion", {"module": "/etc"}],
        "module must be one that this server has, S1, but",
    ),
    ("segment", [FILE, "cat", "grounded-diffusion", {"module": "S9"}], "module"),
    ("segment", [FILE, "cat", "diffsegmenter", None, "1"], "seed must be a whole number"),
    ("segment", [FILE, "cat", "diffsegmenter", None, True], "seed must be a whole number"),
    ("segment", [FILE, "cat", "diffsegmenter", None, 1e300], "seed must be a whole number"),
    ("segment", [FILE, "cat", "diffsegmenter", None, 0, 5], "caption must be text"),
    ("segment", [FILE, "cat", "diffsegmenter", None, 0, "", "magic"], "captioner must be one that this server has"),
    ("segment", [FILE, "cat", "diffsegmenter", None, 0, "", "", "yes"], "only_present must be true or false"),
    ("segment", [FILE, "cat", "diffsegmenter", None, 0, "", "", False, 0], "longest_side must be a whole number from 16"),
    ("compare", [FILE, "cat", "diffsegmenter"], "methods must be a list of names"),
    ("compare", [FILE, "cat", []], "methods must name at least one of"),
    ("compare", [FILE, "cat", ["magic"]], "method must be one of"),
    ("compare", [FILE, "cat", ["ovdiff", "ovdiff"]], "'OVDiff' is there twice"),
    ("compare", [FILE, "cat", ["diffsegmenter:threshold"]], "must be FIELD=VALUE"),
    (
        "compare",
        [FILE, "cat", [f"diffsegmenter:threshold=0.{k}" for k in range(10, 30)]],
        "12 at most, but names 20",
    ),
    ("compare", [FILE, "cat", ["grounded-diffusion:module=../../etc"]], "module must be one that this server has"),
    ("caption", [None], "picture must be an uploaded file"),
    ("caption", [FILE, 5], "prefix must be text"),
    ("caption", [FILE, "", "lavis-blip-base"], "captioner must be one"),
    ("generate", [], "takes values for prompt"),
    ("generate", [None], "prompt must be text"),
    ("generate", ["  "], "prompt must say something"),
    ("generate", ["cat " * 50, 0, 1], "must fit 32 tokens"),
    ("generate", ["cat", -1], "seed must be a whole number"),
    ("generate", ["cat", 0, 0], "steps must be a whole number from 1 to 100, but got 0"),
    ("generate", ["cat", 0, 1, "much"], "guidance must be a number"),
    ("generate", ["cat", 0, 1, 3.0, None], "negative must be text"),
]


@pytest.fixture(scope="module")
def refusals(visitor: Visitor, given: dict[str, Any]) -> list[Answer]:
    """What comes of all bad input, asked for some at a time: most of an answer's time is waiting in line."""

    def ask(door: str, values: list[Any], _sentence: str) -> Answer:
        return Visitor(visitor.address).call(door, [given if value is FILE else value for value in values])

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, *zip(*BAD, strict=True)))


@pytest.mark.parametrize("number", range(len(BAD)), ids=[f"{door} {values}"[:60] for door, values, _ in BAD])
def test_bad_input_is_one_sentence(refusals: list[Answer], number: int) -> None:
    answer, (_, _, sentence) = refusals[number], BAD[number]
    said = message_of(answer)
    assert answer.event == "error" and not faults_of(answer) and re.search(sentence, said), answer
    assert said.endswith((".", '"', "!")) and not any(f"{path}/" in said for path in (tempfile.gettempdir(), "/etc")), said


def test_damaged_files_are_pictures_or_one_sentence() -> None:
    refused = 0
    for name, content in bad_files():
        try:
            assert decode_image(content, "it").dtype == np.uint8, name
        except ValueError as error:
            assert str(error).startswith("The picture must "), name
            refused += 1
    assert refused > 50


def test_values_that_are_left_out_have_their_defaults(visitor: Visitor, given: dict[str, Any]) -> None:
    answer = visitor.call("segment", [given, "cat"])
    assert answer.is_good and answer.values[0]["method"] == "diffsegmenter"


def test_paths_are_cut_to_their_last_part() -> None:
    assert without_paths("The file '/srv/models/a-b/c.png' and /x/y/z.") == "The file 'c.png' and z."
    sentence = "See https://arxiv.org/abs/2309.1, 3/4, or/and/so."
    assert without_paths(sentence) == sentence


def test_a_file_outside_the_uploads_is_refused(file: Path) -> None:
    """Gradio refuses it before a page is asked; this holds where that were to fail."""
    given = {"path": str(file), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(ValueError, match="picture must be an uploaded file"):
        inputs.picture(sent_file(given), 1024)


def test_requests_are_checked_before_any_network_is_loaded(picture: np.ndarray) -> None:
    models = Models("pocket", device="cpu")
    about = About.of(models, picture, classes="cat")
    SegmentRequest(
        about, inputs.method(models, "ovdiff", {"images": 3, "windows": [], "mode": "released"} | {"windows": "1"})
    )
    assert "_backbone" not in vars(models)


def test_the_readme_example_runs(address: str) -> None:
    (example,) = re.findall(r"```python\n(from gradio_client.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "http://127.0.0.1:7860" in example
    code = example.replace("http://127.0.0.1:7860", address)
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = re.findall(r"^(cat|car) \d\.\d\d \[\d+, \d+, \d+, \d+\] (\d+)$", ran.stdout, re.MULTILINE)
    assert lines and all(int(area) > 0 for _, area in lines)


async def with_session(address: str, work: Any, sse: bool = False) -> Any:
    """What `work(session)` gives, of an MCP client that has shaken hands."""
    opened = sse_client(f"{address}gradio_api/mcp/sse") if sse else streamable_http_client(f"{address}gradio_api/mcp/")
    async with opened as streams, ClientSession(streams[0], streams[1]) as session:
        await session.initialize()
        return await work(session)


def data_address(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


@pytest.mark.parametrize("sse", [False, True], ids=["streamable HTTP", "SSE"])
def test_an_mcp_client_sees_the_four_and_calls_them(address: str, client: Client, file: Path, sse: bool) -> None:
    async def work(session: ClientSession) -> tuple[list[Tool], CallToolResult, CallToolResult]:
        given = {"picture": data_address(file.read_bytes()), "classes": "cat, dog", "seed": 3}
        tools = (await session.list_tools()).tools
        drawing = {"prompt": "a cat", "seed": 4, "steps": 2}
        return tools, await session.call_tool("segment", given), await session.call_tool("generate", drawing)

    tools, answer, drawn = asyncio.run(with_session(address, work, sse))
    assert [tool.name for tool in tools] == DOORS
    for tool in tools:
        assert len(tool.description) > 60 and "self" not in tool.inputSchema["properties"]
        assert all(value["description"] for value in tool.inputSchema["properties"].values()), tool.name
    (text,) = answer.content
    expected = client.predict(handle_file(file), "cat, dog", seed=3, api_name="/segment")
    assert not answer.isError and json.loads(text.text)["masks"] == expected["masks"]
    picture, words = drawn.content
    path, _ = client.predict("a cat", 4, 2, api_name="/generate")
    drawn_picture = Image.open(io.BytesIO(base64.b64decode(picture.data)))
    assert np.array_equal(np.asarray(drawn_picture), np.asarray(Image.open(path))) and json.loads(words.text)["steps"] == 2


def test_an_mcp_client_gets_sentences(address: str, file: Path) -> None:
    good = data_address(file.read_bytes())
    cases = [
        ({"picture": good, "classes": "cat", "method": "magic"}, "method must be one of"),
        ({"picture": data_address(b"hello"), "classes": "cat"}, "must be an image file"),
        ({"picture": "given.png", "classes": "cat"}, "provide a url"),
        ({"picture": "a/" * 40 + "b", "classes": "cat"}, "provide a url"),
        ({"classes": "cat"}, "'picture' is a required property"),
        ({"picture": good, "settings": {"threshold": "high"}, "classes": "cat"}, "threshold must be a number"),
    ]

    async def work(session: ClientSession) -> list[CallToolResult]:
        return [await session.call_tool("segment", given) for given, _ in cases]

    for (_, sentence), answer in zip(cases, asyncio.run(with_session(address, work)), strict=True):
        assert answer.isError and sentence in answer.content[0].text
        assert "Traceback" not in answer.content[0].text and tempfile.gettempdir() not in answer.content[0].text


def test_without_being_asked_no_mcp_server_is_there(with_clip: Models) -> None:
    url = launch(with_clip, "127.0.0.1", None, wait=False)
    assert httpx.get(f"{url}gradio_api/mcp/schema").status_code == 404


def test_a_picture_may_be_a_file_an_address_of_this_server_or_bare_base64(address: str, client: Client, file: Path) -> None:
    path = httpx.post(f"{address}gradio_api/upload", files={"files": file.read_bytes()}).json()[0]
    own = f"{address}gradio_api/file={path}"

    async def work(session: ClientSession) -> list[CallToolResult]:
        given = (own, base64.b64encode(file.read_bytes()).decode())
        return [await session.call_tool("segment", {"picture": picture, "classes": "cat, dog"}) for picture in given]

    expected = client.predict(handle_file(file), "cat, dog", api_name="/segment")["masks"]
    bare = base64.b64encode(file.read_bytes()).decode()
    for given in ({"path": own, "meta": {"_type": "gradio.FileData"}}, own, bare, data_address(file.read_bytes())):
        assert client.predict(given, "cat, dog", api_name="/segment")["masks"] == expected
    for answer in asyncio.run(with_session(address, work)):
        assert not answer.isError, answer.content
        assert json.loads(answer.content[0].text)["masks"] == expected
    outside = f"{address}gradio_api/file={ROOT / 'README.md'}"
    with pytest.raises(AppError, match="must be an uploaded file"):
        client.predict(outside, "cat", api_name="/segment")
    with pytest.raises(AppError, match="must be an uploaded file or an http"):
        client.predict({"path": outside, "meta": {"_type": "gradio.FileData"}}, "cat", api_name="/segment")


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[str]:
    """Drawings that never end by themselves; what began and what was stopped."""
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self: GenerateRequest, models: Models, report: Report = silent) -> None:
        seen.put("begun")
        try:
            for step in range(600):
                report("drawing", step / 600)
                time.sleep(0.1)
        except StoppedError:
            seen.put("stopped")

    monkeypatch.setattr(GenerateRequest, "run", run)
    monkeypatch.setattr("ovseg.server.listeners.GRACE", 0.3)
    return seen


def test_a_program_sees_progress_and_stops_its_job(client: Client, endless: queue.SimpleQueue[str]) -> None:
    job = client.submit("a cat", api_name="/generate")
    assert endless.get(timeout=60) == "begun"
    while not (said := job.status().progress_data):
        time.sleep(0.05)
    assert said[0].desc == "drawing" and said[0].length == 100
    job.cancel()
    assert endless.get(timeout=60) == "stopped"


def test_a_job_ends_with_the_request_of_its_mcp_client(address: str, endless: queue.SimpleQueue[str]) -> None:
    said: list[str | None] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        said.append(message)

    async def work(session: ClientSession) -> None:
        call = asyncio.create_task(session.call_tool("generate", {"prompt": "a cat"}, progress_callback=heard))
        while not any(message and "drawing" in message for message in said):
            await asyncio.sleep(0.05)
        call.cancel()

    asyncio.run(with_session(address, work))
    assert [endless.get(timeout=60) for _ in range(2)] == ["begun", "stopped"]


def test_without_methods_compare_runs_what_the_page_begins_with() -> None:
    for name in ("pocket", "sd15"):
        models = Models(name, device="cpu")
        about = About(np.zeros((4, 4, 3), np.uint8), "cat")
        titles = [variant.method.name for variant in CompareRequest.of(models, about).variants]
        assert titles == [kind.name for kind in at_first(models)] and ("ovdiff" in titles) == (name == "pocket")


def test_jobs_are_counted_by_session_and_address() -> None:
    now, visitors = [0.0], Visitors(lambda: now[0])
    one, two = (visitors.known_by(session, "203.0.113.7", "") for session in ("a", "b"))
    assert one == {"session a", "address 203.0.113.7"} and visitors.known_by("a", "127.0.0.1", "") == {"session a"}
    assert not visitors.refusal(one, [one] * 7) and "may have 8 jobs at once" in visitors.refusal(two, [one] * 8)
    for _ in range(59):
        assert not visitors.refusal(two, [])
    assert "60 jobs in a minute" in visitors.refusal(one, []) and not visitors.refusal({"session b", "address ::2"}, [])
    now[0] = 61
    assert not visitors.refusal(one, [])
    visitors.callers["token"] = "203.0.113.9"
    assert visitors.known_by("shared", "127.0.0.1", "token") == {"address 203.0.113.9"}
    assert visitors.known_by("s", "127.0.0.1", "forged") == {"session s"}


def test_a_visitor_with_too_many_jobs_gets_a_sentence(address: str) -> None:
    call = {"data": [""], "session_hash": "someone"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVSEG_MAX_JOBS_A_MINUTE", "2")
        limits.cache_clear()
        answers = [httpx.post(f"{address}gradio_api/call/generate", json=call) for _ in range(3)]
    limits.cache_clear()  # now that the variable is gone, or the next tests would be allowed two jobs
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "2 jobs in a minute" in answers[2].json()["detail"]
    assert httpx.post(f"{address}gradio_api/call/nothing", json=call).status_code == 404
