"""Settings of a method as text: what a command line or a text box holds, read by the field's type."""

import ast
import typing

from ovseg.methods import Method, check_setting


def read_setting(method: type[Method], name: str, text: str) -> object:
    """The value that `text` means for a field of the method: a number, yes or no, words, or numbers between commas.

    Raises:
        ValueError: the method has no such field, or the text is no such value.
    """
    check_setting(method, name)
    return parse_value(name, typing.get_type_hints(method)[name], text)


def parse_value(name: str, kind: object, text: str) -> object:
    """`text` as a value of the type `kind`: int, float, bool, str, a Literal of words, or a tuple of int, float or str."""
    if kind is str:
        return text
    if kind is bool:
        return _yes_or_no(name, text)
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(typing.get_args(kind))}, but got {text!r}.")
        return text
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if inner is str:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return tuple(_number(name, inner, part) for part in text.strip("() ").split(",") if part.strip())
    return _number(name, kind, text)


def _number(name: str, kind: object, text: str) -> object:
    try:
        value = ast.literal_eval(text.strip())
        if isinstance(value, bool) or kind(value) != value:
            raise ValueError
        return kind(value)
    except (ValueError, TypeError, SyntaxError):
        raise ValueError(f"{name} must be {'a whole number' if kind is int else 'a number'}, but got {text!r}.") from None


def _yes_or_no(name: str, text: str) -> bool:
    answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.strip().lower() not in answers:
        raise ValueError(f"{name} must be true or false, but got {text!r}.")
    return answers[text.strip().lower()]
