"""Files that visitors and programs send: only what was uploaded here is read, and pictures by our own reader alone."""

from pathlib import Path
from typing import Any

import gradio as gr

from ovseg.doors.inputs import brief
from ovseg.limits import limits
from ovseg.server.gradio_parts import ImageData, file_of, path_of, read_by, upload_folder


def uploaded_file(given: Any) -> Path:
    """The file that a program sent, as Gradio describes it by a dictionary.

    Raises:
        ValueError: it is none that was uploaded here, or too large.
    """
    path = file_of(given)
    if path is None or not path.resolve().is_relative_to(upload_folder().resolve()) or not path.is_file():
        raise ValueError(
            f"picture must be an uploaded file (with gradio_client: handle_file(path or address)), but got {brief(given)}."
        )
    if path.stat().st_size > limits().upload_bytes:  # what a web address gave is no upload, and Gradio does not look
        raise ValueError(f"The picture must have {limits().upload_bytes} bytes at most, but has {path.stat().st_size}.")
    return path.resolve()


def picture_upload(elem_id: str, height: int) -> gr.Image:
    """Gradio's picture component, which gives events the path of the file as it came.

    Gradio itself would open the picture first: what it cannot open would be an error without a sentence, and of greys of 16
    bits, transparency and animations it would make other pictures.

    Args:
        height: pixels.
    """
    part = gr.Image(
        label="Picture", type="filepath", format="png", sources=["upload", "clipboard"], elem_id=elem_id, height=height
    )
    return read_by(part, sent_picture)


def sent_picture(payload: ImageData | None) -> str | None:
    """The path of a picture that a visitor sent.

    Raises:
        gr.Error: there is none: the picture came in another way.
    """
    if payload is None:
        return None
    path = path_of(payload)
    if path is None:
        raise gr.Error("The picture must be an uploaded file, but it came without one.", print_exception=False)
    return path
