"""How often the networks of all backbones run."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class PassCount:
    """How many times the network was run, and how many rows it was given: with guidance two for each picture and step."""

    passes: int = 0
    rows: int = 0


_COUNTS: ContextVar[tuple[PassCount, ...]] = ContextVar("counts", default=())


@contextmanager
def counting() -> Iterator[PassCount]:
    """Count the passes of every backbone that the block runs in this thread; what other threads run is not counted.

        with counting() as count:
            method.segment(models, scene, classes)
        print(count.passes, count.rows)

    Blocks may be nested: a pass counts in each of them. A pass that ends early, once all of the capture is recorded,
    counts as one. The block must not `yield`: what goes on after it might run in another thread.
    """
    count = PassCount()
    token = _COUNTS.set((*_COUNTS.get(), count))
    try:
        yield count
    finally:
        _COUNTS.reset(token)


def count_pass(rows: int) -> None:
    """Add a pass of so many rows to the counts that are open in this thread; every backbone calls it for each pass."""
    for count in _COUNTS.get():
        count.passes += 1
        count.rows += rows
