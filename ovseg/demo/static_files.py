"""The page's HTML, CSS and JavaScript: files in `static/`, read when the page is built."""

import re
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "static"


def static(*names: str) -> str:
    """The text of files in `static/`, one after the other."""
    return "".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


def script_of(names: Sequence[str]) -> str:
    """Files of JavaScript as one script: they are modules for linters, and gr.HTML takes the body of a function.

    Args:
        names: without their ending; what uses a name comes after what defines it.
    """
    alone = [re.sub(r"^import\b[^;]*;\n", "", static(f"{name}.js"), flags=re.MULTILINE) for name in names]
    return "\n".join(re.sub(r"^export ", "", text, flags=re.MULTILINE) for text in alone)
