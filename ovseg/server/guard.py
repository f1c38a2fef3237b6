"""What every request passes before Gradio sees it: which names and origins are answered, and how much may be sent.

Every answer gets headers that tell browsers to be careful, and what Gradio would answer without a word gets a sentence.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ovseg.assets import variable
from ovseg.limits import limits, quoted
from ovseg.server.gradio_parts import (
    FnIndexInferError,
    event_in,
    has_messages,
    is_upload,
    knows_event,
    messages_session_in,
    page_of,
)

LOCAL = ("localhost", "127.0.0.1", "::1")
FRAMES = ("https://huggingface.co", "https://*.hf.space")  # that may show the page inside theirs
POLICY = {
    "default-src": ["'self'"],
    # Gradio's page and the components of gr.HTML are scripts within the page, some of them made from text.
    "script-src": ["'self'", "'unsafe-inline'", "'unsafe-eval'"],
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:", "blob:"],
    "font-src": ["'self'", "data:"],
    "media-src": ["'self'", "data:", "blob:"],
    "connect-src": ["'self'", "data:", "blob:"],
    "worker-src": ["'self'", "blob:"],
    "object-src": ["'none'"],
    "base-uri": ["'self'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'self'", *FRAMES],
}
"""The content security policy: what the page may load, and who may frame it. Nothing comes from another server."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
NO_DOOR = "There must be such an address here, but there is none; the doors for programs are listed at /gradio_api/info."


def headers() -> dict[str, str]:
    """The headers of every answer."""
    policy = "; ".join(" ".join([name, *values]) for name, values in POLICY.items())
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }


def allowed_hosts(listens_on: str) -> tuple[str, ...]:
    """The names under which the page may be asked for on the address that the server listens on; none if under any.

    `OVSEG_HOSTS` names them. Without it, a page that listens on this machine alone answers to its local names: another
    name that leads here would be that of a website that wants to read it through a visitor's browser.
    """
    named = tuple(name.strip().lower() for name in (variable("OVSEG_HOSTS") or "").split(",") if name.strip())
    return named or (LOCAL if listens_on in LOCAL else ())


class Guard:
    """Middleware around the app of a page."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app, self.hosts, self.headers = app, hosts, headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it by a sentence."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope) or unknown_event(scope)
        if refusal:
            await refusal(scope, receive, self._with_headers(send))
            return
        body = Body(receive, most_bytes(scope["path"]))
        await self.app(scope, body.receive, self._with_headers(send))

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to what must not be asked; None where it may be."""
        given = Headers(scope=scope)
        host, origin = _name(given.get("host", "")), given.get("origin")
        if self.hosts and host not in self.hosts:
            return sentence(421, f"The page must be asked for by a name that its owner has set, but got {quoted(host)}.")
        must_be_own = host in LOCAL or is_upload(scope["path"])
        if origin and must_be_own and scope["method"] not in SAFE_METHODS:
            own = {host, _name(given.get("x-forwarded-host", ""))}
            if _name(urlsplit(origin).netloc) not in own - {""}:
                return sentence(403, f"What is sent must come from this page, but it comes from {quoted(origin)}.")
        length = given.get("content-length", "0")
        if length.isdecimal() and int(length) > (most := most_bytes(scope["path"])):
            return sentence(413, long_body(most))
        return None

    def _with_headers(self, send: Send) -> Send:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        return with_headers


class Body:
    """The body of a request, which is refused where it is longer than its header says it may be."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._bytes = receive, most, 0

    async def receive(self) -> Message:
        """The next part.

        Raises:
            HTTPException: the body is too long.
        """
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            raise HTTPException(413, long_body(self._most))
        return message


def most_bytes(path: str) -> int:
    """How long the body of a request to this path may be. MCP clients send pictures as text, 4 characters for 3 bytes."""
    allowed = limits()
    if is_upload(path):
        return allowed.upload_bytes + allowed.request_bytes
    return allowed.request_bytes + ("/mcp" in path) * allowed.upload_bytes * 4 // 3


def long_body(most: int) -> str:
    """The sentence for a body that is too long."""
    return f"A request must have {most} bytes at most, but this one has more."


def sentence(status: int, text: str) -> Response:
    """A sentence as Gradio's own errors are written, for its clients."""
    return JSONResponse({"detail": text, "error": text}, status)


def unknown_event(scope: Scope) -> Response | None:
    """The answer to who asks for an event or a session that is not there; None for others.

    Gradio would break off in the middle of its answer.
    """
    if scope["method"] != "GET":
        return None
    if (event := event_in(scope["path"])) and not knows_event(page_of(scope), event):
        return sentence(404, "The answer must be that of an event that was begun here and not read yet, but there is none.")
    session = messages_session_in(scope["path"], scope["query_string"])
    if session and not has_messages(page_of(scope), session):
        text = "This session is not known here, or not any more: reload the page."
        message = {"msg": "unexpected_error", "message": text, "success": False, "session_not_found": True}
        return Response(f"data: {json.dumps(message)}\n\n", media_type="text/event-stream")
    return None


def _name(host: str) -> str:
    """A host without its port, in lower case: "[::1]:7860" is "::1"."""
    name = host.lower().rsplit("]", 1)[0].removeprefix("[") if host.startswith("[") else host.lower().partition(":")[0]
    return name.rstrip(".")


async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
    """What FastAPI says of a body that is not as it must be, as one sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return sentence(422, f"A request must be JSON as this page sends it, but {quoted(where)} is not: {first['msg']}.")


async def on_http_exception(request: Request, error: HTTPException) -> Response:
    """Refusals of Gradio and Starlette, whose words are kept where they say something."""
    texts = {
        403: "What is asked for must be open to visitors, but is not.",
        404: NO_DOOR,
        405: f"{request.method} must be a method of this address, but is not.",
    }
    says_nothing = not isinstance(error.detail, str) or error.detail in ("Not Found", "Method Not Allowed", "Forbidden")
    text = texts.get(error.status_code, NO_DOOR) if says_nothing else error.detail
    answer = sentence(error.status_code, text if text.endswith(".") else f"{text}.")
    answer.headers.update(error.headers or {})
    return answer


def saying(status: int, text: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    """What answers with one sentence, whatever was raised."""

    async def answer(_request: Request, _error: Exception) -> Response:
        return sentence(status, text)

    return answer


on_wrong_values = saying(400, "What is sent must have the names and kinds that /gradio_api/info lists, but it has not.")
HANDLERS: dict[Any, Any] = {
    RequestValidationError: on_validation_error,
    HTTPException: on_http_exception,
    FnIndexInferError: saying(404, NO_DOOR),
    KeyError: saying(404, "A request must name an event or a door of this page, but names none."),
    **dict.fromkeys((TypeError, ValueError, AttributeError), on_wrong_values),
    Exception: saying(
        500, "The request must be one that this page makes, but the server could not answer it; its log says why."
    ),
}
"""What answers where Gradio or FastAPI raises one of these outside of an event."""
