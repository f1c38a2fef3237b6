"""Settings of a method as text: a value as it is written and read, and what kind of value it is.

A value is "100", "true" or "a photo of {}"; values of a list stand between plus signs, "100+300", and are also read between
commas. Quotation marks around a value, `"text, low quality"`, keep it together where a comma or a colon would end it; one
within is doubled. `ovseg.methods.grammar` says how settings and methods are written with them.
"""

import ast
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import Field, fields
from functools import cache

from ovseg.limits import check_count, check_number, check_text, limits, quoted
from ovseg.methods import Method, check_setting

_KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}
LONGEST_NUMBER = 40  # characters
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')


@cache
def types_of(kind: type[Method]) -> Mapping[str, object]:
    """The types of a method's fields by their names, read once: a page reads every setting at each run."""
    return typing.get_type_hints(kind)


def kind_of(kind: object) -> str:
    """A field's type in words: "whole number", "one of all, mean", "whole numbers with plus signs between them"."""
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return ("words" if inner is str else f"{_KINDS[inner]}s") + " with plus signs between them"
    return _KINDS[kind]


def label_of(field: Field) -> str:
    """What people call a setting: its label, or its name in words."""
    return str(field.metadata.get("label") or field.name.replace("_", " "))


def as_text(value: object, between: str = "+") -> str:
    """A value as `read_setting` reads it: `100`, `true`, `1.0+0.0+0.0`, `"text, low quality"`.

    Args:
        between: what stands between the values of a list: a plus sign or a comma.
    """
    if isinstance(value, tuple):
        return between.join(map(as_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).replace("e+", "e")  # a plus sign would begin another value of a list
    text = str(value)
    return text if text and text == text.strip() and not set(text) & set(':,+"') else '"' + text.replace('"', '""') + '"'


def split(text: str, separators: str) -> list[str]:
    """The parts of a text between any of some characters, but for those within quotation marks.

    Raises:
        ValueError: a quotation mark has no other.
    """
    parts, begun, within = [], 0, False
    for place, character in enumerate(text):
        if character == '"':
            within = not within
        elif character in separators and not within:
            parts.append(text[begun:place])
            begun = place + 1
    if within:
        raise ValueError(f"Quotation marks must come in pairs, but got {quoted(text)}.")
    return [*parts, text[begun:]]


def unquoted(text: str) -> str:
    """A text without the quotation marks around it, if it has them."""
    found = _QUOTED.fullmatch(text)
    return found[1].replace('""', '"') if found else text


def read_setting(method: type[Method], name: str, text: str) -> object:
    """The value that `text` means for a field of the method, as `as_text` writes it.

    Raises:
        ValueError: the method has no such field, or the text is not a value of the field's type, or out of its range.
    """
    check_setting(method, name)
    kind = types_of(method)[name]
    return take_setting(method, name, text if typing.get_origin(kind) is tuple else unquoted(text))


def take_setting(method: type[Method], name: str, given: object) -> object:
    """The value of a field that a control or JSON holds: 0.5, true, [100, 300], or text, as it is or as "100+300".

    Raises:
        ValueError: the method has no such field, or it is not a value of the field's type, or out of its range.
    """
    check_setting(method, name)
    value = _taken(name, types_of(method)[name], given)
    check_value(method, name, value)
    return value


def _taken(name: str, kind: object, given: object) -> object:
    if given is None:
        raise ValueError(f"{name} must have a value, but it is empty.")
    if isinstance(given, str):
        return parse_value(name, kind, given)
    if typing.get_origin(kind) is tuple:
        parts = given if isinstance(given, (list, tuple)) else [given]
        return tuple(_taken(name, typing.get_args(kind)[0], part) for part in parts)
    if kind in (int, float):
        return _number(name, kind, given)
    if kind is not bool or not isinstance(given, bool):
        raise ValueError(f"{name} must be {'true or false' if kind is bool else 'text'}, but got {quoted(given)}.")
    return given


def check_value(method: type[Method], name: str, value: object) -> None:
    """Raise ValueError unless a value of a field's type is in the field's range, and no longer than a setting may be."""
    (about,) = (field.metadata for field in fields(method) if field.name == name)
    parts = value if isinstance(value, tuple) else (value,)
    check_count(f"The values of {name}", len(parts), limits().list_values)
    for part in parts:
        if isinstance(part, str):
            check_text(name, part)
        elif not isinstance(part, bool):
            check_number(name, part, about["low"], about["high"])


def parse_value(name: str, kind: object, text: str) -> object:
    """`text` as a value of the type `kind`: int, float, bool, str, a Literal of words, or a tuple of int, float or str.

    Raises:
        ValueError: the text is not such a value; the sentence calls it `name`.
    """
    if kind is str:
        return text
    if kind is bool:
        return _yes_or_no(name, text)
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(typing.get_args(kind))}, but got {quoted(text)}.")
        return text
    if typing.get_origin(kind) is tuple:
        check_count(f"The characters of {name}", len(text), limits().text_characters)
        inner = typing.get_args(kind)[0]
        parts = (part.strip() for part in split(text if inner is str else text.strip("() "), ",+"))
        return tuple(parse_value(name, inner, unquoted(part)) for part in parts if part)
    return _number(name, kind, text)


def _number(name: str, kind: object, given: object) -> object:
    try:
        value = given
        if isinstance(given, str):
            value = ast.literal_eval(given.strip()) if len(given) <= LONGEST_NUMBER else None
        if isinstance(value, bool) or not math.isfinite(value) or kind(value) != value:
            raise ValueError
        return kind(value)
    except (ValueError, TypeError, SyntaxError, OverflowError):
        raise ValueError(
            f"{name} must be {'a whole number' if kind is int else 'a number'}, but got {quoted(given)}."
        ) from None


def _yes_or_no(name: str, text: str) -> bool:
    answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.strip().lower() not in answers:
        raise ValueError(f"{name} must be true or false, but got {quoted(text)}.")
    return answers[text.strip().lower()]
