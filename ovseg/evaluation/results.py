"""The results that the page shows: runs of `evaluate` and `ablate`, kept as small files, beside the papers' figures."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path

from ovseg.assets import ASSETS
from ovseg.evaluation.ablations import AblationTable, meant
from ovseg.evaluation.baselines import MEASURABLE, ClipCentrePrior
from ovseg.evaluation.benchmark import USUAL, Benchmark
from ovseg.evaluation.datasets import find_dataset
from ovseg.files import as_json, read_json, write_whole
from ovseg.methods import METHODS, Method, find_method, obstacle_to, suited_to
from ovseg.methods.records import PaperFigure, ShownRun
from ovseg.models import Models
from ovseg.progress import Report, about, silent, within

SHIPPED = ASSETS / "results"
DATASET = "pocket-val"
FIGURES = ("miou", "mean_image_miou", "pixel_accuracy")
LEFT_OUT = ("iou", "miou_at_threshold", "background_words")  # of a run's table, in the kept file


@dataclass(frozen=True)
class Run:
    """A run that the page shows. `rows` are those of its table of variants; none for a single run."""

    name: str
    method: str
    _: KW_ONLY
    labels: str = "ground-truth"
    rows: tuple[str, ...] = ()


def _runs_of(kind: type[Method]) -> Iterator[Run]:
    """The run of a method's suited settings, and what else it shows."""
    for shown in (ShownRun(kind.name), *kind.runs):
        beside = [figure.ours for figure in kind.figures() if figure.ours] if shown.of_ablations else []
        rows = tuple(dict.fromkeys(row for ours in beside for row in (ours.before, ours.row) if row))
        yield Run(shown.name, kind.name, labels=shown.labels, rows=rows)


def kept_folder(models: Models) -> Path:
    """Where the files of a backbone ship: those of the usual one in the folder itself, of another in its own below it."""
    return SHIPPED if models.name == USUAL["backbone"] else SHIPPED / models.folder_name


RUNS: tuple[Run, ...] = tuple(run for kind in (*METHODS, ClipCentrePrior) for run in _runs_of(kind))


@dataclass(frozen=True)
class Measuring:
    """All runs, or those that the texts `only` mean, on the first `count` scenes of `DATASET`."""

    models: Models
    count: int
    out: Path  # folder of the runs, each of which can go on after a stop
    to: Path  # folder of the kept files
    only: tuple[str, ...] = ()

    def run(self, report: Report = silent) -> list[Path]:
        """Measure what is missing; returns the files, one for each run. What lacks a network is left out, with a report.

        Raises:
            ValueError: no run is asked for, the count is below 1, or a network is missing.
        """
        known = [run.name for run in RUNS]
        chosen = [run for run in RUNS if run.name in meant(known, self.only)]
        if not chosen:
            raise ValueError(f"The runs must be some of {', '.join(known)}, but got {self.only}.")
        written = []
        for number, run in enumerate(chosen):
            part = within(report, number / len(chosen), (number + 1) / len(chosen))
            if obstacle := obstacle_to(self.models, find_method(run.method, MEASURABLE)):
                part(f"{run.name}: {obstacle}", 1.0)
                continue
            kept = self._measured(run, about(part, run.name))
            written.append(self.to / f"{run.name}.json")
            write_whole(written[-1], as_json(kept, indent=1))
        return written

    def _measured(self, run: Run, report: Report) -> list[dict]:
        kind = find_method(run.method, MEASURABLE)
        task = Benchmark(self.models, suited_to(self.models, kind), find_dataset(DATASET), self.count, labels=run.labels)
        if run.rows:
            return AblationTable(task, kind, run.rows).run(self.out / run.name, report)
        table = task.run(self.out / run.name, report)
        return [{name: value for name, value in table.items() if name not in LEFT_OUT}]


@dataclass(frozen=True)
class Measured:
    """A row of a kept file: what was measured, on what, with which weights, and the command."""

    record: Mapping = field(repr=False)

    @property
    def what(self) -> str:
        """The name of the variant; empty for a run with the settings that suit the backbone."""
        return self.record.get("what", "")

    def figure(self, metric: str) -> float:
        """A figure in per cent."""
        return 100 * self.record[metric]

    def is_of(self, weight_files: Mapping[str, str]) -> bool:
        """Whether it was measured with weight files of these checksums."""
        return all(weight_files.get(part) == digest for part, digest in self.record["weight files"].items())


@dataclass(frozen=True)
class FigurePair:
    """A figure of a paper, and ours beside it; `before` is what a change starts from. None where there is none."""

    paper: PaperFigure
    ours: Measured | None
    before: Measured | None

    @property
    def value(self) -> float | None:
        """Our figure in per cent, by the metric that it names."""
        return None if self.ours is None else self.ours.figure(self.paper.ours.metric)

    @property
    def start(self) -> float | None:
        """Our figure that the change starts from."""
        return None if self.before is None else self.before.figure(self.paper.ours.metric)

    @property
    def change(self) -> float | None:
        """Points that ours gains or loses; None where the figure is no change, or was not measured."""
        return None if self.start is None else self.value - self.start


@dataclass(frozen=True)
class ResultFiles:
    """The kept files of a folder, which are of one network, and of its folders, each of another network."""

    folder: Path = SHIPPED

    @cached_property
    def others(self) -> tuple["ResultFiles", ...]:
        """The files of the other networks."""
        return tuple(ResultFiles(folder) for folder in sorted(self.folder.glob("*/")))

    @cached_property
    def files(self) -> dict[str, tuple[Measured, ...]]:
        """The rows of each file, by its name without the ending, in the order of `RUNS`."""
        order = {run.name: number for number, run in enumerate(RUNS)}
        paths = sorted(self.folder.glob("*.json"), key=lambda path: (order.get(path.stem, len(order)), path.stem))
        rows = {path.stem: read_json(path, list) for path in paths}
        return {name: tuple(Measured(row) for row in of_file if "obstacle" not in row) for name, of_file in rows.items()}

    def all_rows(self) -> Iterator[Measured]:
        """Every row of every file, those of the other networks behind."""
        for rows in self.files.values():
            yield from rows
        for other in self.others:
            yield from other.all_rows()

    def plain(self) -> dict[str, Measured]:
        """The runs of methods as they suit the network, by the method's name."""
        return {name: rows[0] for name, rows in self.files.items() if rows and rows[0].record["method"] == name}

    def beside(self, figures: Iterable[PaperFigure]) -> list[FigurePair]:
        """Each of the papers' figures with what stands beside it."""
        return [self._beside(figure) for figure in figures]

    def _beside(self, figure: PaperFigure) -> FigurePair:
        if figure.ours is None:
            return FigurePair(figure, None, None)
        rows = {row.what: row for row in self.files.get(figure.ours.file, ())}
        before = rows.get(figure.ours.before) if figure.ours.before else None
        ours = rows.get(figure.ours.row)
        return FigurePair(figure, ours if before or not figure.ours.before else None, before)
