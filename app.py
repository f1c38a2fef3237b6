"""The page: `python app.py`, with --mcp also for MCP clients. Also the entry point on Hugging Face Spaces."""

import sys

from ovseg.__main__ import main  # brings no torch
from ovseg.assets import SHIPPED, variable


def before_torch() -> None:
    """What Spaces needs before torch reaches an accelerator."""
    import spaces  # noqa: F401


if __name__ == "__main__":
    sys.exit(main(["serve", "--backbone", variable("OVSEG_BACKBONE") or SHIPPED, *sys.argv[1:]], before_torch))
