"""Long work behind a page: in a thread, with progress as it goes, and stopped when the visitor stops or leaves."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr

from ovseg.types import Report, StoppedError


def stream(work: Callable[[Report], Any]) -> Iterator[tuple[str, float, Any]]:
    """Run `work(report)` and yield (stage, share, None) as it reports, then ("done", 1.0, result).

    Closing this generator, which Gradio does when its event is cancelled or the tab is closed, makes the next report
    raise, so that the work ends at its next step.

    Raises:
        gr.Error: the work raised ValueError; its sentence is shown to the visitor.
    """
    events: queue.Queue[tuple[str, float] | None] = queue.Queue()
    stop = threading.Event()

    def report(stage: str, share: float) -> None:
        if stop.is_set():
            raise StoppedError
        events.put((stage, share))

    worker = ThreadPoolExecutor(1)
    future = worker.submit(work, report)
    future.add_done_callback(lambda _: events.put(None))
    try:
        while (event := events.get()) is not None:
            yield (*event, None)
        yield "done", 1.0, future.result()
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    finally:
        stop.set()
        worker.shutdown(wait=False)
