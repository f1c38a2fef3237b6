"""`evaluate --method M --dataset D --count N --out DIR`: the figures of one method on one data set."""

import argparse
from pathlib import Path

from ovseg.commands.common import add_method, add_networks, configuration_of, models_of, show_progress
from ovseg.commands.values import out_folder, seed
from ovseg.evaluation import workers
from ovseg.evaluation.baselines import MEASURABLE
from ovseg.evaluation.benchmark import Benchmark, as_markdown, with_best_threshold
from ovseg.evaluation.datasets import DATASETS, Dataset, find_dataset
from ovseg.evaluation.labels import LABEL_SOURCES
from ovseg.evaluation.protocols import PROTOCOLS
from ovseg.evaluation.written_masks import WrittenMasks, written_markdown
from ovseg.types import named

POCKET_COUNT = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument(
        "--count", type=int, help=f"number of pictures (default: all of a benchmark, {POCKET_COUNT} of the pocket world)"
    )
    parser.add_argument(
        "--labels",
        default="",
        help=f"classes that the method is asked for: {', '.join(LABEL_SOURCES)} (default: the protocol's)",
    )
    parser.add_argument(
        "--protocol",
        default="native",
        help=f"labels, class names, background, sizes and windows: {', '.join(PROTOCOLS)} (default: native)",
    )
    parser.add_argument(
        "--threshold-from", type=Path, metavar="DIR", help="finished run on another split, whose best threshold is taken"
    )
    parser.add_argument(
        "--from",
        type=Path,
        metavar="FOLDER",
        dest="masks",
        help="masks that are written already, NAME.png with the data set's labels; no method is run",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the noise that is added to the pictures (default: 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes; leave it out under torchrun (default: 1)")
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the tables, the overview and the counts")
    add_method(parser, MEASURABLE)
    add_networks(parser, several=True)


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Options for the data set."""
    parser.add_argument("--dataset", default="pocket-val", help=f"{', '.join(DATASETS)} (default: pocket-val)")
    parser.add_argument("--data", type=Path, help="folder of a benchmark; of the pocket world that of other sprites")
    parser.add_argument("--split", help="split of a benchmark (default: the one that papers report)")


def dataset_of(options: argparse.Namespace) -> Dataset:
    """The data set that the options name."""
    return find_dataset(options.dataset, options.data, options.split)


def run(options: argparse.Namespace) -> None:
    """Measure, or continue a stopped run, and print the table."""
    models, dataset = models_of(options), dataset_of(options)
    count = POCKET_COUNT if options.count is None and dataset.length is None else options.count
    if options.masks:
        table = WrittenMasks(dataset, options.masks, count or dataset.length).table(options.out, show_progress)
        show_progress(f"{dataset.name} {table['count']}/{table['count']}", 1.0)
        print(written_markdown(table))
        return
    protocol = named(PROTOCOLS, "protocol", options.protocol)
    configuration = configuration_of(options, options.method, MEASURABLE)
    models = configuration.networks(models)
    method = protocol.fitted(configuration.build(models), dataset.entry, configuration.settings)
    task = Benchmark(models, method, dataset, count, seed=options.seed, labels=options.labels, protocol=protocol)
    if options.threshold_from:
        task = with_best_threshold(task, options.threshold_from)
    table = workers.run(task, options.out, options.workers, show_progress)
    if table:
        show_progress(f"{dataset.name} {task.total}/{task.total}", 1.0)
        print(as_markdown(table))
