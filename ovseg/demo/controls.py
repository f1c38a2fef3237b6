"""Controls of the page, made from a method's fields."""

import typing
from dataclasses import Field, fields

import gradio as gr
from gradio.components import Component

from ovseg.methods import Method, find_method
from ovseg.methods.settings import parse_value

LIVE = ("threshold",)  # turned beside the picture, after the run


def method_controls(method: type[Method], suited: Method) -> list[Component]:
    """One control per field, in order, at the values that suit the backbone; `LIVE` fields have theirs elsewhere."""
    types, shown = typing.get_type_hints(method), control_values(suited)
    return [
        _control(f, types[f.name], value, f"knob-{method.name}-{f.name}")
        for f, value in zip(_turned(method), shown, strict=True)
    ]


def control_values(method: Method) -> list[object]:
    """What the controls of a method show: numbers, yes and no and choices as they are, anything else as text."""
    values = [getattr(method, f.name) for f in _turned(type(method))]
    return [", ".join(map(str, value)) if isinstance(value, tuple) else value for value in values]


def settings_from(method: type[Method], values: typing.Sequence[object]) -> dict[str, object]:
    """The values of `method_controls` as the method's settings; text is read by its field's type.

    Raises:
        ValueError: a text is no value of its field.
    """
    types = typing.get_type_hints(method)
    return {f.name: _read(f.name, types[f.name], value) for f, value in zip(_turned(method), values, strict=True)}


def pick_method(
    methods: typing.Sequence[type[Method]], name: str, values: typing.Sequence[object]
) -> tuple[type[Method], typing.Sequence[object]]:
    """The method called `name` and its part of `values`, which hold the controls of all methods one after the other.

    Raises:
        ValueError: no method is called so.
    """
    kind = find_method(name)
    start = sum(len(_turned(method)) for method in methods[: methods.index(kind)])
    return kind, values[start : start + len(_turned(kind))]


def grey_out(elem_id: str, values: typing.Sequence[str]) -> None:
    """Let some choices of the radio `elem_id` be seen and not be chosen."""
    if values:
        chosen = ", ".join(f'#{elem_id} label:has(input[value="{value}"])' for value in values)
        gr.HTML(f"<style>{chosen} {{ opacity: .45; pointer-events: none; }}</style>", padding=False)


def _turned(method: type[Method]) -> list[Field]:
    """The fields that have a control among a method's settings."""
    return [field for field in fields(method) if field.name not in LIVE]


def _read(name: str, kind: object, value: object) -> object:
    if isinstance(value, str):
        return parse_value(name, kind, value)
    if value is None:
        raise ValueError(f"{name} must have a value, but it is empty.")
    return kind(value) if kind in (int, float) else value


def _control(field: Field, kind: object, value: object, elem_id: str) -> Component:
    label, note = field.name.replace("_", " "), field.metadata.get("help", "")
    if kind is bool:
        return gr.Checkbox(value, label=label, info=note, elem_id=elem_id)
    if kind in (int, float):
        step = field.metadata["step"] or (1 if kind is int else 0.01)
        return gr.Slider(
            field.metadata["low"], field.metadata["high"], value, step=step, label=label, info=note, elem_id=elem_id
        )
    if typing.get_origin(kind) is typing.Literal:
        return gr.Dropdown(list(typing.get_args(kind)), value=value, label=label, info=note, elem_id=elem_id)
    return gr.Textbox(value, label=label, info=note, elem_id=elem_id)
