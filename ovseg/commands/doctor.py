"""`doctor`: whether everything works on this machine, with the real weights or with random ones of the same size."""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.assets import ASSETS
from ovseg.commands.common import add_captioner, add_networks, models_of, show_progress
from ovseg.doctor.checks import Finding, check_methods, check_networks, summary, surroundings
from ovseg.doctor.counted import counted, gigabytes_of, on_meta
from ovseg.doctor.pipelines import Published
from ovseg.doctor.published import Scale
from ovseg.doctor.random_weights import GENERATIONS, published, random_models
from ovseg.methods import what_runs
from ovseg.models import Models
from ovseg.words.classes import parse_classes

PICTURE, CLASSES = ASSETS / "examples" / "cat-car.png", "cat, car"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_networks(parser, several=True)
    add_captioner(parser)
    parser.add_argument(
        "--random",
        action="store_true",
        help="write networks of full size with random weights into the folder for temporary files and check these: nothing"
        " is fetched. Of a local folder its configurations are taken",
    )
    parser.add_argument(
        "--largest",
        type=float,
        default=20.0,
        metavar="GB",
        help="with --random: of weights that take more only the sizes and a pass are counted (default: 20)",
    )
    parser.add_argument("--small", action="store_true", help="with --random: narrow networks, which take seconds")


def run(options: argparse.Namespace) -> None:
    """Check everything, print what was found, and one line to paste into an issue."""
    if options.small and not options.random:
        raise ValueError("--small must come with --random: real weights have one size.")
    start = time.perf_counter()
    models = models_of(options)
    if not options.random:
        all_pass([name for own in models.board for name in examine(own, options.captioner, "", start)])
        return
    scale = Scale(narrower=8, layers=2) if options.small else Scale(half=models.dtype.itemsize == 2)
    if options.backbone not in GENERATIONS and not options.small:
        pipeline = published(options.backbone, scale)
        if (size := gigabytes_of(pipeline, models.dtype)) > options.largest:
            count(models, pipeline, size)
            return
    with tempfile.TemporaryDirectory() as folder:
        models = random_models(options.backbone, Path(folder), scale, options.device, options.dtype)
        all_pass(examine(models, "", f" ({options.backbone}, random{', small' if options.small else ''})", start))


def count(models: Models, pipeline: Published, gigabytes: float) -> None:
    """Print what a pipeline would take that is too large to be run here, and which methods its layout suits."""
    for line in surroundings(models):
        print(line, flush=True)
    print(f"{gigabytes:.1f} GB of weights in {models.dtype_name} are too much to be run here: counted without numbers.")
    backbone = on_meta(pipeline, models.dtype)
    for line in counted(backbone):
        print(line, flush=True)
    print(what_runs(models.with_backbone(backbone)))


def all_pass(failed: Sequence[str]) -> None:
    """Raise ValueError where checks failed."""
    if failed:
        raise ValueError(f"All checks must pass, but these did not: {', '.join(failed)}.")


def examine(models: Models, captioner: str, random: str, start: float) -> list[str]:
    """Print all checks of these networks. Returns the names of those that failed."""
    for line in surroundings(models):
        print(line, flush=True)
    image, classes, findings = np.array(Image.open(PICTURE).convert("RGB")), parse_classes(CLASSES), list[Finding]()
    for checks in (check_networks(models, image, captioner), check_methods(models, image, classes, show_progress)):
        for finding in checks:
            findings.append(finding)
            print(finding, flush=True)
    print("\n" + summary(models, findings, time.perf_counter() - start, random))
    return [finding.name for finding in findings if finding.state == "FAILED"]
