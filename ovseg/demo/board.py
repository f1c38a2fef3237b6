"""The board: one picture, any number of methods beside each other, one legend; looking at it asks the server nothing.

Build the component once, and give it values:

    component = board("board")                                   # a gr.HTML; None or an empty board shows a sentence
    picture = board_picture(image, ("background", "cat", "car"), truth)   # once for each picture
    entries = [waiting("a", "OVDiff", 15.0), running("b", "FreeSeg-Diff", "clusters", 0.4),
               done("c", "DiffSegmenter", segmentation, seconds=0.3, passes=1), failed("d", "OVDiff", "Why.")]
    component.value = board_value(picture, entries, run="7f3a")

`waiting`, `running`, `done` and `failed` return plain dictionaries: keep that of a finished method and give it again with
each update, so that its maps are packed once. `board_value` puts them together. All of it is JSON.

    {"run": str, "picture": data URL, "width": int, "height": int, "truth": data URL or None, "asked": int, "steps": int,
     "lines": [int, int], "legend": [{"label", "colour", "line", "hatch"}], "errors": [None, colour, colour, colour],
     "hues": [colour],
     "entries": [{"key", "title", "state", "seconds", "stage", "share", "sentence", "passes", "labels", "best",
                  "runner_up", "low", "high", "threshold", "apart"}], "note": str}

`note` is a sentence above the canvases, or empty. `apart`, of an entry that is done, says in a few words why it is no method
like the others, or is empty.

A legend's item has the label's colour, the colour of its hatching's lines, and which of `view.hatch`'s patterns it has, from
0, or None; `lines` are the distance and the width of the lines.
`asked` is how many of the legend's labels were asked for, background included; what methods found besides comes after them.
`truth` holds indices of the legend, 255 where it says nothing. `best` and `runner_up` are maps as `packed` writes them: an
index into the entry's own `labels`, and a score in steps of (high - low) / `steps` above `low`. Of a method whose background
is a threshold, every threshold that is a multiple of 0.001, and its own, parts these steps as it parts the scores. `errors`
are the colours of right, which has none, missed, false positive, taken for another class; `hues` the colours that masks on
this picture have, in their order.

As a run goes on, a board need not be sent again. The component's property `step` holds what `board_step` returns, with the
maps of the method that has just ended alone:

    {"run": str, "legend": as above, "entries": as above; where "best" and "runner_up" are missing, those sent before stay}

Values with the same `run` are states of one run: what the visitor hid, moved or marked stays. A new `run` goes back to each
method's own threshold; opacity, outline and hatching stay as the visitor left them.

Events of the component:
- `component.select(handler)`, handler(event: gr.SelectData): a click, or Enter on a canvas. `event.index` is [x, y] in
  shares of the picture, 0 to 1; `event.value` is the key of the entry whose canvas it was, "picture" or "difference".
- `component.look(handler)`, handler(event: gr.EventData): a quarter of a second after the visitor last moved a control.
  `event.threshold` is a number, or None where each method keeps its own; `event.offsets` says by label how much higher the
  threshold of single classes is; `event.opacity` is a number, `event.hidden` a list of labels, `event.run` as in the value.
  Offsets are answered by the same run with other maps, as two scores a pixel do not tell them; all else needs no answer.

While it shows a value, the component's element has the attribute data-run with that value's `run`.
"""

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import Float32, Integer, UInt8, UInt16
from PIL import Image

from ovseg.demo.static_files import script_of, static
from ovseg.output import view
from ovseg.types import Segmentation

SCRIPTS = (
    "elements", "board-maps", "board-paint", "board-words", "board-parts", "board-cards", "board-controls", "board-zoom",
    "board-arrange", "board-pointing", "board-differ", "board",
)  # fmt: skip
"""The component's script is these files one after the other: what uses a name comes after what defines it."""
STEPS = 4000
MAPS = ("best", "runner_up")  # of an entry: nearly all of its bytes
PACKED = "data:application/zlib;base64,"
"""How the address of a packed map begins."""
ERROR_COLOURS = (None, *view.hex_colours(view.ERROR_COLOURS[1:]))
"""Right, which shows the dimmed picture; missed, false positive, another class."""


def board(elem_id: str) -> gr.HTML:
    """The board as a component. Its value is what `board_value` returns, or None for nothing yet."""
    # A function, not a subclass: gradio writes a stub file beside every module that subclasses a component.
    return gr.HTML(
        value=None,
        html_template=static("board.html"),
        css_template=static("elements.css", "board.css"),
        js_on_load=script_of(SCRIPTS),
        elem_id=elem_id,
        apply_default_css=False,
        step=None,
    )


def board_picture(
    image: UInt8[np.ndarray, "H W 3"],
    labels: Sequence[str],
    truth: Integer[np.ndarray, "_h _w"] | None = None,
    seen: dict | None = None,
) -> dict:
    """What the methods look at: the picture, the words that were asked for, and the truth if it is known.

    Args:
        labels: "background", then the classes in the order asked for.
        truth: indices into `labels`; 255 where it says nothing.
        seen: what `seen_of` gave of the picture, if it was encoded before.
    """
    drawn = None if truth is None else data_url(truth.astype(np.uint8), "PNG")
    return (seen or seen_of(image)) | {"labels": list(labels), "truth": drawn}


def seen_of(image: UInt8[np.ndarray, "H W 3"]) -> dict:
    """What of `board_picture` says the picture alone."""
    kind = "JPEG" if image.size > 1_200_000 else "PNG"
    hues = view.hex_colours(view.hues_for(image))
    return {"url": data_url(image, kind), "height": image.shape[0], "width": image.shape[1], "hues": hues}


def waiting(key: str, title: str, seconds: float | None = None) -> dict:
    """A method that has not begun; `seconds` is how long it will take, if that is known."""
    return _entry(key, title, "waiting", {"seconds": seconds})


def running(key: str, title: str, stage: str, share: float | None = None, seconds: float | None = None) -> dict:
    """A method at work: the name of its stage, the share that is done, 0 to 1, and the seconds left, where known."""
    return _entry(key, title, "running", {"stage": stage, "share": share, "seconds": seconds})


def failed(key: str, title: str, sentence: str) -> dict:
    """A method that could not be run, and the sentence that says why."""
    return _entry(key, title, "failed", {"sentence": sentence})


def done(
    key: str,
    title: str,
    segmentation: Segmentation,
    *,
    seconds: float | None = None,
    passes: int | None = None,
    apart: str = "",
) -> dict:
    """A method's masks, with the seconds and the passes of the network that they took, where known.

    Args:
        apart: why it is no method like the others, in a few words.

    Raises:
        ValueError: there are more than 255 labels, or the threshold lies outside 0 to 1.
    """
    if len(segmentation.labels) > 255:
        raise ValueError(f"The board shows at most 255 labels, but got {len(segmentation.labels)}.")
    labels, scores = two_best(segmentation)
    low, high = (0.0, 1.0) if segmentation.threshold is not None else (float(scores.min()), float(scores.max()))
    high = high if high > low else low + 1
    codes = score_steps(scores, low, high, segmentation.threshold)
    urls = [packed(*layer) for layer in zip(labels, codes, strict=True)]
    facts = {
        "seconds": seconds,
        "passes": passes,
        "apart": apart,
        "labels": list(segmentation.labels),
        "best": urls[0],
        "runner_up": urls[1] if len(urls) > 1 else None,
        "low": low,
        "high": high,
        "threshold": segmentation.threshold,
    }
    return _entry(key, title, "done", facts)


def board_value(picture: dict, entries: Sequence[dict], run: str) -> dict:
    """The component's value: a picture of `board_picture` and its methods in the order of the canvases.

    Args:
        run: any name of this run; the same for all values that are states of it.
    """
    return {
        "run": run,
        "picture": picture["url"],
        "width": picture["width"],
        "height": picture["height"],
        "truth": picture["truth"],
        "asked": len(picture["labels"]),
        "steps": STEPS,
        "lines": list(view.hatch_size((picture["height"], picture["width"]))),
        "legend": _legend(picture["labels"], entries, picture["hues"]),
        "hues": picture["hues"],
        "errors": list(ERROR_COLOURS),
        "entries": list(entries),
        "note": "",
    }


def board_step(value: dict, entries: Sequence[dict], fresh: str) -> dict:
    """What a board of this value still needs to show all these entries: the legend, and the maps of the entry `fresh`."""
    labels = [item["label"] for item in value["legend"]]
    told = [entry if entry["key"] == fresh else without_maps(entry) for entry in entries]
    return {"run": value["run"], "legend": _legend(labels, entries, value["hues"]), "entries": told}


def without_maps(entry: dict) -> dict:
    """All of an entry but its maps."""
    return {name: held for name, held in entry.items() if name not in MAPS}


def two_best(segmentation: Segmentation) -> tuple[UInt8[np.ndarray, "n H W"], Float32[np.ndarray, "n H W"]]:
    """The labels of the highest and of the next score at each place, and these scores; n is 1 where only one label is there.

    A background that is a threshold is left out: where it stands, the threshold says.
    """
    first = 0 if segmentation.threshold is None else min(1, len(segmentation.labels) - 1)
    rows = segmentation.scores()[first:]
    count = min(2, len(rows))
    labels, scores = np.full((2, *rows.shape[1:]), first, np.uint8), np.full((2, *rows.shape[1:]), -np.inf, np.float32)
    scores[0] = rows[0]
    for label, row in enumerate(rows[1:], first + 1):  # one after the other: much quicker than looking along the rows
        above, next_above = row > scores[0], row > scores[1]
        for found, new in ((scores, row), (labels, np.uint8(label))):
            np.copyto(found[1], new, where=next_above)
            np.copyto(found[1], found[0], where=above)
            np.copyto(found[0], new, where=above)
    return labels[:count], scores[:count]


def score_steps(
    scores: Float32[np.ndarray, "n H W"], low: float, high: float, threshold: float | None
) -> UInt16[np.ndarray, "n H W"]:
    """Scores as whole steps between `low` and `high`.

    With a threshold, a score is above t exactly where its step is above round(t * STEPS), for t a multiple of 0.001 and for
    the threshold itself: a step counts how many points of a grid lie below the score, and these thresholds are grid points.

    Raises:
        ValueError: the threshold lies outside 0 to 1.
    """
    if threshold is None:
        return ((scores - low) / (high - low) * STEPS).round().astype(np.uint16)
    if not 0 <= threshold <= 1:
        raise ValueError(f"The threshold must lie between 0 and 1, but got {threshold}.")
    grid = (np.arange(STEPS + 1) / STEPS).astype(np.float32)
    grid[round(threshold * STEPS)] = threshold
    near = (scores * np.float32(STEPS)).clip(1, STEPS - 1).astype(np.int16)  # rounding may take it one point off
    return (near - 1 + sum((grid[near + k] < scores).astype(np.uint16) for k in (-1, 0, 1))).astype(np.uint16)


def _entry(key: str, title: str, state: str, facts: Mapping[str, Any]) -> dict:
    unknown = {"seconds": None, "stage": "", "share": None, "sentence": "", "passes": None}
    return {"key": key, "title": title, "state": state, **unknown, **facts}


def packed(labels: UInt8[np.ndarray, "H W"], steps: UInt16[np.ndarray, "H W"]) -> str:
    """A map as a data URL: three planes of a byte a pixel, compressed by zlib, in a fifth of the time of an RGB PNG.

    They are the labels, and the high and the low byte of what each step is above the one before it, where 0, 1, 2, 3, 4 ...
    stand for 0, -1, 1, -2, 2 ...
    """
    rises = np.diff(steps.ravel().astype(np.int16), prepend=np.int16(0))
    codes = ((rises << 1) ^ (rises >> 15)).astype(np.uint16)
    planes = [labels.tobytes(), *(part.astype(np.uint8).tobytes() for part in (codes >> 8, codes & 255))]
    return PACKED + base64.b64encode(zlib.compress(b"".join(planes), 1)).decode()


def unpacked(url: str, image_hw: tuple[int, int]) -> tuple[UInt8[np.ndarray, "H W"], UInt16[np.ndarray, "H W"]]:
    """The labels and steps of a packed map.

    Raises:
        ValueError: it is no packed map of this size.
    """
    count, reader = image_hw[0] * image_hw[1], zlib.decompressobj()
    try:
        content = reader.decompress(base64.b64decode(url.removeprefix(PACKED), validate=True), 3 * count + 1)
    except (ValueError, zlib.error):
        content = b""
    if min(image_hw) < 1 or not url.startswith(PACKED) or len(content) != 3 * count or not reader.eof:
        raise ValueError(f"A map must hold three numbers for each of {image_hw[0]} x {image_hw[1]} pixels, but does not.")
    labels, high, low = np.frombuffer(content, np.uint8).reshape(3, count)
    codes = high.astype(np.int32) << 8 | low
    steps = np.cumsum((codes >> 1) ^ -(codes & 1)).astype(np.uint16)
    return labels.reshape(image_hw), steps.reshape(image_hw)


def _legend(known: Sequence[str], entries: Sequence[dict], hues: Sequence[str]) -> list[dict]:
    """The labels that are known, then those that entries have besides."""
    labels = list(dict.fromkeys([*known, *(label for entry in entries for label in entry.get("labels", ()))]))
    colours = view.palette(len(labels), [[*bytes.fromhex(hue[1:])] for hue in hues])
    lines = view.hex_colours(view.hatch_colours(colours))
    return [
        {"label": label, "colour": colour, "line": line, "hatch": (k - 1) % view.HATCHINGS if k else None}
        for k, (label, colour, line) in enumerate(zip(labels, view.hex_colours(colours), lines, strict=True))
    ]


def data_url(picture: UInt8[np.ndarray, "H W *channels"], kind: str) -> str:
    """A picture as its own address, as a "PNG" or a "JPEG"."""
    buffer, options = io.BytesIO(), {"PNG": {"compress_level": view.PNG_EFFORT}, "JPEG": {"quality": 92}}
    Image.fromarray(picture).save(buffer, kind, **options[kind])
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
