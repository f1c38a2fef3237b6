"""The page as a visitor sees it: headless Chromium against `python app.py` on the pocket bundle."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

import ovseg
from ovseg.__main__ import main
from ovseg.demo.picture import example_names
from ovseg.pocket.world import scene
from tests.browsers import ROOT, TWO_FRAMES, Watched, forget_visitor, leave


class Visit(Watched):
    """A visitor's page, and what a visitor does on it."""

    def status(self) -> str:
        return self.page.locator("#status .ov-status").inner_text()

    def until(self, condition: str, arg: str) -> None:
        """Wait until a condition in JavaScript holds; where it never does, what the page says is the error's text."""
        try:
            self.page.wait_for_function(condition, arg=arg)
        except PlaywrightTimeout:
            pytest.fail(f"{condition} never held with {arg!r}; status: {self.status()!r}; errors: {self.errors}")

    def wait_for_status(self, pattern: str) -> None:
        self.until(
            "pattern => new RegExp(pattern).test(document.querySelector('#status .ov-status')?.innerText || '')", pattern
        )

    def board_run(self) -> str:
        return self.page.evaluate("document.querySelector('#board[data-run], #board [data-run]')?.dataset.run || ''")

    def wait_for_board(self, before: str = "") -> None:
        self.until(
            "before => { const board = document.querySelector('#board[data-run], #board [data-run]');"
            " return board && board.dataset.run !== before }",
            before,
        )

    def another_scene(self, number: int) -> None:
        before = self.board_run()
        self.open_more()
        self.page.locator("#scene-number input").fill(str(number))
        self.page.locator("#scene-number input").press("Enter")
        self.wait_for_board(before)

    def open_more(self) -> None:
        """Unfold what is seldom turned."""
        if not self.page.locator("#scene-number input").is_visible():
            self.page.locator("#more button").first.click()

    def choose_methods(self, *names: str) -> None:
        for box in self.page.locator("[id^=use-] input").all():
            wanted = box.evaluate("box => box.closest('[id^=use-]').id.replace('use-', '')") in names
            box.set_checked(wanted)

    def canvas(self, title: str) -> Locator:
        """The canvas of an entry, by its title; its alternative text names it first."""
        return self.page.locator(f"#board canvas[role=img][aria-label^='{title}']")

    def run_and_wait(self) -> None:
        self.page.locator("#run").wait_for()  # where a run began by itself, it is Stop until that has ended
        before = self.board_run()
        self.page.locator("#run").click()
        self.wait_for_board(before)
        self.wait_for_status("^Done: ")

    def set_slider(self, elem_id: str, value: float) -> None:
        box = self.page.locator(f"#{elem_id} input[type=number]")
        box.fill(str(value))
        box.press("Tab")

    def sideways(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def well(self) -> None:
        assert not self.errors and not self.outside and self.sideways() <= 0
        kept = self.page.evaluate("Object.keys(localStorage)")
        assert all(name.startswith("ovseg-") for name in kept), kept


@pytest.fixture
def visit(page_address: str, tab: Page, request: pytest.FixtureRequest) -> Iterator[Visit]:
    width, height, theme = getattr(request, "param", WIDE)
    visitor = Visit(tab)
    try:
        forget_visitor(visitor.page, page_address)
        visitor.page.set_viewport_size({"width": width, "height": height})
        visitor.page.goto(f"{page_address}?__theme={theme}")
        visitor.page.locator("#run").wait_for()
        visitor.wait_for_board()
        yield visitor
    finally:
        leave(tab)


WIDE, NARROW, DARK = (1400, 900, "light"), (390, 844, "light"), (390, 844, "dark")


@pytest.mark.parametrize("visit", [WIDE, DARK], indirect=True, ids=["wide light", "narrow dark"])
def test_a_worked_example_stands_there_and_is_accessible_and_run_is_in_reach(visit: Visit) -> None:
    page = visit.page
    assert visit.status().startswith("A worked example")
    titles = [canvas.get_attribute("aria-label") for canvas in page.locator("#board canvas[role=img][aria-label]").all()]
    assert [title.split(":")[0] for title in titles][:5] == [
        "The picture, without masks.",
        "DiffSegmenter",
        "OVDiff",
        "FreeSeg-Diff",
        "Grounded Diffusion",
    ]
    assert page.locator("#board", has_text="IoU").count()
    box, height = page.locator("#run").bounding_box(), page.evaluate("window.innerHeight")
    assert box["y"] >= 0 and box["y"] + box["height"] <= height
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    assert page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('button')?.id", list(middle)) == "run"
    expect(page.locator("#estimate-diffsegmenter")).to_have_text(re.compile("s$"))
    visit.screenshot(f"worked-{page.viewport_size['width']}-{page.evaluate('document.body.className.includes(`dark`)')}")
    visit.accessible()
    visit.well()


@pytest.mark.parametrize("visit", [WIDE, NARROW], indirect=True, ids=["wide", "narrow"])
def test_another_scene_and_three_methods(visit: Visit) -> None:
    page, before = visit.page, visit.board_run()
    page.locator("#another-scene").click()
    visit.wait_for_board(before)
    assert page.locator("#classes textarea, #classes input").first.input_value()
    visit.another_scene(12)
    things = list(dict.fromkeys(scene("val", 12).things))
    # A run of the scene before may have begun by itself: its board comes first then.
    expect(page.locator("#classes textarea, #classes input").first).to_have_value(", ".join(things))
    page.locator("#chips li").nth(len(things) - 1).wait_for()
    visit.choose_methods("diffsegmenter", "freeseg-diff", "grounded-diffusion")
    visit.run_and_wait()
    assert visit.status().startswith("Done: 3 methods")
    page.locator("#board", has_text="IoU").wait_for()
    visit.screenshot(f"scene-{page.viewport_size['width']}")
    visit.well()


def test_words_are_chips_and_unknown_ones_say_so(visit: Visit) -> None:
    page = visit.page
    box = page.locator("#classes textarea, #classes input").first
    box.fill("cat | kitten, zebra")
    chips = page.locator("#chips li")
    page.locator("#chips li", has_text="zebra").wait_for()
    assert chips.nth(0).inner_text().split("\n")[:2] == ["cat", "or kitten"]
    assert "the pocket world does not know “zebra”" in chips.nth(1).inner_text()
    struck = [chip.locator("span").evaluate("name => getComputedStyle(name).textDecorationLine") for chip in chips.all()]
    assert struck == ["none", "line-through"]
    colours = [chip.locator("i").evaluate("swatch => swatch.style.background") for chip in chips.all()]
    assert len(set(colours)) == 2
    page.get_by_role("button", name="Remove cat").click()
    page.wait_for_function("document.querySelectorAll('#chips li').length === 1")
    assert box.input_value() == "zebra"
    visit.well()


def test_which_are_there_greys_and_does_not_drop(visit: Visit) -> None:
    page = visit.page
    visit.another_scene(12)
    thing = scene("val", 12).things[0]
    page.locator("#classes textarea, #classes input").first.fill(f"{thing}, airplane, tv")
    page.locator("#check-classes").click()
    page.locator("#chips li.absent").first.wait_for()
    expect(page.locator("#chips li")).to_have_count(3)
    page.locator("#only-present").click()
    page.wait_for_function("document.querySelectorAll('#chips li').length < 3")
    visit.well()


def test_a_setting_that_differs_is_marked_and_put_back_and_makes_a_variant(visit: Visit) -> None:
    page = visit.page
    page.locator("#open-diffsegmenter").click()
    expect(page.locator("#dialog-diffsegmenter")).to_be_visible()
    visit.set_slider("setting-diffsegmenter-threshold", 0.7)
    page.locator("#changed-diffsegmenter label").first.wait_for()
    page.locator("#changed-diffsegmenter input").first.click()  # which takes it away
    as_before = "document.querySelector('#setting-diffsegmenter-threshold input[type=number]').value === '0.45'"
    page.wait_for_function(as_before)
    visit.set_slider("setting-diffsegmenter-threshold", 0.7)
    page.locator("#add-diffsegmenter").click()
    page.locator("#variants label", has_text="background threshold 0.7").wait_for()
    page.wait_for_function(as_before)
    page.keyboard.press("Escape")
    expect(page.locator("#dialog-diffsegmenter")).to_be_hidden()
    visit.choose_methods("diffsegmenter")
    visit.run_and_wait()
    assert visit.status().startswith("Done: 2 methods")
    assert visit.canvas("DiffSegmenter, background threshold 0.7").count() == 1
    visit.well()


def test_truth_is_uploaded_and_a_wrong_one_is_one_sentence(visit: Visit, tmp_path: Path) -> None:
    page, item = visit.page, scene("val", 12, 96)
    picture, right, wrong = (tmp_path / f"{name}.png" for name in ("picture", "right", "wrong"))
    Image.fromarray(item.image).save(picture)
    Image.fromarray((item.instances > 0).astype("uint8")).save(right)
    Image.fromarray(item.image[:50]).save(wrong)
    page.get_by_role("tab", name="Upload").click()
    page.locator("#upload input[type=file]").set_input_files(picture)
    page.locator("#upload img").wait_for()
    page.locator("#classes textarea, #classes input").first.fill("|".join(dict.fromkeys(item.things)))
    page.get_by_role("button", name="Ground truth, optional").click()
    page.locator("#truth input[type=file]").set_input_files(wrong)
    visit.wait_for_status("^The truth must have the picture's size, 96 x 96")
    page.locator("#run").click()
    page.get_by_text("The truth must have").first.wait_for()
    page.locator("#truth button[aria-label='Clear'], #truth button[aria-label='Remove']").first.click()
    page.locator("#truth input[type=file]").set_input_files(right)
    visit.choose_methods("diffsegmenter")
    visit.run_and_wait()
    page.locator("#board", has_text="IoU").wait_for()
    visit.screenshot("truth")
    visit.well()
    page.reload()  # which breaks off what the page was asking for
    visit.wait_for_status("^Picture, words and methods are as they were chosen")
    visit.wait_for_board()


def test_a_method_that_fails_says_why_and_the_others_stand(visit: Visit) -> None:
    page = visit.page
    page.locator("#open-diffsegmenter").click()
    page.locator("#dialog-diffsegmenter summary", has_text="Advanced").click()
    page.locator("#setting-diffsegmenter-prompt textarea, #setting-diffsegmenter-prompt input").first.fill(
        "a photo of nothing"
    )
    page.keyboard.press("Escape")
    visit.choose_methods("diffsegmenter", "grounded-diffusion")
    visit.run_and_wait()
    assert "1 could not be run" in visit.status()
    page.locator("#board", has_text="The prompt must hold {} once").wait_for()
    assert visit.canvas("Grounded Diffusion").count() == 1
    visit.well()


def test_a_link_brings_everything_back(visit: Visit, page_address: str) -> None:
    page = visit.page
    visit.another_scene(12)
    page.locator("#classes textarea, #classes input").first.fill("cat|kitten, dog")
    page.locator("#open-diffsegmenter").click()
    visit.set_slider("setting-diffsegmenter-threshold", 0.7)
    page.keyboard.press("Escape")
    visit.choose_methods("diffsegmenter", "grounded-diffusion")
    page.locator("#link").click()
    page.wait_for_function("location.search.includes('picture=scene-12')")
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.locator("#run").wait_for()
    visit.wait_for_status("as they were chosen")
    assert page.locator("#classes textarea, #classes input").first.input_value() == "cat|kitten, dog"
    visit.open_more()
    assert page.locator("#scene-number input").input_value() == "12"
    ticked = [box.evaluate("box => box.closest('[id^=use-]').id") for box in page.locator("[id^=use-] input:checked").all()]
    assert ticked == ["use-diffsegmenter", "use-grounded-diffusion"]
    page.wait_for_function("document.querySelector('#setting-diffsegmenter-threshold input[type=number]').value === '0.7'")
    page.goto(page_address)
    page.locator("#run").wait_for()
    # What a page still asked for when it was left is broken off: an error in the console of the page that is gone.
    broken_off = ("AbortError", "Connection errored out")
    visit.errors = [error for error in visit.errors if not any(words in error for words in broken_off)]
    visit.well()


def test_stop_half_way_keeps_what_is_done(visit: Visit) -> None:
    page = visit.page
    visit.another_scene(12)
    page.locator("#open-ovdiff").click()
    visit.set_slider("setting-ovdiff-images", 64)
    page.keyboard.press("Escape")
    visit.choose_methods("diffsegmenter", "ovdiff")
    page.locator("#run").click()
    visit.wait_for_status("image 1 to")
    with visit.end_comes_late():
        page.locator("#stop").click()
        visit.wait_for_status("^Stopped: 1 of 2")
        assert visit.canvas("DiffSegmenter").count() == 1
    assert page.locator("#status").inner_text().startswith("Stopped")
    visit.well()


def test_a_click_says_why_and_evidence_and_figures_are_there(visit: Visit) -> None:
    page = visit.page
    assert page.locator("#gallery img").count() >= 2
    page.get_by_role("tab", name="Figures").click()
    expect(page.locator("#figures")).to_contain_text("mean IoU")
    visit.canvas("FreeSeg-Diff").click(position={"x": 30, "y": 120})  # one click: the answer, and its evidence
    page.locator("#place tr", has_text="Grounded Diffusion").wait_for()
    page.locator("#gallery h4", has_text="Clusters").wait_for()
    assert page.locator("#place img").count() >= 1 and page.locator("#place").is_visible()
    widths = page.locator("#gallery img").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    assert len({round(width) for width in widths}) == 1 and widths[0] <= 320
    page.locator("#board .ov-more > summary").click()
    page.locator("#board .ov-offsets summary").click()
    before = visit.canvas("DiffSegmenter").get_attribute("aria-label")
    car = page.locator("#board .ov-offsets input").first
    car.press("End")  # a car must be half of the range surer than others: none is
    visit.canvas("DiffSegmenter").and_(page.locator(":not([aria-label*=car])")).wait_for()
    assert car.evaluate("slider => slider === document.activeElement")  # for the next key
    assert "car" in before
    expect(page.locator("#board .ov-offsets output")).to_have_text(["+0.50", "0.00"])
    page.locator("#board .ov-own").click()
    visit.canvas("DiffSegmenter").and_(page.locator(f"[aria-label='{before}']")).wait_for()
    visit.screenshot("figures")
    visit.well()


CONTROLS = """() => [...document.querySelectorAll('button, input, select, textarea, summary, a[href]')].filter(one =>
    one.checkVisibility({visibilityProperty: true, opacityProperty: true}) && !one.disabled
    && !one.closest('.visually-hidden') && one.getBoundingClientRect().width > 1).length"""
SIZES = [(1400, 900, 320), (1920, 1080, 420), (1024, 768, 300), (390, 844, 330)]


def test_at_four_sizes_the_masks_come_first_and_few_controls_stand_there(visit: Visit) -> None:
    page = visit.page
    for width, height, least in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate(TWO_FRAMES)
        boxes = [canvas.bounding_box() for canvas in page.locator("#board .ov-card canvas.ov-canvas").all()]
        assert min(box["width"] for box in boxes) >= least, (width, boxes)
        first = boxes[0]["y"] if width > 640 else boxes[1]["y"]
        assert first + 200 < height and visit.sideways() <= 0, (width, first)
        if width >= 1400:
            assert max(box["y"] + box["height"] for box in boxes) <= height
            assert page.evaluate(CONTROLS) <= 38


def test_the_page_the_command_and_the_library_give_the_same_masks(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit.page
    page.get_by_role("tab", name="Examples").click()
    page.locator("#examples img").nth(example_names().index("cat-car")).click()
    visit.wait_for_status("^Press Run")
    names = ("diffsegmenter", "grounded-diffusion", "freeseg-diff", "ovdiff")
    page.locator("#open-ovdiff").click()
    visit.set_slider("setting-ovdiff-images", 1)
    page.locator("#dialog-ovdiff summary", has_text="Advanced").click()
    visit.set_slider("setting-ovdiff-steps", 2)
    page.keyboard.press("Escape")
    visit.choose_methods(*names)
    visit.run_and_wait()
    page.get_by_role("tab", name="Download").click()
    page.locator("#make-files").click()
    with page.expect_download() as download:
        page.locator("#files a").first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
        archive.extractall(tmp_path / "page")
    picture, ovdiff = ROOT / "assets" / "examples" / "cat-car.png", "ovdiff:images=1:steps=2"
    variants = ", ".join(ovdiff if name == "ovdiff" else name for name in names)
    command = ["compare", str(picture), "--classes", "cat, car", "--methods", variants, "--out", str(tmp_path / "command")]
    monkeypatch.setenv("OVSEG_PROTOTYPES", str(tmp_path / "prototypes"))
    assert main(command) == 0
    models = ovseg.Models("pocket", "cpu")
    made_scene, classes = ovseg.from_image(models, ovseg.read_image(picture)), ovseg.parse_classes("cat, car")
    assert len(folders) == 4
    for name in names:
        settings = {"images": 1, "steps": 2} if name == "ovdiff" else {}
        method = ovseg.suited_to(models, ovseg.find_method(name), settings)
        library = method.segment(models, made_scene, classes).label_map
        for where in ("page", "command"):
            (mask,) = (tmp_path / where).glob(f"*{name}*/mask.png")
            assert np.array_equal(np.asarray(Image.open(mask)), library), (name, where)


def test_a_picture_without_words_is_captioned(visit: Visit) -> None:
    page = visit.page
    visit.another_scene(12)
    page.locator("#classes textarea, #classes input").first.fill("")
    page.locator("#caption-button").click()
    page.wait_for_function("document.querySelectorAll('#chips li').length > 0")
    visit.wait_for_status("“")
    visit.well()


def test_a_drawn_picture_and_a_data_set(visit: Visit) -> None:
    page, before = visit.page, visit.board_run()
    page.get_by_role("tab", name="Draw").click()
    page.locator("#prompt textarea, #prompt input").first.fill("a photo of a dog on grass")
    visit.set_slider("steps", 4)
    page.locator("#draw").click()
    visit.wait_for_board(before)
    page.locator("#classes textarea, #classes input").first.fill("dog")
    visit.choose_methods("grounded-diffusion")
    visit.run_and_wait()
    page.get_by_role("tab", name="Make a data set").click()
    page.locator("#dataset-classes textarea, #dataset-classes input").first.fill("car, dog")
    visit.set_slider("dataset-count", 2)
    page.locator("#dataset-make").click()
    page.locator("#dataset-status", has_text="2 pictures made").wait_for()
    page.locator("#dataset-sheet img").wait_for()
    assert page.locator("#dataset-zip a").count() >= 1
    visit.screenshot("data-set")
    visit.well()


def test_the_keyboard_alone_gets_from_opening_to_masks(visit: Visit) -> None:
    page, seen = visit.page, []
    page.locator("body").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
        if seen[-1] == "another-scene":
            before = visit.board_run()
            page.keyboard.press("Enter")
            visit.wait_for_board(before)
        if seen[-1] == "run":
            page.keyboard.press("Enter")
            break
    assert "another-scene" in seen and seen[-1] == "run"
    visit.wait_for_status("^Done: 4 methods")
    visit.well()
