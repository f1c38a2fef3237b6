"""Options of the commands that generate many pictures from classes."""

import argparse

from ovseg.factory.splits import UNSEEN
from ovseg.methods.grounded_diffusion import GroundedDiffusion
from ovseg.pocket.world import THINGS
from ovseg.words.classes import parse_classes


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Options for the classes of the prompts and their seeds."""
    parser.add_argument("--classes", default="", help='such as "cat, dog" (default: all things of the pocket world)')
    parser.add_argument("--pairs", type=float, default=0.5, help="share of prompts with two classes, 0 to 1 (default: 0.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture; the next ones count up (default: 0)")


def classes_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The classes that the options name.

    Raises:
        ValueError: they cannot be read.
    """
    return tuple(word.name for word in parse_classes(options.classes)) if options.classes else THINGS


def add_steps(parser: argparse.ArgumentParser) -> None:
    """The option for the sampling steps."""
    parser.add_argument("--steps", type=int, help="sampling steps of a picture (default: the backbone's)")


def add_module(parser: argparse.ArgumentParser) -> None:
    """Options for the grounding module."""
    parser.add_argument("--split", default="S1", help=f"class split: {', '.join(UNSEEN)} (default: S1)")
    parser.add_argument("--module", default="", help="folder of a grounding module (default: the one of the split)")


def method_of(options: argparse.Namespace) -> GroundedDiffusion:
    """Grounded Diffusion with the module that the options name."""
    return GroundedDiffusion(module=options.module or options.split)
