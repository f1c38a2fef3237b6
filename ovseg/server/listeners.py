"""Who listens to a job: one whose visitor is gone ends at its next step, and the network is free for the others.

What a job gives is read from a stream, which browsers and programs open after they have asked for the job. Gradio notes
that a stream was closed, and then ends a job that is a generator. It does not see that a stream was never opened, and does
not end a function that returns once. Here every stream is counted where it passes, before Gradio answers it.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ovseg.server.gradio_parts import Job, event_in, is_stopped, job_of_this_thread, messages_session_in, page_session_in

GRACE = 5.0  # seconds between asking for a job and listening, or between two streams of a visitor whose line broke
REMEMBERED = 1200.0  # seconds for which it is known when a stream was closed


class Listeners:
    """The streams that are open, by what they ask for: a session, or one job."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock, self._process = clock, threading.Lock(), None
        self._open: Counter[str] = Counter()
        self._closed: dict[str, float] = {}

    def begin(self) -> None:
        """From now on every stream passes here. Until then, nothing is known of who listens."""
        self._process = os.getpid()

    def opened(self, key: str) -> None:
        """A stream was opened."""
        with self._lock:
            self._open[key] += 1

    def closed(self, key: str) -> None:
        """A stream was closed."""
        with self._lock:
            self._open[key] -= 1
            self._open += Counter()  # without those of which none is open
            now = self._clock()
            self._closed = {name: since for name, since in self._closed.items() if now - since <= REMEMBERED} | {key: now}

    def is_open(self, key: str) -> bool:
        """Whether a stream is open."""
        with self._lock:
            return self._open[key] > 0

    def seconds_since(self, key: str) -> float | None:
        """For how long a stream has been closed; None where it never was, or long ago."""
        with self._lock:
            closed = self._closed.get(key)
        return None if closed is None else self._clock() - closed

    def have_left(self, session: str, job: str, asked: float) -> bool:
        """Whether nobody has listened for `GRACE` seconds to a job that a session asked for at a time of the clock."""
        if self._process != os.getpid():  # in another process than the one that streams pass through
            return False
        with self._lock:
            if self._open[session] > 0 or self._open[job] > 0:
                return False
            last = max(asked, self._closed.get(session, asked), self._closed.get(job, asked))
        return self._clock() - last > GRACE


class ListeningMiddleware:
    """Counts the streams of an application. Everything else passes as it is."""

    def __init__(self, app: ASGIApp, listeners: Listeners) -> None:
        self.app, self.listeners = app, listeners
        listeners.begin()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on; while it is answered, its stream counts as open."""
        key = stream_of(scope)
        if key is None:
            await self.app(scope, receive, send)
            return
        self.listeners.opened(key)
        try:
            await self.app(scope, receive, send)
        finally:
            self.listeners.closed(key)


def stream_of(scope: Scope) -> str | None:
    """What a request's stream is counted under; None where it asks for something else.

    That is the session that listens, or the job that is listened to, or "page " and the session whose page is open.
    """
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    path = scope["path"]
    if (session := messages_session_in(path, scope["query_string"])) is not None:
        return session or None
    if looked_at := page_session_in(path):
        return f"page {looked_at}"
    return event_in(path)


def _job() -> Job | None:
    """The job that this thread works on; None where it is no job of a page whose streams are counted."""
    job = job_of_this_thread()
    return job if job and getattr(job.page, "listeners", None) else None


def nobody_listens() -> bool:
    """Whether the visitor of the job that this thread works on is gone. False where it is no job of a page's queue."""
    job = _job()
    if job is None:
        return is_stopped()
    waiting = f"mcp {job.caller}" if job.caller else job.session
    return not job.is_alive or job.page.listeners.have_left(waiting, job.caller or job.name, job.asked)


def others_wait() -> bool:
    """Whether another job waits until the one that this thread works on has ended. False where it is no such job."""
    job = _job()
    return job is not None and job.others_wait
