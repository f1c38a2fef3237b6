"""Putting the page together, and serving it."""

import os

import gradio as gr

from ovseg.demo import words
from ovseg.demo.dataset_tab import build_dataset_tab
from ovseg.demo.segment_tab import build_segment_tab
from ovseg.models import Models

TITLE = "ovseg: how a text-to-image diffusion model segments a picture"
STYLE = ".gradio-container { max-width: 1400px !important; margin: auto; } .ov-status { min-height: 44px; }" + words.STYLE


def build(models: Models) -> gr.Blocks:
    """The page. Loads no weight and opens no port."""
    with gr.Blocks(title=TITLE, delete_cache=(3600, 86400)) as page:  # seconds between looks, and of age
        gr.Markdown(
            f"# See how a diffusion model segments a picture\n**{models.checkpoint.title}.** {models.checkpoint.knows}",
            elem_id="about",
        )
        with gr.Tab("Segment"):
            build_segment_tab(models)
        with gr.Tab("Data set"):
            build_dataset_tab(models)
    page.queue(default_concurrency_limit=8)
    return page


def launch(models: Models, host: str, port: int) -> None:
    """Serve the page until it is stopped."""
    if os.environ.get("SPACES_ZERO_GPU"):
        # There, a call runs in a fork of this process: what it loads would be lost, so weights are loaded before.
        _ = models.backbone
    build(models).launch(
        server_name=host,
        server_port=port,
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"]),
        css=STYLE,
        ssr_mode=False,
    )
