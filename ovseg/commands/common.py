"""What several commands share: options, and how options become networks, methods and settings."""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from ovseg.backbones import BACKBONES
from ovseg.commands.values import seed
from ovseg.compare import board_of
from ovseg.methods import METHODS, Method
from ovseg.methods.grammar import Configuration, read_method
from ovseg.models import Models
from ovseg.output.files import PARTS
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS
from ovseg.types import named
from ovseg.words.class_filter import asked_for
from ovseg.words.classes import ClassWord
from ovseg.words.notes import note_on_photographs, notes_on


def add_networks(parser: argparse.ArgumentParser, backbone: str = "pocket", *, several: bool = False) -> None:
    """Options for the backbone, which is this one if not given, the device and the precision.

    Args:
        several: whether the command has a use for more than one backbone.
    """
    more = "; several with commas between them where methods name one (NAME:backbone=...)" if several else ""
    parser.add_argument(
        "--backbone",
        default=backbone,
        help=f"diffusion network: {', '.join(BACKBONES)}, or a local diffusers folder{more} (default: {backbone})",
    )
    parser.set_defaults(takes_several=several)
    parser.add_argument("--lora", metavar="FILE", help="a LoRA that changes the backbone's weights; needs the package peft")
    parser.add_argument(
        "--offload",
        action="store_true",
        help="keep the backbone's parts in the computer's memory, and one at a time on the accelerator",
    )
    parser.add_argument(
        "--words",
        dest="saved_words",
        metavar="[NAME=]FILE",
        action="append",
        default=[],
        help="encoded prompts of `words save`, read in place of the text encoder: of the first backbone, or of the one that"
        " is named; may be given for each",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps (default: the best one of this machine)")
    parser.add_argument(
        "--dtype", help="number format: float32, float16 or bfloat16 (default: float32 on the CPU, else float16)"
    )


def models_of(options: argparse.Namespace) -> Models:
    """The networks that the options name; none is loaded yet.

    Raises:
        ValueError: what `board_of` raises; several backbones are named, and the command has no use for them.
    """
    name = f"{options.backbone}+{options.lora}" if options.lora else options.backbone
    models = board_of(name, options.device, options.dtype, offload=options.offload, words=options.saved_words)
    if len(models.board) > 1 and not options.takes_several:
        raise ValueError(f"This command takes one backbone, but got {len(models.board)}: {options.backbone}.")
    return models


def add_words(parser: argparse.ArgumentParser) -> None:
    """Options for what is asked of a picture: the classes, the caption, who writes one, and the noise."""
    parser.add_argument(
        "--classes",
        default="",
        help='words such as "dog|puppy, traffic light, sky": commas between classes, bars between words for the same class'
        " (default: the nouns of the caption)",
    )
    parser.add_argument("--caption", default="", help="sentence that describes the picture (default: the captioner's)")
    add_captioner(parser)
    parser.add_argument("--seed", type=seed, default=0, help="of the noise that is added to the picture (default: 0)")


def words_of(
    options: argparse.Namespace, models: Models, image: np.ndarray, *, finds_words: bool = False
) -> tuple[tuple[ClassWord, ...], str]:
    """The classes and the caption that the options ask for of a picture; see `asked_for`. Notes on them are said."""
    given = {"caption": options.caption, "captioner": options.captioner}
    classes, caption = asked_for(models, image, options.classes, finds_words=finds_words, **given, report=show_progress)
    say_notes(models, classes)
    return classes, caption


def add_captioner(parser: argparse.ArgumentParser) -> None:
    """The option for the captioner."""
    known = ", ".join((*CAPTIONERS, *LAVIS_MODELS))
    parser.add_argument(
        "--captioner", default="", help=f"network that describes pictures: {known} (default: the backbone's own)"
    )


def add_method(parser: argparse.ArgumentParser, kinds: Sequence[type[Method]] = METHODS) -> None:
    """Options for the method, which is one of `kinds`, and its settings."""
    known = ", ".join(kind.name for kind in kinds)
    parser.add_argument(
        "--method",
        default=kinds[0].name,
        metavar="NAME[:FIELD=VALUE...]",
        help=f"{known}; with settings such as {kinds[0].name}:mode=released (default: {kinds[0].name})",
    )
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options for the settings of a method."""
    parser.add_argument(
        "--mode",
        help="where the settings come from: suited (chosen for the backbone), released (the paper's code), or a preset of"
        " the method (default: suited)",
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="FIELD=VALUE",
        dest="settings",
        help="settings to change, as in the method's own text; `python -m ovseg methods NAME` lists them",
    )


def configuration_of(options: argparse.Namespace, method: str, kinds: Sequence[type[Method]] = METHODS) -> Configuration:
    """A method by its text, with the mode and the settings of the options on top."""
    return read_method(method, kinds, [*options.settings, *([f"mode={options.mode}"] if options.mode else [])])


def add_files(parser: argparse.ArgumentParser) -> None:
    """The option that says which files are written."""
    known = ", ".join(PARTS)
    parser.add_argument("--files", default="masks", help=f"what is written: all, or some of {known} (default: masks)")


def parts_of(text: str) -> tuple[str, ...]:
    """What `--files` asks for: names of `PARTS` between commas, or "all"."""
    known = {name: name for name in (*PARTS, "all")}
    return tuple(named(known, "files", name.strip()) for name in text.split(",") if name.strip())


def say_notes(models: Models, classes: Sequence[ClassWord]) -> None:
    """Say on stderr, once for each command, what words may not mean what was meant, and what a small network is not for."""
    for note in filter(None, [*notes_on(models.checkpoint, classes), note_on_photographs(models.checkpoint)]):
        print(f"ovseg: note: {note}", file=sys.stderr)


def show_progress(stage: str, share: float) -> None:
    """A `Report` for the terminal: one line on stderr, written over until the work is done."""
    print(f"\r{stage} {share:4.0%}".ljust(60), end="\n" if share >= 1 else "", file=sys.stderr, flush=True)
