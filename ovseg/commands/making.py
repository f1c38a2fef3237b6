"""Commands of the pocket world: scenes, train."""

import argparse
from pathlib import Path
from typing import Any

from ovseg.assets import ASSETS
from ovseg.commands.common import command
from ovseg.factory.splits import UNSEEN, seen_of, unseen_of
from ovseg.models import Models
from ovseg.pocket.world import THINGS


def add_commands(commands: Any) -> None:
    """Add the commands of this file."""
    _add_scenes(commands)
    _add_train(commands)


def _add_scenes(commands: Any) -> None:
    parser = command(commands, "scenes", scenes, "Write scenes of the pocket world: pictures, masks, captions, a sheet.")
    parser.add_argument("--split", default="val", help="train, val or novel")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--start", type=int, default=0, help="index of the first scene")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side; above 128 with more detail")
    parser.add_argument("--examples", action="store_true", help="write the page's example pictures with their truth")
    parser.add_argument("--out", type=Path, required=True)


def scenes(options: argparse.Namespace) -> None:
    """`scenes --split val --count 16 --out DIR`, or `scenes --examples --out DIR`."""
    from ovseg.pocket.examples import EXAMPLES, write_examples
    from ovseg.pocket.export import write_scenes

    if options.examples:
        write_examples(options.out)
        print(f"wrote {len(EXAMPLES)} example pictures with their truth to {options.out}")
        return
    write_scenes(options.split, range(options.start, options.start + options.count), options.size, options.out)
    print(f"wrote {options.count} scenes and sheet.png to {options.out}")


def _add_train(commands: Any) -> None:
    parser = command(commands, "train", train, "Train a network of the pocket bundle, or go on with it; then pack it.")
    parser.add_argument(
        "network",
        help="codec, denoiser, clip in this order, judge, captioner, dino, detector, grounding; then bundle packs them",
    )
    parser.add_argument("--minutes", type=float, default=60, help="in total, over all runs of this network")
    parser.add_argument("--piece", type=float, metavar="MINUTES", help="stop after this long; the checkpoint is kept small")
    parser.add_argument("--scenes", type=int, default=24000, help="training scenes to render")
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="one folder for all networks")
    parser.add_argument("--start", type=Path, help="denoiser, clip: a saved pipeline to build on, such as the shipped one")
    parser.add_argument("--to", type=Path, default=ASSETS / "pocket", help="where `train bundle` writes")
    parser.add_argument(
        "--split", help=f"detector, grounding: the class split, {', '.join(UNSEEN)}; for a detector also all"
    )
    parser.add_argument("--triplets", type=Path, help="grounding: folder that `triplets` made; its backbone is --backbone")
    parser.add_argument("--rate", type=float, help="grounding: learning rate at the beginning; 5e-4 if not given")
    parser.add_argument("--loss", help="grounding: bce, or bce+dice; the first if not given")
    parser.add_argument("--independent", action="store_true", help="grounding: words do not see each other")
    parser.add_argument("--backbone", default="pocket", help="grounding: what drew the triplets")
    parser.add_argument("--device", default="cpu")


def train(options: argparse.Namespace) -> None:
    """`train codec|denoiser|clip|judge|captioner|dino|detector|grounding|bundle`."""
    from ovseg.pocket.recipes import RECIPES, pack
    from ovseg.pocket.train_segmenter import train_detector

    if options.start and options.network not in ("denoiser", "clip"):
        raise ValueError(f"--start is for the denoiser and clip, but the network is {options.network}.")
    arguments = {"piece": options.piece} | ({"start": options.start} if options.start else {})
    if options.split and options.network not in ("detector", "grounding"):
        raise ValueError(f"--split is for the detector and grounding, but the network is {options.network}.")
    if options.network == "bundle":
        pack(options.out, options.to)
    elif options.network == "detector":
        name = options.split or "all"
        seen = THINGS if name == "all" else seen_of(name)
        train_detector(
            options.out, options.minutes, options.device, options.scenes, piece=options.piece, seen=seen, name=name
        )
    elif options.network == "grounding":
        _train_grounding(options)
    elif options.network in RECIPES:
        RECIPES[options.network](options.out, options.minutes, options.device, options.scenes, **arguments)
    else:
        known = ", ".join((*RECIPES, "detector", "grounding", "bundle"))
        raise ValueError(f"The network must be one of {known}, but got {options.network!r}.")


def _train_grounding(options: argparse.Namespace) -> None:
    from ovseg.factory.train_grounding import GroundingRecipe, train_grounding

    if not options.triplets or not options.split:
        raise ValueError("`train grounding` needs --triplets, a folder that `triplets` made, and its --split.")
    unseen_of(options.split)
    given = {name: value for name in ("rate", "loss", "independent") if (value := getattr(options, name))}
    models, out = Models(options.backbone, options.device), options.out / f"grounding-{options.split}"
    recipe = GroundingRecipe(**given)
    train_grounding(models, options.triplets, out, options.minutes, options.split, recipe, options.piece)
