"""Settings of a method as text: reading a value that was typed, and describing every setting."""

import ast
import math
import typing
from dataclasses import dataclass, fields

from ovseg.limits import check_count, check_number, check_text, limits, quoted
from ovseg.methods import Method, check_setting

_KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}
LONGEST_NUMBER = 40  # letters


@dataclass(frozen=True)
class Setting:
    """One setting of a method, in words.

    Args:
        kind: what a value looks like, such as "whole number".
        released: the value of the mode "released", as `read_setting` reads it.
        suited: the value that suits the backbone.
        limits: such as "1 to 16"; empty where the kind has none.
        label: its name on the page.
        group: "main" for the settings that most people change, "more" for the others.
    """

    name: str
    kind: str
    released: str
    suited: str
    limits: str
    help: str
    label: str
    group: str


def settings_of(kind: type[Method], suited: Method) -> tuple[Setting, ...]:
    """Every setting of a method, in the order of its fields.

    Args:
        suited: the method with the settings that suit the backbone.
    """
    types, released = typing.get_type_hints(kind), kind.as_released()
    return tuple(
        Setting(
            field.name,
            kind_of(types[field.name]),
            as_text(getattr(released, field.name)),
            as_text(getattr(suited, field.name)),
            f"{field.metadata['low']:g} to {field.metadata['high']:g}" if types[field.name] in (int, float) else "",
            field.metadata["help"],
            field.metadata["label"],
            field.metadata["group"],
        )
        for field in fields(kind)
    )


def kind_of(kind: object) -> str:
    """A field's type in words: "whole number", "one of all, mean", "whole numbers with commas between them"."""
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return ("words" if inner is str else f"{_KINDS[inner]}s") + " with commas between them"
    return _KINDS[kind]


def as_text(value: object) -> str:
    """A value as `read_setting` reads it: "100", "true", "1.0,0.0,0.0"."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def read_setting(method: type[Method], name: str, text: str) -> object:
    """The value that `text` means for a field of the method.

    Raises:
        ValueError: the method has no such field, or the text is not a value of the field's type, or out of its range.
    """
    check_setting(method, name)
    value = parse_value(name, typing.get_type_hints(method)[name], text)
    check_value(method, name, value)
    return value


def check_value(method: type[Method], name: str, value: object) -> None:
    """Pass if a value of a field's type is in the field's range, and no longer than a setting may be.

    Raises:
        ValueError: it is not.
    """
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
        check_count(f"The letters of {name}", len(text), limits().text_letters)
        inner = typing.get_args(kind)[0]
        if inner is str:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return tuple(_number(name, inner, part) for part in text.strip("() ").split(",") if part.strip())
    return _number(name, kind, text)


def _number(name: str, kind: object, text: str) -> object:
    try:
        value = ast.literal_eval(text.strip()) if len(text) <= LONGEST_NUMBER else None
        if isinstance(value, bool) or not math.isfinite(value) or kind(value) != value:
            raise ValueError
        return kind(value)
    except (ValueError, TypeError, SyntaxError):
        raise ValueError(
            f"{name} must be {'a whole number' if kind is int else 'a number'}, but got {quoted(text)}."
        ) from None


def _yes_or_no(name: str, text: str) -> bool:
    answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.strip().lower() not in answers:
        raise ValueError(f"{name} must be true or false, but got {quoted(text)}.")
    return answers[text.strip().lower()]
