"""`serve`: the web page."""

import argparse

from ovseg.commands.common import add_networks, models_of
from ovseg.commands.values import whole


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `serve`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)")
    parser.add_argument("--port", type=whole(0, 65535), default=7860, help="(default: 7860)")
    parser.add_argument(
        "--mcp", action="store_true", help="also serve segment, compare, caption and generate to MCP clients"
    )
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Serve the page until it is stopped."""
    from ovseg.demo import launch  # here, because `serve --help` does not need gradio

    launch(models_of(options), options.host, options.port, mcp=options.mcp)
