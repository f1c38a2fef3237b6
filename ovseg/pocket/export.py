"""Scenes of the pocket world as files."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ovseg.files import as_json, write_whole
from ovseg.output.view import contact_sheet, indexed_png, palette, png
from ovseg.pocket.world import LABELS, scene


def write_scenes(split: str, indices: Iterable[int], size: int, out: Path) -> None:
    """Write each scene's picture and its masks of labels and instances (indexed PNGs), `captions.json` and `sheet.png`.

    Values of label masks index `LABELS`, which is written to `labels.json`. Instances are numbered from 1; 0 is stuff.

    Raises:
        ValueError: the split is unknown, or there is nothing to write.
    """
    scenes = {index: scene(split, index, size) for index in indices}
    if not scenes:
        raise ValueError("The number of scenes must be 1 or more, but got 0.")
    colours = _mask_colours()
    pictures, captions = [], []
    for index, item in scenes.items():
        stem = f"{split}-{index:06d}"
        write_whole(out / f"{stem}.png", png(item.image))
        write_whole(out / f"{stem}-labels.png", indexed_png(item.labels, colours))
        write_whole(out / f"{stem}-instances.png", indexed_png(item.instances, palette(16)))
        pictures.append(np.concatenate([item.image, colours[item.labels]], 1))
        captions.append(item.caption)
    about = {f"{split}-{i:06d}": {"caption": s.caption, "things": s.things, "stuff": s.stuff} for i, s in scenes.items()}
    write_whole(out / "captions.json", as_json(about))
    write_whole(out / "labels.json", as_json(LABELS, None))
    cell = min(max(2 * size, 256), 640)
    write_whole(out / "sheet.png", png(contact_sheet(pictures[:64], captions[:64], columns=4, cell=cell)))


def _mask_colours() -> UInt8[np.ndarray, "labels 3"]:
    return palette(len(LABELS) + 1)[1:]
