"""Prototypes of random numbers, which take as long to compare as real ones."""

from collections.abc import Sequence

import numpy as np

from ovseg.methods.ovdiff.features import Extractor
from ovseg.methods.ovdiff.settings import Settings
from ovseg.methods.ovdiff.store import Prototypes, Side, store_of
from ovseg.models import Models

REGIONS_SIDE = 8  # of the grid on which they say where they come from


def keep_random_prototypes(models: Models, method: Settings, words: Sequence[str]) -> None:
    """Put random prototypes of these words into the store, as many and as wide as those of real support images."""
    store, rng = store_of(models), np.random.default_rng(0)
    for extractor in method.extractors:
        made_by, width = method.made_by(models, extractor), width_of(models, method, extractor)
        for word in words:
            if not store.holds(word, extractor, made_by):
                both = (_random_side(rng, method.images, method.parts, width) for _ in range(2))
                store.write_prototypes(word, extractor, made_by, Prototypes(*both))


def width_of(models: Models, method: Settings, extractor: str) -> int:
    """How many numbers the feature of one place has."""
    small = np.zeros((64, 64, 3), np.uint8)
    return next(Extractor.of(models, method, extractor).features([small], 0)).shape[0]


def _random_side(rng: np.random.Generator, images: int, parts: int, width: int) -> Side:
    count = 1 + images + parts
    vectors = rng.standard_normal((count, width), np.float32).astype(np.float16)
    regions = rng.integers(0, parts, (images, REGIONS_SIDE, REGIONS_SIDE)).astype(np.uint8)
    return Side(vectors, rng.integers(0, images, count).astype(np.int32), parts, regions)
