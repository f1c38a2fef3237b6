"""Progress of long work: how it is reported, the stages of a run with their seconds, and the time that is left."""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

LEAST_SECONDS = 5.0  # of work, before its speed says how long the rest takes
SECONDS_APART = 0.25  # of two reports that leave the thread of the work

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


class Relay:
    """Takes what work in one thread says of itself to another thread: every part that it publishes, and the newest report.

    However often the work reports, a report leaves `SECONDS_APART` after the one before at the earliest: what it costs to
    show one is no matter of the work. `with_time_left` is added on the way.
    """

    _NEWS = object()  # stands in the queue for "there is a report that was not read yet"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._queue, self._last = clock, queue.SimpleQueue(), ("", 0.0)
        self._unread, self._stopped = threading.Event(), threading.Event()
        self.report: Report = with_time_left(self._report, clock)

    def _report(self, stage: str, share: float) -> None:
        self._raise_if_stopped()
        self._last = stage, share
        if not self._unread.is_set():
            self._unread.set()
            self._queue.put(self._NEWS)

    def publish(self, part: Any) -> None:
        """Hand over a part of the result.

        Raises:
            StoppedError: nobody waits for it any more.
        """
        self._raise_if_stopped()
        self._queue.put((*self._last, part))

    def end(self) -> None:
        """Say that the work has ended."""
        self._queue.put(None)

    def stop(self) -> None:
        """Let the next report or publication raise."""
        self._stopped.set()

    def events(self) -> Iterator[tuple[str, float, Any]]:
        """(stage, share, None) for a report and (stage, share, part) for a part, until the end."""
        due = -math.inf
        while True:
            try:
                event = self._queue.get(timeout=max(0.0, due - self._clock()) if self._unread.is_set() else None)
            except queue.Empty:
                event = self._NEWS
            if event is None:
                return
            if event is not self._NEWS:
                yield event
            elif self._clock() >= due:
                self._unread.clear()  # before the report is read: one that comes now is news again
                due = self._clock() + SECONDS_APART
                yield (*self._last, None)

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise StoppedError


def within(report: Report, begin: float, end: float, what: str = "") -> Report:
    """A report on a part of longer work: its 0 is the whole's `begin`, its 1 the whole's `end`; stages follow its name."""
    return lambda stage, share: report(f"{what}, {stage}" if what else stage, begin + (end - begin) * share)


def about(report: Report, what: str) -> Report:
    """A report whose stages begin with what they are about."""
    return lambda stage, share: report(f"{what}: {stage}", share)


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
