"""Files that visitors and programs send: only what was uploaded here is read, and pictures by our own reader alone."""

from typing import Any

import gradio as gr

from ovseg.doors.inputs import brief, written_file
from ovseg.limits import limits
from ovseg.server.gradio_parts import ImageData, file_of, own_file, path_of, read_by, upload_folder


def sent_file(given: Any) -> bytes:
    """The content of the file that a program sent: a dictionary by which Gradio describes it, its address on this server, or
    all of it as text.

    Raises:
        ValueError: it is none that was uploaded here, or too large.
    """
    path = file_of(given) or (own_file(given) if isinstance(given, str) else None)
    if path is None or not path.resolve().is_relative_to(upload_folder().resolve()) or not path.is_file():
        content = written_file(given)
        if content is None:
            raise ValueError(
                "picture must be an uploaded file (with gradio_client: handle_file(path or address)), base64, or"
                f' {{"path": ADDRESS, "meta": {{"_type": "gradio.FileData"}}}}, but got {brief(given)}.'
            )
        return content
    if path.stat().st_size > limits().upload_bytes:  # what a web address gave is no upload, and Gradio does not look
        raise ValueError(f"The picture must have {limits().upload_bytes} bytes at most, but has {path.stat().st_size}.")
    return path.read_bytes()


def picture_upload(elem_id: str, height: int) -> gr.Image:
    """Gradio's picture component, which gives events the path of the file as it came.

    Gradio itself would open the picture first: what it cannot open would be an error without a sentence, and of greys of 16
    bits, transparency and animations it would make other pictures.
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
