"""A person's paths over the page, with the presses that each takes, by mouse and by keyboard; axe at all sizes."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from ovseg.demo.compare_tab import NOT_KEPT
from ovseg.pocket.world import scene
from tests.browsers import TWO_FRAMES, served
from tests.test_browser import SIZES, Visit, visit  # noqa: F401  a fixture

# Presses of the mouse are counted by the page: what a hand did, not what scripts click.
COUNT = """() => {
  window.presses = 0;
  window.addEventListener('pointerdown', event => { if (event.isTrusted) window.presses++; }, true); }"""
SCALE = "() => getComputedStyle(document.querySelector('#board .ov-board')).getPropertyValue('--scale')"
NUMBER = "#setting-diffsegmenter-threshold input[type=number]"
FRAME = "#board .ov-card[data-state=done] .ov-frame"  # a canvas that is zoomed reaches beyond it
FIRST = "#board .ov-card[data-state=done] canvas.ov-canvas"


@pytest.fixture(scope="module")
def page_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, on which a comparison begins by itself however slow the machine is."""
    settings = {"OVSEG_PROTOTYPES": str(tmp_path_factory.mktemp("prototypes")), "OVSEG_MAX_UNASKED_SECONDS": "3600"}
    with served("app.py", environment=settings) as url:
        yield url


class Mouse:
    """What a visitor does with a mouse, and types where a press has put the keyboard."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, selector: str) -> None:
        self.page.locator(selector).first.click()

    def write(self, selector: str, text: str) -> None:
        self.press(selector)
        self.type(text)

    def type(self, text: str) -> None:
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def enlarge(self) -> None:
        self.page.locator(FRAME).first.hover()
        self.page.mouse.wheel(0, -500)

    def ask(self) -> None:
        self.page.locator(FRAME).first.click(position={"x": 30, "y": 120})


class Keyboard(Mouse):
    """The same without a mouse."""

    def reach(self, selector: str) -> None:
        """Go to a control by the tabulator, forwards and over the end of the page to its beginning."""
        there = "selector => document.activeElement === document.querySelector(selector)"
        for _ in range(160):
            if self.page.evaluate(there, selector):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"the keyboard does not reach {selector}")

    def press(self, selector: str) -> None:
        self.reach(selector)
        self.page.keyboard.press("Enter")

    def write(self, selector: str, text: str) -> None:
        self.reach(selector)
        self.type(text)

    def enlarge(self) -> None:
        self.reach(FIRST)
        self.page.keyboard.type("++")

    def ask(self) -> None:
        self.reach(FIRST)
        self.page.keyboard.press(" ")


@pytest.mark.parametrize("hand", [Mouse, Keyboard], ids=["mouse", "keyboard"])
def test_a_persons_path_takes_few_presses_or_none_by_keyboard(
    visit: Visit,  # noqa: F811
    hand: type[Mouse],
    tmp_path: Path,
) -> None:
    page, acts, taken = visit.page, hand(visit.page), {}
    page.evaluate(COUNT)

    def done(act: str) -> None:
        taken[act] = page.evaluate("() => { const made = window.presses; window.presses = 0; return made; }")

    assert page.locator("#board .ov-card[data-state=done]").count() == 4
    done("the worked example")
    acts.enlarge()
    page.evaluate(TWO_FRAMES)
    assert float(page.evaluate(SCALE)) > 2
    done("a boundary enlarged in all methods")
    acts.ask()
    page.locator("#place tr", has_text="Grounded Diffusion").wait_for()
    done("why this pixel")
    acts.press("#looks button[role=tab]:nth-of-type(3)")
    with page.expect_download() as download:
        acts.press("#make-files")
    assert len({name.partition("/")[0] for name in zipfile.ZipFile(download.value.path()).namelist() if "/" in name}) == 4
    done("masks as a zip")
    acts.press("[data-view=slider]")
    expect(page.locator("#board .ov-corner:visible")).to_have_text(["DiffSegmenter", "OVDiff"])
    done("two methods on a slider")
    visit.choose_methods("diffsegmenter")
    done("not counted: fewer methods, for the time it takes")
    acts.press("#open-diffsegmenter")
    acts.write(NUMBER, "0.7")
    acts.press("#add-diffsegmenter")
    page.locator("#variants label", has_text="background threshold 0.7").wait_for()
    acts.press("#run")
    visit.wait_for_status("^Done: 2 methods")
    done("a variant compared")
    acts.press("#another-scene")
    visit.wait_for_status("^(?!Done)")
    visit.wait_for_status("^Done: 2 methods")
    done("another scene compared")
    Image.fromarray(scene("val", 12, 96).image).save(tmp_path / "own.png")
    acts.press("#sources button[role=tab]:nth-of-type(2)")
    with page.expect_file_chooser() as chooser:
        acts.press("#upload button")
    chooser.value.set_files(tmp_path / "own.png")
    page.wait_for_function("document.querySelector('#classes').contains(document.activeElement)")
    page.wait_for_function("!document.querySelector('#gallery img')")  # nothing of the picture before
    acts.type("motorbike")
    acts.press("#run")
    visit.wait_for_status("^Done: 2 methods")
    done("an own photograph")
    visit.well()
    page.reload()  # which breaks off what the page was asking for
    visit.wait_for_status("^Done: 2 methods")
    assert page.locator("#classes textarea").first.input_value() == "motorbike"
    most = {
        "the worked example": 0, "a boundary enlarged in all methods": 1, "why this pixel": 1, "masks as a zip": 2,
        "two methods on a slider": 2, "a variant compared": 4, "another scene compared": 1, "an own photograph": 3,
    }  # fmt: skip
    many = {act: taken[act] for act in most if taken[act] > (most[act] if hand is Mouse else 0)}
    assert not many, many
    assert hand is Keyboard or taken["a variant compared"] == 4  # presses are counted
    if hand is Mouse:
        page.evaluate("localStorage.removeItem('ovseg-own-picture')")  # as where it was too large
        page.reload()
        visit.wait_for_status(f"^{NOT_KEPT}")
        visit.wait_for_board()


def test_axe_finds_nothing_serious_at_any_size_in_light_and_dark(visit: Visit) -> None:  # noqa: F811
    page = visit.page
    for dark in (False, True):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        for width, height, _ in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate(TWO_FRAMES)
            visit.accessible()
            visit.well()
