"""Commands that measure: evaluate, ablate, pocket-report, timings."""

import argparse
from pathlib import Path
from typing import Any

from ovseg.commands.common import add_method, add_network, command, method_of, models_of, progress
from ovseg.evaluation import workers
from ovseg.evaluation.ablations import ABLATIONS, Ablation
from ovseg.evaluation.ablations import as_markdown as ablation_table
from ovseg.evaluation.baselines import MEASURABLE
from ovseg.evaluation.benchmark import Benchmark, as_markdown, with_best_threshold
from ovseg.evaluation.datasets import DATASETS, Dataset, find_dataset
from ovseg.evaluation.labels import LABEL_SOURCES
from ovseg.evaluation.protocols import PROTOCOLS
from ovseg.evaluation.timings import measure, table
from ovseg.methods import METHODS, find_method, suited_to
from ovseg.types import named


def add_commands(commands: Any) -> None:
    """Add the commands of this file."""
    _add_evaluate(commands)
    _add_ablate(commands)
    _add_pocket_report(commands)
    _add_timings(commands)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="pocket-val", help=", ".join(DATASETS))
    parser.add_argument("--data", type=Path, help="the folder that holds it; the pocket world needs none")
    parser.add_argument("--split", help="of a benchmark: the one that papers report if not given, or the training split")


def _dataset(options: argparse.Namespace) -> Dataset:
    return find_dataset(options.dataset, options.data, options.split)


def _add_evaluate(commands: Any) -> None:
    parser = command(commands, "evaluate", evaluate, "Measure a method on a data set; a stopped run goes on in its folder.")
    _add_dataset(parser)
    parser.add_argument("--count", type=int, help="pictures; all of a benchmark, 64 of the pocket world if not given")
    parser.add_argument("--labels", default="ground-truth", help=f"classes asked for: {', '.join(LABEL_SOURCES)}")
    parser.add_argument("--protocol", default="native", help=", ".join(PROTOCOLS))
    parser.add_argument(
        "--threshold-from", type=Path, metavar="DIR", help="take the best threshold of a run on another split"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes here; or start this command with torchrun")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables, the sheet and the pictures' counts")
    add_method(parser, MEASURABLE)
    add_network(parser)


def evaluate(options: argparse.Namespace) -> None:
    """`evaluate --method M --dataset D --count N --out DIR`."""
    models, dataset = models_of(options), _dataset(options)
    count = options.count or (64 if dataset.length is None else None)
    protocol = named(PROTOCOLS, "protocol", options.protocol)
    method = method_of(options, models, find_method(options.method, MEASURABLE))
    task = Benchmark(models, method, dataset, count, options.seed, options.labels, protocol)
    if options.threshold_from:
        task = with_best_threshold(task, options.threshold_from)
    table = workers.run(task, options.out, options.workers, progress)
    if table:
        progress(f"{dataset.name} {task.total}/{task.total}", 1.0)
        print(as_markdown(table))


def _add_ablate(commands: Any) -> None:
    parser = command(commands, "ablate", ablate, "Measure the variants of a method, one thing changed in each; one table.")
    parser.add_argument("--method", default=METHODS[0].name, help=", ".join(ABLATIONS))
    _add_dataset(parser)
    parser.add_argument("--count", type=int, default=64, help="pictures")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="rows whose name holds one of these texts")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table and the runs")
    add_network(parser)


def ablate(options: argparse.Namespace) -> None:
    """`ablate --method M --dataset D --count N [--only TEXT ...] --out DIR`."""
    models, kind = models_of(options), find_method(options.method)
    task = Benchmark(models, suited_to(models, kind), _dataset(options), options.count)
    rows = Ablation(task, kind, tuple(options.only)).run(options.out, progress)
    progress("measured", 1.0)
    print(ablation_table(rows))


def _add_pocket_report(commands: Any) -> None:
    parser = command(commands, "pocket-report", pocket_report, "Measure every figure of the pocket bundle's card.")
    parser.add_argument("--per-thing", type=int, default=8, help="pictures generated of each thing")
    parser.add_argument("--pairs", type=int, default=64, help="pictures generated of two things")
    parser.add_argument("--count", type=int, default=256, help="scenes for CLIP and the segmenters")
    parser.add_argument("--out", type=Path, required=True, help="folder for card.md, card.json, samples.jpg and the runs")
    add_network(parser)


def pocket_report(options: argparse.Namespace) -> None:
    """`pocket-report --out DIR`."""
    from ovseg.evaluation.pocket_report import PocketReport

    report = PocketReport(models_of(options), options.out, options.per_thing, options.pairs, options.count)
    rows = report.run(progress)
    progress("measured", 1.0)
    for row in rows:
        print(f"{row.value:>28}  {row.what}" + (f" (aim {row.aim})" if row.aim else ""))


def _add_timings(commands: Any) -> None:
    parser = command(commands, "timings", timings, "Measure how long loading, generating and segmenting take here.")
    parser.add_argument("--runs", type=int, default=5)
    known = ", ".join(kind.name for kind in METHODS)
    parser.add_argument("--methods", nargs="*", default=[METHODS[0].name], help=f"{known}; the first if not given")
    add_network(parser)


def timings(options: argparse.Namespace) -> None:
    """`timings`."""
    models = models_of(options)
    print(table(models, measure(models, options.runs, [find_method(name) for name in options.methods])))
