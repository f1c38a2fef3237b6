"""Where the picture comes from: a scene of the pocket world, an upload with its truth, a drawing, an example."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from ovseg.demo.network_choice import network_choice
from ovseg.demo.picture import Picture, example_gallery, example_names, of_example, of_file, of_scene
from ovseg.demo.word_panel import colours_on
from ovseg.demo.work import QUIET, on_the_network, sent_once, status_line, told, worker
from ovseg.doors import inputs
from ovseg.doors.requests import GenerateRequest
from ovseg.limits import limits
from ovseg.models import Models
from ovseg.progress import Report
from ovseg.server.durations import Durations
from ovseg.server.request_cost import learning, to_draw
from ovseg.server.sentences import as_sentences
from ovseg.server.uploaded_files import picture_upload

SCENES = 2000  # numbers that "Another scene" draws from
DRAWN_SEED = 5  # with which the pocket backbone's own prompt is drawn well: the judge finds both things, 0.99
FIRST_SCENE = 4479  # of the worked example: a car and a cat, on which the methods differ and none fails

# After a picture of one's own the words come next: typing replaces those of the picture before.
ASK_WORDS = "() => { document.querySelector('#classes :is(textarea, input)').select(); return []; }"


@dataclass(frozen=True)
class PicturePanel:
    """The tabs of sources, and the session's picture. `number`, of a scene, is not laid out yet."""

    picture: gr.State
    another: gr.Button
    number: gr.Number
    upload: gr.Image
    truth: gr.File
    legend: gr.File
    prompt: gr.Textbox
    network: gr.Dropdown
    steps: gr.Slider
    draw_seed: gr.Number
    draw: gr.Button
    examples: gr.Gallery


def build_picture_panel(models: Models) -> PicturePanel:
    """Lay out the sources. The pocket world's scenes come first where the backbone knows them."""
    scenes, checkpoint = bool(models.checkpoint.classes), models.checkpoint
    with gr.Tabs(elem_id="sources"):
        with gr.Tab("Scene", visible=scenes, id="scene"):
            another = gr.Button("Another scene", elem_id="another-scene", size="sm")
        with gr.Tab("Upload", id="upload"):
            upload = picture_upload("upload", height=170)
            with gr.Accordion("Ground truth, optional", open=False, elem_id="truth-panel"):
                gr.HTML(
                    '<p class="ov-note">An indexed or grey PNG of the picture\'s size: 0 is background, 1 the first class,'
                    " 2 the second, 255 not counted. With a legend.json the values may mean other classes.</p>"
                )
                truth = gr.File(label="Mask (PNG)", file_types=[".png"], elem_id="truth", height=90)
                legend = gr.File(label="Legend (JSON)", file_types=[".json"], elem_id="legend", height=90)
        with gr.Tab("Draw", id="draw"):
            prompt = gr.Textbox(checkpoint.prompt, label="Prompt", elem_id="prompt")
            network = network_choice(models, "draw-network")
            with gr.Row():
                steps = gr.Slider(1, limits().steps, checkpoint.steps, step=1, label="Steps", elem_id="steps", min_width=120)
                draw_seed = gr.Number(DRAWN_SEED, label="Seed", precision=0, minimum=0, elem_id="picture-seed", min_width=80)
            draw = gr.Button("Draw it", elem_id="draw", size="sm")
        with gr.Tab("Examples", id="examples"):
            examples = example_gallery("examples", columns=3, height=190, shows=scenes)
    number = gr.Number(
        FIRST_SCENE, label="Scene number", precision=0, minimum=0, elem_id="scene-number", visible=scenes, render=False
    )
    return PicturePanel(
        gr.State(None), another, number, upload, truth, legend, prompt, network, steps, draw_seed, draw, examples
    )


def shown(picture: Picture, chips: dict[str, Any]) -> tuple[Any, ...]:
    """What choosing a picture changes: the picture, words, caption, chips and the scene's number."""
    coloured = chips | {"colours": colours_on(picture.image)}
    return picture, picture.words or gr.skip(), picture.caption, coloured, number_of(picture)


def number_of(picture: Picture | None) -> Any:
    """The scene's number for its field; the field stays where the picture is no scene."""
    return picture.scene if picture and picture.scene is not None else gr.skip()


def wire_picture_panel(
    models: Models, panel: PicturePanel, outputs: list[Any], chips: dict[str, Any], status: gr.HTML, *, durations: Durations
) -> tuple[list[gr.events.Dependency], gr.events.Dependency]:
    """Connect the sources to what takes the values of `shown`.

    Returns every event that ends in another picture, and the one that uses the network.
    """

    @as_sentences()
    def numbered(number: float | None) -> tuple[Any, ...]:
        return shown(of_scene(inputs.whole("The scene's number", number)), chips)

    @as_sentences()
    def uploaded(path: str | None, truth: str | None, legend: str | None) -> tuple[Any, ...]:
        if path is None:
            return tuple(gr.skip() for _ in outputs)
        return shown(with_truth(of_file(path), truth, legend), chips)

    def example(event: gr.SelectData) -> tuple[Any, ...]:
        return shown(of_example(example_names()[event.index]), chips)

    files = [panel.truth, panel.legend]
    sent = panel.upload.upload(uploaded, [panel.upload, *files], outputs, **QUIET)
    sent.success(None, None, None, js=ASK_WORDS, api_visibility="private")
    events = [
        panel.another.click(lambda: shown(of_scene(random.randrange(SCENES)), chips), None, outputs, **QUIET),
        panel.number.submit(numbered, panel.number, outputs, **QUIET),
        sent,
        panel.examples.select(example, None, outputs, **QUIET),
        *(f.change(with_truth, [panel.picture, *files], panel.picture, **QUIET) for f in files),
    ]
    panel.network.change(lambda network: models.beside(network).checkpoint.steps, panel.network, panel.steps, **QUIET)
    drawing = panel.draw.click(
        _drawing(models, chips, durations), [panel.prompt, panel.draw_seed, panel.steps, panel.network],
        [status, *outputs], **on_the_network(status),
    )  # fmt: skip
    return events, drawing


def with_truth(given: Picture | None, truth: str | None, legend: str | None) -> Picture | None:
    """A picture with the files of its truth, where there are any."""
    truth_file, legend_file = (Path(path) if path else None for path in (truth, legend))
    return given and replace(given, truth_file=truth_file, legend_file=legend_file)


def _drawing(
    models: Models, chips: dict[str, Any], durations: Durations
) -> Callable[[str, float | None, float, str], Iterator[tuple[Any, ...]]]:
    """The event that draws a picture: the values of the status line and of `shown`."""

    def drawn(prompt: str, seed: int, steps: int, network: str, report: Report) -> Picture:
        image, made = GenerateRequest(prompt, seed, steps).run(models.beside(network), report)
        return Picture(image, caption=made["prompt"])

    work = worker(models, durations, lambda prompt, seed, steps, network: to_draw(models.beside(network), steps), drawn)

    @sent_once
    def draw(prompt: str, seed: float | None, steps: float, network: str) -> Iterator[tuple[Any, ...]]:
        asked = inputs.text("The prompt", prompt, needed=True), inputs.whole("The seed", seed), inputs.steps(steps)
        (counted,) = to_draw(models.beside(network), asked[2])
        said = status_line("Drawn. Check the words, then press Run.", None)
        events = learning(durations, counted, work(*asked, network))
        yield from told(events, 6, lambda made: (said, *shown(made, chips)))

    return draw
