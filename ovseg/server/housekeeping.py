"""What a page that is served does beside answering: it forgets visitors who are gone, and deletes files after their hour."""

import asyncio
import ctypes
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import gradio as gr
from starlette.types import ASGIApp

from ovseg.limits import limits
from ovseg.server.download_folders import delete_old
from ovseg.server.gradio_parts import forget, idle_seconds
from ovseg.server.listeners import Listeners
from ovseg.server.page import Page

OFTEN = 10.0  # seconds between two looks
AFTER_A_REQUEST = 60.0  # seconds for which a session is kept that has no page open, after its last request
AFTER_A_PAGE = 600.0  # after its page was closed, or its line broke


def housekeeping(page: Page) -> Callable[[ASGIApp], AbstractAsyncContextManager[None]]:
    """What a server runs from its start to its end."""

    @asynccontextmanager
    async def running(app: ASGIApp) -> AsyncIterator[None]:
        task = asyncio.create_task(_again_and_again(page))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return running


async def _again_and_again(page: Page) -> None:
    while True:
        await asyncio.sleep(OFTEN)
        if forget_the_gone(page, page.listeners):
            give_memory_back()
        await asyncio.to_thread(delete_old, limits().file_seconds)


def forget_the_gone(page: gr.Blocks, listeners: Listeners) -> int:
    """Drop what is kept of sessions that have no page open and ask for nothing; returns how many.

    Gradio keeps what a session was shown, about two megabytes after a run, until thousands of others have come.
    """
    gone = []
    for session, idle in idle_seconds(page).items():
        page_closed = listeners.seconds_since(f"page {session}")
        kept = AFTER_A_REQUEST if page_closed is None else max(AFTER_A_REQUEST, AFTER_A_PAGE + idle - page_closed)
        if idle > kept and not listeners.is_open(session) and not listeners.is_open(f"page {session}"):
            gone.append(session)
    forget(page, gone)
    return len(gone)


def give_memory_back() -> None:
    """Hand what was freed back to the system: the allocator of Linux keeps it otherwise."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another allocator than glibc's
            ctypes.CDLL("libc.so.6").malloc_trim(0)
