"""Which network of several an event uses: its choice on the page, and the networks of what was chosen."""

import gradio as gr

from ovseg.models import Models
from ovseg.server.sentences import as_sentences


def network_choice(models: Models, elem_id: str) -> gr.Dropdown:
    """A choice of the board's networks, which begins with the usual one; not there where it is alone."""
    return gr.Dropdown(
        [(own.checkpoint.short_title, own.short_name) for own in models.board], value=models.short_name, label="Network",
        elem_id=elem_id, visible=len(models.board) > 1,
    )  # fmt: skip


def network_of(models: Models, chosen: str) -> Models:
    """The networks of what was chosen.

    Raises:
        gr.Error: it is none of the board's.
    """
    with as_sentences():
        return models.beside(chosen)
