"""How many seconds a method takes on this machine, learned from its own runs."""

import threading

NETWORK_ROW = "a row of the network"  # what its seconds are learned under
KEPT = 0.7  # weight of what was known before, against a new run


class Durations:
    """Seconds of each kind of work, a running average over all visitors. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock, self._seconds = threading.Lock(), {}

    def learn(self, kind: str, seconds: float) -> None:
        """Add what one piece of work took."""
        with self._lock:
            before = self._seconds.get(kind)
            self._seconds[kind] = seconds if before is None else KEPT * before + (1 - KEPT) * seconds

    def expected(self, kind: str) -> float | None:
        """Seconds that such work takes, or None before the first."""
        with self._lock:
            return self._seconds.get(kind)


def in_words(seconds: float | None) -> str:
    """ "0.3 s", "12 s", "2 min", or nothing where it is not known."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
