"""Training pictures: scenes that are rendered once into a file, which is then mapped into memory and read at random."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.files import read_json, whole_array, write_whole
from ovseg.pocket.world import scene
from ovseg.processes import end_with_parent

WORKERS = 2  # processes that render
PART = 500  # scenes that a process renders at a time
Look = tuple[int, float, float]  # pixels of a side, the zoom of the things, and how many are recoloured: see `world.scene`


@dataclass(frozen=True)
class ScenePictures:
    """Rendered scenes 0 ... n-1 of one split, with the caption of each, and the names of its things and stuff."""

    images: UInt8[np.ndarray, "n size size 3"]
    captions: tuple[str, ...]
    things: tuple[tuple[str, ...], ...]
    stuff: tuple[tuple[str, ...], ...]

    def mirrored(self, rows: np.ndarray, rng: np.random.Generator) -> UInt8[np.ndarray, "rows size size 3"]:
        """Some scenes, each mirrored half of the time. No caption says left or right."""
        images = self.images[rows]
        return np.where(rng.random(len(rows))[:, None, None, None] < 0.5, images, images[:, :, ::-1])


def rendered(folder: Path, split: str, count: int, size: int, *, zoom: float = 1.0, recolour: float = 0.0) -> ScenePictures:
    """The first `count` scenes of a split: the first call renders them into `folder`, later calls map its files.

    Args:
        size: of a side, in pixels.
        zoom: of the things, as in `world.scene`.
        recolour: share of the things in other colours, as there.
    """
    name = f"{split}-{size}px-{count}" + (f"-zoom-{round(100 * zoom)}" if zoom != 1 else "")
    stem = folder / (name + (f"-recolour-{round(100 * recolour)}" if recolour else ""))
    if not stem.with_suffix(".json").exists():
        _render(stem, split, count, look=(size, zoom, recolour))
    words = read_json(stem.with_suffix(".json"), list)
    return ScenePictures(
        np.load(stem.with_suffix(".npy"), mmap_mode="r"),
        tuple(entry["caption"] for entry in words),
        tuple(tuple(entry["things"]) for entry in words),
        tuple(tuple(entry["stuff"]) for entry in words),
    )


def rendered_labels(folder: Path, split: str, count: int, size: int) -> UInt8[np.ndarray, "n size size"]:
    """The label maps of the same scenes, rendered and mapped in the same way."""
    path = folder / f"{split}-{size}px-{count}-labels.npy"
    if not path.exists():
        parts = _by_parts(_label_part, "labels of", split, count, look=(size, 1.0, 0.0))
        with whole_array(path, np.uint8, (count, size, size)) as maps:
            for rows, part in parts:
                maps[rows] = part
    return np.load(path, mmap_mode="r")


def _render(stem: Path, split: str, count: int, *, look: Look) -> None:
    words: list[dict] = []
    parts = _by_parts(_render_part, "rendering", split, count, look=look)
    with whole_array(stem.with_suffix(".npy"), np.uint8, (count, look[0], look[0], 3)) as images:
        for rows, (pictures, entries) in parts:
            images[rows] = pictures
            words.extend(entries)
    # Written last: if it is there, the pictures are complete.
    write_whole(stem.with_suffix(".json"), json.dumps(words).encode())


def _by_parts(
    work: Callable[[str, range, Look], Any], what: str, split: str, count: int, *, look: Look
) -> Iterator[tuple[slice, Any]]:
    """Call `work(split, indices, look)` for `PART` scenes at a time in several processes; yields rows and results."""
    parts = [range(start, min(start + PART, count)) for start in range(0, count, PART)]
    with ProcessPoolExecutor(WORKERS, initializer=end_with_parent) as pool:
        for part, result in zip(parts, pool.map(work, repeat(split), parts, repeat(look)), strict=True):
            yield slice(part.start, part.stop), result
            print(f"\r{what} {split} scenes: {part.stop}/{count}", end="", flush=True)
    print()


def _label_part(split: str, indices: range, look: Look) -> np.ndarray:
    return np.stack([scene(split, index, *look).labels for index in indices])


def _render_part(split: str, indices: range, look: Look) -> tuple[np.ndarray, list[dict]]:
    scenes = [scene(split, index, *look) for index in indices]
    return np.stack([s.image for s in scenes]), [
        {"caption": s.caption, "things": s.things, "stuff": s.stuff} for s in scenes
    ]
