"""Reading what programs send: any JSON value in, a checked value out, or ValueError with one clear sentence."""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.compare import Variant, variant_of
from ovseg.doors.visitor_networks import check_captioner, check_networks
from ovseg.limits import check_text, is_unicode, limits, visible
from ovseg.methods import METHODS, Method
from ovseg.methods.grammar import read_method
from ovseg.methods.settings import take_setting
from ovseg.models import Models
from ovseg.pictures import decode_image
from ovseg.words.classes import check_amount, parse_classes

LONGEST_SIDE = 2048  # pixels that may be asked for; a float is kept for every class at every pixel
WRITTEN = re.compile(r"(?:data:image/[\w.+-]+;base64,)?(?P<content>[A-Za-z0-9+/\s]{64,}={0,2}\s*)")
LARGEST_SEED = 2**53 - 1  # JSON has no larger whole number that every reader keeps


def text(name: str, value: Any, *, needed: bool = False) -> str:
    """A text, which must not be blank where it is needed."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, but got {brief(value)}.")
    check_text(name, value)
    value = visible(value)
    if needed and not value.strip():
        raise ValueError(f"{name} must say something, but it is empty.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(name: str, value: Any, least: int = 0, most: int = LARGEST_SEED) -> int:
    """A whole number between two limits, which it may reach; those of a seed if not given."""
    if not _is_number(value) or value != int(value) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, but got {brief(value)}.")
    return int(value)


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number between two limits, which it may reach."""
    if not _is_number(value) or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}, but got {brief(value)}.")
    return float(value)


def steps(value: Any) -> int:
    """Sampling steps of one picture."""
    return whole("steps", value, 1, limits().steps)


def yes_or_no(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, but got {brief(value)}.")
    return value


def classes(value: Any) -> str:
    """Class words as they were typed; blank where a caption shall give them."""
    if not isinstance(value, str):
        raise ValueError(f"classes must be text, but got {brief(value)}.")
    if value.strip():
        check_amount(parse_classes(value))
    return value


def captioner(models: Models, value: Any) -> str:
    """The name of a captioner; empty for the backbone's own."""
    name = text("captioner", value)
    if name:
        check_captioner(models, name)
    return name


def written_file(value: Any) -> bytes | None:
    """The content of a picture file that is written as text, base64 or a data address; None of any other value."""
    match = WRITTEN.fullmatch(value) if isinstance(value, str) else None
    with suppress(binascii.Error):
        return base64.b64decode("".join(match["content"].split()), validate=True) if match else None
    return None


def picture(content: bytes, longest_side: Any) -> UInt8[np.ndarray, "H W 3"]:
    """A picture file as RGB, shrunk until its longer side fits."""
    return decode_image(content, "it", whole("longest_side", longest_side, 16, LONGEST_SIDE))


def method(models: Models, text_of_method: Any, settings: Any) -> Variant:
    """A method with its settings; "mode" among them says where the others come from, as `--mode` does.

    Args:
        text_of_method: its name, or as `ovseg.methods.grammar` writes it: "diffsegmenter:draws=2". Its backbone is one of
            those that the server was started with.
        settings: an object of names and values, which hold where the text has another.
    """
    asked = read_method(text("method", text_of_method))
    given = {} if settings is None else settings
    if not isinstance(given, Mapping):
        raise ValueError(
            f'settings must be an object of names and values, such as {{"threshold": 0.5}}, but got {brief(given)}.'
        )
    mode = text("mode", given.get("mode", asked.mode))
    changed = {field: _setting(asked.kind, field, value) for field, value in given.items() if field != "mode"}
    own = asked.networks(models)
    made = variant_of(own, replace(asked, mode=mode, settings={**asked.settings, **changed}).build(own))
    check_networks(own, made.method)
    return made


def _setting(kind: type[Method], field: str, value: Any) -> object:
    """A setting's value, given as JSON's own or as text: 0.5, true, [100, 300] or "100+300"."""
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, (str, int, float)) for part in parts):
        raise ValueError(f"{field} must be text, a number, true, false or a list of these, but got {brief(value)}.")
    return take_setting(kind, field, value)


def names(value: Any) -> list[str]:
    """Names of methods as `compare` takes them, one or more."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        two = json.dumps([kind.name for kind in METHODS[:2]])
        raise ValueError(f"methods must be a list of names, such as {two}, but got {brief(value)}.")
    if not any(item.strip() for item in value):
        known = ", ".join(kind.name for kind in METHODS)
        raise ValueError(f"methods must name at least one of {known}, but names none.")
    return list(value)


def brief(value: Any) -> str:
    """A value as an error's sentence shows it: as JSON writes it, and not too long."""
    most = limits().quoted_characters
    shown = json.dumps(value[: most + 1] if isinstance(value, str) else value, ensure_ascii=False, default=repr)
    shown = shown if is_unicode(shown) else ascii(shown)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."
