"""The board alone on a page, with made-up scores: what its tests and measurements look at.

python tests/board_page.py --port 7999 [--side 512]
"""

import argparse
import sys
from pathlib import Path

import gradio as gr
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ovseg.demo.board import board, board_picture, board_step, board_value, done, failed, running, waiting
from ovseg.types import Segmentation

LABELS = ("background", "cat", "car", "tree")
RUNS = {"empty": None, "under way": "one", "finished": "one", "no truth": "two", "small": "three"}
"""The page's states, and the run of each."""


def picture(height: int, width: int) -> np.ndarray:
    """A picture in which x and y can be told apart: red rises to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 160 * x // width, 30 + 180 * y // height, 90 + (x + y) % 60], -1).astype(np.uint8)


def blob(height: int, width: int, centre: tuple[float, float], reach: float) -> np.ndarray:
    """Scores 0 to 1 that fall from a centre (x, y), both in shares of the picture."""
    y, x = np.mgrid[:height, :width]
    far = np.hypot(x / width - centre[0], y / height - centre[1])
    return np.clip(1 - far / reach, 0, 1).astype(np.float32)


def truth(height: int, width: int) -> np.ndarray:
    """A cat at the upper right, a car at the lower left, no tree; a strip at the left edge says nothing."""
    labels = np.zeros((height, width), np.uint8)
    labels[blob(height, width, (0.7, 0.3), 0.4) > 0.45] = 1
    labels[blob(height, width, (0.25, 0.75), 0.4) > 0.5] = 2
    labels[:, : width // 32] = 255
    return labels


def by_threshold(height: int, width: int, shift: float, threshold: float) -> Segmentation:
    """Cat, car and tree as blobs with ripples; the background is a threshold."""
    ripple = 0.06 * np.sin(np.arange(width) / 9)[None] * np.cos(np.arange(height) / 7)[:, None]
    places = ((0.7 + shift, 0.3), (0.25, 0.75 - shift), (0.9, 0.9))
    scores = [np.clip(blob(height, width, place, 0.4) + ripple, 0, 1) for place in places]
    scores = np.stack([np.full((height, width), threshold), *scores]).astype(np.float32)
    return Segmentation(picture(height, width), LABELS, scores, threshold=threshold)


def by_itself(height: int, width: int) -> Segmentation:
    """Labels in another order and one that nobody asked for; the background has its own score, below 0 like a cosine."""
    places = ((0.2, 0.7), (0.75, 0.35), (0.1, 0.1))
    scores = np.stack([np.full((height, width), 0.36), *(blob(height, width, place, 0.4) for place in places)])
    labels = ("background", "car", "cat", "sky")
    return Segmentation(picture(height, width), labels, (0.3 * scores - 0.2).astype(np.float32))


def segmentations(height: int, width: int) -> dict[str, Segmentation]:
    """By title, in the order of the canvases."""
    return {
        "DiffSegmenter": by_threshold(height, width, 0.0, 0.5),
        "Grounded Diffusion": by_threshold(height, width, 0.05, 0.4),
        "OVDiff": by_itself(height, width),
    }


def values(height: int, width: int) -> dict[str, dict | None]:
    """The board's value in each state of `RUNS`."""
    scene = board_picture(picture(height, width), LABELS, truth(height, width))
    made = segmentations(height, width)
    entries = [done(f"m{k}", title, one, seconds=0.3 + k, passes=k + 1) for k, (title, one) in enumerate(made.items())]
    under_way = [
        entries[0],
        running("m1", "Grounded Diffusion", "reading the attention", 0.4, 2.0),
        waiting("m2", "OVDiff", 15.0),
        failed("m3", "FreeSeg-Diff", "The captioner must be there, but its weights are not."),
    ]
    plain = board_picture(picture(height, width), LABELS)
    return {
        "empty": None,
        "under way": board_value(scene, under_way, RUNS["under way"]),
        "finished": board_value(scene, entries, RUNS["finished"]),
        "no truth": board_value(plain, entries, RUNS["no truth"]),
        "small": board_value(
            board_picture(picture(64, 96), LABELS),
            [done("m0", "DiffSegmenter", by_threshold(64, 96, 0.0, 0.5))],
            RUNS["small"],
        ),
    }


def build(height: int, width: int) -> gr.Blocks:
    """A page with the board, a button for each state, and what its events said."""
    states = values(height, width)
    with gr.Blocks(title="Board") as page:
        shown = board("board")
        with gr.Row():
            for name in states:
                gr.Button(name, elem_id=name.replace(" ", "-")).click(lambda name=name: states[name], None, shown)
            first, second, _, last = states["under way"]["entries"]
            step = board_step(states["under way"], [first, second, states["finished"]["entries"][2], last], fresh="m2")
            gr.Button("step", elem_id="step").click(lambda: gr.HTML(step=step), None, shown)
        selected, looked = gr.JSON(label="select", elem_id="selected"), gr.JSON(label="look", elem_id="looked")

        def on_select(event: gr.SelectData) -> dict:
            return {"index": event.index, "value": event.value}

        def on_look(event: gr.EventData) -> dict:
            return {
                "threshold": event.threshold,
                "opacity": event.opacity,
                "hidden": event.hidden,
                "offsets": event.offsets,
                "run": event.run,
            }

        shown.select(on_select, None, selected)
        shown.look(on_look, None, looked)
    return page


def main() -> None:
    """Serve the page until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, help="a free one, or GRADIO_SERVER_PORT, where none is given")
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--width", type=int, default=208)
    options = parser.parse_args()
    page = build(options.height, options.width)
    page.launch(
        server_name="127.0.0.1", server_port=options.port, share=False, ssr_mode=False, quiet=True, run_history=False
    )


if __name__ == "__main__":
    main()
