"""How fast the board answers in the browser: four canvases, no server.

    python tests/measure_board.py [--side 512] [--moves 40]

Each act is repeated, and each time waits from the event until the frame after the one that drew it: what a visitor waits. A
browser that does nothing needs two frames for that, about 33 ms at 60 frames a second: the row "nothing". "Drawing" is the
longest task of the page within that time.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.board_browser import BoardPage, served
from tests.browsers import chromium

# Runs an act for each move, and measures from its start to the frame after its drawing, and the drawing itself.
MEASURE = """async ([name, moves]) => {
  const board = document.querySelector('#board');
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const slide = (selector, value) => { const slider = board.querySelector(selector); slider.value = value;
    slider.dispatchEvent(new Event('input', {bubbles: true})); };
  const press = selector => board.querySelector(selector).click();
  const hover = share => { const canvas = board.querySelectorAll('.ov-canvas')[1], box = canvas.getBoundingClientRect();
    canvas.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, pointerType: 'mouse',
      clientX: box.left + share * box.width, clientY: box.top + (1 - share) * box.height})); };
  const acts = {
    'nothing': () => {},
    'opacity': share => slide('.ov-opacity', share),
    'threshold': share => slide('.ov-threshold', share),
    'hide a class': () => press('.ov-chip[data-label=cat]'),
    'outline': () => press('[data-look=outline]'),
    'hatching': () => press('[data-look=hatching]'),
    'hover': hover,
    'errors': (share, k) => press(`[data-view=${k % 2 ? 'masks' : 'errors'}]`),
    'difference': () => press('[data-way=difference]'),
    'curtain': share => slide('.ov-curtain', 100 * share),
    'zoom': share => board.querySelector('.ov-frame').dispatchEvent(new WheelEvent('wheel', {deltaY: 200 * share - 100})),
    'pan': (share, k) => {
      const frame = board.querySelector('.ov-frame'), box = frame.getBoundingClientRect();
      if (k === 0) frame.dispatchEvent(new WheelEvent('wheel', {deltaY: -500}));
      const at = (name, x) => frame.dispatchEvent(new PointerEvent(name,
        {bubbles: true, pointerId: 1, clientX: box.left + x * box.width, clientY: box.top + 0.5 * box.height}));
      at('pointerdown', share); at('pointermove', share + (k % 2 ? 0.2 : -0.2)); at('pointerup', share); },
    'how many agree': () => press('[data-way=votes]'),
    'threshold, difference open': share => slide('.ov-threshold', share),
  };
  const waits = [], works = [];
  for (let k = 0; k < moves; k++) {
    await frame();
    await new Promise(done => setTimeout(done));
    const start = performance.now();
    acts[name]((k + 0.5) / moves, k);
    // A frame's callbacks run in the order of asking: the board's drawing is before this one.
    const from = await new Promise(done => requestAnimationFrame(at => done(at)));
    works.push(performance.now() - Math.max(from, start));
    await frame();
    waits.push(performance.now() - start);
  }
  return [waits, works];
}"""
ACTS = (
    "nothing", "opacity", "threshold", "hide a class", "outline", "hatching", "hover", "zoom", "pan", "errors", "difference",
    "curtain", "how many agree", "threshold, difference open",
)  # fmt: skip
VIEWS = {
    "difference": "agreement",
    "how many agree": "agreement",
    "threshold, difference open": "agreement",
    "curtain": "slider",
}


def main() -> None:
    """Measure, and print a Markdown table in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--moves", type=int, default=40)
    options = parser.parse_args()
    with served(options.side, options.side) as url, chromium() as browser:
        visit = BoardPage(browser.new_page(), url, 1400, "light")
        visit.show("finished", 3)
        print("| act | wait, median | wait, 95 % | drawing, median | drawing, 95 % |\n|---|---|---|---|---|")
        for act in ACTS:
            visit.press(f"[data-view={VIEWS.get(act, 'masks')}]")
            waits, works = visit.page.evaluate(MEASURE, [act, options.moves])
            cells = [f"{np.percentile(times, part):.0f}" for times in (waits, works) for part in (50, 95)]
            print("| " + " | ".join([act, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
