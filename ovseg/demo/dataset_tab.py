"""The tab that makes a small data set: words in, generated pictures with masks out, as a zip file."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ovseg.assets import ASSETS
from ovseg.demo.network_choice import network_choice
from ovseg.demo.work import QUIET, on_the_network, say_stopped, sent_once, status_line, told, worker
from ovseg.doors import inputs
from ovseg.factory.synthesize import SEGMENTER, Synthesis, preview
from ovseg.limits import limits
from ovseg.methods import suited_to
from ovseg.models import Models
from ovseg.progress import Report
from ovseg.server.download_folders import new_folder
from ovseg.server.durations import Durations
from ovseg.server.request_cost import learning, to_synthesize
from ovseg.words.classes import check_amount, parse_classes

SHOWN = 24
WORDS, FIRST_SEED = "tree, bus, house", 8  # of the first eight pictures the judge finds all things in all eight
READY = ASSETS / "dataset" / "tree-bus-house"  # by `synthesize --classes "tree, bus, house" --count 8 --seed 8`


@dataclass(frozen=True)
class Asked:
    """What a visitor asks for. It holds no networks: pickled, they would be loaded again in a forked process."""

    classes: tuple[str, ...]
    count: int
    pairs: float
    seed: int
    network: str  # the short name of the one that draws


def _about(obstacle: str) -> str:
    """What the tab does, and why it cannot be done where there is an obstacle."""
    return (
        f"Prompts of one and two of your words are drawn, and {SEGMENTER.title} says which pixels are which. The zip is"
        " a data set in the layouts of PASCAL VOC and COCO, with a card. Larger ones: `python -m ovseg synthesize`."
        + (f"\n\nIt cannot be made here. {obstacle}" if obstacle else "")
    )


def build_dataset_tab(models: Models, durations: Durations) -> None:
    """Lay out the tab and wire its events."""
    obstacle = models.obstacle("grounding")
    about = gr.Markdown(_about(obstacle), elem_id="dataset-about")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            network = network_choice(models, "dataset-network")
            words = gr.Textbox(WORDS, label="Classes", elem_id="dataset-classes")
            count = gr.Slider(1, limits().pictures, 8, step=1, label="Pictures", elem_id="dataset-count")
            pairs = gr.Slider(0, 1, 0.5, step=0.05, label="Share of prompts with two classes", elem_id="dataset-pairs")
            seed = gr.Number(FIRST_SEED, label="Seed of the first picture", precision=0, elem_id="dataset-seed")
            with gr.Row():
                make = gr.Button("Make", variant="primary", elem_id="dataset-make", interactive=not obstacle)
                stop = gr.Button("Stop", elem_id="dataset-stop")
        with gr.Column(scale=3, min_width=320):
            small = models.checkpoint.is_small_world
            said = f"An example, made before: {WORDS}, seeds from {FIRST_SEED}." if small else "Ready."
            status = gr.HTML(status_line(said, None), elem_id="dataset-status")
            shown, zipped = (str(READY.with_suffix(end)) if small else None for end in (".webp", ".zip"))
            sheet = gr.Image(shown, label="Preview", format="png", elem_id="dataset-sheet", interactive=False)
            archive = gr.File(zipped, label="The data set", elem_id="dataset-zip")

    def on_network(chosen: str) -> tuple[str, gr.Button]:
        obstacle = models.beside(chosen).obstacle("grounding")
        return _about(obstacle), gr.Button(interactive=not obstacle)

    network.change(on_network, network, [about, make], **QUIET)
    making = make.click(
        _maker(models, durations), [words, count, pairs, seed, network], [status, sheet, archive], **on_the_network(status),
    )  # fmt: skip
    say_stopped(stop, [making], status)


def _maker(models: Models, durations: Durations) -> Any:
    def made(asked: Asked, folder: Path, report: Report) -> tuple[np.ndarray, str]:
        report("loading the network", 0.0)
        own = models.beside(asked.network)
        method, sampling = suited_to(own, SEGMENTER), own.checkpoint.sampling()
        task = Synthesis(own, method, asked.classes, asked.count, sampling, asked.pairs, asked.seed)
        task.run(folder / "data", report)
        zipped = shutil.make_archive(str(folder / "dataset"), "zip", folder / "data")
        sheet = preview(folder / "data", asked.classes, min(asked.count, SHOWN))
        shutil.rmtree(folder / "data")
        return sheet, zipped

    work = worker(models, durations, lambda asked, folder: to_synthesize(models.beside(asked.network), asked.count), made)

    @sent_once
    def dataset(words: str, count: float, pairs: float, seed: float | None, network: str) -> Iterator[tuple[str, Any, Any]]:
        parsed = parse_classes(words or "")
        check_amount(parsed)
        asked = Asked(
            tuple(word.name for word in parsed), inputs.whole("pictures", count, 1, limits().pictures),
            inputs.number("share of prompts with two classes", pairs, 0, 1), inputs.whole("The seed", seed), network,
        )  # fmt: skip
        if obstacle := models.beside(network).obstacle("grounding"):
            raise ValueError(f"The network must have a grounding module. {obstacle}")
        folder = new_folder()
        (counted,) = to_synthesize(models.beside(network), asked.count)
        said = status_line(f"{asked.count} pictures made.", None)
        yield from told(learning(durations, counted, work(asked, folder)), 3, lambda made: (said, *made))

    return dataset
