"""The largest requests that are allowed: what each adds to the server's memory, and how long it keeps the network.

Prints the table that docs/security.md holds: python -m pytest -m attack -s tests/attack/test_largest.py
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from tests.attack.requests import saved
from tests.attack.server import Answer, Server, Visitor, started

pytestmark = [pytest.mark.attack, pytest.mark.timeout(1200)]

MOST_BYTES = 1.5e9  # that one request may add
MOST_SECONDS = 60 + 5  # for which it may keep another visitor waiting: `Limits.busy_seconds`, and a step
PATIENCE = 1000.0  # seconds
METHODS = ["diffsegmenter", "ovdiff:images=1:steps=2", "freeseg-diff", "grounded-diffusion"]
COLOURS = ("red", "green", "blue", "grey")
WORDS = (
    "airplane bicycle bird boat bottle bus car cat chair cow dog horse motorbike person sheep sofa train tv tree house"
    " flower fish apple sky grass water sand snow road bricks"
)


@dataclass(frozen=True)
class Large:
    """A request: a door and its values behind the picture, whose longer side is `side`; without a side there is none."""

    name: str
    door: str
    values: list = field(default_factory=list)
    side: int = 2048


def words(count: int, *colours: str) -> str:
    """So many classes: of the pocket world, or its things in colours."""
    plain = WORDS.split()
    return ", ".join(([f"{colour} {thing}" for colour in colours for thing in plain] or plain)[:count])


def segment(method: str, classes: str, settings: dict | None = None, caption: str = "") -> list:
    """The values of the door "segment" for a picture at its own size."""
    return [classes, method, settings, 0, caption, "", False, 2048]


LARGEST = (
    Large("DiffSegmenter, 2048 px, 22 classes", "segment", segment("diffsegmenter", words(22))),
    Large("DiffSegmenter, 1024 px, 93 classes", "segment", segment("diffsegmenter", words(93, *COLOURS)), 1024),
    Large(
        "DiffSegmenter, 512 px, 30 classes, 100 noise levels", "segment",
        segment("diffsegmenter", words(30), {"timesteps": ",".join(map(str, range(100))), "draws": 2}), 512,
    ),
    Large("OVDiff, 2048 px, 22 classes", "segment", segment("ovdiff", words(22), {"images": 1, "steps": 2})),
    Large("OVDiff, 512 px, 16 classes to be drawn", "segment", segment("ovdiff", words(16, "red")), 512),
    Large("FreeSeg-Diff, 2048 px, 22 classes", "segment", segment("freeseg-diff", words(22), {"words": "classes"})),
    Large(
        "FreeSeg-Diff, 1024 px, 22 classes, CRF", "segment",
        segment("freeseg-diff", words(22), {"words": "classes", "refinement": "crf", "refine_side": 0, "clusters": 4,
                                            "one_each": False, "algorithm": "agglomerative"}), 1024,
    ),
    Large("Grounded Diffusion, 2048 px, 22 classes", "segment", segment("grounded-diffusion", words(22), None, "pets")),
    Large("four methods, 1024 px, 22 classes", "compare", [words(22), METHODS, 0, "a cat and a dog", "", 1024]),
    Large("a caption, 2048 px", "caption", ["", "", 2048]),
    Large("a picture of 100 steps", "generate", ["a photo of a cat and a dog", 0, 100, 6, "a car"], 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("largest")) as running:
        # The networks are loaded first: they stay, whoever asks for them.
        visitor = Visitor(running.address, patience=PATIENCE)
        warm = Large("", "compare", ["cat", METHODS, 0, "", "", 64])
        assert ask(visitor, warm).is_good
        yield running


def ask(visitor: Visitor, large: Large) -> Answer:
    """Send it."""
    if not large.side:
        return visitor.call(large.door, large.values)
    pixels = np.random.default_rng(0).integers(0, 256, (large.side // 8, large.side // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((large.side, large.side))
    return visitor.call(large.door, [visitor.upload(saved(picture, "PNG")), *large.values])


@pytest.mark.parametrize("large", LARGEST, ids=lambda large: large.name)
def test_a_request_stays_in_its_bounds(server: Server, large: Large) -> None:
    before = server.memory()
    server.forget_the_peak()
    answer = ask(Visitor(server.address, patience=PATIENCE), large)
    grown = server.peak() - before
    assert answer.is_good or "because others wait" not in answer.text, answer.text
    waited = seconds_beside(server, large)
    outcome = "" if answer.is_good else answer.text[:160]
    print(f"\n| {large.name} | {answer.seconds:.0f} s | {waited:.0f} s | {grown / 1e6:+,.0f} MB | {outcome} |")
    assert grown < MOST_BYTES and waited < MOST_SECONDS and server.is_alive()


def seconds_beside(server: Server, large: Large) -> float:
    """How long another visitor waits for a small picture, who comes a little after the large request."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, Visitor(server.address, patience=PATIENCE), large)
        time.sleep(4)  # until it is in line
        small = Visitor(server.address, patience=PATIENCE).call("generate", ["a cat", 0, 1, None, ""])
        assert small.is_good, small
        asked.result()
        return small.seconds
