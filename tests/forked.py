"""Running a function as ZeroGPU does: in a forked process, with pickled arguments and results. Or as torchrun does: in some.

The real package cannot be used without its servers and an accelerator. This stands in for its decorator `spaces.GPU` and
does what its `spaces/zero/wrappers.py` does: the duration is computed from the arguments in the parent, the work runs in a
thread of a forked process, every result goes back as a pickle, a `gr.Error` comes out as itself and any other exception as
"ZeroGPU worker error". What the work leaves in memory is lost with its process.
"""

import multiprocessing
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from multiprocessing.connection import Connection
from types import GeneratorType
from typing import Any

import gradio as gr
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

FORK = multiprocessing.get_context("fork")
PATIENCE = 120  # seconds for one result


@dataclass
class Forks:
    """Stands in for the module `spaces`: `Forks.GPU` for its decorator. Remembers every call that was forked.

    Args:
        in_child: called in each forked process before its work, to forbid what must not happen there.
    """

    in_child: Callable[[], None] = lambda: None
    calls: list[tuple[str, int]] = field(default_factory=list)  # name of the function, seconds asked for

    def GPU(self, *, duration: Callable[..., int]) -> Callable[[Callable], Callable]:  # noqa: N802  as spaces calls it
        """The decorator: calls of the function are forked."""

        def decorate(task: Callable) -> Callable:
            def results(args: tuple, named: dict[str, Any]) -> Iterator[tuple[str, Any]]:
                self.calls.append((task.__name__, duration(*args, **named)))
                yield from self._forked(task, pickle.dumps((args, named)))

            @wraps(task)
            def call(*args: Any, **named: Any) -> Any:
                events = results(args, named)
                kind, value = next(events)
                return value if kind == "value" else _rest(kind, value, events)

            return call

        return decorate

    def _forked(self, task: Callable, arguments: bytes) -> Iterator[tuple[str, Any]]:
        receiving, sending = FORK.Pipe(duplex=False)
        process = FORK.Process(target=self._child, args=(task, arguments, sending), daemon=True)
        process.start()
        sending.close()
        try:
            while True:
                assert receiving.poll(PATIENCE), "the forked process does not answer"
                kind, value = pickle.loads(receiving.recv_bytes())
                if kind == "error":
                    raise value if isinstance(value, gr.Error) else gr.Error(f"ZeroGPU worker error: {value}")
                yield kind, value
                if kind in ("value", "end"):
                    return
        finally:
            process.kill()
            process.join()

    def _child(self, task: Callable, arguments: bytes, sending: Connection) -> None:
        self.in_child()
        thread = threading.Thread(target=_work, args=(task, arguments, sending))
        thread.start()
        thread.join()


def _work(task: Callable, arguments: bytes, sending: Connection) -> None:
    def send(kind: str, value: Any) -> None:
        sending.send_bytes(pickle.dumps((kind, value)))

    try:
        args, named = pickle.loads(arguments)
        made = task(*args, **named)
        if isinstance(made, GeneratorType):
            for item in made:
                send("item", item)
            send("end", None)
        else:
            send("value", made)
    except gr.Error as error:
        send("error", error)
    except BaseException as error:
        send("error", f"{type(error).__name__}: {error}")


def _rest(kind: str, value: Any, events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    """The items of a generator, of which the first is there already."""
    while kind == "item":
        yield value
        kind, value = next(events)


def torchrun(count: int, work: Callable[[], int]) -> dict[int, int]:
    """Let torchrun's own launcher do some work in so many processes; the exit codes of those that failed, by their rank.

    The processes are forked: others would read torch and the networks again.
    """

    def run() -> None:
        sys.exit(work())

    meeting = {"run_id": "tests", "rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0"}
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    try:
        elastic_launch(LaunchConfig(1, 1, count, **meeting, start_method="fork", max_restarts=0), run)()
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    finally:
        for number, handler in before.items():  # the launcher sets its own
            signal.signal(number, handler)
    return {}
