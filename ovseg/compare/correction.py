"""Correcting masks by clicks: what a place attends to is added to a class, or taken from it. No network runs.

A corrected mask is an entry of its own, under a title that says so, and never counted as the method's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ovseg.compare.comparison import Entry
from ovseg.maths.maps import resize
from ovseg.output import view
from ovseg.types import Evidence, Segmentation

BY_HAND = ", corrected by hand"  # behind the title of the entry that was corrected
STRENGTH = 0.6  # of a mark, as a share of the range of the scores


@dataclass(frozen=True)
class Mark:
    """A click: `x` and `y` are shares of the picture's width and height, 0 to 1."""

    label: str
    x: float
    y: float
    adds: bool


def attention_in(entries: Sequence[Entry]) -> Evidence | None:
    """The self-attention that one of some entries kept, of the first that has any."""
    kept = (item for entry in entries for item in entry.segmentation.evidence if item.kind == "affinity")
    return next(kept, None)


def corrected(entry: Entry, attention: Evidence, marks: Sequence[Mark]) -> Entry:
    """An entry with marks made on it, one after the other, under a title of its own.

    Raises:
        ValueError: a mark is of a label that the entry does not have, or outside the picture.
    """
    made = entry.segmentation
    scores = made.scores().copy()
    span = float(scores.max() - scores.min()) or 1.0
    for mark in marks:
        if mark.label not in made.labels[1:]:
            raise ValueError(f"A mark must be of one of {', '.join(made.labels[1:])}, but got {mark.label!r}.")
        row = view.affinity_at(attention, mark.x, mark.y)
        grown = resize(torch.from_numpy(row / row.max())[None], made.image.shape[:2])[0].numpy()
        scores[made.labels.index(mark.label)] += (STRENGTH if mark.adds else -STRENGTH) * span * grown
    if made.threshold is not None:
        scores[1:] = scores[1:].clip(0, 1)
    result = Segmentation(made.image, made.labels, scores.astype(np.float32), threshold=made.threshold)
    free = {"seconds": 0.0, "passes": 0, "rows": 0, "peak_bytes": None, "loading": 0.0}
    return replace(entry, title=entry.title + BY_HAND, segmentation=result, **free)
