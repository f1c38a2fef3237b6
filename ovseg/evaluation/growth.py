"""How what a method takes grows with its input: sweeps, tables, and whether it grows faster than the input."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ovseg.evaluation.sizes import Size, Taken
from ovseg.output.tables import Table

FASTER = 1.1  # an exponent above this is told as faster than the input

Axis = Literal["classes", "pixels", "support images"]


@dataclass(frozen=True)
class Sweep:
    """Sizes of which one thing grows; the others stay as in `base`."""

    axis: Axis
    base: Size
    values: tuple[int, ...]

    def sizes(self) -> Iterator[Size]:
        """The sizes; "pixels" has the sides of square pictures for values."""
        field = {"classes": "classes", "pixels": "side", "support images": "images"}[self.axis]
        for value in self.values:
            yield replace(self.base, **{field: value})


def grown(axis: Axis, size: Size) -> int:
    """How much there is of what a sweep grows."""
    return {"classes": size.classes, "pixels": size.side**2, "support images": size.images}[axis]


def exponent(axis: Axis, taken: Sequence[Taken], what: Literal["seconds", "peak_bytes"]) -> float:
    """The power of the input with which seconds or memory grow, from the smallest to the largest: 1 is linear.

    Raises:
        ValueError: there are less than two sizes.
    """
    first, last = (end(taken, key=lambda item: grown(axis, item.size)) for end in (min, max))
    if grown(axis, first.size) == grown(axis, last.size):
        raise ValueError(f"Growth with {axis} needs two sizes or more, but got {len(taken)}.")
    ratio = math.log(grown(axis, last.size) / grown(axis, first.size))
    return math.log(getattr(last, what) / getattr(first, what)) / ratio


def table_of(taken: Sequence[Taken]) -> Table:
    """A row for each measurement, with its floor beside it."""
    columns = (
        "method", "classes", "picture", "support images", "passes", "rows", "TFLOP", "floor, s", "seconds",
        "times the floor", "preparing, s", "memory, MB", "stages",
    )  # fmt: skip
    rows = tuple(
        (
            t.method, t.size.classes, t.size.side, t.size.images, t.passes,
            t.rows, t.flops / 1e12, t.floor, t.seconds, t.seconds / t.floor if t.floor else None, t.preparing,
            t.peak_bytes / 1e6, ", ".join(f"{name} {seconds:.2f} s" for name, seconds in t.stages.items()),
        )
        for t in taken
    )  # fmt: skip
    return Table(columns, rows, {"TFLOP": 3, "floor, s": 3, "seconds": 3, "times the floor": 1, "memory, MB": 1})


def growth_table(sweeps: Sequence[tuple[Axis, Sequence[Taken]]]) -> Table:
    """For each method and sweep the powers with which seconds and memory grow, and what grows faster than the input."""
    rows = []
    for axis, taken in sweeps:
        for method in dict.fromkeys(item.method for item in taken):
            own = [item for item in taken if item.method == method]
            powers = [exponent(axis, own, what) for what in ("seconds", "peak_bytes")]
            faster = [name for name, power in zip(("seconds", "memory"), powers, strict=True) if power > FASTER]
            ends = " to ".join(str(grown(axis, item.size)) for item in (own[0], own[-1]))
            rows.append((method, axis, ends, *powers, " and ".join(faster) or "nothing"))
    columns = ("method", "grows", "from", "power of seconds", "power of memory", "faster than the input")
    return Table(columns, tuple(rows), {})
