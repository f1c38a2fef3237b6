"""The command line: `python -m ovseg COMMAND --help`, or `ovseg COMMAND --help` where the package is installed."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ovseg.commands import COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, 0 if it has none. Bad input, and a file that cannot be read or
    written, is one sentence on stderr and exit code 2.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser(given[0] if given else "").parse_args(given)
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # whoever read what is printed has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (ValueError, OSError, MemoryError) as error:
        print(f"ovseg: {_sentence_of(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ovseg: stopped", file=sys.stderr)
        return 130


def _sentence_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} could not be read or written: {error.strerror}."
    if isinstance(error, MemoryError):
        return "What was asked for must fit into the memory of this machine, but it does not."
    return str(error)


def build_parser(called: str = "") -> argparse.ArgumentParser:
    """The parser of all commands. Only the command `called` has its options, because they need its imports."""
    installed = Path(sys.argv[0]).name != "__main__.py"
    parser = argparse.ArgumentParser(
        prog="ovseg" if installed else "python -m ovseg", description="See how a diffusion model segments a picture."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, help in COMMANDS.items():
        command = commands.add_parser(name, help=help, description=help)
        if name == called:
            file = import_module(f"ovseg.commands.{name.replace('-', '_')}")
            file.add_options(command)
            command.set_defaults(run=file.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
