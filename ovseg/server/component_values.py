"""Whether the values that a browser or a program sends are ones that the parts of the page can hold, in sentences.

The page itself sends no others. Gradio answers most of what is wrong with an error that says nothing.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from ovseg.doors.inputs import brief
from ovseg.limits import is_unicode
from ovseg.server.gradio_parts import Block

LISTED = "a list of its choices"


def checked_values(parts: Sequence[Block], values: Sequence[Any]) -> list[Any]:
    """The values, where each is there and one that its part of the page can hold; raises ValueError where one is not.

    Nothing in place of a text is the empty text.
    """
    if len(values) < len(parts):
        raise ValueError(f"The page sends {len(parts)} values here, but got {len(values)}.")
    check_characters(values)
    for part, value in zip(parts, values, strict=False):
        if isinstance(part, Component) and not isinstance(part, gr.State):
            check_value(part, value)
    texts = {number for number, part in enumerate(parts) if isinstance(part, gr.Textbox)}
    return ["" if value is None and number in texts else value for number, value in enumerate(values)]


def check_characters(value: Any) -> None:
    """Pass if all texts in a value of JSON can be written; raises ValueError where one holds a surrogate."""
    for item in leaves(value):
        if isinstance(item, str) and not is_unicode(item):
            raise ValueError(f"Texts must be characters that can be written, but one holds a surrogate: {brief(item)}.")


def leaves(value: Any) -> Iterator[Any]:
    """All texts, numbers and the like in a value of JSON, names among them."""
    rest = [value]
    while rest:  # no recursion: what is sent may be deep
        item = rest.pop()
        if isinstance(item, dict):
            rest += [*item, *item.values()]
        elif isinstance(item, (list, tuple)):
            rest += item
        else:
            yield item


def check_value(part: Component, value: Any) -> None:
    """Pass if a value is one that a part of the page can hold; raises ValueError where it is not."""
    wanted = _wanted(part, value)
    if wanted:
        name = getattr(part, "label", None) or part.elem_id or type(part).__name__
        raise ValueError(f"{name} must be {wanted}, but got {brief(value)}.")


def _wanted(part: Component, value: Any) -> str:
    """What a part needs where the value is something else; empty where the value fits."""
    match part:
        case gr.Slider() | gr.Number():
            return _wanted_number(part, value)
        case gr.Checkbox():
            return "" if isinstance(value, bool) else "true or false"
        case gr.CheckboxGroup():
            return "" if isinstance(value, list) and all(_is_choice(part, item) for item in value) else LISTED
        case gr.Dropdown(multiselect=True):
            free = part.allow_custom_value
            chosen = [] if value is None else value
            fits = isinstance(chosen, list) and all(_is_choice(part, x) or (free and isinstance(x, str)) for x in chosen)
            return "" if fits else LISTED
        case gr.Radio() | gr.Dropdown():
            may_be_empty = value is None and part.value is None
            return "" if may_be_empty or _is_choice(part, value) else "one of its choices"
        case gr.Textbox():
            return "" if value is None or isinstance(value, (str, int, float)) else "text"
        case gr.Image():
            return "" if value is None or _is_file(value) else "an uploaded file"
        case gr.File():  # a browser sends one file also as a list of one
            files = value if isinstance(value, list) else [value]
            return "" if value is None or (len(files) == 1 and _is_file(files[0])) else "an uploaded file"
        case gr.BrowserState():
            return "" if value is None or isinstance(value, str) else "text"
    return ""


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("path"), str)


def _wanted_number(part: gr.Slider | gr.Number, value: Any) -> str:
    if value is None and not isinstance(part, gr.Slider):
        return ""  # an empty field, which the event itself refuses by its own sentence
    low, high = (limit if limit is not None else sign * math.inf for limit, sign in ((part.minimum, -1), (part.maximum, 1)))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    if is_number and low <= value <= high:
        return ""
    return "a number" + (f" from {low:g} to {high:g}" if math.isfinite(high) else f", {low:g} or more" * math.isfinite(low))


def _is_choice(part: gr.Radio | gr.Dropdown | gr.CheckboxGroup, value: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for _, choice in part.choices)
