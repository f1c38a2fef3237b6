"""The method that docs/architecture.md shows, put beside the others at run time.

It must join before a module lists the methods: `conftest` lets it, where the environment says so.
"""

import importlib
import os
import re
from pathlib import Path

DOCUMENTED = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
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
