"""A page that a process of its own serves, as an owner starts it: to look at it, or to see that it comes up."""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(folder: Path, app: str, environment: Mapping[str, str], seconds: float) -> Iterator[str]:
    """The address of the page that a file in a folder serves, once it answers there; the process ends with the block.

    Raises:
        ValueError: the process has ended, with the last line that it said, or the page does not answer in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        page = subprocess.Popen([sys.executable, app], cwd=folder, env={**environment, **own}, stdout=log, stderr=log)
        try:
            begun, address = time.monotonic(), f"http://127.0.0.1:{port}/"
            while not _answers(address):
                if page.poll() is not None:
                    log.seek(0)
                    said = [line for line in log.read().splitlines() if line.strip()] or ["it said nothing"]
                    raise ValueError(f"The page must start, but it ended with code {page.returncode}: {said[-1]}")
                if time.monotonic() - begun > seconds:
                    raise ValueError(f"The page must answer within {seconds:g} seconds, but it did not.")
                time.sleep(0.5)
            yield address
        finally:
            page.kill()
            page.wait()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}config", timeout=5).read()
        return True
    except OSError:
        return False
