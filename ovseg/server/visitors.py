"""How many jobs for the networks one visitor asks for, at once and in a minute, counted by session and by address.

MCP clients reach Gradio's own client in this server, which asks for the job in their place, with the headers that they sent:
a header of ours says for which of their requests. A job whose request has ended has nobody who waits for it.
"""

import ipaddress
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ovseg.limits import limits
from ovseg.server.gradio_parts import CALLER, asks_for_job, awaited_jobs, is_mcp_call, job_asked_for, page_of
from ovseg.server.guard import sentence
from ovseg.server.listeners import Listeners

MINUTE = 60.0


class Visitors:
    """What was asked for in the last minute, and from which address the requests of MCP clients that are open came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._asked: dict[str, deque[float]] = {}
        self.callers: dict[str, str] = {}

    def refusal(self, keys: Iterable[str], at_once: Iterable[set[str]]) -> str:
        """Why a visitor of these keys may not ask for one more job, where visitors of those `at_once` wait, in a sentence.

        Empty where it may, and then the job is counted.
        """
        keys, waiting, most, now = set(keys), list(at_once), limits(), self._clock()
        if any(sum(key in others for others in waiting) >= most.jobs for key in keys):
            return f"A visitor may have {most.jobs} jobs at once, but yours are as many: wait for one, or stop it."
        with self._lock:
            for key in [key for key, times in self._asked.items() if now - times[-1] > MINUTE]:
                del self._asked[key]
            counts = [sum(now - asked <= MINUTE for asked in self._asked.get(key, ())) for key in keys]
            if max(counts, default=0) >= most.jobs_a_minute:
                return f"A visitor may ask for {most.jobs_a_minute} jobs in a minute, but you have: wait a minute."
            for key in keys:
                self._asked.setdefault(key, deque(maxlen=most.jobs_a_minute)).append(now)
        return ""

    def known_by(self, session: str, address: str, caller: str) -> set[str]:
        """What is counted of a visitor: the session, and the address where it says who asks. MCP clients share a session."""
        address = self.callers.get(caller, address)
        of_session = set() if caller in self.callers or not session else {f"session {session}"}
        return of_session if _is_this_machine(address) else of_session | {f"address {address}"}


def _is_this_machine(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a socket, or a test's client
        return True


class VisitorMiddleware:
    """Refuses jobs of who asks for too many, and knows for whom MCP clients ask. Everything else passes as it is."""

    def __init__(self, app: ASGIApp, listeners: Listeners, visitors: Visitors) -> None:
        self.app, self.listeners, self.visitors = app, listeners, visitors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it by a sentence."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        if is_post and is_mcp_call(scope["path"]):
            await self._for_client(scope, receive, send)
        elif is_post and asks_for_job(scope["path"]):
            try:
                given = [message := await receive()]
                while message.get("more_body"):
                    given.append(message := await receive())
            except HTTPException as error:  # the body is too long
                await sentence(error.status_code, error.detail)(scope, receive, send)
                return
            refusal = self._refusal(scope, b"".join(part.get("body", b"") for part in given))
            await (sentence(429, refusal) if refusal else self.app)(scope, _again(given, receive), send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, body: bytes) -> str:
        session = job_asked_for(page_of(scope), scope["path"], body)
        if session is None:
            return ""
        caller = dict(scope["headers"]).get(CALLER.encode(), b"").decode("latin-1")
        known = self.visitors.known_by(session, _address(scope), caller)
        return self.visitors.refusal(known, (self.visitors.known_by(*job) for job in awaited_jobs(page_of(scope))))

    async def _for_client(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on the request of an MCP client; while it is open, somebody waits for its job."""
        caller = secrets.token_hex(16)
        headers = [(name, value) for name, value in scope["headers"] if name != CALLER.encode()]
        self.visitors.callers[caller] = _address(scope)
        self.listeners.opened(f"mcp {caller}")
        try:
            await self.app({**scope, "headers": [*headers, (CALLER.encode(), caller.encode())]}, receive, send)
        finally:
            self.listeners.closed(f"mcp {caller}")
            del self.visitors.callers[caller]


def _address(scope: Scope) -> str:
    return (scope.get("client") or ("",))[0]


def _again(given: list[Message], receive: Receive) -> Receive:
    """What gives messages that were read already, and then those that follow."""
    left = deque(given)

    async def next_message() -> Message:
        return left.popleft() if left else await receive()

    return next_message
