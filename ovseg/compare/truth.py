"""What is really there: label maps that an entry is measured against."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ovseg.files import read_text
from ovseg.limits import visible
from ovseg.maths.overlap import IGNORED
from ovseg.pictures import read_values
from ovseg.types import BACKGROUND
from ovseg.words.classes import ClassWord


@dataclass(frozen=True)
class Truth:
    """What is really there: `label_map` holds indices into `labels`, and 255 where nothing is counted.

    Raises:
        ValueError: the labels do not begin with the background, or the map holds a label that does not exist.
    """

    label_map: UInt8[np.ndarray, "H W"]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels[:1] != (BACKGROUND,):
            raise ValueError(f"labels[0] must be {BACKGROUND!r}, but got {self.labels[:1]!r}.")
        highest = int(self.label_map[self.label_map != IGNORED].max(initial=0))
        if highest >= len(self.labels):
            raise ValueError(f"The truth's labels must be below {len(self.labels)} or {IGNORED}, but got {highest}.")

    @classmethod
    def from_values(
        cls, values: UInt8[np.ndarray, "H W"], names: Mapping[int, str], classes: Sequence[ClassWord]
    ) -> "Truth":
        """The truth about some classes, from a map whose values have names.

        A value belongs to the class one of whose phrases is its name, in upper or lower case. Names of no class become
        background: nobody asked for them. 255 stays what is not counted.

        Raises:
            ValueError: a value of the map has no name.
        """
        number_of = {phrase.lower(): k for k, word in enumerate(classes, 1) for phrase in word.phrases}
        unknown = set(np.unique(values).tolist()) - set(names) - {IGNORED}
        if unknown:
            known = ", ".join(f"{value} {name}" for value, name in sorted(names.items()))
            raise ValueError(f"Each value of the truth must be one of {known} or {IGNORED}, but it holds {min(unknown)}.")
        table = np.zeros(256, np.uint8)
        for value, name in names.items():
            table[value] = number_of.get(name.lower(), 0)
        table[IGNORED] = IGNORED
        return cls(table[values], (BACKGROUND, *(word.name for word in classes)))


def read_truth(
    source: str | Path, image_hw: tuple[int, int], classes: Sequence[ClassWord], legend: Mapping[int, str] | None = None
) -> Truth:
    """The truth about some classes from an indexed or grey picture, one value a pixel, of the picture's size.

    Args:
        legend: names of the values; `read_legend` reads those that `segment` writes. Without it, value 0 is the
            background, value k the k-th class, and 255 is not counted.

    Raises:
        ValueError: it cannot be read, its size or mode does not fit, a value has no name, or no name is a class.
    """
    values = read_values(source, "The truth", image_hw)
    names = {0: BACKGROUND} | {k: word.name for k, word in enumerate(classes, 1)} if legend is None else legend
    if not {name.lower() for name in names.values()} & {p.lower() for word in classes for p in word.phrases}:
        asked = ", ".join(word.name for word in classes)
        raise ValueError(f"The legend must name one of the classes {asked}, but it names {', '.join(names.values())}.")
    return Truth.from_values(values, names, classes)


def read_legend(path: str | Path) -> dict[int, str]:
    """The names of a mask's values, from a `legend.json` as `segment` writes it.

    Raises:
        ValueError: there is no such file, or it is no such legend.
    """
    text = read_text(path, "The legend")
    try:
        return {int(item["index"]): visible(str(item["label"])) for item in json.loads(text)}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(
            f'The legend must be a list such as [{{"index": 1, "label": "cat"}}], but {path} holds something else.'
        ) from None
