"""The page: `python app.py`, with --mcp also for MCP clients. Also the entry point on Hugging Face Spaces."""

import os
import sys

import spaces  # noqa: F401  before torch reaches an accelerator, as Spaces needs it

from ovseg.assets import variable
from ovseg.demo import launch
from ovseg.models import Models

if __name__ == "__main__":
    launch(
        Models(variable("OVSEG_BACKBONE") or "pocket"),
        host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        mcp="--mcp" in sys.argv[1:],
    )
