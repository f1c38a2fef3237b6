"""`ablate --method M --dataset D --count N --out DIR`: a table of variants of one method, or of the parts of reading."""

import argparse

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.evaluate import add_dataset, dataset_of
from ovseg.commands.values import out_folder
from ovseg.evaluation.ablations import AblationTable, as_markdown
from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.parts import PartsTable, parts_markdown, parts_plot
from ovseg.files import write_whole
from ovseg.methods import METHODS, find_method, suited_to


def add_options(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(kind.name for kind in METHODS if kind.ablations)
    parser.add_argument("--method", default=METHODS[0].name, help=f"{known} (default: {METHODS[0].name})")
    parser.add_argument(
        "--parts", action="store_true", help="in place of a method's variants the parts of reading cross-attention"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="with --parts: how many noises each picture is looked at with (default: 1)"
    )
    add_dataset(parser)
    parser.add_argument("--count", type=int, default=64, help="number of pictures (default: 64)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TEXT",
        help="only variants of these names, or whose name contains one of these texts",
    )  # fmt: skip
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the table and the runs")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Measure every variant, or continue, and print the table."""
    models, dataset = models_of(options), dataset_of(options)
    if options.parts:
        table = PartsTable(models, dataset, options.count, tuple(range(options.seeds)))
        parts = table.run(options.out, show_progress)
        title = f"Parts of reading cross-attention: {models.name}, {dataset.name}, {options.count} pictures"
        write_whole(options.out / "parts.svg", parts_plot(title, parts).encode())
        write_whole(options.out / "parts.md", parts_markdown(parts).encode())
        show_progress("measured", 1.0)
        print(parts_markdown(parts))
        return
    kind = find_method(options.method)
    task = Benchmark(models, suited_to(models, kind), dataset, options.count)
    rows = AblationTable(task, kind, tuple(options.only)).run(options.out, show_progress)
    show_progress("measured", 1.0)
    print(as_markdown(rows))
