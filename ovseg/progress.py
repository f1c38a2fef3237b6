"""Progress of long work: who is told, the stages of a run and their seconds, and how long it still takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SOON = 5.0  # seconds before which no time left is reported

Report = Callable[[str, float], None]
"""Told the stage of long work and the share of it that is done, 0 to 1. It may raise to stop the work."""


class StoppedError(Exception):
    """The work was stopped because somebody asked for it."""


def silent(stage: str, share: float) -> None:
    """A `Report` for nobody."""


class Stages:
    """Times the named stages of one run and reports them as they begin."""

    def __init__(self, report: Report) -> None:
        self.report, self.timings = report, {}

    @contextmanager
    def stage(self, name: str, share: float = 0.0) -> Iterator[None]:
        """Report that `name` begins with `share` of the whole done, and add its seconds to `timings`."""
        self.report(name, share)
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start


def with_time_left(report: Report, clock: Callable[[], float] = time.monotonic) -> Report:
    """A report whose stages say how long is left, once the work has taken `SOON` seconds.

    What was done before the first call, such as the part of a run that is taken up again, says nothing of the speed.
    """
    begun: list[tuple[float, float]] = []

    def told(stage: str, share: float) -> None:
        if not begun:
            begun.append((clock(), share))
        taken, done = clock() - begun[0][0], share - begun[0][1]
        known = taken >= SOON and done > 0 and share < 1
        report(f"{stage}, {duration(taken / done * (1 - share))} left" if known else stage, share)

    return told


def duration(seconds: float) -> str:
    """ "1 h 2 min", "3 min 4 s" or "5 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
