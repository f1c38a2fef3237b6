"""What a visitor waits for a run of four methods, in the browser, beside what the library takes for the same.

    python -m tests.measure_run [--scene 4479] [--rounds 5]

Page and library run in this one process on the pocket backbone with its networks loaded, one after the other in each round,
with a seed of its own for each. A wait goes from the click on Run until the frame after the last mask was drawn. "Main
thread" is how long the page's main thread had a processor meanwhile, "reports" how many messages changed the status alone,
"boards" how many brought masks or a picture, "kB" how large all messages were.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable

import numpy as np
from gradio.queueing import Queue
from gradio_client.utils import ServerMessage
from playwright.sync_api import CDPSession, Page

from ovseg.compare import Entry, run_variants
from ovseg.demo import launch
from ovseg.demo.picture import of_scene
from ovseg.demo.run import titled
from ovseg.methods import at_first, suited_to
from ovseg.models import Models
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.browsers import chromium, free_port

# Seconds from the beginning of opening the page until the frame after the worked example was drawn.
OPENING = """async methods => {
  const frame = () => new Promise(done => requestAnimationFrame(done));
  while (document.querySelectorAll('#board .ov-card[data-state=done]').length < methods) await frame();
  await frame();
  return performance.now() / 1000;
}"""

# Seconds from a click on Run until the frame after the last mask of so many was drawn.
RUN = """async methods => {
  const board = () => document.querySelector('#board [data-run]') ?? document.querySelector('#board[data-run]');
  const before = board().dataset.run, start = performance.now();
  const count = () => board()?.querySelectorAll('.ov-card[data-state=done]').length;
  const drawn = () => board()?.dataset.run !== before && count() >= methods;
  // No loop that looks each frame: it would make the browser draw all the while.
  const done = new Promise(done => new MutationObserver(() => drawn() && done()).observe(
    document.querySelector('#board'), { subtree: true, attributes: true, childList: true }));
  document.querySelector('#run').click();
  await done;
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return (performance.now() - start) / 1000;
}"""


class Messages:
    """Counts what the server sends to the page, by what it holds."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        send = Queue.send_message

        def counted(queue: Queue, event: object, message: object) -> None:
            self._count(message)
            send(queue, event, message)

        Queue.send_message = counted

    def _count(self, message: object) -> None:
        output = getattr(message, "output", None) or {}
        if "data" not in output:
            return
        text = json.dumps(message.model_dump(), default=str)
        self.counts["bytes"] += len(text)
        if message.msg == ServerMessage.process_generating:
            self.counts["boards" if "data:" in text else "reports"] += 1


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=int, default=4479)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    models, messages = Models("pocket"), Messages()
    with chromium(reduced_motion="reduce", viewport={"width": 1400, "height": 900}) as browser:
        page = browser.new_page()
        address = launch(models, "127.0.0.1", free_port(), wait=False)
        page.goto(address)
        page.locator("#board [data-run]").first.wait_for(timeout=300_000)
        opened = [opening(page, address, len(at_first(models))) for _ in range(options.rounds)]
        print("opening until the worked example is seen, s:", *(f"{seconds:.2f}" for seconds in opened))
        show(page, options.scene, [kind.name for kind in at_first(models)])
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        by_library(models, options.scene, 0)
        page.evaluate(RUN, len(at_first(models)))
        print("| library, s | page, s | times | main thread, s | reports | boards | kB |\n|---|---|---|---|---|---|---|")
        times = []
        for seed in range(1, options.rounds + 1):
            page.locator("#seed input").fill(str(seed))
            page.locator("#seed input").press("Tab")
            page.wait_for_timeout(1000)
            taken = by_library(models, options.scene, seed)
            messages.counts.clear()
            busy = busy_of(session)
            waited = page.evaluate(RUN, len(at_first(models)))
            busy = busy_of(session) - busy
            times.append(waited / taken)
            page.wait_for_timeout(1000)
            cells = [f"{taken:.2f}", f"{waited:.2f}", f"{waited / taken:.2f}", f"{busy:.2f}"]
            counts = messages.counts
            cells += [str(counts["reports"]), str(counts["boards"]), f"{counts['bytes'] / 1000:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
        print(f"median: {np.median(times):.2f} times the library")


def opening(page: Page, address: str, methods: int) -> float:
    """Seconds that opening the page takes until the worked example is seen, which the server has made before."""
    page.goto("about:blank")
    page.goto(address, wait_until="commit")
    return page.evaluate(OPENING, methods)


def show(page: Page, scene: int, methods: Iterable[str]) -> None:
    """Wait until the page stands there with a scene, and tick methods."""
    page.locator("#board [data-run]").first.wait_for(timeout=300_000)
    page.locator("#more button").first.click()
    page.locator("#scene-number input").fill(str(scene))
    page.locator("#scene-number input").press("Enter")
    page.wait_for_timeout(2000)
    for name in methods:
        page.locator(f"#use-{name} input").check()


def busy_of(session: CDPSession) -> float:
    """Seconds that the page's main thread has had a processor so far, however busy the machine is with others."""
    return next(
        item["value"] for item in session.send("Performance.getMetrics")["metrics"] if item["name"] == "TaskDuration"
    )


def by_library(models: Models, scene: int, seed: int) -> float:
    """Seconds that the library takes for the four methods on a scene."""
    picture = of_scene(scene)
    classes = parse_classes(picture.words)
    start = time.perf_counter()
    variants = titled(models, [suited_to(models, kind) for kind in at_first(models)])
    made = list(run_variants(models, from_image(models, picture.image, seed), classes, variants))
    taken = time.perf_counter() - start
    assert all(isinstance(one, Entry) for one in made), made
    return taken


if __name__ == "__main__":
    main()
