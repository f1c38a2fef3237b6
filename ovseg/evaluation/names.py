"""Class names of the benchmarks, in label order; `names.json` holds them, and that of a method's folder its own.

"plain" are the data set's own names. The other variants come from the released code that they are called after. Other names
for the same classes change a figure by several points, so every table says which variant was used.
"""

import json
from functools import cache
from pathlib import Path

from ovseg.methods import METHODS
from ovseg.words.classes import ClassWord, parse_classes


@cache
def name_lists() -> dict[str, dict[str, str]]:
    """For each benchmark its class names as text, by their variant."""
    lists = json.loads((Path(__file__).parent / "names.json").read_text(encoding="utf-8"))
    for kind in METHODS:
        own = kind.folder() / "names.json"
        for dataset, names in json.loads(own.read_text(encoding="utf-8")).items() if own.exists() else ():
            lists[dataset][kind.name] = names
    return lists


def class_words(dataset: str, variant: str) -> tuple[ClassWord, ...]:
    """The classes of an entry of names.json, in label order.

    Raises:
        ValueError: the data set has no such variant.
    """
    variants = name_lists()[dataset]
    if variant not in variants:
        raise ValueError(f"The names for {dataset} must be one of {', '.join(variants)}, but got {variant!r}.")
    return parse_classes(variants[variant])
