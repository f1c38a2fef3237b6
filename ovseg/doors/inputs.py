"""Reading what programs send: any JSON value in, a checked value or one clear sentence out."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.methods import METHODS, Method, find_method, modes_of
from ovseg.methods.settings import as_text, read_setting
from ovseg.models import Models
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS
from ovseg.scene import decode_image, shrunk
from ovseg.types import named
from ovseg.words.classes import parse_classes

LONGEST_SIDE = 2048  # pixels that may be asked for; a float is kept for every class at every pixel
LONGEST_TEXT = 4000  # letters
LARGEST_SEED = 2**53 - 1  # JSON has no larger whole number that every reader keeps
OF_A_SERVER = {("grounded-diffusion", "module")}  # settings that may name a folder of this machine: names alone are taken


def text(name: str, value: Any, *, needed: bool = False) -> str:
    """A text.

    Raises:
        ValueError: it is none, too long, or blank although it is needed.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, but got {brief(value)}.")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{name} must have {LONGEST_TEXT} letters at most, but got {len(value)}.")
    if needed and not value.strip():
        raise ValueError(f"{name} must say something, but it is empty.")
    return value


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number between two limits, which it may reach.

    Raises:
        ValueError: it is none, or beyond a limit.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value != int(value) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, but got {brief(value)}.")
    return int(value)


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number between two limits, which it may reach.

    Raises:
        ValueError: it is none, or beyond a limit.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}, but got {brief(value)}.")
    return float(value)


def yes_or_no(name: str, value: Any) -> bool:
    """True or false.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, but got {brief(value)}.")
    return value


def classes(value: Any) -> str:
    """Class words as they were typed; blank where a caption shall give them.

    Raises:
        ValueError: they cannot be read.
    """
    words = text("classes", value)
    if words.strip():
        parse_classes(words)
    return words


def captioner(value: Any) -> str:
    """The name of a captioner; empty for the backbone's own.

    Raises:
        ValueError: there is none of this name.
    """
    known = {name: name for name in ("", *CAPTIONERS, *LAVIS_MODELS)}
    return named(known, "captioner", text("captioner", value))


def picture(content: bytes, name: str, longest_side: Any) -> UInt8[np.ndarray, "H W 3"]:
    """A picture file as RGB, shrunk until its longer side fits.

    Args:
        name: how an error's sentence calls the file.

    Raises:
        ValueError: it is no picture, or the limit is none.
    """
    limit = whole("longest_side", longest_side, 16, LONGEST_SIDE)
    return shrunk(decode_image(content, name), limit)


def method(models: Models, name: Any, settings: Any) -> Method:
    """A method with its settings; "mode" among them says where the others come from, as `--mode` does.

    Raises:
        ValueError: there is no such method, mode or setting, or a value is none of the setting.
    """
    kind = find_method(text("method", name))
    given = {} if settings is None else settings
    if not isinstance(given, Mapping):
        raise ValueError(
            f'settings must be an object of names and values, such as {{"threshold": 0.5}}, but got {brief(given)}.'
        )
    usual = named(modes_of(models, kind), f"mode of {kind.title}", text("mode", given.get("mode", "suited")))
    changed = {field: _setting(kind, field, value) for field, value in given.items() if field != "mode"}
    return checked(replace(usual, **changed))


def _setting(kind: type[Method], field: str, value: Any) -> object:
    """A setting's value, given as JSON's own or as text: 0.5, true, [100, 300] or "100,300"."""
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, (str, int, float)) for part in parts):
        raise ValueError(f"{field} must be text, a number, true, false or a list of these, but got {brief(value)}.")
    return read_setting(kind, field, ",".join(as_text(part) for part in parts))


def checked(method: Method) -> Method:
    """The method, if none of its settings names a folder of this machine.

    Raises:
        ValueError: one does.
    """
    for name, field in OF_A_SERVER:
        if method.name == name and any(mark in getattr(method, field) for mark in "/\\~"):
            raise ValueError(f"{field} must be a name and no path here, but got {brief(getattr(method, field))}.")
    return method


def names(value: Any) -> list[str]:
    """Names of methods as `compare` takes them, one or more.

    Raises:
        ValueError: it is no list of texts, or an empty one.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise ValueError(f'methods must be a list of names, such as ["diffsegmenter", "ovdiff"], but got {brief(value)}.')
    if not any(item.strip() for item in value):
        known = ", ".join(kind.name for kind in METHODS)
        raise ValueError(f"methods must name at least one of {known}, but names none.")
    return list(value)


def brief(value: Any) -> str:
    """A value as an error's sentence shows it: as JSON writes it, and not too long."""
    shown = json.dumps(value, ensure_ascii=False, default=repr)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
