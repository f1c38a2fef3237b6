"""The pocket world: scenes of emoji things on procedural stuff, with exact masks and captions, all from (split, index).

`scene("val", 7)` is the same picture on every machine and in every run. Splits: `train`; `val`, unseen compositions of
the same sprites; `novel`, sprites that training never shows.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ovseg.pocket.captions import describe
from ovseg.pocket.placing import FLYING, label, lay_over, place_all, recoloured
from ovseg.pocket.sprites import SHIPPED, Sprite, load_sprites
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


def scene(
    split: str, index: int, size: int = 128, zoom: float = 1.0, recolour: float = 0.0, *, sprites: Path = SHIPPED
) -> WorldScene:
    """Scene `index` of a split at `size` x `size` pixels; the same composition at every size, with more detail above 128.

    Args:
        zoom: factor on the things' share of the picture. A small picture with larger things shows them at a scale nearer
            to that of a large picture.
        recolour: share of the things that have other colours than their sprites: what they are is then seen by their shapes.
        sprites: folder of the atlas that things are from.

    Raises:
        ValueError: the split is unknown or the index is negative.
    """
    named(SPLITS, "split", split)
    if index < 0:
        raise ValueError(f"The scene index must be 0 or more, but got {index}.")
    # A stream for each part: none of them then depends on how many numbers another draws, which varies with the size.
    choosing, painting, placing, telling, colouring = (
        np.random.Generator(np.random.PCG64([SPLITS[split], index, part])) for part in range(5)
    )
    chosen = _choose_sprites(choosing, sprites, novel=split == "novel")
    upper, lower, horizon = _choose_ground(choosing, [sprite.thing for sprite in chosen])
    image, labels = _paint_ground(painting, size, (upper, lower), horizon)
    instances = np.zeros((size, size), np.uint8)
    for sprite, placed in zip(chosen, place_all(placing, chosen, size, (upper, horizon), zoom), strict=True):
        if colouring.random() < recolour:
            placed = recoloured(placed, float(colouring.uniform(-np.pi, np.pi)))
        shadow = float(painting.uniform(0.2, 0.45)) * (not (sprite.thing in FLYING and upper == "sky"))
        lay_over(image, placed, shadow)
        label(labels, instances, placed, THINGS.index(sprite.thing))
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    stuff = (upper,) if upper == lower else (upper, lower)
    things = tuple(sprite.thing for sprite in chosen)
    caption = describe(telling, things, stuff)
    return WorldScene(pixels, labels, instances, caption, things, stuff, tuple(sprite.key for sprite in chosen))


def _choose_sprites(rng: np.random.Generator, folder: Path, novel: bool) -> list[Sprite]:
    pool = {thing: [s for s in sprites if s.novel == novel] for thing, sprites in load_sprites(folder).items()}
    names = [thing for thing in THINGS if pool.get(thing)]
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
