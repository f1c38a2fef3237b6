"""Reading ahead: the next pictures are read in a thread while the networks work on the one before."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item, Read = TypeVar("Item"), TypeVar("Read")
DEPTH = 2  # items that are read before they are asked for


def read_ahead(items: Iterable[Item], read: Callable[[Item], Read]) -> Iterator[tuple[Item, Future[Read]]]:
    """Each item with what another thread read of it, in order; `result()` of that raises what reading raised.

    At most `DEPTH` results wait. What has not begun when the iteration is left is not read.
    """
    waiting, pool = deque(), ThreadPoolExecutor(1)
    try:
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) == DEPTH:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, unread in waiting:
            unread.cancel()
        pool.shutdown(wait=False)
