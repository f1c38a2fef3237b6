"""The end of a job that its visitor stopped, said so that the page takes it for an end whenever it comes.

Gradio answers a Stop twice: to the request, and down the session's stream, where it says that the job is complete with an
output that holds no values. Its page ends the job at the first of the two. Where the second comes later, the page looks for
the values, fails, and shows "Error" over whatever is said by then.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_VALUES = b'"output":{},"success":true'
NOTHING_WRONG = b'"output":{"error":[]},"success":true'  # an error without sentences ends the job in silence


class StoppedJobMiddleware:
    """Changes what streams of sessions say of stopped jobs. Everything else passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on."""

        async def say(message: Message) -> None:
            if b'"process_completed"' in message.get("body", b""):
                message = {**message, "body": message["body"].replace(NO_VALUES, NOTHING_WRONG)}
            await send(message)

        is_stream = scope["type"] == "http" and scope["path"].rstrip("/").endswith("/queue/data")
        await self.app(scope, receive, say if is_stream else send)
