"""The example pictures of the page: scenes of the pocket world at 512 px, each with its truth."""

from pathlib import Path

import numpy as np

from ovseg.files import as_json, write_whole
from ovseg.output.view import indexed_png, palette, png
from ovseg.pocket.world import LABELS, WorldScene, scene

SIZE = 512
# Name -> index in the split `val`. A name holds the things that the picture shows, with a hyphen between two.
EXAMPLES = {
    "boat-bird": 3914,
    "cat-car": 4479,
    "sheep-house": 2672,
    "person-bus-apple": 4,
    "tree-bus": 131,
    "flower-apple": 279,
}


def write_examples(out: Path) -> None:
    """Write `NAME.png`, `NAME-truth.png` (indexed) and `NAME-legend.json`, the names of its values, of every example.

    Value 0 means nothing here; 1, 2, ... are the things in the order of the name, then the stuff, upper first.

    Raises:
        ValueError: a file cannot be written.
    """
    for name, index in EXAMPLES.items():
        item = scene("val", index, SIZE)
        labels = ("background", *words_of(name), *item.stuff)  # what the values 0, 1, ... of the truth mean
        legend = [{"index": k, "label": label} for k, label in enumerate(labels)]
        write_whole(out / f"{name}.png", png(item.image))
        write_whole(out / f"{name}-truth.png", indexed_png(_truth(item, labels), palette(len(labels))))
        write_whole(out / f"{name}-legend.json", as_json(legend, None))


def words_of(name: str) -> tuple[str, ...]:
    """The things that an example shows."""
    return tuple(name.split("-"))


def _truth(item: WorldScene, labels: tuple[str, ...]) -> np.ndarray:
    table = np.zeros(len(LABELS), np.uint8)
    for value, label in enumerate(labels[1:], 1):
        table[LABELS.index(label)] = value
    return table[item.labels]
