"""Below the board: what led to the masks, why a place is what it is, figures, files. None of it runs a network."""

import html
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from ovseg.compare import Comparison, Entry
from ovseg.compare.correction import BY_HAND, Mark
from ovseg.demo.board import data_url
from ovseg.demo.board_file import BOARD_FILE, board_bytes
from ovseg.demo.run import Results, Thresholds, drawn
from ovseg.demo.work import EACH, QUIET
from ovseg.doors.inputs import brief, number
from ovseg.limits import check_count, limits
from ovseg.methods import find_method
from ovseg.output import view
from ovseg.output.files import Result, slug, zip_of
from ovseg.pictures import shrunk
from ovseg.server.download_folders import new_folder
from ovseg.server.sentences import as_sentences
from ovseg.types import Evidence

NOT_YET = "Press Run first."
ASK = '<p class="ov-note">Click a picture above to see here why that place is what it is, by each method.</p>'
COPY = "(text) => { navigator.clipboard?.writeText(text); return []; }"
CORRECT = {"add": "+ Add this place", "take": "− Take it away", "undo": "Undo"}
CELL = 220  # pixels of a small picture in what a click brings
TILE = 320  # pixels of a tile's longer side
NAMED = 3  # classes with their scores for each method at a clicked place
Tiles = Sequence[tuple[np.ndarray, str]]
"""Pictures with their titles."""


@dataclass(frozen=True)
class LookPanel:
    """The tabs below the board."""

    place: gr.HTML
    touched: gr.Column  # what acts on a method and a place of it: shown once one was clicked
    spot: gr.State  # what was clicked: title, x, y
    marks: gr.State  # by the title of an entry
    title: gr.State  # of the entry whose evidence is shown
    evidence: gr.HTML
    run_controls: gr.Button
    controls: gr.HTML
    table: gr.Markdown
    open_zip: gr.UploadButton
    card: gr.JSON

    @property
    def outputs(self) -> list[Any]:
        """What a run fills, in the order of `first_views`."""
        asked = [self.place, self.touched, self.spot, self.marks, self.title]
        return [*asked, self.evidence, self.controls, self.table, self.card]


def build_look_panel(board: gr.HTML, kept: gr.State) -> LookPanel:
    """Lay out the tabs, and connect what only looks at the results that the session keeps."""
    spot, marks, title, thresholds = gr.State(None), gr.State({}), gr.State(None), gr.State(Thresholds())
    with gr.Tabs(elem_id="looks"):
        with gr.Tab("Evidence", id="evidence"):
            place = gr.HTML(ASK, elem_id="place")
            with gr.Column(visible=False, elem_id="touched") as touched:
                with gr.Row(elem_id="correct"):
                    label = gr.Dropdown(
                        [], label="Correct here, by its self-attention", elem_id="correct-label", filterable=False
                    )
                    add, take, undo = (
                        gr.Button(text, size="sm", elem_id=f"correct-{name}") for name, text in CORRECT.items()
                    )
                run_controls = gr.Button(
                    "Does it know, or guess? Run its controls", size="sm", elem_id="run-controls", scale=0
                )
            controls = gr.HTML("", elem_id="controls")
            evidence = gr.HTML("", elem_id="gallery")
        with gr.Tab("Figures", id="figures"):
            table = gr.Markdown(NOT_YET, elem_id="figures", buttons=["copy"])
            csv = gr.Button("Copy as CSV", elem_id="copy-csv", size="sm", scale=0)
            csv_text = gr.Textbox(visible=False, elem_id="figures-csv")
        with gr.Tab("Download", id="files"):
            gr.Markdown(
                "One zip, with a folder for each method: overlay, indexed mask with its legend, a mask and a cut-out of each"
                " class, COCO JSON, scores and evidence as NPZ, run card. Masks are at the threshold that the board shows."
            )
            make = gr.Button("Download", elem_id="make-files", size="sm", scale=0)
            files = gr.File(label="All files", elem_id="files", visible=False)
            open_zip = gr.UploadButton("Open a downloaded zip", file_types=[".zip"], size="sm", elem_id="open-zip")
            card = gr.JSON(label="Run cards", elem_id="card", open=False)
    board.look(_looked, [kept, thresholds], [thresholds, board], **EACH)
    shown = [place, touched, label, spot, title, evidence]
    board.select(_here, kept, shown, **EACH).then(
        None, None, None, js="() => window.ovsegPlace.show()", api_visibility="private"
    )
    changed = [board, kept, marks, table, card]
    for button, adds in ((add, True), (take, False), (undo, None)):
        button.click(_marking(adds), [kept, spot, label, marks], changed, **QUIET)
    make.click(_as_zip, [kept, thresholds], files, **QUIET).success(
        None, files, None, js="(file) => window.ovsegFiles.save(file)", api_visibility="private"
    )
    csv.click(_as_csv, kept, csv_text, **QUIET).success(None, csv_text, None, js=COPY, api_visibility="private")
    return LookPanel(place, touched, spot, marks, title, evidence, run_controls, controls, table, open_zip, card)


def first_views(results: Results | None) -> tuple[Any, ...]:
    """The values of `LookPanel.outputs` for results that have just come, or where there are none."""
    title, evidence, figures, cards = None, "", NOT_YET, None
    if results and results.comparison.entries:
        first = results.comparison.entries[0]
        title, evidence, figures, cards = first.title, titled_evidence(first), results.comparison.markdown(), results.cards
    return ASK, gr.Column(visible=False), None, {}, title, evidence, "", figures, cards


def titled_evidence(entry: Entry) -> str:
    """The evidence of an entry as HTML, with its title."""
    return f"<h3>Evidence of {html.escape(entry.title)}</h3>{evidence_of(entry)}"


def evidence_of(entry: Entry) -> str:
    """The maps that led to an entry as HTML, group by group, each with the step of the paper that it is. Those that need a
    clicked place are not among them.
    """
    steps, image = find_method(entry.method).evidence_steps, shrunk(entry.segmentation.image, TILE)
    groups: dict[str, list[tuple[np.ndarray, str]]] = {}
    for item in entry.segmentation.evidence:
        if (picture := view.evidence_picture(item, image)) is not None:
            groups.setdefault(item.group, []).append((picture, item.title))
    parts = []
    for group, tiles in groups.items():
        step = next((line for name, line in steps.items() if name in group), "")
        parts.append(f"<h4>{html.escape(group)}</h4><p class='ov-note'>{html.escape(step)}</p>{tiles_html(tiles)}")
    return "".join(parts)


def tiles_html(tiles: Tiles) -> str:
    """Pictures of one size beside each other, as HTML."""
    figures = (
        f'<figure><img src="{data_url(shrunk(picture, TILE), "JPEG")}" alt="{html.escape(title)}">'
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
        for picture, title in tiles
    )
    return f'<div class="ov-tiles">{"".join(figures)}</div>'


def place_views(results: Results, x: float, y: float) -> str:
    """Why a place is what it is, by each method, as HTML: its best classes, and pictures of what the place looks at.

    Args:
        x, y: the place, in shares of the picture's width and height, 0 to 1.
    """
    rows, tiles = [], []
    for entry in results.comparison.entries:
        rows.append(
            f"<tr><th scope='row'>{html.escape(entry.title)}</th><td>{html.escape(best_here(entry, x, y))}</td></tr>"
        )
        for item in entry.segmentation.evidence:
            tiles += [(picture, f"{entry.title}: {title}") for picture, title in _explained(entry, item, x, y)]
    return f"<h4>Why here</h4><table>{''.join(rows)}</table>{tiles_html(tiles)}"


def inside_picture(index: Sequence[Any]) -> tuple[float, float]:
    """A clicked place in shares of the picture, 0 to 1; beyond that the nearest border."""
    x, y = (min(max(float(share), 0.0), 1.0) for share in index)
    return x, y


def ranked_here(entry: Entry, x: float, y: float) -> list[tuple[str, float]]:
    """The classes with the highest scores at a place, and these scores, best first."""
    scores = entry.segmentation.scores()
    height, width = scores.shape[1:]
    here = scores[:, min(int(y * height), height - 1), min(int(x * width), width - 1)]
    return [(entry.segmentation.labels[k], float(here[k])) for k in np.argsort(-here, kind="stable")[:NAMED]]


def best_here(entry: Entry, x: float, y: float) -> str:
    """The classes with the highest scores at a place as text: "cat 0.81, background 0.40"."""
    return ", ".join(f"{label} {score:.2f}" for label, score in ranked_here(entry, x, y))


def _explained(entry: Entry, item: Evidence, x: float, y: float) -> list[tuple[np.ndarray, str]]:
    image = entry.segmentation.image
    if item.kind == "affinity":
        picture = view.heat_overlay(image, view.affinity_at(item, x, y))
        return [(view.marked(picture, x, y), "where this place looks")]
    if item.kind == "neighbours":
        nearest = view.neighbours_at(item.neighbours, x, y)
        sheet = view.contact_sheet([p for p, _ in nearest], [title for _, title in nearest], 3, cell=CELL)
        return [(sheet, f"nearest prototypes, {item.group}")]
    return []


@as_sentences()
def _looked(results: Results | None, before: Thresholds, event: gr.EventData) -> tuple[Thresholds, Any]:
    """The thresholds that a visitor has moved to; and the masks anew where those of single classes are others."""
    asked = thresholds_of(event.threshold, event.offsets)
    if results is None and asked.offsets:
        raise ValueError("Thresholds of single classes need the scores of a run, but there are none here: press Run first.")
    if results is None or asked.offsets == before.offsets:
        return asked, gr.skip()
    return asked, drawn(results.at(Thresholds(offsets=asked.offsets)), str(event.run))


def thresholds_of(common: Any, offsets: Any) -> Thresholds:
    """What the board's sliders tell."""
    if not isinstance(offsets, Mapping):
        raise ValueError(f"The thresholds of classes must be numbers by their names, but got {brief(offsets)}.")
    check_count("The thresholds of classes", len(offsets), limits().classes)
    moved = {label: number("The threshold of a class", offset, -1, 1) for label, offset in offsets.items()}
    return Thresholds(None if common is None else number("The threshold", common, 0, 1), moved)


def _here(results: Results | None, event: gr.SelectData) -> tuple[Any, ...]:
    """What a click on the board answers: why there, by each method; the touched one's evidence, and what acts on it."""
    if not results or not results.comparison.entries:
        return ASK, *(gr.skip(),) * 5
    x, y = inside_picture(event.index)
    views = place_views(results, x, y)
    touched = next((entry for entry in results.comparison.entries if entry.title == event.value), None)
    if touched is None:
        return views, *(gr.skip(),) * 5
    labels = touched.segmentation.labels[1:]
    near = next((label for label, _ in ranked_here(touched, x, y) if label in labels), labels[0])
    spot, choices = (touched.title.removesuffix(BY_HAND), x, y), gr.Dropdown(labels, value=near)
    return views, gr.Column(visible=True), choices, spot, touched.title, titled_evidence(touched)


def _marking(adds: bool | None) -> Callable[..., tuple[Any, ...]]:
    """What a button does that adds the clicked place, takes it away, or takes back the last mark."""

    @as_sentences()
    def mark(
        results: Results | None, spot: tuple | None, label: str | None, marks: dict[str, tuple[Mark, ...]]
    ) -> tuple[Any, ...]:
        if results is None or spot is None:
            raise ValueError("A place must be clicked first, on the masks of a method, but none was.")
        title, x, y = spot
        own = marks.get(title, ())
        own = own[:-1] if adds is None else (*own, Mark(str(label), x, y, adds))
        made = results.with_marks(title, own)
        return drawn(made, uuid.uuid4().hex), made, marks | {title: own}, made.comparison.markdown(), made.cards

    return mark


@as_sentences()
def _as_csv(results: Results | None) -> str:
    return segmented(results).figures().csv()


@as_sentences()
def _as_zip(results: Results | None, thresholds: Thresholds) -> gr.File:
    path, comparison = new_folder() / "ovseg.zip", segmented(results)
    more = {
        BOARD_FILE: board_bytes(drawn(results.at(Thresholds(offsets=thresholds.offsets)), "kept")),
        "figures.csv": comparison.figures().csv().encode(),
        "figures.md": comparison.markdown().encode(),
    }
    path.write_bytes(zip_of(results_as_files(thresholds.on(comparison)), more=more))
    return gr.File(str(path), visible=True)


def results_as_files(comparison: Comparison) -> dict[str, Result]:
    """What is written of each method, by the name of its folder."""
    labels, entries = comparison.labels, comparison.entries
    return {slug(entry.title): Result(entry.segmentation, dict(entry.card), labels) for entry in entries}


def segmented(results: Results | None) -> Comparison:
    """What was segmented.

    Raises:
        ValueError: nothing was.
    """
    if results is None or not results.comparison.entries:
        raise ValueError("There must be masks first, but nothing was segmented yet: press Run.")
    return results.comparison
