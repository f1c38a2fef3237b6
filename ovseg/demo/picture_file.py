"""A picture that a visitor uploads, as the file that was sent: our own reader opens it, as on the command line."""

import gradio as gr
from gradio.data_classes import ImageData


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
    part.preprocess = path_of  # of this one alone: of a class of our own, Gradio would write a file beside its source
    return part


def path_of(payload: ImageData | None) -> str | None:
    """The path of an uploaded file.

    Raises:
        gr.Error: there is none: the picture came in another way.
    """
    if payload is None:
        return None
    if payload.path is None:
        raise gr.Error("The picture must be an uploaded file, but it came without one.", print_exception=False)
    return payload.path
