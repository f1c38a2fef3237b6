"""The main tab: a picture and words in, masks and the attention behind them out."""

import tempfile
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import spaces

from ovseg.assets import ASSETS
from ovseg.demo.canvas import canvas_value, mask_canvas, redraw_script
from ovseg.demo.controls import control_values, grey_out, method_controls, pick_method, settings_from
from ovseg.demo.words import QUIET, captioner_name, wire_words, word_controls
from ovseg.demo.work import given_picture, on_the_network, status_line, stream, whole
from ovseg.methods import METHODS, Method, find_method, modes_of, obstacle_to, suited_to
from ovseg.models import Models
from ovseg.output import files, view
from ovseg.output.run_card import run_card
from ovseg.progress import Report
from ovseg.scene import from_image, from_prompt
from ovseg.types import Segmentation
from ovseg.words.classes import ClassWord
from ovseg.words.presence import asked_for

OPACITY = 0.6
RESULTS = ("status", "canvas", "threshold", "shown", "group", "gallery", "card", "point")
EXAMPLES = (
    ("boat-bird.png", "boat, bird"),
    ("cat-car.png", "cat, car"),
    ("sheep-house.png", "sheep, house"),
    ("person-bus-apple.png", "person, bus, apple"),
    ("tree-bus.png", "tree, bus"),
    ("flower-apple.png", "flower, apple"),
)


@dataclass(frozen=True)
class Shown:
    """What one visitor looks at: kept in the session, so that views answer without the network."""

    segmentation: Segmentation
    card: dict


def build_segment_tab(models: Models) -> None:
    """Lay out the tab and wire its events."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            source = _source_controls(models)
            words = word_controls(models)
            with gr.Row():
                run = gr.Button("Run", variant="primary", elem_id="run")
                stop = gr.Button("Stop", elem_id="stop")
            _examples(models, source["image"], words["words"])
            method, panels, seed = _method_controls(models)
        with gr.Column(scale=3, min_width=320):
            look = _result_controls(models)
    asked = [words[name] for name in ("words", "caption", "captioner", "present", "checked")]
    inputs = [source["image"], *asked, method, seed, look["threshold"], *(c for panel in panels for c in panel)]
    outputs = [look[name] for name in RESULTS] + [words["words"], words["caption"]]
    drawn_with = [source["prompt"], source["seed"], source["steps"], words["words"], method, seed, look["threshold"]]
    method.change(partial(_threshold_of, models), method, look["threshold"], **QUIET)
    events = [
        _wire_generate(models, source, [*drawn_with, *(c for panel in panels for c in panel)], outputs),
        _wire_segment(models, run, inputs, outputs),
        *wire_words(models, source["image"], words, look["status"]),
    ]
    stop.click(lambda: status_line("Stopped.", None), outputs=look["status"], cancels=events, api_visibility="private")
    _wire_views(look)


def _source_controls(models: Models) -> dict[str, Any]:
    checkpoint = models.checkpoint
    image = gr.Image(
        label="Picture", type="numpy", format="png", sources=["upload", "clipboard"], elem_id="image", height=300
    )
    with gr.Accordion("Generate a picture instead", open=True, elem_id="generate-panel"):
        prompt = gr.Textbox(checkpoint.prompt, label="Prompt", elem_id="prompt")
        with gr.Row():
            steps = gr.Slider(1, 100, checkpoint.steps, step=1, label="Steps", elem_id="steps")
            seed = gr.Number(1, label="Seed of the picture", precision=0, elem_id="picture-seed")
        button = gr.Button("Generate", elem_id="generate")
    return {"image": image, "prompt": prompt, "steps": steps, "seed": seed, "button": button}


def _method_controls(models: Models) -> tuple[gr.Radio, list[list[gr.components.Component]], gr.Number]:
    needed = dict.fromkeys(part for kind in METHODS for part in kind.needs)
    obstacles = {kind.name: obstacle_to(models, kind) for kind in METHODS}
    method = gr.Radio(
        [(kind.title, kind.name) for kind in METHODS], value=METHODS[0].name, label="Method", elem_id="method",
        info=" ".join(filter(None, (models.obstacle(part) for part in needed))) or None,
    )  # fmt: skip
    grey_out("method", [name for name, obstacle in obstacles.items() if obstacle])
    panels, groups = [], []
    for kind in METHODS:
        with gr.Accordion(f"Settings of {kind.title}", open=False, visible=kind is METHODS[0]) as group:
            gr.Markdown(f"{kind.paper.authors}: *{kind.paper.title}*. {kind.paper.venue}, arXiv {kind.paper.arxiv}.")
            modes = gr.Radio(list(modes_of(models, kind)), value="suited", label="Settings as", elem_id=f"mode-{kind.name}")
            panels.append(method_controls(kind, suited_to(models, kind)))
            modes.input(partial(_mode_values, models, kind), modes, panels[-1], **QUIET)
        groups.append(group)
    seed = gr.Number(0, label="Seed of the noise", precision=0, elem_id="seed")
    method.change(
        lambda name: [gr.Accordion(visible=kind.name == name) for kind in METHODS],
        method, groups, **QUIET,
    )  # fmt: skip
    return method, panels, seed


def _threshold_of(models: Models, name: str) -> gr.Slider:
    """The threshold as it suits a method, or out of reach where it has none."""
    value = getattr(suited_to(models, find_method(name)), "threshold", None)
    return gr.Slider(interactive=False) if value is None else gr.Slider(value=value, interactive=True)


def _mode_values(models: Models, kind: type[Method], mode: str) -> list[object]:
    """What the controls show in a mode; a list for each control, one alone for one."""
    values = control_values(modes_of(models, kind)[mode])
    return values if len(values) > 1 else values[0]


def _examples(models: Models, image: gr.Image, words: gr.Textbox) -> None:
    folder = ASSETS / "examples"
    if models.name == "pocket":
        rows = [[str(folder / name), classes] for name, classes in EXAMPLES]
        gr.Examples(rows, [image, words], label="Examples", elem_id="examples", cache_examples=False)


def _result_controls(models: Models) -> dict[str, Any]:
    look: dict[str, Any] = {"status": gr.HTML(status_line("Ready.", None), elem_id="status"), "shown": gr.State(None)}
    look["canvas"] = mask_canvas("canvas")
    with gr.Row():
        look["opacity"] = gr.Slider(0, 1, OPACITY, step=0.01, label="Opacity", elem_id="opacity")
        first = suited_to(models, METHODS[0])
        look["threshold"] = gr.Slider(
            0, 1, getattr(first, "threshold", 0.5), step=0.01, label="Background threshold", elem_id="threshold"
        )
    with gr.Tab("Evidence"):
        look["group"] = gr.Radio([], label="Maps", elem_id="evidence-group", visible=False)
        look["gallery"] = gr.Gallery(
            label="What led to the masks", columns=4, format="png", elem_id="gallery", height="auto"
        )
    with gr.Tab("From a point"):
        gr.Markdown("Click the picture above: where does the network look from there, and what claims it?")
        look["point"] = gr.Image(label="From that point", format="png", elem_id="point", interactive=False)
    with gr.Tab("Files"):
        look["make"] = gr.Button("Make files at this threshold", elem_id="make-files")
        look["files"] = gr.File(label="Overlay, mask, legend, run card", file_count="multiple", elem_id="files")
        look["card"] = gr.JSON(label="Run card", elem_id="card")
    return look


def _wire_generate(models: Models, source: dict[str, Any], inputs: list, outputs: list) -> gr.events.Dependency:
    @spaces.GPU(duration=60)
    def generate(
        prompt: str, seed: float, steps: float, words: str, method: str, noise_seed: float, threshold: float, *values: Any
    ):  # fmt: skip
        def work(report: Report) -> tuple[np.ndarray, Shown | None]:
            report("loading the network", 0.0)
            scene = from_prompt(
                models, prompt, whole("The seed", seed), steps=whole("Steps", steps),
                on_step=lambda done, total: report("sampling", done / total),
            )  # fmt: skip
            if not find_method(method).names_the_generated:
                return scene.image, None
            chosen = _chosen_method(models, method, threshold, values)
            classes, _ = asked_for(models, scene.image, words, names_itself=chosen.names_itself, caption=scene.caption)
            scene = replace(scene, seed=whole("The seed", noise_seed))
            result = chosen.segment(models, scene, classes, report)
            return scene.image, Shown(result, run_card(models, scene, classes, chosen, result))

        for stage, share, made in stream(work):
            if made is None:
                yield (gr.skip(), status_line(stage, share), *(gr.skip() for _ in outputs[1:]))
                continue
            image, shown = made  # last: a skip after a value would leave the browser with neither
            if shown is None:
                told = status_line("Generated. Name the classes and press Run.", None)
                yield (image, told, *(gr.skip() for _ in outputs[1:]))
            else:
                yield (image, *_first_views(shown), words or ", ".join(shown.card["classes"]), gr.skip())

    return source["button"].click(
        generate, inputs, [source["image"], *outputs], api_name="generate", **on_the_network(outputs[0])
    )


def _wire_segment(models: Models, run: gr.Button, inputs: list, outputs: list) -> gr.events.Dependency:
    @spaces.GPU(duration=60)
    def segment(
        image: np.ndarray | None, words: str, caption: str, captioner: str | None, present: list[str], checked: str,
        method: str, seed: float, threshold: float, *values: Any,
    ):  # fmt: skip
        def work(report: Report) -> Shown:
            picture, chosen = given_picture(image), _chosen_method(models, method, threshold, values)
            report("loading the network", 0.0)
            classes, said = asked_for(
                models,
                picture,
                words,
                names_itself=chosen.names_itself,
                caption=caption,
                captioner=captioner_name(captioner),
                report=report,
            )
            if checked and checked == words:
                classes = _ticked(classes, present)
            scene = from_image(models, picture, whole("The seed", seed), caption=said)
            result = chosen.segment(models, scene, classes, report)
            return Shown(result, run_card(models, scene, classes, chosen, result))

        for stage, share, shown in stream(work):
            if shown is None:
                yield (status_line(stage, share), *(gr.skip() for _ in outputs[1:]))
            else:
                yield (*_first_views(shown), words or ", ".join(shown.card["classes"]), shown.card["caption"])

    return run.click(segment, inputs, outputs, api_name="segment", **on_the_network(outputs[0]))


def _ticked(classes: tuple[ClassWord, ...], present: list[str]) -> tuple[ClassWord, ...]:
    """Those of the classes that the visitor asks for.

    Raises:
        ValueError: none is.
    """
    kept = tuple(word for word in classes if word.name in present)
    if not kept:
        raise ValueError("At least one of the classes must be ticked, but none is.")
    return kept


def _chosen_method(models: Models, name: str, threshold: float, values: tuple) -> Method:
    kind, mine = pick_method(METHODS, name, values)
    if obstacle := obstacle_to(models, kind):
        raise ValueError(f"{kind.title} cannot be run here. {obstacle}")
    settings = settings_from(kind, mine)
    if "threshold" in kind.__dataclass_fields__:
        settings["threshold"] = threshold
    return suited_to(models, kind, settings)


def _first_views(shown: Shown) -> tuple:
    """All outputs of a finished run: status, canvas, threshold, state, maps, run card, and no point yet."""
    segmentation = shown.segmentation
    groups = list(dict.fromkeys(e.group for e in segmentation.evidence if e.kind not in ("affinity", "claims")))
    return (
        status_line(f"Done in {sum(segmentation.timings.values()):.1f} s.", None),
        canvas_value(segmentation, OPACITY, uuid.uuid4().hex),
        gr.Slider(interactive=segmentation.threshold is not None),
        shown,
        gr.Radio(groups, value=groups[0] if groups else None, visible=bool(groups)),
        _gallery(shown, groups[0]) if groups else [],
        shown.card,
        None,
    )


def _gallery(shown: Shown, group: str) -> list[tuple[np.ndarray, str]]:
    image = shown.segmentation.image
    chosen = [e for e in shown.segmentation.evidence if e.group == group]
    return [(picture, e.title) for e in chosen if (picture := view.evidence_picture(e, image)) is not None]


def _wire_views(look: dict[str, Any]) -> None:
    """Views of what is kept in the session: none of them runs a network."""
    for slider in (look["opacity"], look["threshold"]):
        slider.change(None, [look["opacity"], look["threshold"]], None, js=redraw_script("canvas"), api_visibility="private")

    def show_group(shown: Shown | None, group: str | None):
        return _gallery(shown, group) if shown and group else []

    def show_point(shown: Shown | None, event: gr.SelectData):
        return _point_view(shown.segmentation, *event.index) if shown else None

    def make_files(shown: Shown | None, threshold: float) -> list[str]:
        if shown is None:
            raise gr.Error("There must be masks to make files of, but nothing was segmented yet.", print_exception=False)
        # In gradio's own folder, which `delete_cache` empties.
        return write_files(shown, threshold, Path(tempfile.mkdtemp(dir=look["files"].GRADIO_CACHE)))

    look["group"].input(show_group, [look["shown"], look["group"]], look["gallery"], **QUIET)
    look["canvas"].select(show_point, look["shown"], look["point"], **QUIET)
    look["make"].click(make_files, [look["shown"], look["threshold"]], look["files"], **QUIET)


def _point_view(segmentation: Segmentation, x: float, y: float) -> np.ndarray | None:
    """Where one point looks, with the point marked by a white square, or what claims it, best first in a column for each
    network; None where a method has neither."""
    x, y = min(max(float(x), 0.0), 1.0), min(max(float(y), 0.0), 1.0)
    columns: list[list[tuple[np.ndarray, str]]] = []
    for item in segmentation.evidence:
        if item.kind == "affinity":
            picture = view.heat_overlay(segmentation.image, view.affinity_at(item, x, y))
            columns.append([(_marked(picture, x, y), "Where it looks: self-attention")])
        elif item.kind == "claims":
            claims = view.claims_at(item.claims, x, y)
            columns.append([(picture, f"{item.group}: {title}") for picture, title in claims])
    if not columns:
        return None
    # Where there are few prototypes in all, a column is shorter than another.
    rows = [cell for row in zip(*columns, strict=False) for cell in row]
    return view.contact_sheet([p for p, _ in rows], [title for _, title in rows], len(columns), cell=232)


def _marked(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    height, width = picture.shape[:2]
    reach, row, column = max(height, width) // 64, int(y * (height - 1)), int(x * (width - 1))
    marked = picture.copy()
    marked[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = 255
    return marked


def write_files(shown: Shown, threshold: float, folder: Path) -> list[str]:
    """Overlay, mask, legend and run card as files, at the threshold that the slider shows."""
    segmentation, card = shown.segmentation, shown.card
    if segmentation.threshold is not None:
        segmentation = segmentation.with_threshold(threshold)
        card = card | {"shares": segmentation.shares, "method": card["method"] | {"threshold": threshold}}
    return [str(path) for path in files.write_files(files.Result(segmentation, card), folder)]
