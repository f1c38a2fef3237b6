"""What a method's folder says of its method beside the code: rows of ablations, the paper's figures, runs, floors."""

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

METRICS = {
    "miou": "dataset mIoU", "mean_image_miou": "mean per-image mIoU", "miou_of_objects": "mean IoU of the objects",
}  # fmt: skip
"""Names of the metrics of figures and of our tables."""


@dataclass(frozen=True)
class AblationRow:
    """One row of a method's table of ablations.

    Args:
        what: its name.
        settings: fields of the method that differ from the mode.
        labels: a name of `LABEL_SOURCES`.
        paper: the key of the paper's figure for this change; empty if it reports none.
        needs: networks that it uses and the method does not.
        mode: a mode of the method.
    """

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    labels: str = "ground-truth"
    paper: str = ""
    needs: tuple[str, ...] = ()
    mode: str = "suited"


@dataclass(frozen=True)
class ShownRun:
    """A run beside that of the suited settings, which the page shows: the kept file, and a name of `LABEL_SOURCES`.

    `of_ablations` says that it is of those rows of the method's ablations that stand beside a figure of its paper.
    """

    name: str
    labels: str = "ground-truth"
    of_ablations: bool = False


@dataclass(frozen=True)
class Floor:
    """What the method must reach with weights that ship: a mean IoU, and the settings that make it quick to measure."""

    mean_image_miou: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = "pocket"


@dataclass(frozen=True)
class Ours:
    """Which result of ours stands beside a paper's figure.

    Args:
        file: its name in the folder of results.
        row: of a table of ablations; empty for a single run.
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

    def in_short(self) -> str:
        """The figure for a cell of a table: "-10.0 points on PASCAL VOC 2012 val"."""
        where = self.dataset.partition(",")[0]
        return f"{self.value} on {where}" if self.change is None else f"{self.change:+.1f} points on {where}"


@cache
def figures_in(file: Path) -> tuple[PaperFigure, ...]:
    """The figures of a file, in its order; none where there is no file.

    A paper's own text was not always at hand: "read in" says where a figure was read, and a table is named by what it
    compares, not by its number.
    """
    return tuple(map(_figure, json.loads(file.read_text(encoding="utf-8")))) if file.exists() else ()


def _figure(row: dict[str, Any]) -> PaperFigure:
    ours = row.get("ours")
    beside = ours and Ours(ours["file"], ours.get("row", ""), ours.get("before", ""), ours.get("as", row["metric"]))
    same = {name: row[name] for name in ("key", "what", "dataset", "protocol", "metric", "value", "table", "why")}
    return PaperFigure(**same, before=row.get("before"), read_in=row["read in"], ours=beside)
