"""How many seconds a method takes on this machine, learned from its own runs."""

import statistics
import threading

NETWORK_ROW = "a row of the network"  # what its seconds are learned under
KEPT = 3  # runs whose median counts
FIXED_ROWS = 2  # rows of the network that take as long as what a run takes whatever its rows are


class Durations:
    """Seconds of each kind of work, over all visitors. Safe to use from several threads.

    The first run of a kind loads weights and warms up, so it counts only until there is a second one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, list[tuple[float, int]]] = {}  # seconds and rows, the first run before those that count

    def learn(self, kind: str, seconds: float, rows: int = 0) -> None:
        """Add what one piece of work took, of so many rows of the network."""
        with self._lock:
            first, *others = [*self._runs.get(kind, ()), (seconds, rows)]
            self._runs[kind] = [first, *others[-KEPT:]]

    def expected(self, kind: str, rows: int | None = None) -> float | None:
        """Seconds that such work takes with so many rows, or with as many as the last one; None before the first."""
        with self._lock:
            runs = self._runs.get(kind)
        if not runs:
            return None
        each = statistics.median(seconds / (FIXED_ROWS + own) for seconds, own in runs[1:] or runs)
        return each * (FIXED_ROWS + (runs[-1][1] if rows is None else rows))


def in_words(seconds: float | None) -> str:
    """ "0.3 s", "12 s", "2 min", or nothing where it is not known."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
