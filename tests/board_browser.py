"""The board's page served, and what a browser reads of it."""

import base64
from contextlib import AbstractContextManager

import numpy as np
from playwright.sync_api import Locator, Page

from tests import browsers
from tests.board_page import RUNS
from tests.browsers import TWO_FRAMES, Watched

# Bytes as base64: a list of numbers for each pixel would take longer to send than to draw.
# The canvas lies over another, with the picture.
READ = """canvas => {
  const pen = Object.assign(document.createElement('canvas'), {width: canvas.width, height: canvas.height}).getContext('2d');
  for (const sheet of canvas.parentElement.querySelectorAll('canvas')) pen.drawImage(sheet, 0, 0);
  const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  let text = '';
  for (let k = 0; k < data.length; k += 8192) text += String.fromCharCode(...data.subarray(k, k + 8192));
  return [canvas.height, canvas.width, btoa(text)]; }"""


def served(height: int, width: int) -> AbstractContextManager[str]:
    """The address of a page with the board, for pictures of this size."""
    return browsers.served("tests/board_page.py", ["--height", height, "--width", width])


class BoardPage(Watched):
    """A visitor's page with the board on it."""

    def __init__(self, page: Page, url: str, width: int, theme: str) -> None:
        super().__init__(page)
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
        script = "(slider, value) => { slider.value = value; "
        script += "['input', 'change'].forEach(name => slider.dispatchEvent(new Event(name, {bubbles: true}))); }"
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
