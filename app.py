"""The page: `python app.py`, with --mcp also for MCP clients. Also the entry point on Hugging Face Spaces."""

import os
import sys

import spaces  # noqa: F401  before torch reaches an accelerator, as Spaces needs it

from ovseg.assets import variable
from ovseg.demo import launch
from ovseg.models import Models

if __name__ == "__main__":
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    if not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        sys.exit(f"The variable GRADIO_SERVER_PORT must be from 0 to 65535, but is {port[:80]!r}.")
    launch(
        Models(variable("OVSEG_BACKBONE") or "pocket"),
        host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        port=int(port),
        mcp="--mcp" in sys.argv[1:],
    )
