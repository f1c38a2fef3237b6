"""Controls of a method's settings, made from its dataclass fields."""

import typing
from collections.abc import Sequence
from dataclasses import Field, fields

import gradio as gr
from gradio.components import Component

from ovseg.methods import Method
from ovseg.methods.settings import as_text, label_of, take_setting


def fields_of(method: type[Method], main: bool) -> list[Field]:
    """The settings that most people turn (`main`), or the rest."""
    return [field for field in fields(method) if (field.metadata.get("group", "main") == "main") == main]


def build_control(method: type[Method], field: Field, value: object, choices: Sequence[str] | None = None) -> Component:
    """A control for one field, with the field's label, help and range.

    Args:
        choices: the texts that may be chosen; any text if not given.
    """
    kind = typing.get_type_hints(method)[field.name]
    elem_id = f"setting-{method.name}-{field.name}"
    shared = {"label": label_of(field), "info": field.metadata.get("help", ""), "elem_id": elem_id}
    if kind is bool:
        return gr.Checkbox(value, **shared)
    if kind in (int, float):
        step = field.metadata["step"] or (1 if kind is int else 0.01)
        return gr.Slider(field.metadata["low"], field.metadata["high"], value, step=step, **shared)
    if typing.get_origin(kind) is typing.Literal:
        return gr.Dropdown(list(typing.get_args(kind)), value=value, **shared)
    if choices is not None:
        named = [(name or "the backbone's own", name) for name in choices]
        return gr.Dropdown(named, value=value if value in choices else None, **shared)
    return gr.Textbox(shown(value), **shared)


def shown(value: object) -> object:
    """A setting's value as its control shows it: a list as text, anything else as it is."""
    return as_text(value, ", ") if isinstance(value, tuple) else value


def read_controls(method: type[Method], names: Sequence[str], values: Sequence[object]) -> dict[str, object]:
    """The values of controls as the method's settings; text is read by its field's type.

    Raises:
        ValueError: a value is none of its field, or out of its range, or a control is empty.
    """
    return {name: take_setting(method, name, value) for name, value in zip(names, values, strict=True)}
