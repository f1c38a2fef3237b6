"""`words save --classes WORDS --out FILE`: the text encoder's states of a list of classes, to be given in its place."""

import argparse
from pathlib import Path

import torch

from ovseg.backbones.saved_words import Encoded, SavedWords
from ovseg.commands.common import add_networks, models_of
from ovseg.compare import read_variants
from ovseg.methods import METHODS, obstacle_to
from ovseg.methods.settings import split
from ovseg.words.classes import parse_classes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `words`."""
    parser.add_argument("action", choices=("save",), help="save: encode all that the methods ask of the classes")
    parser.add_argument("--classes", required=True, help='such as "dog|puppy, traffic light, sky"')
    parser.add_argument(
        "--methods", default="",
        help="methods between commas, with settings as for `compare` (default: all that can be run and draw nothing first)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="file of safetensors, for --words FILE of other commands")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Let the methods prepare their classes, and save every prompt that they had encoded."""
    from ovseg.backbones.clip_text import ClipText  # here, as diffusers takes seconds to import

    models, classes = models_of(options), parse_classes(options.classes)
    usual = [k.name for k in METHODS if not (k.draws_first or k.yardstick or obstacle_to(models, k))]
    backbone, variants = models.backbone, read_variants(models, split(options.methods, ",") if options.methods else usual)
    if not isinstance(backbone, ClipText):
        raise ValueError(f"Words can be saved of a pipeline of diffusers, but {models.name} is none.")
    if other := next((variant for variant in variants if variant.backbone), None):
        raise ValueError(f"Words are saved of one backbone, here of {models.name}, but got the method {other.title}.")
    with backbone.hearing() as heard:
        backbone.encode_text([""], [""])  # emphasis is measured from it
        for variant in variants:
            variant.method.prepare(models, classes)
    named = [encoded.named() for encoded in heard.values()]
    together = Encoded.of_names({name: torch.cat([row[name] for row in named]) for name in named[0]})
    SavedWords(backbone.fingerprint, tuple(heard), together).save(options.out)
    print(f"wrote {options.out}: {len(heard)} prompts, {options.out.stat().st_size / 1e6:.1f} MB")
