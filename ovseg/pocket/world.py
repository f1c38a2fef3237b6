"""The pocket world: scenes of emoji things on procedural stuff, with exact masks and captions, all from (split, index).

`scene("val", 7)` is the same picture on every machine and in every run. Splits: `train`; `val`, unseen compositions of
the same sprites; `novel`, sprites that training never shows.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ovseg.pocket.captions import describe
from ovseg.pocket.sprites import Sprite, load_sprites
from ovseg.pocket.textures import STUFF
from ovseg.types import named

SPLITS = {"train": 1, "val": 2, "novel": 3}
THINGS = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dog", "horse",
    "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv", "tree", "house", "flower", "fish", "apple",
)  # fmt: skip
LABELS = THINGS + tuple(STUFF)  # a label map holds indices into this tuple

# Where things like to be; followed more often than not, never always, so that background has something to teach.
HABITAT = {
    "airplane": ("sky",), "bird": ("sky", "grass"), "boat": ("water",), "fish": ("water",), "bicycle": ("road", "grass"),
    "bus": ("road",), "car": ("road",), "motorbike": ("road", "sand"), "train": ("road", "snow"), "cow": ("grass",),
    "horse": ("grass", "sand"), "sheep": ("grass", "snow"), "dog": ("grass", "sand", "wood"), "cat": ("wood", "bricks"),
    "person": ("road", "sand", "snow"), "tree": ("grass", "snow"), "house": ("grass", "snow"), "flower": ("grass",),
    "chair": ("wood", "bricks"), "sofa": ("wood", "bricks"), "tv": ("wood", "bricks"), "bottle": ("wood", "sand"),
    "potted plant": ("wood", "bricks"), "apple": ("wood", "grass"),
}  # fmt: skip
UPPER = ("sky", "sky", "sky", "bricks", "wood", "water", "grass")
LOWER = ("grass", "water", "sand", "snow", "road", "wood")
FLYING = ("airplane", "bird")
EXTENT = {1: (0.42, 0.80), 2: (0.36, 0.60), 3: (0.30, 0.46)}  # longer side of a thing, by how many things there are
LEAST_VISIBLE = 0.55  # of a thing's own area, after overlaps and the picture's border


@dataclass(frozen=True)
class WorldScene:
    """One scene with its truth. `labels` indexes `LABELS`; `instances` is 0 on stuff and 1, 2, ... on things."""

    image: np.ndarray  # (size, size, 3) uint8, RGB
    labels: np.ndarray  # (size, size) uint8
    instances: np.ndarray  # (size, size) uint8
    caption: str
    things: tuple[str, ...]  # one entry per instance, in instance order
    stuff: tuple[str, ...]  # one or two, upper first
    sprites: tuple[str, ...] = field(default=())  # key of each instance's sprite


def scene(split: str, index: int, size: int = 128, zoom: float = 1.0) -> WorldScene:
    """Scene `index` of a split at `size` x `size` pixels.

    Args:
        zoom: factor on the things' share of the picture. A small picture with larger things shows them at a scale nearer
            to that of a large picture.

    Raises:
        ValueError: the split is unknown or the index is negative.
    """
    named(SPLITS, "split", split)
    if index < 0:
        raise ValueError(f"The scene index must be 0 or more, but got {index}.")
    # A stream for each part: none of them then depends on how many numbers another draws, which varies with the size.
    choosing, painting, placing, telling = (
        np.random.Generator(np.random.PCG64([SPLITS[split], index, part])) for part in range(4)
    )
    sprites = _choose_sprites(choosing, novel=split == "novel")
    upper, lower, horizon = _choose_ground(choosing, [sprite.thing for sprite in sprites])
    image, labels = _paint_ground(painting, size, (upper, lower), horizon)
    instances = np.zeros((size, size), np.uint8)
    for sprite, (rgba, top, left) in zip(sprites, _place_all(placing, sprites, size, (upper, horizon), zoom), strict=True):
        shadow = float(painting.uniform(0.2, 0.45)) * (not (sprite.thing in FLYING and upper == "sky"))
        _stand(image, rgba, (top, left), shadow)
        _label(labels, instances, rgba, (top, left), THINGS.index(sprite.thing))
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    stuff = (upper,) if upper == lower else (upper, lower)
    things = tuple(sprite.thing for sprite in sprites)
    caption = describe(telling, things, stuff)
    return WorldScene(pixels, labels, instances, caption, things, stuff, tuple(sprite.key for sprite in sprites))


def _choose_sprites(rng: np.random.Generator, novel: bool) -> list[Sprite]:
    pool = {thing: [s for s in sprites if s.novel == novel] for thing, sprites in load_sprites().items()}
    names = [thing for thing in THINGS if pool[thing]]
    count = (1, 1, 2, 2, 3)[int(rng.integers(5))]
    chosen = [names[int(k)] for k in rng.permutation(len(names))[:count]]
    if count > 1 and rng.random() < 0.12:
        chosen[1] = chosen[0]
    return [pool[thing][int(rng.integers(len(pool[thing])))] for thing in chosen]


def _choose_ground(rng: np.random.Generator, things: list[str]) -> tuple[str, str, float]:
    """Upper stuff, lower stuff and the height of the horizon in fractions of the picture."""
    liked = HABITAT[things[int(rng.integers(len(things)))]]
    liked = liked[int(rng.integers(len(liked)))] if rng.random() < 0.6 else None
    single, upper = rng.random() < 0.25, UPPER[int(rng.integers(len(UPPER)))]
    lower, horizon = LOWER[int(rng.integers(len(LOWER)))], float(rng.uniform(0.32, 0.62))
    anything = tuple(STUFF)[int(rng.integers(len(STUFF)))]
    if single:
        only = liked or anything
        return only, only, 0.0
    if liked in LOWER:
        lower = liked
    elif liked:
        upper = liked
    return upper, lower, 0.0 if upper == lower else horizon


def _paint_ground(
    rng: np.random.Generator, size: int, stuff: tuple[str, str], horizon: float
) -> tuple[np.ndarray, np.ndarray]:
    order = tuple(STUFF)
    image = STUFF[stuff[0]](rng, size)
    labels = np.full((size, size), len(THINGS) + order.index(stuff[0]), np.uint8)
    if stuff[0] != stuff[1]:
        row = round(horizon * size)
        image = np.concatenate([image[:row], STUFF[stuff[1]](rng, size)[row:]])
        labels[row:] = len(THINGS) + order.index(stuff[1])
    tint = rng.uniform(0.88, 1.10, 3) * rng.uniform(0.9, 1.08)
    return image * tint.astype(np.float32), labels


def _place_all(
    rng: np.random.Generator, sprites: list[Sprite], size: int, ground: tuple[str, float], zoom: float
) -> list[tuple[np.ndarray, int, int]]:
    """Turned and scaled sprites with their top-left corners, back to front, each left mostly visible."""
    low, high = (share * zoom for share in EXTENT[len(sprites)])
    best: tuple[float, list[tuple[np.ndarray, int, int]]] = (-1.0, [])
    for _ in range(12):
        placed = []
        for sprite in sprites:
            rgba = _transform(rng, sprite, float(rng.uniform(low, high)) * size)
            placed.append((rgba, *_corner(rng, sprite.thing, rgba.shape[:2], size, ground)))
        visible = _least_visible(placed, size)
        if visible > best[0]:
            best = (visible, placed)
        if visible >= LEAST_VISIBLE:
            break
    return best[1]


def _corner(
    rng: np.random.Generator, thing: str, height_width: tuple[int, int], size: int, ground: tuple[str, float]
) -> tuple[int, int]:
    height, width = height_width
    upper, horizon = ground
    middle_x = rng.uniform(0.14, 0.86) * size
    free = rng.uniform(0.2, 0.8) * size + height / 2
    standing = rng.uniform(max(horizon + 0.12, 0.5), 1.02) * size
    flying = rng.uniform(0.25, max(horizon, 0.4)) * size + height / 2
    keeps = rng.random() < 0.8
    bottom = (flying if thing in FLYING and upper == "sky" else standing) if keeps else free
    return round(bottom - height), round(middle_x - width / 2)


def _transform(rng: np.random.Generator, sprite: Sprite, extent: float) -> np.ndarray:
    """Scale to `extent` pixels on the longer side, flip, turn a little, shift colours; premultiplied RGBA."""
    height, width = sprite.height_width
    scale = extent / max(height, width)
    level = next((k for k in reversed(range(len(sprite.levels))) if 0.5**k >= scale), 0)
    source = sprite.levels[level]
    angle, flip = float(rng.uniform(-0.2, 0.2)), rng.random() < 0.5
    cosine, sine = math.cos(angle), math.sin(angle)
    out_h = math.ceil(scale * (abs(sine) * width + cosine * height))
    out_w = math.ceil(scale * (cosine * width + abs(sine) * height))
    ys = (np.arange(out_h) + 0.5 - out_h / 2)[:, None] / scale
    xs = (np.arange(out_w) + 0.5 - out_w / 2)[None, :] / scale * (-1 if flip else 1)
    rows = (ys * cosine - xs * sine) / height * source.shape[0] + source.shape[0] / 2 - 0.5
    columns = (ys * sine + xs * cosine) / width * source.shape[1] + source.shape[1] / 2 - 0.5
    rgba = _sample(source, rows, columns)
    jitter = rng.uniform(0.88, 1.12, 3) * rng.uniform(0.88, 1.1)
    rgba[..., :3] = np.minimum(rgba[..., :3] * jitter.astype(np.float32), rgba[..., 3:])
    return rgba


def _sample(source: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear look-up with transparent surroundings."""
    padded = np.pad(source, ((2, 2), (2, 2), (0, 0)))
    rows = np.clip(rows + 2, 0, padded.shape[0] - 1.001)
    columns = np.clip(columns + 2, 0, padded.shape[1] - 1.001)
    y, x = rows.astype(np.int64), columns.astype(np.int64)
    fy, fx = (rows - y).astype(np.float32)[..., None], (columns - x).astype(np.float32)[..., None]
    top = padded[y, x] * (1 - fx) + padded[y, x + 1] * fx
    bottom = padded[y + 1, x] * (1 - fx) + padded[y + 1, x + 1] * fx
    return top * (1 - fy) + bottom * fy


def _window(shape: tuple[int, int], corner: tuple[int, int], size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the picture that a box covers, and the part of the box inside the picture."""
    (height, width), (top, left) = shape, corner
    y0, y1, x0, x1 = max(top, 0), min(top + height, size), max(left, 0), min(left + width, size)
    y1, x1 = max(y1, y0), max(x1, x0)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _least_visible(placed: list[tuple[np.ndarray, int, int]], size: int) -> float:
    owner = np.zeros((size, size), np.int64)
    for number, (rgba, top, left) in enumerate(placed, 1):
        there, here = _window(rgba.shape[:2], (top, left), size)
        owner[there][rgba[here][..., 3] >= 0.5] = number
    return min(
        np.count_nonzero(owner == number) / max(np.count_nonzero(rgba[..., 3] >= 0.5), 1)
        for number, (rgba, _, _) in enumerate(placed, 1)
    )


def _stand(image: np.ndarray, rgba: np.ndarray, corner: tuple[int, int], shadow: float) -> None:
    """Lay a soft shadow of this strength and the sprite over the picture, in place."""
    size = image.shape[0]
    height, width = rgba.shape[:2]
    if shadow:
        middle_y, middle_x = corner[0] + height * 0.97, corner[1] + width / 2
        ys = (np.arange(size, dtype=np.float32)[:, None] - np.float32(middle_y)) / np.float32(0.10 * height + 1)
        xs = (np.arange(size, dtype=np.float32)[None, :] - np.float32(middle_x)) / np.float32(0.55 * width + 1)
        falloff = np.clip(1 - ys * ys - xs * xs, 0, None)
        image *= (1 - np.float32(shadow) * falloff)[..., None]
    there, here = _window((height, width), corner, size)
    image[there] = image[there] * (1 - rgba[here][..., 3:]) + rgba[here][..., :3]


def _label(labels: np.ndarray, instances: np.ndarray, rgba: np.ndarray, corner: tuple[int, int], thing: int) -> None:
    there, here = _window(rgba.shape[:2], corner, labels.shape[0])
    solid = rgba[here][..., 3] >= 0.5
    labels[there][solid] = thing
    instances[there][solid] = instances.max() + 1
