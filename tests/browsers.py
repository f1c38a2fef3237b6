"""Headless Chromium, and the server whose page it looks at."""

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from tests.needs import CHROMIUM, need

ROOT = Path(__file__).resolve().parents[1]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 150_000  # milliseconds for one thing on a page: a machine may be busy with others
expect.set_options(timeout=PATIENCE)
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
SCREENSHOTS = Path(os.environ["OVSEG_SCREENSHOTS"]) if "OVSEG_SCREENSHOTS" in os.environ else None


@contextmanager
def chromium(**options: Any) -> Iterator[BrowserContext]:
    """A headless browser with an empty profile, without animations. `options` are those of `launch_persistent_context`."""
    need(CHROMIUM, "Chromium", "apt-get install chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=FLAGS, **{"reduced_motion": "reduce"} | options
        )
        browser.set_default_timeout(PATIENCE)
        yield browser
        browser.close()


def forget_visitor(page: Page, address: str) -> None:
    """Forget what pages of an address keep in the browser, as if another visitor came. No such page may be open: it could
    write its choices again.
    """
    page.context.new_cdp_session(page).send(
        "Storage.clearDataForOrigin", {"origin": address, "storageTypes": "local_storage"}
    )


def leave(page: Page) -> None:
    """End what a tab shows, and take the mouse off it, before another visit is made in it."""
    page.goto("about:blank")
    page.mouse.move(0, 0)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(script: str, arguments: Sequence[object] = (), environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of the Gradio page that this script of the project serves, in its own process: a forked one, as another
    would read all libraries again.
    """
    port = free_port()

    def serve() -> None:
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_SERVER_PORT=str(port), **(environment or {}))
        sys.argv = [script, *map(str, arguments)]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("ovseg", "tests")]:
            del sys.modules[name]  # the page as it is, without the checks of tests
        runpy.run_path(str(ROOT / script), run_name="__main__")

    server = multiprocessing.get_context("fork").Process(target=serve)
    server.start()
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.join(20)


def _wait_for(url: str, server: BaseProcess) -> None:
    while server.is_alive():  # pytest-timeout ends what never comes up
        try:
            urllib.request.urlopen(url + "config", timeout=60).read()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server ended")


# Holds back what the page hears of the end of a stopped job, as a busy machine does.
HOLD_BACK = """() => {
  const soon = window.setTimeout;
  window.setTimeout = (act, wait, ...given) => given[0]?.msg === 'process_completed' && !given[0].output.data
    ? (window.heldBack = () => act(...given))
    : soon(act, wait, ...given); }"""


class Watched:
    """A page with what went wrong on it: console errors, and requests to anywhere else."""

    def __init__(self, page: Page) -> None:
        self.page, self.errors, self.outside = page, [], []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: None if _is_local(request.url) else self.outside.append(request.url))

    def accessible(self, within: str = "html") -> None:
        """axe-core, which `npm install` puts beside the project, finds no serious violation within a part of the page."""
        script = ROOT / "node_modules" / "axe-core" / "axe.min.js"
        need(script.is_file(), "axe-core", "npm install")
        if not self.page.evaluate("'axe' in window"):
            self.page.add_script_tag(path=script)
        # A button fades from light to dark: on a busy machine axe may meet it half way.
        self.page.evaluate("document.getAnimations().filter(a => a instanceof CSSTransition).forEach(a => a.finish())")
        # What is right is of no interest: a few megabytes of it came with each answer.
        run = "within => axe.run(within, {resultTypes: ['violations']}).then(found => found.violations)"
        found = self.page.evaluate(run, within)
        serious = [item for item in found if item["impact"] in ("serious", "critical")]
        assert not serious, [(item["id"], [node["html"][:160] for node in item["nodes"][:3]]) for item in serious]

    def fits(self, selector: str) -> None:
        """The page is as wide as the window at most, and nothing of a part reaches beyond its edge."""
        width = self.page.viewport_size["width"]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        # What a container cuts off makes no page wider, and is lost all the same.
        rights = "all => Math.max(...all.map(one => one.getBoundingClientRect().right))"
        assert self.page.eval_on_selector_all(f"{selector} *", rights) <= width

    def screenshot(self, name: str) -> None:
        """Write what is seen, where the environment names a folder."""
        if SCREENSHOTS:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    @contextmanager
    def end_comes_late(self) -> Iterator[None]:
        """What the page hears of the end of a job that the block stops, it hears after the block."""
        self.page.evaluate(HOLD_BACK)
        yield
        self.page.wait_for_function("() => Boolean(window.heldBack)")
        self.page.evaluate("() => window.heldBack()")
        self.page.evaluate(TWO_FRAMES)


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "http://localhost", "data:", "blob:"))
