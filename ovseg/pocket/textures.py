"""Procedural stuff: eight textures of any size, each a function of a random generator.

Only additions, multiplications, divisions and comparisons act on arrays, never `exp` or `sin`: those differ in the last
bit between processors, and a scene must be the same picture everywhere.

Above 128 px textures gain finer detail, from random streams of their own: what they look like from afar stays the same.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Rng = np.random.Generator
NATIVE = 128  # pixels of a side up to which nothing is added: what the networks and benchmarks see
Texture = Float32[np.ndarray, "size size 3"]  # RGB in [0, 1]


def noise(
    rng: Rng, size: int, cells_y: float, cells_x: float, octaves: int = 1, *, finer: float = 0.0
) -> Float32[np.ndarray, "size size"]:
    """Value noise in [0, 1], with `cells_y` by `cells_x` lattice cells in its first octave.

    Args:
        finer: above 128 px, one more octave for each doubling, each this much as strong as the one before; none if 0.
    """
    total, weight, amplitude = np.zeros((size, size), np.float32), 0.0, 1.0
    for octave in range(octaves):
        total += np.float32(amplitude) * _lattice(rng, size, cells_y * 2**octave, cells_x * 2**octave)
        weight += amplitude
        amplitude *= 0.5
    total /= np.float32(weight)
    if finer and size > NATIVE:
        detail, strength = rng.spawn(1)[0], 2 * amplitude / weight
        for octave in range(octaves, octaves + doublings(size)):
            strength *= finer
            total += np.float32(strength) * (
                _lattice(detail, size, cells_y * 2**octave, cells_x * 2**octave) - np.float32(0.5)
            )
        np.clip(total, 0, 1, out=total)
    return total


def doublings(size: int) -> int:
    """How often 128 px must be doubled to reach a size."""
    return max(0, (size - 1).bit_length() - (NATIVE - 1).bit_length())


def _lattice(rng: Rng, size: int, cells_y: float, cells_x: float) -> np.ndarray:
    values = rng.random((int(cells_y) + 2, int(cells_x) + 2), dtype=np.float32)
    y0, fy = _cell(size, cells_y)
    x0, fx = _cell(size, cells_x)
    rows = values[y0] * (1 - fy)[:, None] + values[y0 + 1] * fy[:, None]
    return rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx


def _cell(size: int, cells: float) -> tuple[np.ndarray, np.ndarray]:
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / size)
    whole = place.astype(np.int64)
    fraction = place - whole.astype(np.float32)
    return whole, fraction * fraction * (3 - 2 * fraction)


def _paint(amount: np.ndarray, low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    """From one colour to another by `amount` (h, w) in [0, 1]; colours are RGB in [0, 1]."""
    start, end = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return start + amount[..., None] * (end - start)


def _worn(rng: Rng, size: int, colour: tuple[float, ...]) -> np.ndarray:
    """One colour; above 128 px with a little grain."""
    flat = np.broadcast_to(np.asarray(colour, np.float32), (size, size, 3))
    if size <= NATIVE:
        return flat
    return flat * (noise(rng.spawn(1)[0], size, 96, 96, finer=0.8) * np.float32(0.16) + np.float32(0.88))[..., None]


def sky(rng: Rng, size: int) -> Texture:
    """A blue gradient, seldom one of dusk, often with soft clouds."""
    dusk = rng.random() < 0.12
    top, bottom = ((0.35, 0.35, 0.66), (0.97, 0.72, 0.55)) if dusk else ((0.33, 0.60, 0.93), (0.76, 0.89, 0.99))
    column = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    picture = _paint(np.broadcast_to(column[:, None], (size, size)), top, bottom)
    if rng.random() < 0.65:
        cloud = np.clip((noise(rng, size, 5, 3, 3, finer=0.4) - np.float32(0.54)) * 5, 0, 0.9)[..., None]
        picture = picture + cloud * (np.float32(1) - picture)
    return picture


def grass(rng: Rng, size: int) -> Texture:
    """Upright blades over patches of light and dark green."""
    blades = noise(rng, size, 14, 56, 2, finer=0.8)
    return _paint(
        blades * np.float32(0.6) + noise(rng, size, 3, 3) * np.float32(0.4), (0.14, 0.40, 0.10), (0.52, 0.78, 0.26)
    )


def water(rng: Rng, size: int) -> Texture:
    """Long flat waves on deep teal, with light crests."""
    waves = noise(rng, size, 26, 5, 2, finer=0.55)
    picture = _paint(waves, (0.02, 0.24, 0.44), (0.16, 0.58, 0.72))
    crest = np.clip((waves - np.float32(0.66)) * 6, 0, 0.6)[..., None]
    return picture + crest * (np.float32(1) - picture)


def sand(rng: Rng, size: int) -> Texture:
    """Warm grain with slow ripples."""
    amount = noise(rng, size, 9, 3, 1) * np.float32(0.5) + noise(rng, size, 64, 64, finer=0.9) * np.float32(0.5)
    return _paint(amount, (0.78, 0.62, 0.38), (0.98, 0.88, 0.64))


def snow(rng: Rng, size: int) -> Texture:
    """White drifts with bluish hollows."""
    return _paint(noise(rng, size, 5, 3, 3, finer=0.6), (0.78, 0.84, 0.93), (1.0, 1.0, 1.0))


def road(rng: Rng, size: int) -> Texture:
    """Grey asphalt with a dashed line."""
    picture = _paint(noise(rng, size, 64, 64, finer=0.9), (0.27, 0.27, 0.29), (0.45, 0.45, 0.47))
    row, thick = int(size * rng.uniform(0.62, 0.9)), max(1, size // 32)
    dash, gap = size // 6, size // 10
    start = int(rng.random() * (dash + gap))
    on = (np.arange(size) + start) % (dash + gap) < dash
    colour = (0.93, 0.88, 0.62) if rng.random() < 0.5 else (0.92, 0.92, 0.92)
    picture[row : row + thick, on] = _worn(rng, size, colour)[row : row + thick, on]
    return picture


def bricks(rng: Rng, size: int) -> Texture:
    """Courses of red-brown bricks in pale mortar, each with its own shade."""
    courses = int(rng.integers(7, 11))
    place = np.arange(size, dtype=np.float32) * np.float32(courses / size)
    course = place.astype(np.int64)
    along = place[None, :] / 2 + (course[:, None] % 2) * np.float32(0.5)
    number = along.astype(np.int64)
    shade = rng.random((courses + 1, courses + 2), dtype=np.float32)[course[:, None], number]
    picture = _paint(
        shade * np.float32(0.7) + noise(rng, size, 24, 24, finer=0.8) * np.float32(0.3),
        (0.52, 0.22, 0.16),
        (0.80, 0.42, 0.30),
    )
    mortar = ((place - course)[:, None] < np.float32(0.16)) | (along - number < np.float32(0.08))
    picture[mortar] = _worn(rng, size, (0.80, 0.76, 0.70))[mortar]
    return picture


def wood(rng: Rng, size: int) -> Texture:
    """Planks with grain along them, lying or standing."""
    planks = int(rng.integers(4, 8))
    place = np.arange(size, dtype=np.float32) * np.float32(planks / size)
    plank = place.astype(np.int64)
    shade = rng.random(planks + 1, dtype=np.float32)[plank][:, None]
    grain = noise(rng, size, 48, 3, 2, finer=0.7)
    picture = _paint(grain * np.float32(0.55) + shade * np.float32(0.45), (0.42, 0.25, 0.12), (0.78, 0.56, 0.33))
    picture[(place - plank) < np.float32(0.07)] *= np.float32(0.55)
    return picture if rng.random() < 0.5 else picture.transpose(1, 0, 2)


STUFF: dict[str, Callable[[Rng, int], Texture]] = {
    texture.__name__: texture for texture in (sky, grass, water, sand, snow, road, bricks, wood)
}
