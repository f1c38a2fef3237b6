"""Below the board: what led to the masks, why a place is what it is, figures, files. None of it runs a network."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from ovseg.compare import Entry
from ovseg.demo.run import Results
from ovseg.demo.work import EACH, QUIET
from ovseg.output import view
from ovseg.output.files import Result, slug, zip_of
from ovseg.server.download_folders import new_folder
from ovseg.types import Evidence

NOT_YET = "Press Run first."
CELL = 220  # pixels of a small picture in what a click brings
NAMED = 3  # classes with their scores for each method at a clicked place


@dataclass(frozen=True)
class LookPanel:
    """The tabs below the board."""

    method: gr.Radio
    group: gr.Radio
    gallery: gr.Gallery
    place: gr.Markdown
    point: gr.Gallery
    table: gr.Markdown
    csv: gr.Button
    csv_file: gr.File
    make: gr.Button
    files: gr.File
    card: gr.JSON
    threshold: gr.State  # that of the board's slider, or None where each method keeps its own

    @property
    def outputs(self) -> list[Any]:
        """What a run fills, in the order of `first_views`."""
        return [self.method, self.group, self.gallery, self.place, self.point, self.table, self.card]


def build_look_panel() -> LookPanel:
    """Lay out the tabs."""
    with gr.Tabs(elem_id="looks"):
        with gr.Tab("What led to it", id="evidence"):
            method = gr.Radio([], label="Of", visible=False, elem_id="evidence-method")
            group = gr.Radio([], label="Maps", visible=False, elem_id="evidence-group")
            gallery = gr.Gallery(
                columns=5, format="png", elem_id="gallery", height="auto", show_label=False, object_fit="contain"
            )
        with gr.Tab("From a point", id="point"):
            place = gr.Markdown(ASK, elem_id="place")
            point = gr.Gallery(columns=3, format="png", elem_id="point", height="auto", show_label=False)
        with gr.Tab("Figures", id="figures"):
            table = gr.Markdown(NOT_YET, elem_id="figures", buttons=["copy"])
            csv = gr.Button("As CSV", elem_id="make-csv", size="sm")
            csv_file = gr.File(label="Figures", elem_id="figures-csv", visible=False)
        with gr.Tab("Files", id="files"):
            gr.Markdown(
                "One zip, with a folder for each method: overlay, indexed mask with its legend, a mask and a cut-out of each"
                " class, COCO JSON, scores and evidence as NPZ, run card. Masks are at the threshold that the board shows."
            )
            make = gr.Button("Make the files", elem_id="make-files", size="sm")
            files = gr.File(label="All files", elem_id="files", visible=False)
            card = gr.JSON(label="Run cards", elem_id="card", open=False)
    threshold = gr.State(None)
    return LookPanel(method, group, gallery, place, point, table, csv, csv_file, make, files, card, threshold)


ASK = "Click a picture above: why is that place what it is, by each method?"


def first_views(results: Results) -> tuple[Any, ...]:
    """The values of `LookPanel.outputs` for results that have just come."""
    titles = [entry.title for entry in results.comparison.entries]
    if not titles:
        return empty_views()
    entry = results.comparison.entries[0]
    groups = groups_of(entry)
    return (
        gr.Radio(titles, value=titles[0], visible=True),
        gr.Radio(groups, value=groups[0] if groups else None, visible=bool(groups)),
        gallery_of(entry, groups[0]) if groups else [],
        ASK,
        [],
        figures_of(results),
        dict(results.cards),
    )


def empty_views() -> tuple[Any, ...]:
    """The values of `LookPanel.outputs` where there are no results."""
    return gr.Radio([], visible=False), gr.Radio([], visible=False), [], ASK, [], NOT_YET, None


def groups_of(entry: Entry) -> list[str]:
    """The kinds of maps that led to an entry, in order; those that need a clicked place are not among them."""
    return list(dict.fromkeys(e.group for e in entry.segmentation.evidence if e.kind not in ("affinity", "neighbours")))


def gallery_of(entry: Entry, group: str) -> list[tuple[np.ndarray, str]]:
    """The maps of one kind as pictures with their titles."""
    image = entry.segmentation.image
    chosen = [e for e in entry.segmentation.evidence if e.group == group]
    return [(picture, e.title) for e in chosen if (picture := view.evidence_picture(e, image)) is not None]


def figures_of(results: Results) -> str:
    """The tables of figures as Markdown."""
    return results.comparison.markdown()


def place_views(results: Results, x: float, y: float) -> tuple[str, list[tuple[np.ndarray, str]]]:
    """Why a place is what it is, by each method: a table of its best classes, and pictures of what the place looks at.

    Args:
        x, y: the place, in shares of the picture's width and height, 0 to 1; beyond that the nearest border.
    """
    x, y = (min(max(float(value), 0.0), 1.0) for value in (x, y))
    lines = ["| method | best classes here |", "|---|---|"]
    pictures: list[tuple[np.ndarray, str]] = []
    for entry in results.comparison.entries:
        lines.append(f"| {entry.title} | {best_here(entry, x, y)} |")
        for item in entry.segmentation.evidence:
            pictures += [(picture, f"{entry.title}: {title}") for picture, title in _explained(entry, item, x, y)]
    return "\n".join(lines), pictures


def best_here(entry: Entry, x: float, y: float) -> str:
    """The classes with the highest scores at a place: "cat 0.81, background 0.40"."""
    scores = entry.segmentation.scores()
    height, width = scores.shape[1:]
    here = scores[:, min(int(y * height), height - 1), min(int(x * width), width - 1)]
    return ", ".join(f"{entry.segmentation.labels[k]} {here[k]:.2f}" for k in np.argsort(-here, kind="stable")[:NAMED])


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


def wire_look_panel(panel: LookPanel, board: gr.HTML, kept: gr.State) -> None:
    """Connect what only looks at the results that the session keeps."""

    def of_method(results: Results | None, title: str) -> tuple[gr.Radio, list]:
        if results is None:
            return gr.Radio([], visible=False), []
        entry = results.comparison.entry(title)
        groups = groups_of(entry)
        first = gallery_of(entry, groups[0]) if groups else []
        return gr.Radio(groups, value=groups[0] if groups else None, visible=bool(groups)), first

    def of_group(results: Results | None, title: str, group: str) -> list:
        return gallery_of(results.comparison.entry(title), group) if results else []

    def here(results: Results | None, event: gr.SelectData) -> tuple[str, list]:
        return place_views(results, *event.index) if results and results.comparison.entries else (ASK, [])

    def as_csv(results: Results | None) -> gr.File:
        path = new_folder() / "figures.csv"
        path.write_text(_made(results).comparison.figures().csv())
        return gr.File(str(path), visible=True)

    def as_zip(results: Results | None, threshold: float | None) -> gr.File:
        path = new_folder() / "ovseg.zip"
        path.write_bytes(zip_of(results_as_files(_made(results), threshold)))
        return gr.File(str(path), visible=True)

    def threshold_of(event: gr.EventData) -> float | None:
        return event.threshold

    panel.method.input(of_method, [kept, panel.method], [panel.group, panel.gallery], **QUIET)
    panel.group.input(of_group, [kept, panel.method, panel.group], panel.gallery, **QUIET)
    board.select(here, kept, [panel.place, panel.point], **EACH)
    board.look(threshold_of, None, panel.threshold, **EACH)
    panel.make.click(as_zip, [kept, panel.threshold], panel.files, **QUIET)
    panel.csv.click(as_csv, kept, panel.csv_file, **QUIET)


def results_as_files(results: Results, threshold: float | None) -> dict[str, Result]:
    """What is written of each method, by the name of its folder, at a threshold or at each method's own."""
    cards, made, labels = dict(results.cards), {}, results.comparison.labels
    for entry in results.comparison.entries:
        segmentation, card = entry.segmentation, cards[entry.title]
        if threshold is not None and segmentation.threshold is not None:
            segmentation = segmentation.with_threshold(threshold)
            card = card | {"shares": segmentation.shares, "method": card["method"] | {"threshold": threshold}}
        made[slug(entry.title)] = Result(segmentation, card, labels)
    return made


def _made(results: Results | None) -> Results:
    if results is None or not results.comparison.entries:
        raise gr.Error("There must be masks first, but nothing was segmented yet: press Run.", print_exception=False)
    return results
