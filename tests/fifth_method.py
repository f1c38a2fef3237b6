"""The method that docs/architecture.md shows, put beside the others at run time.

It must join before a module lists the methods: `conftest` lets it, where the environment says so.
"""

import importlib
import os
import re
import sys
from pathlib import Path

import pytest

DOCUMENTED = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
READ_ANEW = ("ovseg", "tests", "beartype", "jaxtyping")  # the last two keep the package's types
VARIABLE = "FIFTH_METHOD"  # of the environment: the folder that holds the method's own


def write(folder: Path) -> str:
    """Write the documented method into a folder of its own; the name of that folder."""
    text = DOCUMENTED.read_text(encoding="utf-8")
    (name,), (code,) = (
        re.findall(pattern, text, re.DOTALL) for pattern in (r"methods/(\w+)/__init__\.py", r"```python\n(.*?)```")
    )
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code, encoding="utf-8")
    return name


def join() -> None:
    """Put the method of the folder that the environment names beside the others; nothing where it names none."""
    if folder := os.environ.get(VARIABLE):
        room = importlib.import_module("ovseg.methods")
        room.__path__.append(folder)
        (place,) = Path(folder).iterdir()
        module = importlib.import_module(f"ovseg.methods.{place.name}")
        own = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
        room.METHODS = (*room.METHODS, next(kind for kind in own if issubclass(kind, room.Method)))


def tested(folder: Path, arguments: list[str], output: Path) -> int:
    """The exit code of pytest in a forked process, which reads the package and its tests anew and has the libraries."""
    from tests.forked import FORK  # imports gradio, which the package must not find imported already

    def run() -> None:
        os.environ[VARIABLE] = str(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] in READ_ANEW]:
            del sys.modules[name]
        with output.open("w") as file:
            sys.stdout = sys.stderr = file
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            code = pytest.main(arguments)
            file.flush()
        os._exit(code)

    process = FORK.Process(target=run)
    process.start()
    process.join()
    return process.exitcode
