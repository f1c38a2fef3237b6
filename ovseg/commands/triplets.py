"""`triplets --classes WORDS --count N --out DIR`: what a grounding module is trained on.

Under `torchrun`, or another launcher that sets the same variables, the processes share the work.
"""

import argparse

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.prompts import KNOWN_SPLITS, add_classes, add_steps, classes_of, mode_of, split_of
from ovseg.commands.values import out_folder, whole
from ovseg.factory.triplets import Factory, index
from ovseg.models import Models
from ovseg.pocket.world import THINGS
from ovseg.pretrained.detector import load_detector
from ovseg.processes import joined, on_device
from ovseg.progress import silent, with_time_left


def add_options(parser: argparse.ArgumentParser) -> None:
    add_classes(parser, "all that the pocket backbone knows; must be named for others")
    parser.add_argument("--split", default="", help=f"in place of --classes: the seen classes of {KNOWN_SPLITS}")
    parser.add_argument("--count", type=int, default=512, help="number of pictures (default: 512)")
    parser.add_argument(
        "--detector",
        default="",
        help="folder or repository of the segmenter that labels the pictures (default: the backbone's)",
    )
    parser.add_argument(
        "--timestep", type=whole(0, 999), default=1, help="noise level at which features are read (default: 1)"
    )
    add_steps(parser)
    parser.add_argument(
        "--single", action="store_true", help="the mask of a class is its most certain instance, not all instances"
    )
    parser.add_argument(
        "--latents", action="store_true", help="keep latents and not features: smaller files, but slower training"
    )
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the triplets")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Make the triplets, or those that are missing, and print how many objects the detector missed."""
    if options.count < 1:
        raise ValueError(f"--count must be 1 or more, but got {options.count}.")
    if options.split and options.classes:
        raise ValueError("--split and --classes both say what is drawn: give one of them.")
    with joined() as share:
        factory = _factory(options, on_device(models_of(options), share.local))
        report = with_time_left(show_progress) if share.rank == 0 else silent
        factory.run(options.out, report, share.rank, share.count)
        made_by_all = share.gather({})
    if made_by_all is not None:
        counts = index(options.out, options.count)
        show_progress("triplets made", 1.0)
        share = counts["missed"] / counts["words"]
        print(f"{counts['items']} pictures, {counts['words']} objects asked for, {counts['missed']} ({share:.0%}) not found")


def _factory(options: argparse.Namespace, models: Models) -> Factory:
    source = options.detector or models.checkpoint.detector
    if not source:
        raise ValueError("The pocket world needs --detector, a folder that `train detector` left, but none was given.")
    classes, method = _classes(options, models), mode_of(options, models)
    return Factory(
        models,
        load_detector(source, models.device),
        classes,
        options.count,
        method.sampling(models, options.steps),
        pairs=options.pairs,
        seed=options.seed,
        timestep=options.timestep,
        single=options.single or method.top_instance,
        features=not options.latents,
    )


def _classes(options: argparse.Namespace, models: Models) -> tuple[str, ...]:
    if options.split:
        return split_of(options, models).seen
    if not options.classes and not models.checkpoint.classes:
        raise ValueError(f"What is drawn on {models.name} must be named by --split or --classes, but neither was given.")
    return classes_of(options) or THINGS
