"""Options of the commands that generate many pictures from classes."""

import argparse
from dataclasses import replace

from ovseg.commands.values import number, seed
from ovseg.factory.splits import OWN, UNSEEN, ClassSplit, find_split, splits_for
from ovseg.methods import modes_of
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.models import Models
from ovseg.types import named
from ovseg.words.classes import parse_classes

KNOWN_SPLITS = f"{', '.join(UNSEEN)} with the pocket backbone, {', '.join(splits_for('sd15'))} with others, or {OWN}"
"""For the help of `--split`."""


def add_classes(parser: argparse.ArgumentParser, default: str) -> None:
    """Options for the classes of the prompts and their seeds; `default` says which they are without `--classes`."""
    parser.add_argument("--classes", default="", help=f'such as "cat, dog" (default: {default})')
    parser.add_argument(
        "--pairs", type=number(0, 1), default=0.5, help="share of prompts with two classes, 0 to 1 (default: 0.5)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the first picture; the next ones count up (default: 0)")


def classes_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The classes that `--classes` names; none without it."""
    return tuple(word.name for word in parse_classes(options.classes)) if options.classes else ()


def add_steps(parser: argparse.ArgumentParser) -> None:
    """Options for how pictures are drawn: the sampling steps, and the mode of Grounded Diffusion that gives the rest."""
    parser.add_argument("--steps", type=int, help="sampling steps of a picture (default: the mode's)")
    parser.add_argument(
        "--mode",
        default="suited",
        help="how pictures are drawn and masks are made: suited (to the backbone), or released (as in the paper's code: 50"
        " steps of DDIM at guidance 5, one word at a time, the surest instance of the detector) (default: suited)",
    )


def add_module(parser: argparse.ArgumentParser) -> None:
    """Options for the grounding module."""
    first, other = splits_for("pocket")[0], splits_for("sd15")[0]
    parser.add_argument(
        "--split", default="", help=f"class split: {KNOWN_SPLITS} (default: {first}; {other} with sd15 and sd21)"
    )
    parser.add_argument(
        "--module", default="", help="name or folder of a grounding module (default: that of the split's name)"
    )


def split_of(options: argparse.Namespace, models: Models) -> ClassSplit:
    """The class split that the options name, or the backbone's first one."""
    offered = splits_for(models.name)
    return find_split(options.split or offered[0], offered)


def mode_of(options: argparse.Namespace, models: Models) -> GroundedDiffusion:
    """Grounded Diffusion in the mode that the options name."""
    return named(modes_of(models, GroundedDiffusion), "mode of Grounded Diffusion", options.mode)


def method_of(options: argparse.Namespace, models: Models) -> GroundedDiffusion:
    """Grounded Diffusion in the mode and with the module that the options name."""
    return replace(mode_of(options, models), module=options.module or split_of(options, models).name)
