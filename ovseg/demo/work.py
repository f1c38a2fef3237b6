"""Long work behind a page: in a thread, with progress as it goes, and stopped when the visitor stops or leaves."""

import queue
import threading
from collections.abc import Callable, Iterator
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
    events: queue.Queue[tuple[str, Any]] = queue.Queue()
    stop = threading.Event()

    def report(stage: str, share: float) -> None:
        if stop.is_set():
            raise StoppedError
        events.put(("report", (stage, share)))

    def run() -> None:
        try:
            events.put(("result", work(report)))
        except StoppedError:
            events.put(("stopped", None))
        except BaseException as error:  # handed to the visitor's own thread, which raises it
            events.put(("error", error))

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            kind, value = events.get()
            if kind == "report":
                yield (*value, None)
            elif kind == "error":
                raise _for_visitor(value)
            else:
                yield "done", 1.0, value
                return
    finally:
        stop.set()


def _for_visitor(error: BaseException) -> BaseException:
    return gr.Error(str(error), print_exception=False) if isinstance(error, ValueError) else error
