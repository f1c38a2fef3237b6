"""What a visitor waits for a run of four methods, in the browser, beside what the library takes for the same.

    python -m tests.measure_run [--scene 4479] [--rounds 5]

Page and library run in this one process on the pocket backbone with its networks loaded, one after the other in each round,
with a seed of its own for each. A wait goes from the click on Run until the frame after the last mask was drawn. "Main
thread" is what the browser's page worked meanwhile, "reports" how many messages changed the status alone, "boards" how many
brought masks or a picture, "kB" how large all messages were.
"""

import argparse
import json
import time
from collections import Counter

import numpy as np
from gradio.queueing import Queue
from gradio_client.utils import ServerMessage
from playwright.sync_api import CDPSession, Page

from ovseg.compare import Entry, run_variants
from ovseg.demo import launch
from ovseg.demo.picture import of_scene
from ovseg.demo.run import titled
from ovseg.methods import METHODS, suited_to
from ovseg.models import Models
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.browsers import chromium, free_port

# Seconds from a click on Run until the frame after the last mask of so many was drawn.
RUN = """async methods => {
  const board = () => document.querySelector('#board [data-run]') ?? document.querySelector('#board[data-run]');
  const before = board().dataset.run, start = performance.now();
  document.querySelector('#run').click();
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const drawn = () => board()?.querySelectorAll('.ov-card[data-state=done]').length;
  while (board()?.dataset.run === before || drawn() < methods) await frame();
  await frame();
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
            self.counts["boards" if "data:image/" in text else "reports"] += 1


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=int, default=4479)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    models, messages = Models("pocket"), Messages()
    with chromium(reduced_motion="reduce", viewport={"width": 1400, "height": 900}) as browser:
        page = browser.new_page()
        page.goto(launch(models, "127.0.0.1", free_port(), wait=False))
        show(page, options.scene)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        by_library(models, options.scene, 0)
        page.evaluate(RUN, len(METHODS))
        print("| library, s | page, s | times | main thread, s | reports | boards | kB |\n|---|---|---|---|---|---|---|")
        times = []
        for seed in range(1, options.rounds + 1):
            page.locator("#seed input").fill(str(seed))
            page.locator("#seed input").press("Tab")
            page.wait_for_timeout(1000)
            taken = by_library(models, options.scene, seed)
            messages.counts.clear()
            busy = busy_of(session)
            waited = page.evaluate(RUN, len(METHODS))
            busy = busy_of(session) - busy
            times.append(waited / taken)
            page.wait_for_timeout(1000)
            cells = [f"{taken:.2f}", f"{waited:.2f}", f"{waited / taken:.2f}", f"{busy:.2f}"]
            counts = messages.counts
            cells += [str(counts["reports"]), str(counts["boards"]), f"{counts['bytes'] / 1000:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
        print(f"median: {np.median(times):.2f} times the library")


def show(page: Page, scene: int) -> None:
    """Wait until the page stands there with a scene, and tick every method."""
    page.locator("#board [data-run]").first.wait_for(timeout=300_000)
    page.locator("#scene-number input").fill(str(scene))
    page.locator("#scene-number input").press("Enter")
    page.wait_for_timeout(2000)
    for box in page.locator("[id^=use-] input").all():
        box.check()


def busy_of(session: CDPSession) -> float:
    """Seconds that the page's main thread has worked so far."""
    return next(
        item["value"] for item in session.send("Performance.getMetrics")["metrics"] if item["name"] == "TaskDuration"
    )


def by_library(models: Models, scene: int, seed: int) -> float:
    """Seconds that the library takes for the four methods on a scene."""
    picture = of_scene(scene)
    classes = parse_classes(picture.words)
    start = time.perf_counter()
    variants = titled(models, [suited_to(models, kind) for kind in METHODS])
    made = list(run_variants(models, from_image(models, picture.image, seed), classes, variants))
    taken = time.perf_counter() - start
    assert all(isinstance(one, Entry) for one in made), made
    return taken


if __name__ == "__main__":
    main()
