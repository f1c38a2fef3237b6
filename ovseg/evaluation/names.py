"""The names by which evaluation protocols call the classes of a benchmark; `names.json` holds them in label order.

"plain" are the data set's own. The others are those of the released code they are called after: names alone move a
figure by points, so every table says which were used.
"""

import json
from functools import cache
from pathlib import Path

from ovseg.words.classes import ClassWord, parse_classes


@cache
def _lists() -> dict[str, dict[str, str]]:
    return json.loads((Path(__file__).parent / "names.json").read_text())


def class_words(dataset: str, variant: str) -> tuple[ClassWord, ...]:
    """The classes of an entry of names.json, in label order.

    Raises:
        ValueError: the data set has no such variant.
    """
    variants = _lists()[dataset]
    if variant not in variants:
        raise ValueError(f"The names for {dataset} must be one of {', '.join(variants)}, but got {variant!r}.")
    return parse_classes(variants[variant])
