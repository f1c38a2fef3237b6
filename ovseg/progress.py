"""How long work still takes, told from how far it is."""

import time
from collections.abc import Callable

from ovseg.types import Report

SOON = 5.0  # seconds before which nothing is told


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
