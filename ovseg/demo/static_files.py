"""The page's HTML, CSS and JavaScript: files in `static/`, read when the page is built."""

from pathlib import Path

FOLDER = Path(__file__).parent / "static"


def static(name: str) -> str:
    """The text of a file in `static/`."""
    return (FOLDER / name).read_text(encoding="utf-8")
