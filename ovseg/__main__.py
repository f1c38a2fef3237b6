"""The command line: `python -m ovseg COMMAND --help`, or `ovseg COMMAND --help` where the package is installed."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from ovseg.assets import homes_of_this_user
from ovseg.commands import COMMANDS


def main(arguments: Sequence[str] | None = None, first: Callable[[], None] = lambda: None) -> int:
    """Run one command; returns its exit code, 0 if it has none. Bad input, and a file that cannot be read or
    written, is one sentence on stderr and exit code 2.

    Args:
        first: is called before anything else is imported.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show is no reason to stop
    warnings.formatwarning = _as_note
    try:
        for note in homes_of_this_user():
            print(f"ovseg: {note}", file=sys.stderr)
        first()
        options = build_parser(given[0] if given else "").parse_args(given)
        return options.run(options) or 0
    except BrokenPipeError:  # whoever read what is printed has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (ValueError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"ovseg: {_sentence_of(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ovseg: stopped", file=sys.stderr)
        return 130


def _as_note(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning of this package in one line; those of others with their place."""
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parent):
        return f"ovseg: note: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _sentence_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} could not be read or written: {error.strerror}."
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the package {error.name} must be installed for {sys.executable}, but is not: `pip install -r requirements.txt`"
            " there, or call the Python of the environment that has it, such as .venv/bin/python."
        )
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
