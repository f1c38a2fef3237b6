"""The figures that the papers report: `papers.json`, where each is written down once."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

METRICS = {
    "miou": "dataset mIoU", "mean_image_miou": "mean per-image mIoU", "miou_of_objects": "mean IoU of the objects",
}  # fmt: skip
"""Names of the metrics of `papers.json` and of our tables."""


@dataclass(frozen=True)
class Ours:
    """Which result of ours stands beside a paper's figure.

    Args:
        file: its name in the folder of results.
        row: of a table of variants; empty for a single run.
        before: the row that a change starts from; empty where the figure is no change.
        metric: a key of `METRICS`.
    """

    file: str
    row: str = ""
    before: str = ""
    metric: str = "miou"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper, in per cent.

    Args:
        key: its name here.
        method: of ours.
        what: what was measured.
        dataset: on which pictures and classes.
        protocol: how.
        metric: a key of `METRICS`.
        value: the figure.
        before: the figure that a change starts from; None where it is no change.
        table: what the paper's table compares.
        read_in: where the figure was read.
        ours: what stands beside it; None where there is nothing.
        why: the reason for the difference, or for there being nothing.
    """

    key: str
    method: str
    what: str
    dataset: str
    protocol: str
    metric: str
    value: float
    before: float | None
    table: str
    read_in: str
    ours: Ours | None
    why: str

    @property
    def change(self) -> float | None:
        """Points gained or lost; None where the figure is no change."""
        return None if self.before is None else self.value - self.before


@cache
def paper_figures() -> tuple[PaperFigure, ...]:
    """All figures, in the order of the file."""
    rows = json.loads((Path(__file__).parent / "papers.json").read_text(encoding="utf-8"))["figures"]
    return tuple(_figure(row) for row in rows)


def _figure(row: dict) -> PaperFigure:
    ours = row.get("ours")
    beside = ours and Ours(ours["file"], ours.get("row", ""), ours.get("before", ""), ours.get("as", row["metric"]))
    same = {name: row[name] for name in ("key", "method", "what", "dataset", "protocol", "metric", "value", "table", "why")}
    return PaperFigure(**same, before=row.get("before"), read_in=row["read in"], ours=beside)


def in_short(key: str) -> str:
    """A figure for a cell of a table of variants: "-10.0 points on PASCAL VOC 2012 val".

    Raises:
        ValueError: there is none of this name.
    """
    found = next((figure for figure in paper_figures() if figure.key == key), None)
    if found is None:
        raise ValueError(f"The figure must be one of papers.json, but got {key!r}.")
    where = found.dataset.partition(",")[0]
    return f"{found.value} on {where}" if found.change is None else f"{found.change:+.1f} points on {where}"
