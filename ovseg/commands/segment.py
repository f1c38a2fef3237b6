"""`segment IMAGE --classes WORDS --out DIR`: masks of one picture."""

import argparse
from pathlib import Path

import numpy as np

from ovseg.commands.common import (
    add_captioner,
    add_files,
    add_method,
    add_networks,
    method_of,
    models_of,
    parts_of,
    show_progress,
)
from ovseg.methods import find_method
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.cost import measuring
from ovseg.output.files import Result, write_files
from ovseg.output.run_card import run_card
from ovseg.scene import from_image, read_image
from ovseg.words.classes import ClassWord
from ovseg.words.presence import asked_for, look_for


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `segment`."""
    parser.add_argument("image", type=Path, help="picture file")
    parser.add_argument(
        "--classes",
        default="",
        help='words such as "dog|puppy, traffic light, sky": commas between classes, bars between words for the same class'
        " (default: the nouns of the caption)",
    )
    parser.add_argument("--caption", default="", help="sentence that describes the picture (default: the captioner's)")
    add_captioner(parser)
    parser.add_argument(
        "--only-present",
        action="store_true",
        help="leave out classes that neither CLIP nor the caption finds",
    )
    add_method(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the noise that is added to the picture (default: 0)")
    parser.add_argument(
        "--square", action="store_true", help="squash the picture to a square first, as DiffSegmenter's code does"
    )
    parser.add_argument("--attention", action="store_true", help="also write every attention map as a picture")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files and their README.txt")
    add_files(parser)
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Segment the picture, write the files and print the share of each class."""
    models, kind, image = models_of(options), find_method(options.method), read_image(options.image)
    method, parts = method_of(options, models), parts_of(options.files)
    classes, caption = asked_for(
        models,
        image,
        options.classes,
        finds_words=kind.finds_words,
        caption=options.caption,
        captioner=options.captioner,
        report=show_progress,
    )
    if options.only_present:
        classes = _present(models, image, classes, caption)
    scene = from_image(models, image, options.seed, caption=caption, square=options.square)
    with measuring(models.device) as cost:
        result = method.segment(models, scene, classes, show_progress)
    card = run_card(models, scene, classes, method, result, cost=cost)
    written = write_files(Result(result, card), options.out, parts)
    if options.attention:
        view.write_attention(result, options.out / "attention")
    for name, share in result.shares.items():
        print(f"{share:7.2%}  {name}")
    print("wrote " + ", ".join(str(path) for path in written))


def _present(models: Models, image: np.ndarray, classes: tuple[ClassWord, ...], caption: str) -> tuple[ClassWord, ...]:
    """The classes that seem to be in the picture; the evidence for each is printed."""
    seen = look_for(models, image, classes, caption)
    for item in seen:
        verdict = "present" if item.present else "absent"
        print(f"{verdict:>8}  {item.name} (CLIP {item.looks:.2f}, caption {item.said:.2f})")
    return tuple(word for word, item in zip(classes, seen, strict=True) if item.present)
