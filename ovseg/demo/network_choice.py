"""The choice of a network on the page, where there are several."""

import gradio as gr

from ovseg.models import Models


def network_choice(models: Models, elem_id: str) -> gr.Dropdown:
    """A choice of the board's networks, which begins with the usual one; not there where it is alone."""
    return gr.Dropdown(
        [(own.checkpoint.short_title, own.short_name) for own in models.board], value=models.short_name, label="Network",
        elem_id=elem_id, visible=len(models.board) > 1,
    )  # fmt: skip
