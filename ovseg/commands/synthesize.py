"""`synthesize --classes WORDS --count N --out DIR`: a data set of generated pictures with masks."""

import argparse
from dataclasses import replace

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.prompts import add_classes, add_module, add_steps, classes_of, method_of, split_of
from ovseg.commands.values import number, out_folder
from ovseg.factory.synthesize import Synthesis, digest
from ovseg.progress import with_time_left


def add_options(parser: argparse.ArgumentParser) -> None:
    add_classes(parser, "all classes of the split, seen and unseen")
    add_module(parser)
    parser.add_argument(
        "--threshold",
        type=number(0, 1),
        default=0.5,
        help="probability from which a pixel belongs to a class (default: 0.5)",
    )
    parser.add_argument("--count", type=int, default=64, help="number of pictures (default: 64)")
    add_steps(parser)
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the data set")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Make the data set, or what is missing of it."""
    models = models_of(options)
    method = replace(method_of(options, models), threshold=options.threshold)
    classes, sampling = classes_of(options) or split_of(options, models).classes, method.sampling(models, options.steps)
    task = Synthesis(models, method, classes, options.count, sampling, options.pairs, options.seed)
    task.run(options.out, with_time_left(show_progress))
    show_progress("data set made", 1.0)
    print(f"{options.count} pictures in {options.out}, content {digest(options.out)}; README.md there is its card")
