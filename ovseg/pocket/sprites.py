"""The sprite atlas: emoji with exact alpha, and which of them are held out of training.

Every sprite exists twice: at 128 px for pictures up to that size, and three times as fine for larger ones. The fine ones
are decoded when a picture needs them. The files in `assets/sprites/` were made by `build_atlas.py` there; licences are in
`assets/sprites/LICENSES.md`.
"""

import functools
import json
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.assets import ASSETS
from ovseg.maths.maps import box_of

SHIPPED = ASSETS / "sprites"
NOVEL_SHARE = 5  # one sprite in five of a thing is held out, where a thing has at least that many
FINER = 3  # pixels of a fine sprite for each pixel of the atlas
MARGIN = 3  # atlas pixels kept around the tight box of a fine sprite: parts too thin to count as solid at 128 px


@dataclass(frozen=True)
class Raster:
    """A sprite at one resolution: premultiplied RGBA float32 (h, w, 4) in [0, 1]."""

    pixels: np.ndarray
    box_hw: tuple[float, float]  # of the sprite's tight box, in these pixels
    centre: tuple[float, float]  # the middle of that box
    margin: int = 0  # atlas pixels around it


@dataclass(frozen=True)
class Sprite:
    """One picture of a thing."""

    thing: str
    key: str
    folder: Path  # of the atlas that it is from
    novel: bool
    levels: tuple[np.ndarray, ...]  # premultiplied RGBA float32 (h, w, 4) in [0, 1], halved 0, 1, ... times
    corner: tuple[int, int]  # the top left of its tight box in its 128 px cell of the atlas
    place: int  # its number on its strip of fine sprites

    @property
    def height_width(self) -> tuple[int, int]:
        """Size of the finest level, in pixels: the tight box around the thing."""
        return self.levels[0].shape[:2]

    def raster(self, scale: float, fine: bool) -> Raster:
        """The raster to draw the sprite from, `scale` times as large as in the atlas.

        Args:
            fine: take a fine one where the atlas's would have to be enlarged.
        """
        if fine and scale > 1:
            box = (*self.corner, *self.height_width)
            strip = self.folder / strip_name(self.key.partition("/")[0], self.thing)
            rasters = _fine_rasters(strip, self.place, box)
            return rasters[int(scale <= FINER / 2)]
        pixels = self.levels[next((k for k in reversed(range(len(self.levels))) if 0.5**k >= scale), 0)]
        height, width = pixels.shape[:2]
        return Raster(pixels, (height, width), (height / 2, width / 2))


def strip_name(emoji_set: str, thing: str) -> str:
    """Where the fine sprites of a thing and emoji set lie, below the atlas's folder."""
    return f"fine/{emoji_set}-{thing.replace(' ', '-')}.webp"


@functools.lru_cache(maxsize=24)  # about 3 MB each
def _fine_rasters(strip: Path, place: int, box: tuple[int, int, int, int]) -> tuple[Raster, Raster]:
    """A fine sprite and the same halved; `box` is its tight box in the atlas: top, left, height, width."""
    with Image.open(strip) as picture:
        edge = picture.height
        cell = np.asarray(picture.convert("RGBA").crop((place * edge, 0, (place + 1) * edge, edge)))
    margin, (top, left, height, width) = MARGIN * FINER, (FINER * side for side in box)
    around = np.pad(cell, ((margin, margin), (margin, margin), (0, 0)))
    whole = _premultiplied(around[top : top + height + 2 * margin, left : left + width + 2 * margin])
    return tuple(
        Raster(pixels, (height / by, width / by), ((margin + height / 2) / by, (margin + width / 2) / by), MARGIN)
        for pixels, by in ((whole, 1), (_halve(whole), 2))
    )


@functools.cache
def load_sprites(folder: Path = SHIPPED) -> dict[str, tuple[Sprite, ...]]:
    """Thing -> its sprites, in the order of a folder's atlas. Read once per process; the arrays are not writable."""
    atlas = json.loads((folder / "atlas.json").read_text(encoding="utf-8"))
    edge, columns = atlas["edge"], atlas["columns"]
    sheets = {name: np.asarray(Image.open(folder / f"{name}.webp").convert("RGBA")) for name in atlas["sets"]}
    cells: dict[str, dict[str, np.ndarray]] = {}
    for sprite in atlas["sprites"]:
        y, x = sprite["cell"] // columns * edge, sprite["cell"] % columns * edge
        pixels = sheets[sprite["set"]][y : y + edge, x : x + edge]
        cells.setdefault(sprite["thing"], {})[f"{sprite['set']}/{sprite['code']}"] = pixels
    return {thing: _sprites_of(thing, folder, pictures) for thing, pictures in cells.items()}


def _sprites_of(thing: str, folder: Path, cells: dict[str, np.ndarray]) -> tuple[Sprite, ...]:
    # A checksum orders the sprites, so that which ones are held out depends on their names alone.
    order = sorted(cells, key=lambda key: zlib.crc32(f"{thing} {key}".encode()))
    novel = set(order[: len(order) // NOVEL_SHARE])
    counts: Counter[str] = Counter()
    sprites = []
    for key, pixels in cells.items():
        emoji_set = key.partition("/")[0]
        rows, columns = box_of(pixels[..., 3] >= 128)  # of what is solid
        levels = _levels(_premultiplied(pixels[rows, columns]))
        sprites.append(Sprite(thing, key, folder, key in novel, levels, (rows.start, columns.start), counts[emoji_set]))
        counts[emoji_set] += 1
    return tuple(sprites)


def _premultiplied(pixels: np.ndarray) -> np.ndarray:
    rgba = pixels.astype(np.float32) / np.float32(255)
    rgba[..., :3] *= rgba[..., 3:]
    rgba.setflags(write=False)
    return rgba


def _levels(finest: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [finest]
    while min(levels[-1].shape[:2]) >= 16:
        levels.append(_halve(levels[-1]))
    return tuple(levels)


def _halve(level: np.ndarray) -> np.ndarray:
    height, width = level.shape[0] // 2 * 2, level.shape[1] // 2 * 2
    even = level[:height, :width]
    half = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) * np.float32(0.25)
    half.setflags(write=False)
    return half
