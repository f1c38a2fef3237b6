"""The Results tab: one picture of the papers' claims and ours, and below it every figure with its protocol and command.

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
from ovseg.evaluation.benchmark import USUAL
from ovseg.evaluation.results import FIGURES, SHIPPED, FigurePair, Measured, ResultFiles
from ovseg.methods import METHODS, Method, find_method, obstacle_to
from ovseg.methods.records import METRICS
from ovseg.models import PARTS, Models

ASKED = {
    "ground-truth": "the picture's true classes are given", "all": "all class names are given",
    "clip": "classes that CLIP finds", "clip-caption": "classes that CLIP or the caption finds",
}  # fmt: skip
"""What a method was asked for, by the name of the label source."""
OTHER_WEIGHTS = "measured with weights that no longer ship"
VERDICTS = {True: "same way", False: "other way"}


def build_results_tab(models: Models) -> None:
    """Lay out the tab. Loads no weights."""
    gr.HTML(results_html(models), css_template=static("results.css"), elem_id="results-tab", js_on_load=None)


def results_html(models: Models, folder: Path = SHIPPED) -> str:
    """The whole tab as HTML: how to read it, each method beside its paper, and every run; `folder` holds our figures."""
    results = ResultFiles(folder)
    page = _Page(results, _weight_files(models, results))
    pictures = page.networks() + page.claims() + page.levels()
    tables = "".join(page.method(kind) for kind in METHODS) + page.every_run()
    return f'<div class="ov-results">{page.introduction(models)}{pictures}{tables}</div>'


def _weight_files(models: Models, results: ResultFiles) -> dict[str, dict[str, str]]:
    """For each backbone that was measured, the checksums of what is there now; nothing for one that is not known here."""
    named = {row.record["backbone"] for row in results.all_rows()}
    found = {}
    for name in named:
        try:
            networks = models if models.name == name else Models(name, "cpu")
        except ValueError:
            continue
        found[name] = networks.weight_files(PARTS)
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
        if rows:
            counts = " or ".join(map(str, sorted({row.record["count"] for row in rows})))
            notes.append(f"Ours are of {counts} scenes, so that each command takes minutes; the README's are of 256.")
        if old:
            notes.append(f"{old} of our {len(rows)} rows were {OTHER_WEIGHTS}; they are marked.")
        return static("results.html") + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)

    def is_current(self, row: Measured) -> bool:
        """Whether a row was measured with the weights that are there now."""
        return row.is_of(self.weight_files.get(row.record["backbone"], {}))

    def networks(self) -> str:
        """One method on several networks beside each other: how much is the network's, how much the method's."""
        measured = [runs for one in (self.results, *self.results.others) if (runs := one.plain())]
        if len(measured) < 2:
            return ""
        boards = [Models(next(iter(runs.values())).record["backbone"], "cpu") for runs in measured]
        titles = [models.checkpoint.short_title for models in boards]
        kinds = [kind for kind in METHODS if not kind.yardstick and any(kind.name in runs for runs in measured)]
        columns = list(zip(measured, boards, strict=True))
        rows = [[escape(kind.full_title()), *(_on_a_network(kind, *column) for column in columns)] for kind in kinds]
        title, data = "One method on several networks", _data(next(iter(measured[0].values())))
        table = _table(title, ("Method", *titles), rows)
        return f'<section id="results-networks"><h3>{title}</h3><p>Dataset mIoU, {data}.</p>{table}</section>'

    def _measured(self, changes: bool) -> list[tuple[str, FigurePair]]:
        """The papers' figures that ours stand beside, with what they say in words: changes, or those by themselves."""
        pairs = [(kind.title, pair) for kind in METHODS for pair in self.results.beside(kind.figures())]
        chosen = [(title, pair) for title, pair in pairs if pair.ours and (pair.paper.change is not None) == changes]
        return [(f"{title}: {_lowered(pair.paper.what)}", pair) for title, pair in chosen]

    def claims(self) -> str:
        """A picture of all changes: which way each goes in the paper and here, and whether these agree."""
        pairs = self._measured(changes=True)
        if not pairs:
            return ""
        agree = sum(_same_way(pair) for _, pair in pairs)
        others = len(pairs) - agree
        counted = (
            f"Of {len(pairs)} changes that a paper and we measured, {agree} go the same way here, {others} the other way."
        )
        rows = [(claim, (pair.paper.change, pair.change), VERDICTS[_same_way(pair)]) for claim, pair in pairs]
        return _picture("results-claims", "Does a change go the same way here?", counted, rows, "{:+.1f}")

    def levels(self) -> str:
        """A picture of the figures that stand by themselves, which can be looked at beside each other and not compared."""
        rows = [(claim, (pair.paper.value, pair.value), "") for claim, pair in self._measured(changes=False)]
        note = "IoU in per cent, of photographs there and of emoji scenes here: not directly comparable."
        return _picture("results-levels", "How well does a method do?", note, rows, "{:.1f}") if rows else ""

    def method(self, kind: type[Method]) -> str:
        """A method's figures, folded: those that stand by themselves, changes, then what has nothing of ours beside it."""
        pairs = self.results.beside(kind.figures())
        if not pairs:
            return ""
        parts = []
        for name, is_change in (("Measured", False), ("Changed", True)):
            rows = [self._pair(pair) for pair in pairs if pair.ours and (pair.paper.change is not None) == is_change]
            if rows:
                parts.append(_table(f"{kind.title}: {name.lower()}", (name, "The paper", "Ours", "What differs"), rows))
        if alone := [pair for pair in pairs if not pair.ours]:
            items = "".join(f"<li>{what}: {of_paper}{why}</li>" for what, of_paper, _, why in map(self._pair, alone))
            parts.append(
                f'<details class="alone"><summary>{len(alone)} of the paper\'s figures were not measured here</summary>'
                f"<ul>{items}</ul></details>"
            )
        return _folded(f"results-{kind.name}", f"{kind.title}: the paper's figures and ours", "".join(parts))

    def _pair(self, pair: FigurePair) -> list[str]:
        paper = pair.paper
        of_paper = _figures(paper.before, paper.value, paper.change, kind="paper")
        of_paper += _small(f"{METRICS[paper.metric]}, {paper.dataset}")
        of_paper += _more("Protocol and source", f"{paper.protocol}. Table: {paper.table}. Read in {paper.read_in}.")
        return [escape(paper.what), of_paper, self._ours(pair), escape(paper.why)]

    def _ours(self, pair: FigurePair) -> str:
        row = pair.ours
        if row is None:
            return ""
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
        return _folded("results-all", "Every run of ours", _table("Every run of ours", columns, rows))


def _on_a_network(kind: type[Method], runs: Mapping[str, Measured], models: Models) -> str:
    """What was measured of a method on a network, or why nothing was."""
    if kind.name in runs:
        return _figures(None, runs[kind.name].figure("miou"), None, kind="ours")
    obstacle = obstacle_to(models, kind)
    return "cannot be run" + _small(obstacle) if obstacle else "not measured"


def _same_way(pair: FigurePair) -> bool:
    return (pair.paper.change > 0) == (pair.change > 0)


def _lowered(text: str) -> str:
    """A text within a sentence: its first letter is small, unless its first word is a name such as CLIP or DINO."""
    first = text.partition(" ")[0]
    return text if first[1:] != first[1:].lower() else text[0].lower() + text[1:]


def _folded(name: str, title: str, inside: str) -> str:
    return f'<section id="{name}"><details class="fold"><summary>{escape(title)}</summary>{inside}</details></section>'


def _picture(name: str, title: str, note: str, rows: Sequence[tuple[str, tuple[float, float], str]], form: str) -> str:
    """Rows of two marks on one axis, a ring for the paper and a disc for ours, with the figures and a verdict in words.

    Args:
        rows: a claim, the paper's figure and ours, a verdict or "".
        form: how a figure is written.
    """
    values = [0.0, *(value for _, both, _ in rows for value in both)]
    low, high = 10 * (min(values) // 10), -10 * (-max(values) // 10)

    def at(value: float) -> str:
        return f"left:{(value - low) / (high - low):.1%}"

    items = []
    for claim, both, verdict in rows:
        paper, ours = map(form.format, both)
        ends = sorted(both)
        line = f"{at(ends[0])};width:{(ends[1] - ends[0]) / (high - low):.1%}"
        marks = f'<i class="zero" style="{at(0)}"></i><i class="line" style="{line}"></i>'
        marks += f'<i class="paper" style="{at(both[0])}"></i><i class="ours" style="{at(both[1])}"></i>'
        said = f'<span class="verdict {verdict.partition(" ")[0]}">{verdict}</span>' if verdict else ""
        numbers = f'<span class="numbers">{paper} <b>{ours}</b></span>'
        items.append(
            f'<li><span>{escape(claim)}</span><span class="axis" aria-hidden="true">{marks}</span>{numbers}{said}</li>'
        )
    key = '<span class="key"><i class="paper"></i> the paper <i class="ours"></i> <b>ours</b></span>'
    return f'<section id="{name}" class="marks"><h3>{title}</h3><p>{note} {key}</p><ol>{"".join(items)}</ol></section>'


def _title(row: Measured) -> str:
    title = find_method(row.record["method"], MEASURABLE).full_title()
    title += "" if row.record["backbone"] == USUAL["backbone"] else f" on {row.record['backbone']}"
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
    body = ""
    for first, *others in rows:
        pairs = zip(columns[1:], others, strict=True)
        cells = "".join(f'<td role="cell" data-column="{name}">{cell}</td>' for name, cell in pairs)
        body += f'<tr role="row"><th scope="row" role="rowheader">{first}</th>{cells}</tr>'
    return (
        f'<table role="table" aria-label="{escape(caption)}"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )
