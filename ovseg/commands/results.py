"""`results --out DIR`: the runs that the page's Results tab shows."""

import argparse

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.values import out_folder
from ovseg.evaluation.results import DATASET, RUNS, Measuring, ResultFiles, kept_folder


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=64, help=f"scenes of {DATASET} for each run (default: 64)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TEXT",
        help=f"only runs of these names, or whose name contains one of these texts; all: {', '.join(r.name for r in RUNS)}",
    )  # fmt: skip
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the runs, which continue after a stop")
    parser.add_argument(
        "--to",
        type=out_folder,
        help="folder for the files that the tab reads (default: the backbone's own of those that ship)",
    )
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, or continue, and print every figure."""
    models = models_of(options)
    task = Measuring(models, options.count, options.out, options.to or kept_folder(models), tuple(options.only))
    written = task.run(show_progress)
    show_progress("measured", 1.0)
    for name, rows in ResultFiles(task.to).files.items():
        for row in rows:
            print(f"{row.figure('miou'):6.1f} %  {name}{': ' + row.what if row.what else ''}")
    print("wrote " + ", ".join(str(path) for path in written))
