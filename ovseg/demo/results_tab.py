"""The Results tab: our figures beside the papers', each with its protocol, its command and what differs.

Every figure is read: ours from the files that `python -m ovseg results` wrote, the papers' from the methods' folders.
Building the tab loads no weights; the checksums of the weight files say whether ours were measured with those that ship.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from ovseg.demo.static_files import static
from ovseg.evaluation.baselines import MEASURABLE
from ovseg.evaluation.results import FIGURES, SHIPPED, FigurePair, Measured, ResultFiles
from ovseg.methods import METHODS, Method, find_method
from ovseg.methods.records import METRICS
from ovseg.models import Models

NETWORKS = ("clip", "captioner", "dino", "grounding")
ASKED = {
    "ground-truth": "the picture's true classes are given", "all": "all class names are given",
    "clip": "classes that CLIP finds", "clip-caption": "classes that CLIP or the caption finds",
}  # fmt: skip
"""What a method was asked for, by the name of the label source."""
OTHER_WEIGHTS = "measured with weights that no longer ship"


def build_results_tab(models: Models, folder: Path = SHIPPED) -> None:
    """Lay out the tab. Loads no weights.

    Args:
        folder: holds our figures.
    """
    gr.HTML(results_html(models, folder), css_template=static("results.css"), elem_id="results-tab", js_on_load=None)


def results_html(models: Models, folder: Path = SHIPPED) -> str:
    """The whole tab as HTML: how to read it, each method beside its paper, and every run."""
    results = ResultFiles(folder)
    page = _Page(results, _weight_files(models, results))
    methods = "".join(page.method(kind) for kind in METHODS)
    return f'<div class="ov-results">{page.introduction(models)}{methods}{page.every_run()}</div>'


def _weight_files(models: Models, results: ResultFiles) -> dict[str, dict[str, str]]:
    """For each backbone that was measured, the checksums of what is there now; nothing for one that is not known here."""
    named = {row.record["backbone"] for row in results.all_rows()}
    found = {}
    for name in named:
        try:
            networks = models if models.name == name else Models(name, "cpu")
        except ValueError:
            continue
        found[name] = networks.weight_files(NETWORKS)
    return found


@dataclass(frozen=True)
class _Page:
    """What the parts of the tab are made of: our results, and for each backbone the checksums of its weights now."""

    results: ResultFiles
    weight_files: Mapping[str, Mapping[str, str]]

    def introduction(self, models: Models) -> str:
        """How to read the figures, and whether they are of the weights that ship."""
        rows = list(self.results.all_rows())
        old, names = sum(not self.is_current(row) for row in rows), sorted({row.record["backbone"] for row in rows})
        notes = []
        if not rows:
            notes.append("Nothing of ours was measured yet.")
        elif models.name not in names:
            notes.append(f"Ours are of {', '.join(names)}; this page uses another backbone, {models.checkpoint.title}.")
        if old:
            notes.append(f"{old} of our {len(rows)} rows were {OTHER_WEIGHTS}; they are marked.")
        return static("results.html") + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)

    def is_current(self, row: Measured) -> bool:
        """Whether a row was measured with the weights that are there now."""
        return row.is_of(self.weight_files.get(row.record["backbone"], {}))

    def method(self, kind: type[Method]) -> str:
        """A method's figures: those that stand by themselves, then changes; nothing for a method without figures."""
        pairs = self.results.beside(kind.figures())
        single = [pair for pair in pairs if pair.paper.change is None]
        changes = [pair for pair in pairs if pair.paper.change is not None]
        if not pairs:
            return ""
        parts = [f"<h3>{escape(kind.title)}</h3>"]
        for name, of_kind in (("Measured", single), ("Changed", changes)):
            if of_kind:
                rows = [self._pair(pair) for pair in of_kind]
                parts.append(_table(f"{kind.title}: {name.lower()}", (name, "The paper", "Ours", "What differs"), rows))
        return f'<section id="results-{kind.name}">{"".join(parts)}</section>'

    def _pair(self, pair: FigurePair) -> list[str]:
        paper = pair.paper
        of_paper = _figures(paper.before, paper.value, paper.change, kind="paper")
        of_paper += _small(f"{METRICS[paper.metric]}, {paper.dataset}")
        of_paper += _more("Protocol and source", f"{paper.protocol}. Table: {paper.table}. Read in {paper.read_in}.")
        return [escape(paper.what), of_paper, self._ours(pair), escape(paper.why)]

    def _ours(self, pair: FigurePair) -> str:
        row = pair.ours
        if row is None:
            return '<span class="none">not measured</span>'
        metric = pair.paper.ours.metric
        about = _small(f"{METRICS[metric]}, {_data(row)}")
        return _figures(pair.start, pair.value, pair.change, kind="ours") + about + self._made(row)

    def _made(self, row: Measured) -> str:
        old = "" if self.is_current(row) else f'<small class="old">{OTHER_WEIGHTS}</small>'
        return old + _more("Command", row.record["command"], is_code=True)

    def every_run(self) -> str:
        """All rows of all files, with the three figures of each."""
        columns = ("Method", "Dataset mIoU", "Mean per-image mIoU", "Pixel accuracy", "Measured on")
        rows = [
            [
                escape(_title(row)),
                *(_figures(None, row.figure(name), None, kind="ours") for name in FIGURES),
                escape(_data(row)) + self._made(row),
            ]
            for row in self.results.all_rows()
        ]
        if not rows:
            return ""
        return f'<section id="results-all"><h3>Every run of ours</h3>{_table("Every run of ours", columns, rows)}</section>'


def _title(row: Measured) -> str:
    title = find_method(row.record["method"], MEASURABLE).title
    return f"{title}: {row.what}" if row.what else title


def _data(row: Measured) -> str:
    """ "pocket-val, 64 pictures; all class names are given"."""
    asked = ASKED[row.record["labels"].partition(",")[0]]
    return f"{row.record['dataset']}, {row.record['count']} pictures; {asked}"


def _figures(before: float | None, value: float, change: float | None, *, kind: str) -> str:
    """ "60.1 %", or "63.6 → 53.6 %, -10.0"; the attributes hold the full figures."""
    shown = f"{_figure(before, kind)} → " if before is not None else ""
    shown += f"{_figure(value, kind)} %"
    return f'<span class="figure">{shown}{"" if change is None else f" <small>({change:+.1f})</small>"}</span>'


def _figure(value: float, kind: str) -> str:
    """A paper's figure as it is written there, ours with one decimal."""
    return f'<data class="{kind}" value="{value!r}">{value if kind == "paper" else f"{value:.1f}"}</data>'


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>"


def _more(summary: str, text: str, *, is_code: bool = False) -> str:
    inside = f"<code>{escape(text)}</code>" if is_code else escape(text)
    return f"<details><summary>{summary}</summary>{inside}</details>"


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells name their column, for narrow screens, where each row is a block."""
    head = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in columns)
    body = "".join(f'<tr role="row">{_cells(columns, row)}</tr>' for row in rows)
    return (
        f'<table role="table" aria-label="{escape(caption)}"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _cells(columns: Sequence[str], row: Sequence[str]) -> str:
    first, *others = row
    cells = [f'<th scope="row" role="rowheader">{first}</th>']
    cells += [f'<td role="cell" data-column="{name}">{cell}</td>' for name, cell in zip(columns[1:], others, strict=True)]
    return "".join(cells)
