"""The left side of Look inside: the picture, the sentence, and what is gathered."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from ovseg.attention import Attention, Inspection
from ovseg.attention.plan import NOISE_LEVELS, parse_levels
from ovseg.compare import work_on
from ovseg.demo.board import data_url
from ovseg.demo.network_choice import network_choice
from ovseg.demo.picture import Picture, example_gallery, example_names, of_example, of_file
from ovseg.demo.work import QUIET, status_line
from ovseg.doors import inputs
from ovseg.doors.requests import MOST_GUIDANCE
from ovseg.models import Models
from ovseg.output.attention_files import Look
from ovseg.pictures import shrunk
from ovseg.server.durations import NETWORK_ROW, Durations
from ovseg.server.request_cost import Work
from ovseg.server.sentences import as_sentences
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
LOOKING = "look inside"  # what its speed is learned under


@dataclass(frozen=True, eq=False)
class Focus:
    """What a further question is about: the token that is looked at and a level, with the weights of the resolutions."""

    attention: Attention
    weights: Mapping[int, float]
    token: int
    level: int
    network: str  # that was looked into; empty for the usual one

    @property
    def word(self) -> str:
        """The token as a visitor sees it."""
        return self.attention.token_name(self.token)


def focus_of(looked: Any, weights: Mapping[int, float] | None, level: int | None) -> Focus:
    """What a session looked at, at a level, with the weights that its sliders have.

    Raises:
        ValueError: nothing was looked at yet, or there is no such level.
    """
    if looked is None:
        raise ValueError(NOT_YET)
    attention = looked.inside.attention
    if level is None or not 0 <= int(level) < len(attention.timesteps):
        raise ValueError(f"The level must be one of those that were looked at, but got {level}.")
    own = weights or looked.inside.weights
    return Focus(attention.without_states(), own, looked.token, int(level), looked.network)


def looking(network: str, rows: int = 1) -> Work:
    """So many rows of a network, under the name that its speed is learned by."""
    return Work(work_on(LOOKING, network), rows)


@dataclass(frozen=True)
class Wish:
    """What a visitor chose, as the controls have it, in this order."""

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

    def look(self, models: Models) -> Look:
        """What it asks of the networks."""
        sentence = inputs.text("The sentence", self.sentence or "").strip()
        inspection = Inspection(sentence, KEEP.get(self.keep, self.keep), most_memory(), words_later=True)
        seed, own = inputs.whole("The seed", self.seed), models.beside(self.network)
        if self.source == "draw":
            guidance = inputs.number("The guidance", self.guidance, 0, MOST_GUIDANCE)
            sampling = own.checkpoint.sampling(inputs.steps(self.steps), guidance)
            return Look(inspection, seed, sampling, network=own.board_name)
        picture = {"compare": self.compared, "upload": self.uploaded, "example": self.example}[self.source]
        if picture is None:
            raise ValueError("A picture must be chosen first: that of the tab Compare, an upload, an example or a drawing.")
        return Look(inspection, seed, image=picture.image, levels=parse_levels(self.noise or ""), network=own.board_name)


def sentence_of(models: Models, picture: Picture) -> str:
    """The sentence that goes with a picture: its caption, its words, or the backbone's own prompt."""
    if picture.caption:
        return picture.caption
    if not picture.words.strip():
        return models.checkpoint.prompt
    return "a photo of " + " and ".join(indefinite(word.name) for word in parse_classes(picture.words))


def build_inside_panel(
    models: Models, durations: Durations, compared: gr.State, kept: gr.State
) -> tuple[list[Component], gr.Button, gr.Button]:
    """Lay out the controls, and wire what runs no network; returns those that a `Wish` is made of, Look and Stop.

    Args:
        compared: the picture of the tab that compares, a `Picture` or None.
        kept: what the session looked at.
    """
    sentence = gr.Textbox(
        models.checkpoint.prompt, label="Sentence", elem_id="inside-sentence", render=False,
        info="Its words are what the network looks for: each becomes one token or several.",
    )  # fmt: skip
    gr.HTML('<h2 class="ov-step">1 Picture</h2>')
    source, uploaded, example, *drawing = _build_sources(models, compared, sentence)
    gr.HTML('<h2 class="ov-step">2 Sentence</h2>')
    sentence.render()
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
    wish = [compared, source, uploaded, example, sentence, noise, keep, seed, *drawing, network]

    def of_network(network: str) -> tuple[int, float]:
        checkpoint = models.beside(network).checkpoint
        return checkpoint.steps, checkpoint.guidance

    def estimated(*given: Any) -> str:
        return estimate_line(models, durations, Wish(*given))

    network.change(of_network, network, drawing, **QUIET)
    changes = [control.change for control in (*wish, kept)]
    gr.on(changes, estimated, wish, estimate, trigger_mode="always_last", **QUIET)
    return wish, look, stop


def _build_sources(
    models: Models, compared: gr.State, sentence: gr.Textbox
) -> tuple[gr.Radio, gr.State, gr.State, gr.Slider, gr.Slider]:
    """Lay out where the picture comes from, of which another brings its sentence.

    Returns the choice, the uploaded picture and the example, and the steps and the guidance of a drawing.
    """
    uploaded, example = gr.State(None), gr.State(None)
    source = gr.Radio(list(SOURCES.items()), value="compare", show_label=False, label="Picture", elem_id="inside-source")
    with gr.Column() as compare:
        thumbnail = gr.HTML(thumbnail_of(None, ""), elem_id="inside-compared")
    with gr.Column(visible=False) as upload_part:
        upload = picture_upload("inside-upload", height=200)
    with gr.Column(visible=False) as example_part:
        example_shown = gr.HTML("", elem_id="inside-example")
        examples = example_gallery("inside-examples", columns=4, height=150)
    with gr.Column(visible=False) as drawing_part:
        gr.HTML('<p class="ov-note">The sentence is drawn, and looked into at every sampling step.</p>')
        with gr.Row():
            usual = models.checkpoint
            steps = gr.Slider(1, 50, usual.steps, step=1, label="Steps", elem_id="inside-steps", min_width=120)
            guidance = gr.Slider(1, 15, usual.guidance, step=0.5, label="Guidance", elem_id="inside-guidance", min_width=120)

    def of_compare(picture: Picture | None, chosen: str) -> tuple[str, Any]:
        words = sentence_of(models, picture) if picture and chosen == "compare" else gr.skip()
        return thumbnail_of(picture, "The picture of the tab Compare"), words

    @as_sentences()
    def of_upload(path: str | None) -> Picture | None:
        return None if path is None else of_file(path)

    def of_gallery(event: gr.SelectData) -> tuple[Picture, str, str]:
        picture = of_example(example_names()[event.index])
        return picture, sentence_of(models, picture), thumbnail_of(picture, f"Example: {picture.words}")

    def shown(chosen: str) -> list[gr.Column]:
        return [gr.Column(visible=chosen == name) for name in SOURCES.values()]

    compared.change(of_compare, [compared, source], [thumbnail, sentence], **QUIET)
    upload.change(of_upload, upload, uploaded, **QUIET)
    examples.select(of_gallery, None, [example, sentence, example_shown], **QUIET)
    source.change(shown, source, [compare, upload_part, example_part, drawing_part], **QUIET)
    return source, uploaded, example, steps, guidance


def estimate_line(models: Models, durations: Durations, wish: Wish) -> str:
    """What a wish will take, or what is wrong with it, as HTML.

    Of a network beside others this is known once it is there: no visitor loads one by choosing it.
    """
    try:
        asked = wish.look(models)
        own = models.beside(asked.network)
        if len(own.board) > 1 and not own.is_loaded:
            return status_line(f"{own.checkpoint.title} is loaded first.", None)
        expected = durations.expected(work_on(NETWORK_ROW, asked.network))
        return status_line(f"Will take {asked.plan(models).sentence(expected)}", None)
    except ValueError as error:
        return status_line(str(error), None)


def thumbnail_of(picture: Picture | None, words: str) -> str:
    """A small picture as HTML, with words for who cannot see it, or a sentence where there is none yet."""
    if picture is None:
        return '<p class="ov-note">No picture yet.</p>'
    small = data_url(shrunk(picture.image, SHOWN_SIDE), "PNG")
    return f'<img class="ov-thumbnail" src="{small}" alt="{html.escape(words)}">'


def first_token(tokens: tuple) -> int:
    """The token that is shown first: the first word that names something."""
    words = [k for k, token in enumerate(tokens) if token.kind == "word"]
    return next((k for k in words if tokens[k].text not in SMALL_WORDS), words[0] if words else 0)
