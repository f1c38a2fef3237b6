"""`grounded-generation --split S --judge DIR --out DIR`: Protocol I of Grounded Diffusion."""

import argparse

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.prompts import add_module, add_steps, method_of, split_of
from ovseg.commands.values import out_folder
from ovseg.factory.grounded_generation import GroundedGeneration, as_markdown
from ovseg.pretrained.detector import load_detector
from ovseg.progress import with_time_left


def add_options(parser: argparse.ArgumentParser) -> None:
    add_module(parser)
    parser.add_argument("--detector", help="folder of the segmenter that labelled the module's training")
    parser.add_argument(
        "--judge", default="", help="folder or repository of a segmenter that knows all classes (default: the backbone's)"
    )
    parser.add_argument("--count", type=int, default=24, help="pictures in each of the five groups of prompts (default: 24)")
    add_steps(parser)
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the table and the pictures")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Generate what is missing, measure, and print the table."""
    models = models_of(options)
    split, method = split_of(options, models), method_of(options, models)
    sources = {"detector": options.detector, "judge": options.judge or models.checkpoint.detector}
    if not sources["judge"]:
        raise ValueError("The pocket world needs --judge, a folder that `train detector` left, but none was given.")
    judges = {name: load_detector(source, models.device) for name, source in sources.items() if source}
    task = GroundedGeneration(models, method, split.source, judges, method.sampling(models, options.steps), options.count)
    table = task.run(options.out, with_time_left(show_progress))
    show_progress("measured", 1.0)
    print(as_markdown(table))
