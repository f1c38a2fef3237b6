"""`segment PICTURE --classes WORDS --out DIR`: masks of one picture, or of all pictures of a folder."""

import argparse
import sys
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
from ovseg.commands.values import out_folder, seed
from ovseg.models import Models
from ovseg.output.cost import measuring
from ovseg.output.files import Result, write_attention, write_files
from ovseg.output.folder import FolderTask, reasons
from ovseg.output.run_card import run_card
from ovseg.progress import with_time_left
from ovseg.scene import from_image, read_image
from ovseg.words.class_filter import asked_for, look_for
from ovseg.words.classes import ClassWord

SOME_WERE_SKIPPED = 3  # the exit code


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `segment`."""
    parser.add_argument("image", type=Path, help="picture file, or a folder of them")
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
    parser.add_argument("--seed", type=seed, default=0, help="of the noise that is added to the picture (default: 0)")
    parser.add_argument(
        "--square", action="store_true", help="squash the picture to a square first, as some released code does"
    )
    parser.add_argument("--attention", action="store_true", help="also write every attention map as a picture")
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the files and their README.txt")
    add_files(parser)
    add_networks(parser)


def run(options: argparse.Namespace) -> int:
    """Segment one picture or a folder of them; returns the exit code."""
    if options.image.is_dir():
        return _segment_folder(options)
    _segment_picture(options)
    return 0


def _segment_picture(options: argparse.Namespace) -> None:
    """Segment the picture, write the files and print the share of each class."""
    models, image = models_of(options), read_image(options.image)
    method, parts = method_of(options, models), parts_of(options.files)
    classes, caption = asked_for(
        models,
        image,
        options.classes,
        finds_words=method.finds_words,
        caption=options.caption,
        captioner=options.captioner,
        report=show_progress,
    )
    if options.only_present:
        classes = _present(models, image, classes, caption)
    scene = from_image(models, image, options.seed, caption=caption, square=options.square)
    with measuring(models.device) as cost:
        result = method.segment(models, scene, classes, show_progress)
    captioner = options.captioner if caption and not options.caption.strip() else None
    card = run_card(models, scene, classes, method, result, cost=cost, captioner=captioner)
    written = write_files(Result(result, card), options.out, parts)
    if options.attention:
        write_attention(result, options.out / "attention")
    for name, share in result.shares.items():
        print(f"{share:7.2%}  {name}")
    print("wrote " + ", ".join(str(path) for path in written))


def _segment_folder(options: argparse.Namespace) -> int:
    """Segment what is missing, and name the pictures that were skipped."""
    models = models_of(options)
    task = FolderTask(
        models, method_of(options, models), options.image, options.out, words=options.classes, caption=options.caption,
        captioner=options.captioner, only_present=options.only_present, seed=options.seed, square=options.square,
        parts=parts_of(options.files), attention=options.attention,
    )  # fmt: skip
    outcomes = task.run(with_time_left(show_progress))
    if outcomes is None:
        return 0  # one of torchrun's other processes: the first one speaks
    show_progress(f"{len(outcomes)} pictures", 1.0)
    skipped = dict(reasons(outcomes))
    for name, why in skipped.items():
        print(f"skipped {name}: {why}", file=sys.stderr)
    print(f"{len(outcomes) - len(skipped)} of {len(outcomes)} pictures segmented; masks and coco.json are in {options.out}")
    return SOME_WERE_SKIPPED if skipped else 0


def _present(models: Models, image: np.ndarray, classes: tuple[ClassWord, ...], caption: str) -> tuple[ClassWord, ...]:
    """The classes that seem to be in the picture; the evidence for each is printed."""
    seen = look_for(models, image, classes, caption)
    for item in seen:
        verdict = "present" if item.present else "absent"
        print(f"{verdict:>8}  {item.name} (CLIP {item.clip_score:.2f}, caption {item.caption_score:.2f})")
    return tuple(word for word, item in zip(classes, seen, strict=True) if item.present)
