"""Deliberate bugs, one file an area. `tests/mutants.py` puts them into a copy of the code one at a time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug: in `file`, the text `old`, which stands there once, becomes `new`; one of `tests` must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
