"""Errors as visitors read them: one sentence, without paths of this machine."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
import torch


@contextmanager
def as_sentences() -> Iterator[None]:
    """Show bad input to those who sent it as a sentence, without paths of this machine.

    Raises:
        gr.Error: the block raised ValueError, or the work did not fit into the accelerator's memory.
    """
    try:
        yield
    except ValueError as error:
        raise gr.Error(without_paths(str(error)), print_exception=False) from error
    except torch.OutOfMemoryError as error:
        raise gr.Error(
            "The picture must fit into the memory of this server, but it does not.", print_exception=False
        ) from error


def without_paths(sentence: str) -> str:
    """A sentence with every absolute path in it cut to its last part."""
    return re.sub(r"(?<![\w:/.])/(?:[^\s/'\"]+/)+([^\s/'\"]*)", r"\1", sentence)
