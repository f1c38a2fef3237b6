"""`ablate --method M --dataset D --count N --out DIR`: a table of variants of one method."""

import argparse

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.evaluate import add_dataset, dataset_of
from ovseg.commands.values import out_folder
from ovseg.evaluation.ablations import Ablation, as_markdown
from ovseg.evaluation.benchmark import Benchmark
from ovseg.methods import METHODS, find_method, suited_to


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `ablate`."""
    known = ", ".join(kind.name for kind in METHODS if kind.ablations)
    parser.add_argument("--method", default=METHODS[0].name, help=f"{known} (default: {METHODS[0].name})")
    add_dataset(parser)
    parser.add_argument("--count", type=int, default=64, help="number of pictures (default: 64)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TEXT", help="only variants whose name contains one of these texts"
    )
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the table and the runs")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Measure every variant, or continue, and print the table."""
    models, kind = models_of(options), find_method(options.method)
    task = Benchmark(models, suited_to(models, kind), dataset_of(options), options.count)
    rows = Ablation(task, kind, tuple(options.only)).run(options.out, show_progress)
    show_progress("measured", 1.0)
    print(as_markdown(rows))
