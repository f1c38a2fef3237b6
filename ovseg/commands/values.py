"""What options may hold, checked while the command line is read, before anything is loaded.

Each reader raises ArgumentTypeError where a text holds something else.
"""

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from ovseg.files import check_folder

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`, both included."""
    return lambda text: _within(_read(int, text, "a whole number"), low, high)


def number(low: float, high: float | None = None) -> Callable[[str], float]:
    """A reader of finite numbers from `low` to `high`, both included."""
    return lambda text: _within(_read(float, text, "a number"), low, high)


def more_than_nothing(text: str) -> float:
    """A finite number above 0."""
    value = _read(float, text, "a number")
    if value <= 0:
        raise ArgumentTypeError(f"it must be more than 0, but got {value}.")
    return value


seed = whole(0, 2**62)
"""A reader of the seed of random numbers."""


def of_name(text: str) -> tuple[str, float]:
    """A name and its number, of NAME=NUMBER."""
    name, _, value = text.rpartition("=")
    try:
        return name.strip(), number(-math.inf)(value)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"it must be NAME=NUMBER, but got {text[:80]!r}.") from None


def out_folder(text: str) -> Path:
    """A folder that files can be written to; it need not be there yet."""
    try:
        return check_folder(Path(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def out_picture(text: str) -> Path:
    """A picture file that can be written; it need not be there yet."""
    path = Path(text)
    if path.suffix.lower() not in PICTURE_ENDINGS:
        raise ArgumentTypeError(f"it must be a picture file ({', '.join(PICTURE_ENDINGS)}), but got {text}.")
    out_folder(str(path.parent))
    if path.is_dir():
        raise ArgumentTypeError(f"it must be a file, but {text} is a folder.")
    return path


def _read(kind: type, text: str, what: str) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"it must be {what}, but got {text[:80]!r}.")
    return value


def _within(value: int | float, low: float, high: float | None) -> int | float:
    if value < low or (high is not None and value > high):
        limits = f"{low} or more" if high is None else f"from {low} to {high}"
        raise ArgumentTypeError(f"it must be {limits}, but got {value}.")
    return value
