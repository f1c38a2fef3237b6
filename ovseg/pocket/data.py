"""Training pictures: scenes rendered once into a memory-mapped file, read at random afterwards."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg.pocket.world import scene


@dataclass(frozen=True)
class ScenePictures:
    """Rendered scenes 0 ... n-1 of one split: `images` uint8 (n, size, size, 3), captions, and what is in each."""

    images: np.ndarray
    captions: tuple[str, ...]
    things: tuple[tuple[str, ...], ...]
    stuff: tuple[tuple[str, ...], ...]


def rendered(folder: Path, split: str, count: int, size: int, workers: int = 2) -> ScenePictures:
    """The first `count` scenes of a split, rendered into `folder` on the first call and mapped from it afterwards."""
    stem = folder / f"{split}-{size}px-{count}"
    if not stem.with_suffix(".json").exists():
        _render(stem, split, count, size, workers)
    words = json.loads(stem.with_suffix(".json").read_text())
    return ScenePictures(
        np.load(stem.with_suffix(".npy"), mmap_mode="r"),
        tuple(entry["caption"] for entry in words),
        tuple(tuple(entry["things"]) for entry in words),
        tuple(tuple(entry["stuff"]) for entry in words),
    )


def rendered_labels(folder: Path, split: str, count: int, size: int, workers: int = 2) -> np.ndarray:
    """The label maps of the same scenes, uint8 (count, size, size), made and mapped in the same way."""
    path = folder / f"{split}-{size}px-{count}-labels.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        maps = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, size, size))
        parts = [(split, start, min(start + 500, count), size) for start in range(0, count, 500)]
        with ProcessPoolExecutor(workers) as pool:
            for (_, start, stop, _), found in zip(parts, pool.map(_label_part, parts), strict=True):
                maps[start:stop] = found
                print(f"\rlabels of {split} scenes: {stop}/{count}", end="", flush=True)
        print()
        maps.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def _label_part(part: tuple[str, int, int, int]) -> np.ndarray:
    split, start, stop, size = part
    return np.stack([scene(split, index, size).labels for index in range(start, stop)])


def _render(stem: Path, split: str, count: int, size: int, workers: int) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(stem.with_suffix(".npy"), "w+", np.uint8, (count, size, size, 3))
    words: list[dict] = []
    parts = [(split, start, min(start + 500, count), size) for start in range(0, count, 500)]
    with ProcessPoolExecutor(workers) as pool:
        for (_, start, stop, _), (pictures, entries) in zip(parts, pool.map(_render_part, parts), strict=True):
            images[start:stop] = pictures
            words.extend(entries)
            print(f"\rrendering {split} scenes: {stop}/{count}", end="", flush=True)
    print()
    images.flush()
    # Written last: its presence says that the pictures are complete.
    stem.with_suffix(".json").write_text(json.dumps(words))


def _render_part(part: tuple[str, int, int, int]) -> tuple[np.ndarray, list[dict]]:
    split, start, stop, size = part
    scenes = [scene(split, index, size) for index in range(start, stop)]
    return np.stack([s.image for s in scenes]), [
        {"caption": s.caption, "things": s.things, "stuff": s.stuff} for s in scenes
    ]
