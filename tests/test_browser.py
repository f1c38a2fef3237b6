"""The page as a visitor sees it: headless Chromium against `python app.py` on the pocket bundle."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREENSHOTS = Path(os.environ["OVSEG_SCREENSHOTS"]) if "OVSEG_SCREENSHOTS" in os.environ else None


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_SERVER_PORT": str(port)}
    quiet["OVSEG_PROTOTYPES"] = str(tmp_path_factory.mktemp("prototypes"))
    server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=os.environ | quiet)
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
            time.sleep(0.5)
    raise AssertionError("the page did not come up in two minutes")


class Visit:
    """A page with what went wrong on it: console errors, and requests to anywhere else."""

    def __init__(self, page: Page) -> None:
        self.page, self.errors, self.outside = page, [], []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: None if _is_local(request.url) else self.outside.append(request.url))

    def status(self) -> str:
        return self.page.locator("#status .ov-status").inner_text()

    def wait_for_status(self, pattern: str) -> None:
        self.page.wait_for_function(
            "pattern => new RegExp(pattern).test(document.querySelector('#status .ov-status').innerText)",
            arg=pattern, timeout=120_000,
        )  # fmt: skip

    def run_and_wait(self) -> None:
        before = self.page.evaluate("document.querySelector('#canvas [data-ready]')?.dataset.ready || ''")
        self.page.locator("#run").click()
        self.page.wait_for_function(
            "before => { const done = document.querySelector('#canvas[data-ready], #canvas [data-ready]');"
            " return done && done.dataset.ready !== before }",
            arg=before, timeout=120_000,
        )  # fmt: skip
        self.wait_for_status("^Done in")

    def shares(self) -> dict[str, float]:
        texts = self.page.locator("#canvas .ov-legend button span").all_inner_texts()
        pairs = [re.fullmatch(r"(.*) ([\d.]+) %", text).groups() for text in texts]
        return {name: float(share) for name, share in pairs}

    def canvas_pixels(self) -> list[int]:
        return self.page.evaluate(
            "(() => { const c = document.querySelector('#canvas canvas');"
            " return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) })()"
        )

    def set_slider(self, elem_id: str, value: float) -> None:
        box = self.page.locator(f"#{elem_id} input[type=number]")
        box.fill(str(value))
        box.press("Tab")

    def screenshot(self, name: str) -> None:
        if SCREENSHOTS:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "data:", "blob:"))


@pytest.fixture
def visit(address: str, tmp_path: Path) -> Iterator[Visit]:
    assert CHROMIUM, "the browser test needs Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=CHROMIUM, headless=True, args=FLAGS, viewport={"width": 1400, "height": 1000}
        )
        visitor = Visit(browser.new_page())
        visitor.page.goto(address)
        visitor.page.locator("#run").wait_for()
        yield visitor
        browser.close()


def test_generate_segment_and_move_the_threshold(visit: Visit) -> None:
    page = visit.page
    page.locator("#prompt textarea").fill("a photo of a cat and a car on grass")
    visit.set_slider("steps", 4)
    page.locator("#generate").click()
    visit.wait_for_status("^Generated")
    page.locator("#image img").wait_for()
    page.locator("#classes textarea").fill("cat, car, grass|lawn")
    visit.run_and_wait()
    visit.screenshot("wide")

    assert list(visit.shares()) == ["background", "cat", "car", "grass"]
    assert sum(visit.shares().values()) == pytest.approx(100, abs=0.3)
    before, pixels = visit.shares(), visit.canvas_pixels()
    visit.set_slider("threshold", 0.95)
    page.wait_for_function("share => !document.querySelector('#canvas .ov-legend').innerText.includes(share)",
                           arg=f"background {before['background']:.1f} %")  # fmt: skip
    assert visit.shares()["background"] > before["background"]
    assert visit.canvas_pixels() != pixels
    visit.set_slider("threshold", 0.0)
    page.wait_for_function("document.querySelector('#canvas .ov-legend').innerText.includes('background 0.')")
    assert visit.shares()["background"] < 1

    masked = visit.canvas_pixels()
    visit.set_slider("opacity", 0)
    page.wait_for_timeout(500)
    plain = visit.canvas_pixels()
    assert plain != masked
    visit.set_slider("opacity", 0.6)
    page.locator("#canvas .ov-legend button[data-label='1']").click()
    page.locator("#canvas .ov-legend button.off").wait_for()

    page.locator("#canvas canvas").hover(position={"x": 30, "y": 30})
    page.locator("#canvas .ov-tip").wait_for(state="visible")
    assert page.locator("#gallery img").count() >= 3
    page.get_by_role("tab", name="From a point").click()
    page.locator("#canvas canvas").click(position={"x": 100, "y": 100})
    page.locator("#point img").wait_for(timeout=20_000)
    visit.screenshot("wide-point")

    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    visit.screenshot("narrow")
    assert not visit.outside and not visit.errors


def test_grounded_diffusion_gives_picture_and_masks_at_once(visit: Visit) -> None:
    page = visit.page
    page.locator("#method label", has_text="Grounded Diffusion").click()
    page.wait_for_function("document.querySelector('#threshold input[type=number]').value === '0.5'")
    page.locator("#prompt textarea").fill("a photo of a dog on grass")
    page.locator("#classes textarea").fill("dog")
    visit.set_slider("steps", 4)
    page.locator("#generate").click()
    visit.wait_for_status("^Done in")
    page.locator("#image img").wait_for()
    assert list(visit.shares()) == ["background", "dog"]
    assert page.locator("#gallery img").count() >= 1
    visit.screenshot("grounded-diffusion")

    page.get_by_role("tab", name="Data set").click()
    page.locator("#dataset-classes textarea").fill("car, dog")
    visit.set_slider("dataset-count", 2)
    page.locator("#dataset-make").click()
    page.locator("#dataset-status", has_text="2 pictures made").wait_for(timeout=120_000)
    page.locator("#dataset-sheet img").wait_for()
    assert page.locator("#dataset-zip a").count() >= 1
    visit.screenshot("data-set")
    assert not visit.outside and not visit.errors


def test_ovdiff_draws_support_images_and_says_which_claims_a_point(visit: Visit) -> None:
    page = visit.page
    page.locator("#examples button, #examples td, #examples img").first.click()
    page.locator("#image img").wait_for()
    page.locator("#classes textarea").fill("boat, bird")
    page.locator("#method label", has_text="OVDiff").click()
    page.get_by_role("button", name="Settings of OVDiff").click()
    visit.set_slider("knob-ovdiff-images", 3)
    visit.set_slider("knob-ovdiff-steps", 4)
    page.locator("#run").click()
    visit.wait_for_status("class 1 of 2, image 1 to 3 of 3")
    visit.wait_for_status("^Done in")
    assert list(visit.shares()) == ["background", "boat", "bird"]
    assert page.locator("#gallery img").count() == 2  # a sheet of support images for each class
    page.get_by_role("tab", name="From a point").click()
    page.locator("#canvas canvas").click(position={"x": 100, "y": 100})
    page.locator("#point img").wait_for(timeout=20_000)
    shown = page.locator("#point img").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert shown[0] == 3 * 240 + 8 and shown[1] > 5 * 240  # three networks, the five nearest of each
    visit.screenshot("ovdiff-point")
    assert not visit.outside and not visit.errors


def test_bad_input_is_one_sentence_and_stop_stops(visit: Visit) -> None:
    page = visit.page
    page.locator("#run").click()
    page.get_by_text("A picture must be given or generated first").wait_for()
    page.locator("#fill-classes").click()
    page.wait_for_function("document.querySelector('#classes textarea').value.includes('potted plant')")
    visit.set_slider("steps", 100)
    page.locator("#generate").click()
    visit.wait_for_status("^sampling")
    page.locator("#stop").click()
    visit.wait_for_status("^Stopped")
    time.sleep(1)
    assert visit.status().startswith("Stopped")
    assert page.locator("#image img").count() == 0


def test_a_picture_without_words_is_captioned_and_segmented(visit: Visit) -> None:
    page = visit.page
    page.locator("#examples button, #examples td, #examples img").first.click()
    page.locator("#image img").wait_for()
    page.locator("#classes textarea").fill("")
    page.locator("#caption-button").click()
    page.wait_for_function("document.querySelector('#caption textarea').value.length > 3", timeout=60_000)
    words = page.locator("#classes textarea").input_value()
    assert words and "," not in words[:1]
    visit.screenshot("caption")

    page.locator("#classes textarea").fill("")
    page.locator("#caption textarea").fill("")
    page.locator("#method label", has_text="FreeSeg-Diff").click()
    visit.run_and_wait()
    assert page.locator("#caption textarea").input_value()
    assert sum(visit.shares().values()) == pytest.approx(100, abs=0.3)
    assert page.locator("#gallery img").count() >= 1
    visit.screenshot("freeseg-diff")
    assert not visit.outside and not visit.errors
