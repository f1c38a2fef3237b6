"""The board's page served, and headless Chromium looking at it."""

import base64
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import BrowserContext, Locator, Page, sync_playwright

from tests.board_page import RUNS

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Bytes as base64: a list of numbers for each pixel would take longer to send than to draw.
READ = """canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let text = '';
  for (let k = 0; k < data.length; k += 8192) text += String.fromCharCode(...data.subarray(k, k + 8192));
  return [canvas.height, canvas.width, btoa(text)]; }"""
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@contextmanager
def served(height: int, width: int) -> Iterator[str]:
    """The address of a page with the board, for pictures of this size."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "tests/board_page.py", "--port", port, "--height", height, "--width", width]
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen([str(part) for part in command], cwd=ROOT, env=os.environ | quiet)
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(url: str, server: subprocess.Popen) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url + "config", timeout=5).read()
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError("the page did not come up in a minute")


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """A headless browser with an empty profile."""
    assert CHROMIUM, "the browser test needs Chromium: apt-get install chromium"
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=FLAGS, reduced_motion="reduce"
        )
        yield browser
        browser.close()


class BoardPage:
    """A visitor's page with what went wrong on it: console errors, and requests to anywhere else."""

    def __init__(self, page: Page, url: str, width: int, theme: str) -> None:
        self.page, self.errors, self.outside = page, [], []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: None if _is_local(request.url) else self.outside.append(request.url))
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{url}?__theme={theme}")
        page.locator("#board .ov-empty").wait_for()

    def show(self, state: str, canvases: int) -> None:
        """Press the button of a state, and wait for its canvases."""
        self.page.locator("#" + state.replace(" ", "-")).click()
        self.page.wait_for_function(
            "([run, number]) => (document.querySelector('#board [data-run]')?.dataset.run ?? null) === run"
            " && document.querySelectorAll('#board .ov-card[data-state=done]').length === number",
            arg=[RUNS[state], canvases],
        )
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.page.evaluate(TWO_FRAMES)

    def find(self, selector: str) -> Locator:
        """What of the board a selector names."""
        return self.page.locator(f"#board {selector}")

    def card(self, key: str) -> Locator:
        """The card of an entry."""
        return self.find(f".ov-card[data-key={key}]")

    def canvas(self, key: str) -> Locator:
        """The canvas of an entry, or of the difference."""
        return (
            self.find(".ov-differ canvas.ov-canvas") if key == "difference" else self.card(key).locator("canvas.ov-canvas")
        )

    def pixels(self, key: str) -> np.ndarray:
        """What an entry's canvas holds, uint8 (H, W, 3)."""
        height, width, data = self.canvas(key).evaluate(READ)
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]

    def slide(self, selector: str, value: float) -> None:
        """Move a slider as a hand does."""
        script = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }"
        self.find(selector).evaluate(script, value)
        self.settle()

    def press(self, selector: str) -> None:
        """Click a button and leave it."""
        self.find(selector).click()
        self.page.mouse.move(1, 1)
        self.settle()

    def point(self, key: str, x: float, y: float, *, click: bool = False) -> None:
        """Point at a place given in shares of the picture."""
        self.canvas(key).scroll_into_view_if_needed()
        box = self.canvas(key).bounding_box()
        at = box["x"] + x * box["width"], box["y"] + y * box["height"]
        self.page.mouse.click(*at) if click else self.page.mouse.move(*at)
        self.settle()


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "data:", "blob:"))
