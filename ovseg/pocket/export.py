"""Scenes of the pocket world as files."""

from collections.abc import Iterable, Iterator

import numpy as np

from ovseg.files import as_json
from ovseg.output.view import contact_sheet, indexed_png, palette, png
from ovseg.pocket.world import LABELS, scene


def files_of_scenes(split: str, indices: Iterable[int], size: int) -> Iterator[tuple[str, bytes]]:
    """Each scene's picture and its masks of labels and instances (indexed PNGs), `captions.json` and `sheet.png`.

    Values of label masks index `LABELS`, which is written to `labels.json`. Instances are numbered from 1; 0 is stuff.

    Raises:
        ValueError: the split is unknown, or there is nothing to write.
    """
    scenes = {index: scene(split, index, size) for index in indices}
    if not scenes:
        raise ValueError("The number of scenes must be 1 or more, but got 0.")
    colours = palette(len(LABELS) + 1)[1:]
    pictures, captions = [], []
    for index, item in scenes.items():
        stem = f"{split}-{index:06d}"
        yield f"{stem}.png", png(item.image)
        yield f"{stem}-labels.png", indexed_png(item.labels, colours)
        yield f"{stem}-instances.png", indexed_png(item.instances, palette(16))
        pictures.append(np.concatenate([item.image, colours[item.labels]], 1))
        captions.append(item.caption)
    about = {f"{split}-{i:06d}": {"caption": s.caption, "things": s.things, "stuff": s.stuff} for i, s in scenes.items()}
    yield "captions.json", as_json(about)
    yield "labels.json", as_json(LABELS, None)
    cell = min(max(2 * size, 256), 640)
    yield "sheet.png", png(contact_sheet(pictures[:64], captions[:64], columns=4, cell=cell))
