"""Scenes of the pocket world as files."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovseg.output.view import contact_sheet, palette
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
    out.mkdir(parents=True, exist_ok=True)
    colours = _mask_colours()
    pictures, captions = [], []
    for index, item in scenes.items():
        stem = f"{split}-{index:06d}"
        Image.fromarray(item.image).save(out / f"{stem}.png")
        _save_mask(item.labels, colours, out / f"{stem}-labels.png")
        _save_mask(item.instances, palette(16), out / f"{stem}-instances.png")
        pictures.append(np.concatenate([item.image, colours[item.labels]], 1))
        captions.append(item.caption)
    about = {f"{split}-{i:06d}": {"caption": s.caption, "things": s.things, "stuff": s.stuff} for i, s in scenes.items()}
    (out / "captions.json").write_text(json.dumps(about, indent=2) + "\n")
    (out / "labels.json").write_text(json.dumps(LABELS) + "\n")
    cell = min(max(2 * size, 256), 640)
    Image.fromarray(contact_sheet(pictures[:64], captions[:64], columns=4, cell=cell)).save(out / "sheet.png")


def _mask_colours() -> UInt8[np.ndarray, "labels 3"]:
    return palette(len(LABELS) + 1)[1:]


def _save_mask(mask: UInt8[np.ndarray, "H W"], colours: UInt8[np.ndarray, "k 3"], path: Path) -> None:
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette(colours.ravel().tolist())
    picture.save(path)
