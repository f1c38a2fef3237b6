"""The sprite atlas: emoji with exact alpha, and which of them are held out of training.

The sheets in `assets/sprites/` were made by `build_atlas.py`; licences are in `assets/sprites/LICENSES.md`.
"""

import functools
import json
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ovseg.assets import ASSETS

NOVEL_SHARE = 5  # one sprite in five of a thing is held out, where a thing has at least that many


@dataclass(frozen=True)
class Sprite:
    """One picture of a thing. `levels[k]` is premultiplied RGBA float32 (h, w, 4) in [0, 1], halved k times."""

    thing: str
    key: str
    novel: bool
    levels: tuple[np.ndarray, ...]

    @property
    def height_width(self) -> tuple[int, int]:
        """Size of the finest level, in pixels: the tight box around the thing."""
        return self.levels[0].shape[:2]


@functools.cache
def load_sprites() -> dict[str, tuple[Sprite, ...]]:
    """Thing -> its sprites, in atlas order. Read once per process; the arrays are not writable."""
    folder = ASSETS / "sprites"
    atlas = json.loads((folder / "atlas.json").read_text())
    edge, columns = atlas["edge"], atlas["columns"]
    sheets = {name: np.asarray(Image.open(folder / f"{name}.png").convert("RGBA")) for name in atlas["sets"]}
    entries: dict[str, list[tuple[str, np.ndarray]]] = {}
    for sprite in atlas["sprites"]:
        y, x = sprite["cell"] // columns * edge, sprite["cell"] % columns * edge
        pixels = sheets[sprite["set"]][y : y + edge, x : x + edge]
        entries.setdefault(sprite["thing"], []).append((f"{sprite['set']}/{sprite['code']}", pixels))
    return {thing: _sprites_of(thing, pictures) for thing, pictures in entries.items()}


def _sprites_of(thing: str, pictures: list[tuple[str, np.ndarray]]) -> tuple[Sprite, ...]:
    # A checksum orders the sprites, so that which ones are held out depends on their names alone.
    order = sorted((key for key, _ in pictures), key=lambda key: zlib.crc32(f"{thing} {key}".encode()))
    novel = set(order[: len(order) // NOVEL_SHARE])
    return tuple(Sprite(thing, key, key in novel, _levels(pixels)) for key, pixels in pictures)


def _levels(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    rgba = _tight(pixels).astype(np.float32) / np.float32(255)
    rgba[..., :3] *= rgba[..., 3:]
    levels = [rgba]
    while min(levels[-1].shape[:2]) >= 16:
        levels.append(_halve(levels[-1]))
    for level in levels:
        level.setflags(write=False)
    return tuple(levels)


def _tight(pixels: np.ndarray) -> np.ndarray:
    solid = pixels[..., 3] >= 128
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _halve(level: np.ndarray) -> np.ndarray:
    height, width = level.shape[0] // 2 * 2, level.shape[1] // 2 * 2
    even = level[:height, :width]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) * np.float32(0.25)
