"""`segment PICTURE --classes WORDS --out DIR`: masks of one picture, or of all pictures of a folder."""

import argparse
import sys
from pathlib import Path

import numpy as np

from ovseg.commands.common import (
    add_files,
    add_method,
    add_networks,
    add_words,
    configuration_of,
    models_of,
    parts_of,
    say_notes,
    show_progress,
    words_of,
)
from ovseg.commands.values import of_name, out_folder
from ovseg.files import RunFolder, run_folder
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.output.cost import measuring
from ovseg.output.files import Result, attention_of, files_of
from ovseg.output.folder import FolderTask, reasons
from ovseg.output.run_card import run_card
from ovseg.pictures import read_image
from ovseg.progress import with_time_left
from ovseg.scene import from_image
from ovseg.words.class_filter import look_for
from ovseg.words.classes import ClassWord

SOME_WERE_SKIPPED = 3  # the exit code


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help="picture file, or a folder of them")
    add_words(parser)
    parser.add_argument(
        "--only-present", action="store_true", help="leave out classes that neither CLIP nor the caption finds"
    )
    add_method(parser)
    parser.add_argument(
        "--square", action="store_true", help="squash the picture to a square first, as some released code does"
    )
    parser.add_argument(
        "--class-threshold", nargs="+", type=of_name, default=[], metavar="CLASS=VALUE",
        help="thresholds of their own for some classes, where the background is a threshold: cat=0.3",
    )  # fmt: skip
    parser.add_argument("--attention", action="store_true", help="also write every attention map as a picture")
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the files and their README.txt")
    add_files(parser)
    add_networks(parser, several=True)


def run(options: argparse.Namespace) -> int:
    """Segment one picture or a folder of them; returns the exit code."""
    if options.image.is_dir():
        return _segment_folder(options)
    with run_folder(options.out) as out:
        _segment_picture(options, out)
    return 0


def _method(options: argparse.Namespace) -> tuple[Models, Method]:
    """The networks that the method runs on, and the method."""
    configuration = configuration_of(options, options.method)
    models = configuration.networks(models_of(options))
    method = configuration.build(models)
    if options.square and method.tile_side:
        raise ValueError("--square squashes the whole picture, and tile_side cuts it: only one of them can be asked for.")
    return models, method


def _segment_picture(options: argparse.Namespace, out: RunFolder) -> None:
    """Segment the picture, write the files and print the share of each class."""
    image, parts = read_image(options.image), parts_of(options.files)
    models, method = _method(options)
    classes, caption = words_of(options, models, image, finds_words=method.finds_words)
    if options.only_present:
        classes = _present(models, image, classes, caption)
    scene = from_image(models, image, options.seed, caption=caption, square=options.square)
    with measuring(models.device) as cost:
        result = method.segment(models, scene, classes, show_progress)
    if options.class_threshold:
        result = result.with_class_thresholds(dict(options.class_threshold))
    captioner = options.captioner if caption and not options.caption.strip() else None
    card = run_card(models, scene, classes, method, result, cost=cost, captioner=captioner)
    written = out.write(files_of(Result(result, card), parts))
    if options.attention:
        out.write(attention_of(result))
    for name, share in result.shares.items():
        print(f"{share:7.2%}  {name}")
    print("wrote " + ", ".join(str(path) for path in written))


def _segment_folder(options: argparse.Namespace) -> int:
    """Segment what is missing, and name the pictures that were skipped."""
    models, method = _method(options)
    task = FolderTask(
        models, method, options.image, options.out, words=options.classes, caption=options.caption,
        captioner=options.captioner, only_present=options.only_present, seed=options.seed, square=options.square,
        class_thresholds=dict(options.class_threshold), parts=parts_of(options.files), attention=options.attention,
    )  # fmt: skip
    say_notes(models, task.classes)
    outcomes = task.run(with_time_left(show_progress))
    if outcomes is None:
        return 0  # one of torchrun's other processes: the first one speaks
    show_progress(f"{len(outcomes)} pictures", 1.0)
    skipped = dict(reasons(outcomes))
    if others := task.left_out:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        print(f"left out {sum(others.values())} files that are no pictures: {kinds}", file=sys.stderr)
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
