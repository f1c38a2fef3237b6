"""Long work behind a page: in a thread, with progress as it goes, and stopped when the visitor stops or leaves."""

import functools
import html
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import gradio as gr
import spaces

from ovseg.limits import limits
from ovseg.models import Models
from ovseg.progress import Relay, Report
from ovseg.server.durations import Durations
from ovseg.server.listeners import nobody_listens, others_wait
from ovseg.server.request_cost import Work, seconds_for
from ovseg.server.sentences import as_sentences

QUIET = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": ()}
"""Events that answer at once: no door for programs, no sign of progress.

A component that could show an event's progress is told of the state of every event, which takes the browser long: none is.
"""

EACH = {"trigger_mode": "multiple", **QUIET}
"""Those that say where a visitor points or moved to: else Gradio drops what comes before the answer to the last is there."""

NETWORK = {"concurrency_id": "network", "concurrency_limit": 1}
"""Events that use the network run one at a time, those of programs among them."""

GAVE_WAY = "Stopped after {} seconds, because others wait for the network. Ask for less at once, or when nobody waits."

Publish = Callable[[Any], None]
"""Hands a part of the result to the visitor while the work goes on."""


def stream(work: Callable[[Report], Any]) -> Iterator[tuple[str, float, Any]]:
    """Run `work(report)` and yield (stage, share, None) as it reports, then ("done", 1.0, result).

    Raises:
        gr.Error: the work raised ValueError; its sentence is shown to the visitor.
    """
    return stream_parts(lambda report, publish: work(report))


def stream_parts(
    work: Callable[[Report, Publish], Any], clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[str, float, Any]]:
    """Run `work(report, publish)`: as `stream`, with (stage, share, part) for every part that it publishes.

    Reports are paced: see `Relay`. Closing this generator, which Gradio does when its event is cancelled or the tab is
    closed, makes the next report or publication raise, so that the work ends at its next step.

    Raises:
        gr.Error: the work raised ValueError; its sentence is shown to the visitor.
    """
    relay, worker = Relay(clock), ThreadPoolExecutor(1)
    future = worker.submit(work, relay.report, relay.publish)
    future.add_done_callback(lambda _: relay.end())
    try:
        yield from relay.events()
        with as_sentences():
            result = future.result()
        yield "done", 1.0, result
    finally:
        relay.stop()
        worker.shutdown(wait=False)


def sent_once(handler: Callable[..., Iterator[tuple[Any, ...]]]) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """A decorator for what an event calls: its last values are sent once, and a ValueError is a sentence.

    Gradio sends what a generator yielded last once more when the generator ends, and the browser takes it in anew.
    """

    @functools.wraps(handler)
    def ending_with_nothing(*args: Any) -> Iterator[tuple[Any, ...]]:
        with as_sentences(), closing(handler(*args)) as steps:
            for values in steps:
                yield values
        yield tuple(gr.skip() for _ in values)

    return ending_with_nothing


def on_accelerator(models: Models, seconds: Callable[..., int]) -> Callable[[Callable], Callable]:
    """A decorator for what uses the networks, a generator of its steps. It ends when nobody listens to them any more, and
    where others wait for the networks, after `Limits.busy_seconds`.

    On ZeroGPU it then runs in a forked process that has the accelerator, unless the networks are those of a small world,
    which stay on the CPU. A Space must have such a function all the same: `spaces` reports none to ZeroGPU otherwise, and
    ZeroGPU takes a Space without one for broken.

    Arguments and results are pickled there, and what the function loads or changes is lost: it must return all that is
    wanted, and what it needs must be loaded before.

    Args:
        models: the networks that are used.
        seconds: from the same arguments, how long the work may take; it runs before the fork.
    """

    def decorate(steps: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        accelerated = spaces.GPU(duration=seconds)(steps)
        working = steps if models.is_small else accelerated

        @functools.wraps(steps)
        def heard(*args: Any) -> Iterator[Any]:
            begun = time.monotonic()
            with closing(working(*args)) as running:
                for step in running:
                    if nobody_listens():
                        raise gr.Error("Stopped, as nobody listened any more.", print_exception=False)
                    if time.monotonic() - begun > limits().busy_seconds and others_wait():
                        raise gr.Error(GAVE_WAY.format(limits().busy_seconds), print_exception=False)
                    yield step

        return heard

    return decorate


def worker(
    models: Models, durations: Durations, works: Callable[..., Sequence[Work]], run: Callable[..., Any]
) -> Callable[..., Iterator[tuple[str, float, Any]]]:
    """What runs `run(*asked, report)` on the accelerator, and yields its progress and its result as `stream` does.

    Args:
        works: from the same arguments, what the accelerator's time is asked for.
    """

    @on_accelerator(models, lambda *asked: seconds_for(durations, works(*asked)))
    def work(*asked: Any) -> Iterator[tuple[str, float, Any]]:
        yield from stream(lambda report: run(*asked, report))

    return work


def told(
    steps: Iterator[tuple[str, float, Any]], outputs: int, answer: Callable[[Any], tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    """An event's values, the status first: at each report that alone, at the end those that `answer` makes of the result."""
    for stage, share, made in steps:
        yield answer(made) if made is not None else (status_line(stage, share), *[gr.skip()] * (outputs - 1))


def on_the_network(status: gr.HTML) -> dict[str, Any]:
    """How events of the page that use the network run: one at a time, and who waits sees the queue at the status."""
    return {**NETWORK, "show_progress": "minimal", "show_progress_on": status, "api_visibility": "private"}


def cancelled_by(stop: gr.Button, events: Sequence[gr.events.Dependency]) -> gr.events.Dependency:
    """Let a button stop events. What is said of it goes behind this, by `then`: a step that was already on its way must not
    come after the word.
    """
    return stop.click(None, None, None, cancels=list(events), api_visibility="private")


def say_stopped(stop: gr.Button, events: Sequence[gr.events.Dependency], status: gr.HTML) -> None:
    """Let a button stop events, and say so at the status."""
    cancelled_by(stop, events).then(lambda: status_line("Stopped.", None), None, status, **QUIET)


def status_line(text: str, share: float | None) -> str:
    """What is going on, with a bar where a share of the work is done."""
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}" aria-label="progress"></progress>'
    percent = "" if share is None else f" {share:.0%}"
    return f'<div class="ov-status" aria-live="polite">{html.escape(text)}{percent}{bar}</div>'
