"""The left side of Look inside: the picture, the sentence, and what is gathered."""

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ovseg.attention import Attention, Inspection
from ovseg.attention.plan import NOISE_LEVELS, parse_levels
from ovseg.backbones.base import Sampling
from ovseg.demo.board import data_url
from ovseg.demo.network_choice import network_choice
from ovseg.demo.picture import EXAMPLES, Picture, example_names
from ovseg.demo.work import whole
from ovseg.doors import inputs
from ovseg.doors.requests import MOST_GUIDANCE
from ovseg.models import Models
from ovseg.pictures import shrunk
from ovseg.server.session_memory import most_memory
from ovseg.server.uploaded_files import picture_upload
from ovseg.words.classes import indefinite, parse_classes

SHOWN_SIDE = 320  # pixels of the chosen picture on the left
NOT_YET = "There must be maps first, but nothing was looked at yet: press Look."
SOURCES = {"From Compare": "compare", "Upload": "upload", "Example": "example", "Draw": "draw"}
SMALL_WORDS = frozenset(
    {"a", "an", "the", "of", "photo", "photograph", "picture", "image", "good", "and", "on", "in", "two"}
)
KEEP = {"at every level": "every", "at the middle one": "middle", "nowhere": "none"}


def looked_at(looked: Any, level: int | None) -> tuple[Attention, int]:
    """What a session looked at, and one of its levels.

    Raises:
        ValueError: nothing was looked at yet, or there is no such level.
    """
    if looked is None:
        raise ValueError(NOT_YET)
    attention = looked.inside.attention
    if level is None or not 0 <= int(level) < len(attention.timesteps):
        raise ValueError(f"The level must be one of those that were looked at, but got {level}.")
    return attention, int(level)


@dataclass(frozen=True)
class Wish:
    """What a visitor chose, as the controls have it, in the order of `InsidePanel.inputs`."""

    compared: Picture | None
    source: str
    uploaded: Picture | None
    example: Picture | None
    sentence: str
    noise: str
    keep: str
    seed: float | None
    steps: float | None
    guidance: float | None
    network: str = ""

    @property
    def draws(self) -> bool:
        """Whether a picture is drawn."""
        return self.source == "draw"

    def inspection(self) -> Inspection:
        """What is asked of the network.

        Raises:
            ValueError: the sentence is empty or too long.
        """
        sentence = inputs.text("The sentence", self.sentence or "").strip()
        return Inspection(sentence, KEEP.get(self.keep, self.keep), most_memory(), words_later=True)

    def image(self) -> np.ndarray:
        """The chosen picture (H, W, 3).

        Raises:
            ValueError: there is none yet.
        """
        picture = {"compare": self.compared, "upload": self.uploaded, "example": self.example}[self.source]
        if picture is None:
            raise ValueError("A picture must be chosen first: that of the tab Compare, an upload, an example or a drawing.")
        return picture.image

    def levels(self) -> tuple[int, ...]:
        """The noise levels.

        Raises:
            ValueError: they cannot be read.
        """
        return parse_levels(self.noise or "")

    def seed_number(self) -> int:
        """The seed.

        Raises:
            ValueError: it is no whole number.
        """
        return whole("The seed", self.seed)

    def sampling(self, models: Models) -> Sampling:
        """How the picture is drawn.

        Raises:
            ValueError: the steps are no whole number, or the guidance is no number.
        """
        guidance = inputs.number("The guidance", self.guidance, 0, MOST_GUIDANCE)
        return models.checkpoint.sampling(inputs.steps(self.steps), guidance)


@dataclass(frozen=True)
class InsidePanel:
    """The controls. `parts` belong to `SOURCES`, one of them shows; `uploaded` and `example` are `Picture`s."""

    source: gr.Radio
    parts: tuple[gr.Column, ...]
    thumbnail: gr.HTML
    upload: gr.Image
    uploaded: gr.State
    examples: gr.Gallery
    example: gr.State
    example_shown: gr.HTML
    sentence: gr.Textbox
    noise: gr.Textbox
    keep: gr.Radio
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    network: gr.Dropdown
    estimate: gr.HTML
    look: gr.Button
    stop: gr.Button

    @property
    def inputs(self) -> list[Any]:
        """What a `Wish` is made of, behind the picture of the tab Compare."""
        return [
            self.source, self.uploaded, self.example, self.sentence, self.noise, self.keep, self.seed, self.steps,
            self.guidance, self.network,
        ]  # fmt: skip


def sentence_of(models: Models, picture: Picture) -> str:
    """The sentence that goes with a picture: its caption, its words, or the backbone's own prompt."""
    if picture.caption:
        return picture.caption
    if not picture.words.strip():
        return models.checkpoint.prompt
    return "a photo of " + " and ".join(indefinite(word.name) for word in parse_classes(picture.words))


def build_inside_panel(models: Models) -> InsidePanel:
    """Lay out the controls."""
    checkpoint = models.checkpoint
    gr.HTML('<h2 class="ov-step">1 Picture</h2>')
    source = gr.Radio(list(SOURCES.items()), value="compare", show_label=False, label="Picture", elem_id="inside-source")
    with gr.Column() as compare:
        thumbnail = gr.HTML(thumbnail_of(None, ""), elem_id="inside-compared")
    with gr.Column(visible=False) as upload_part:
        upload = picture_upload("inside-upload", height=200)
    with gr.Column(visible=False) as example_part:
        example_shown = gr.HTML("", elem_id="inside-example")
        names = {name: name.replace("-", ", ").replace("_", " ") for name in example_names()}
        known = [(str(EXAMPLES / f"{name}.png"), words) for name, words in names.items()]
        examples = gr.Gallery(
            known, columns=4, height=150, allow_preview=False, show_label=False, format="png",
            elem_id="inside-examples", object_fit="cover", interactive=False,
        )  # fmt: skip
    with gr.Column(visible=False) as drawing_part:
        gr.HTML('<p class="ov-note">The sentence is drawn, and looked into at every sampling step.</p>')
        with gr.Row():
            steps = gr.Slider(1, 50, checkpoint.steps, step=1, label="Steps", elem_id="inside-steps", min_width=120)
            guidance = gr.Slider(
                1, 15, checkpoint.guidance, step=0.5, label="Guidance", elem_id="inside-guidance", min_width=120
            )
    gr.HTML('<h2 class="ov-step">2 Sentence</h2>')
    sentence = gr.Textbox(
        checkpoint.prompt, label="Sentence", elem_id="inside-sentence",
        info="Its words are what the network looks for: each becomes one token or several.",
    )  # fmt: skip
    gr.HTML('<h2 class="ov-step">3 Settings</h2>')
    network = network_choice(models, "inside-network")
    noise = gr.Textbox(
        ", ".join(map(str, NOISE_LEVELS)), label="Noise levels", elem_id="inside-noise",
        info="0 to 999: one pass of the network for each. A drawn picture has its sampling steps instead.",
    )  # fmt: skip
    keep = gr.Radio(list(KEEP), value="at every level", label="Keep self-attention", elem_id="inside-keep")
    seed = gr.Number(0, label="Seed of the noise or the drawing", precision=0, minimum=0, elem_id="inside-seed")
    with gr.Column(elem_id="inside-bar"):
        estimate = gr.HTML("", elem_id="inside-estimate")
        with gr.Row():
            look = gr.Button("Look", variant="primary", elem_id="inside-look", min_width=120)
            stop = gr.Button("Stop", elem_id="inside-stop", min_width=80)
    return InsidePanel(
        source, (compare, upload_part, example_part, drawing_part), thumbnail, upload, gr.State(None), examples,
        gr.State(None), example_shown, sentence, noise, keep, seed, steps, guidance, network, estimate, look, stop,
    )  # fmt: skip


def thumbnail_of(picture: Picture | None, words: str) -> str:
    """A small picture as HTML, or a sentence where there is none yet.

    Args:
        words: what the picture is, for who cannot see it.
    """
    if picture is None:
        return '<p class="ov-note">No picture yet.</p>'
    small = data_url(Image.fromarray(shrunk(picture.image, SHOWN_SIDE)), "PNG")
    return f'<img class="ov-thumbnail" src="{small}" alt="{html.escape(words)}">'


def first_token(tokens: tuple) -> int:
    """The token that is shown first: the first word that names something."""
    words = [k for k, token in enumerate(tokens) if token.kind == "word"]
    return next((k for k in words if tokens[k].text not in SMALL_WORDS), words[0] if words else 0)
