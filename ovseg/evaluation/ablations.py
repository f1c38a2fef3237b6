"""Tables of variants of a method: each row changes one setting, and names the command that gives its figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ovseg.evaluation.benchmark import Benchmark
from ovseg.files import as_json, write_whole
from ovseg.limits import quoted
from ovseg.methods import METHODS, Method, modes_of
from ovseg.output.tables import Table
from ovseg.progress import Report, about, silent, within


@dataclass(frozen=True)
class AblationTable:
    """All variants of a method on the data set of `task`, or those that the texts `only` mean.

    Each variant has its own folder, so that a stopped table can continue.
    """

    task: Benchmark
    kind: type[Method]
    only: tuple[str, ...] = ()

    def run(self, out: Path, report: Report = silent) -> list[dict]:
        """Measure every variant; write `ablation.md` and `ablation.json`, and return its rows.

        Raises:
            ValueError: the method has no table of variants, or no name contains one of the texts.
        """
        known = [variant.what for variant in self.kind.ablations]
        if not known:
            measured = ", ".join(kind.name for kind in METHODS if kind.ablations)
            raise ValueError(f"The method must be one of {measured}, which have a table, but got {quoted(self.kind.name)}.")
        asked = meant(known, self.only)
        if not asked:
            raise ValueError(
                f"The rows must be some of {'; '.join(known)}; but no row of {self.kind.title} contains {self.only}."
            )
        rows = list(self._rows(asked, out, report))
        write_whole(out / "ablation.json", as_json(rows))
        write_whole(out / "ablation.md", as_markdown(rows).encode())
        return rows

    def _rows(self, asked: Sequence[str], out: Path, report: Report) -> Iterator[dict]:
        variants, measured = self.kind.ablations, {}
        figures = {figure.key: figure.in_short() for figure in self.kind.figures()}
        for number, variant in enumerate(variants):
            if variant.what not in asked:
                continue
            paper = figures[variant.paper] if variant.paper else ""
            if obstacle := " ".join(filter(None, map(self.task.models.obstacle, variant.needs))):
                yield {"what": variant.what, "paper": paper, "obstacle": obstacle}
                continue
            method = replace(modes_of(self.task.models, self.kind)[variant.mode], **variant.settings)
            task = replace(self.task, method=method, labels=variant.labels)
            report_row = about(within(report, number / len(variants), (number + 1) / len(variants)), variant.what)
            # Two variants can be the same method, where one of them is what suits the backbone: measured once.
            if (method, variant.labels) not in measured:
                measured[method, variant.labels] = task.run(out / f"{number:02d}", report_row)
            table = measured[method, variant.labels]
            swept = table.get("miou_at_threshold", {})
            best = max(swept, key=swept.get) if swept else None
            yield {
                "what": variant.what,
                "paper": paper,
                "method": self.kind.name,
                **{name: table[name] for name in ("dataset", "count", "labels", "backbone", "weight files")},
                "miou": table["miou"],
                "mean_image_miou": table["mean_image_miou"],
                "pixel_accuracy": table["pixel_accuracy"],
                "best_threshold": best,
                "miou_at_best": swept.get(best),
                "command": task.command(f"{number:02d}"),
            }


def meant(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The names that some texts mean: a name's own text it alone, another one all that contain it; no text means all."""
    return [name for name in names if not texts or any(t == name or (t in name and t not in names) for t in texts)]


def as_markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table, in percent."""
    columns = ("dataset mIoU", "per-image mIoU", "pixel accuracy", "best threshold", "mIoU with it", "the paper", "command")
    return Table(("variant", *columns), tuple(map(_cells, rows)), {}).markdown()


def _cells(row: dict) -> tuple[str, ...]:
    if "obstacle" in row:
        return row["what"], f"not run: {row['obstacle']}", "", "", "", "", row["paper"], ""
    figures = (f"{row[key]:.1%}" for key in ("miou", "mean_image_miou", "pixel_accuracy"))
    best = (row["best_threshold"], f"{row['miou_at_best']:.1%}") if row["best_threshold"] else ("", "")
    return row["what"], *figures, *best, row["paper"], f"`{row['command']}`"
