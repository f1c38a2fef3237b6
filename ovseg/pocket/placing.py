"""Where the things of a scene go and how they are drawn: poses chosen from a random stream, then pixels at any size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ovseg.pocket.sprites import Sprite
from ovseg.pocket.textures import NATIVE

FLYING = ("airplane", "bird")
EXTENT = {1: (0.42, 0.80), 2: (0.36, 0.60), 3: (0.30, 0.46)}  # longer side of a thing, by how many things there are
LEAST_VISIBLE = 0.55  # of a thing's own area, after overlaps and the picture's border
TRIES = 12


@dataclass(frozen=True)
class Pose:
    """How a sprite is shown, in shares of the picture's side. Of a `hanging` one, `base` is the middle, else the foot."""

    sprite: Sprite
    extent: float
    angle: float  # radians
    flip: bool
    tint: np.ndarray
    middle: float
    base: float
    hanging: bool


@dataclass(frozen=True)
class Placed:
    """A drawn sprite: premultiplied RGBA float32 with `margin` pixels around the sprite's own box."""

    rgba: np.ndarray
    top: int
    left: int
    margin: int


def place_all(
    rng: np.random.Generator, sprites: Sequence[Sprite], size: int, ground: tuple[str, float], zoom: float
) -> list[Placed]:
    """Turned and scaled sprites, back to front, each left mostly visible.

    Which poses will do is decided at 128 px at the most, so that a larger picture shows the same ones.

    Args:
        ground: the upper stuff, and the height of the horizon in fractions of the picture.
        zoom: factor on the sprites' share of the picture.
    """
    low, high = (share * zoom for share in EXTENT[len(sprites)])
    trial_size = min(size, NATIVE)
    most, best, drawn = -1.0, [], []
    for _ in range(TRIES):
        poses = [_pose(rng, sprite, (low, high), ground) for sprite in sprites]
        placed = [_draw(pose, trial_size) for pose in poses]
        visible = _least_visible(placed, trial_size)
        if visible > most:
            most, best, drawn = visible, poses, placed
        if visible >= LEAST_VISIBLE:
            break
    return drawn if trial_size == size else [_draw(pose, size) for pose in best]


def _pose(rng: np.random.Generator, sprite: Sprite, extents: tuple[float, float], ground: tuple[str, float]) -> Pose:
    upper, horizon = ground
    extent = float(rng.uniform(*extents))
    angle, flip = float(rng.uniform(-0.2, 0.2)), bool(rng.random() < 0.5)
    tint = rng.uniform(0.88, 1.12, 3) * rng.uniform(0.88, 1.1)
    middle = rng.uniform(0.14, 0.86)
    free = rng.uniform(0.2, 0.8)
    standing = rng.uniform(max(horizon + 0.12, 0.5), 1.02)
    flying = rng.uniform(0.25, max(horizon, 0.4))
    keeps = rng.random() < 0.8
    flies = sprite.thing in FLYING and upper == "sky"
    base = (flying if flies else standing) if keeps else free
    return Pose(sprite, extent, angle, flip, tint, middle, base, hanging=flies or not keeps)


def _draw(pose: Pose, size: int) -> Placed:
    height, width = pose.sprite.height_width
    scale = pose.extent * size / max(height, width)
    raster = pose.sprite.raster(scale, fine=size > NATIVE)
    margin = math.ceil(raster.margin * scale)
    cosine, sine = math.cos(pose.angle), math.sin(pose.angle)
    out_h = math.ceil(scale * (abs(sine) * width + cosine * height))
    out_w = math.ceil(scale * (cosine * width + abs(sine) * height))
    ys = (np.arange(-margin, out_h + margin) + 0.5 - out_h / 2)[:, None] / scale
    xs = (np.arange(-margin, out_w + margin) + 0.5 - out_w / 2)[None, :] / scale * (-1 if pose.flip else 1)
    rows = (ys * cosine - xs * sine) / height * raster.box_hw[0] + raster.centre[0] - 0.5
    columns = (ys * sine + xs * cosine) / width * raster.box_hw[1] + raster.centre[1] - 0.5
    rgba = _sample(raster.pixels, rows, columns)
    rgba[..., :3] = np.minimum(rgba[..., :3] * pose.tint.astype(np.float32), rgba[..., 3:])
    bottom = pose.base * size + (out_h / 2 if pose.hanging else 0)
    return Placed(rgba, round(bottom - out_h) - margin, round(pose.middle * size - out_w / 2) - margin, margin)


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


def _least_visible(placed: Sequence[Placed], size: int) -> float:
    owner = np.zeros((size, size), np.int64)
    for number, thing in enumerate(placed, 1):
        there, here = _window(thing, size)
        owner[there][thing.rgba[here][..., 3] >= 0.5] = number
    return min(
        np.count_nonzero(owner == number) / max(np.count_nonzero(thing.rgba[..., 3] >= 0.5), 1)
        for number, thing in enumerate(placed, 1)
    )


def _window(thing: Placed, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the picture that a thing covers, and the part of the thing inside the picture."""
    (height, width), top, left = thing.rgba.shape[:2], thing.top, thing.left
    y0, y1, x0, x1 = max(top, 0), min(top + height, size), max(left, 0), min(left + width, size)
    y1, x1 = max(y1, y0), max(x1, x0)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def lay_over(image: np.ndarray, thing: Placed, shadow: float) -> None:
    """Lay a soft shadow of this strength and the thing over the picture (size, size, 3), in place."""
    size, margin = image.shape[0], thing.margin
    height, width = (side - 2 * margin for side in thing.rgba.shape[:2])
    if shadow:
        middle_y, middle_x = thing.top + margin + height * 0.97, thing.left + margin + width / 2
        ys = (np.arange(size, dtype=np.float32)[:, None] - np.float32(middle_y)) / np.float32(0.10 * height + 1)
        xs = (np.arange(size, dtype=np.float32)[None, :] - np.float32(middle_x)) / np.float32(0.55 * width + 1)
        falloff = np.clip(1 - ys * ys - xs * xs, 0, None)
        image *= (1 - np.float32(shadow) * falloff)[..., None]
    there, here = _window(thing, size)
    image[there] = image[there] * (1 - thing.rgba[here][..., 3:]) + thing.rgba[here][..., :3]


def recoloured(thing: Placed, turn: float) -> Placed:
    """The thing in other colours: they are turned around the axis of greys, by an angle in radians."""
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turned = np.eye(3) * math.cos(turn) + across * math.sin(turn) + (1 - math.cos(turn)) / 3
    colours, alpha = thing.rgba[..., :3] @ turned.T.astype(np.float32), thing.rgba[..., 3:]
    return replace(thing, rgba=np.concatenate([np.clip(colours, 0, alpha), alpha], -1))


def label(labels: np.ndarray, instances: np.ndarray, thing: Placed, index: int) -> None:
    """Write the thing's label, and its instance number, wherever it covers at least half of a pixel, in place."""
    there, here = _window(thing, labels.shape[0])
    solid = thing.rgba[here][..., 3] >= 0.5
    labels[there][solid] = index
    instances[there][solid] = instances.max() + 1
