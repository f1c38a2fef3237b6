"""A method's settings as the page's dialogue describes them, made from its dataclass fields."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields

from ovseg.methods import Method
from ovseg.methods.settings import as_text, label_of, take_setting, types_of


def control_of(method: type[Method], field: Field, choices: Sequence[str] | None = None) -> dict:
    """What the browser makes a control of: the setting's name, label, help, kind ("switch", "number", "choice" or "text"),
    range and choices, and whether it stands among the main ones.

    Args:
        choices: the texts that may be chosen; any text if not given.
    """
    kind, about = types_of(method)[field.name], field.metadata
    made = {"name": field.name, "label": label_of(field), "help": about["help"], "main": about["group"] == "main"}
    if kind is bool:
        return made | {"kind": "switch"}
    if kind in (int, float):
        step = about["step"] or (1 if kind is int else 0.01)
        return made | {"kind": "number", "low": about["low"], "high": about["high"], "step": step}
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
    if choices is None:
        return made | {"kind": "text"}
    return made | {"kind": "choice", "choices": [[name or "the backbone's own", name] for name in choices]}


def values_of(method: Method) -> dict[str, object]:
    """A method's settings as controls show them: a list as text, anything else as it is."""
    values = {field.name: getattr(method, field.name) for field in fields(method)}
    return {name: as_text(value, ", ") if isinstance(value, tuple) else value for name, value in values.items()}


def read_controls(method: type[Method], values: Mapping[str, object]) -> dict[str, object]:
    """The values of controls as the method's settings; text is read by its field's type."""
    return {name: take_setting(method, name, value) for name, value in values.items()}
