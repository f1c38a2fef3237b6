"""Scenes of the pocket world as files."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.output.view import contact_sheet, palette
from ovseg.pocket.world import LABELS, scene


def write_scenes(split: str, indices: Iterable[int], size: int, out: Path) -> None:
    """Write each scene's picture, label mask and instance mask (indexed PNGs), `captions.json` and `sheet.png`.

    Mask values index `LABELS`, which `labels.json` holds; instances count from 1, 0 is stuff.

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


def _mask_colours() -> np.ndarray:
    return palette(len(LABELS) + 1)[1:]


def _save_mask(mask: np.ndarray, colours: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette(colours.ravel().tolist())
    picture.save(path)
