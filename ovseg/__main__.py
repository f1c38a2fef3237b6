"""The command line: `python -m ovseg COMMAND --help`."""

import argparse
import sys
from collections.abc import Sequence

from ovseg.commands import compare, factory, making, measuring, segmenting


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Bad input is one sentence on stderr and exit code 2."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        print(f"ovseg: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ovseg: stopped", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(prog="python -m ovseg", description="See how a diffusion model segments a picture.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for part in (segmenting, compare, measuring, making, factory):
        part.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
