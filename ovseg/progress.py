"""Progress of long work: how it is reported, the stages of a run with their seconds, and the time that is left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

LEAST_SECONDS = 5.0  # of work, before its speed says how long the rest takes

Report = Callable[[str, float], None]
"""A function that long work calls with its stage and the share of it that is done, 0 to 1. It may raise to stop the work."""


class StoppedError(Exception):
    """The work was stopped because somebody asked for it."""


def silent(stage: str, share: float) -> None:
    """A `Report` that does nothing."""


class Stages:
    """Times the named stages of one run, and reports each as it begins. `timings` holds the seconds of each name."""

    def __init__(self, report: Report) -> None:
        self.report, self.timings = report, {}

    @contextmanager
    def stage(self, name: str, share: float = 0.0) -> Iterator[None]:
        """Report that `name` begins with `share` of the whole done, and add its seconds to `timings`."""
        self.report(name, share)
        start = time.perf_counter()
        yield
        if torch.cuda.is_initialized():  # what was begun on a GPU belongs to this stage, not to the next one
            torch.cuda.synchronize()
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def progress(self, name: str, begin: float, end: float) -> Callable[[float], None]:
        """What reports how far a stage is, 0 to 1, which takes the whole from `begin` to `end`."""
        return partial(within(self.report, begin, end), name)


def within(report: Report, begin: float, end: float) -> Report:
    """A report on a part of longer work: its 0 is the whole's `begin`, its 1 the whole's `end`."""
    return lambda stage, share: report(stage, begin + (end - begin) * share)


def with_time_left(report: Report, clock: Callable[[], float] = time.monotonic) -> Report:
    """A report that adds the time left to the stage, once the work has taken `LEAST_SECONDS`.

    Speed is measured from the first call on: what an earlier run had done before it does not count.
    """
    start: list[tuple[float, float]] = []

    def with_time(stage: str, share: float) -> None:
        if not start:
            start.append((clock(), share))
        seconds, done = clock() - start[0][0], share - start[0][1]
        speed_is_known = seconds >= LEAST_SECONDS and done > 0 and share < 1
        report(f"{stage}, {duration(seconds / done * (1 - share))} left" if speed_is_known else stage, share)

    return with_time


def duration(seconds: float) -> str:
    """ "1 h 2 min", "3 min 4 s" or "5 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
