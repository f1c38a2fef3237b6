"""Controls in view: beside a method's mask what it says where it cannot know; see `ovseg.evaluation.controls`."""

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from ovseg.compare import Comparison, Entry, Failure, Variant
from ovseg.demo.looking import LookPanel, segmented, tiles_html
from ovseg.demo.picture import Picture
from ovseg.demo.run import Results
from ovseg.demo.work import on_the_network, sent_once, status_line, told, worker
from ovseg.evaluation.controls import CONTROLS, run_controls
from ovseg.methods import find_method
from ovseg.models import Models
from ovseg.output import view
from ovseg.scene import from_image
from ovseg.server.durations import Durations
from ovseg.server.request_cost import Work, learning, to_segment
from ovseg.words.classes import ClassWord


@dataclass(frozen=True, eq=False)
class ControlsAsked:
    """What is run: a method on a picture, with the words and the caption that it had."""

    picture: Picture
    classes: tuple[ClassWord, ...]
    caption: str
    seed: int
    variant: Variant

    def run(self, models: Models, report: Any) -> tuple[Entry | Failure, ...]:
        """The outcomes of all controls."""
        report("loading the network", 0.0)
        own = models.beside(self.variant.backbone)
        scene = from_image(own, self.picture.image, self.seed, caption=self.caption)
        made = run_controls(own, self.variant.method, scene, self.classes, report)
        return tuple(replace(one, segmentation=one.segmentation.packed()) if isinstance(one, Entry) else one for one in made)

    def work(self, models: Models) -> Work:
        """How much it is: as many runs of the method as there are controls."""
        words = ", ".join("|".join(word.phrases) for word in self.classes)
        *_, one = to_segment(models, [self.variant], words, self.caption or "-", self.picture.image.shape[:2])
        return Work("controls", len(CONTROLS) * one.rows, len(CONTROLS))


def asked_of(results: Results | None, title: str | None) -> ControlsAsked:
    """What the controls of an entry are run with."""
    comparison = segmented(results)
    entry = comparison.entry(title or comparison.entries[0].title)
    variant = Variant(entry.title, find_method(entry.method)(**entry.settings), entry.backbone)
    return ControlsAsked(results.picture, results.classes, results.caption, comparison.seed, variant)


def controls_html(results: Results, title: str, made: tuple[Entry | Failure, ...]) -> str:
    """The entry and its controls as pictures of one size, with their IoU where the truth is known; and what did not run."""
    entry = results.comparison.entry(title)
    shown = (entry, *(one for one in made if isinstance(one, Entry)))
    comparison = Comparison(results.picture.image, results.comparison.classes, shown, truth=results.comparison.truth)
    tiles = []
    for one in shown:
        known = f": IoU {100 * comparison.mean_iou(one):.0f}" if comparison.truth else ""
        tiles.append((view.overlay(one.segmentation, order=comparison.labels), one.title + known))
    failures = "".join(f"<p>{html.escape(f'{one.title}: {one.sentence}')}</p>" for one in made if isinstance(one, Failure))
    said = "A method must beat what it says where it cannot know, on this very picture."
    return f"<p class='ov-note'>{said}</p>{tiles_html(tiles)}{failures}"


def wire_controls(
    models: Models, durations: Durations, panel: LookPanel, kept: gr.State, status: gr.HTML
) -> gr.events.Dependency:
    """Connect the button; returns its event, which uses the network."""

    work = worker(models, durations, lambda asked: [asked.work(models)], lambda asked, report: asked.run(models, report))

    @sent_once
    def controls(results: Results | None, title: str | None) -> Iterator[tuple[str, Any]]:
        asked = asked_of(results, title)
        said = status_line(f"The controls of {asked.variant.title} stand below its masks.", None)
        events = learning(durations, asked.work(models), work(asked))
        yield from told(events, 2, lambda made: (said, controls_html(results, asked.variant.title, made)))

    return panel.run_controls.click(controls, [kept, panel.title], [status, panel.controls], **on_the_network(status))
