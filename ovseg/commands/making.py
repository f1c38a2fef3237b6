"""Commands of the pocket world: scenes, train."""

import argparse
from pathlib import Path
from typing import Any

from ovseg.assets import ASSETS
from ovseg.commands.common import command


def add_commands(commands: Any) -> None:
    """Add the commands of this file."""
    _add_scenes(commands)
    _add_train(commands)


def _add_scenes(commands: Any) -> None:
    parser = command(commands, "scenes", scenes, "Write scenes of the pocket world: pictures, masks, captions, a sheet.")
    parser.add_argument("--split", default="val", help="train, val or novel")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--start", type=int, default=0, help="index of the first scene")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--out", type=Path, required=True)


def scenes(options: argparse.Namespace) -> None:
    """`scenes --split val --count 16 --out DIR`."""
    from ovseg.pocket.export import write_scenes

    write_scenes(options.split, range(options.start, options.start + options.count), options.size, options.out)
    print(f"wrote {options.count} scenes and sheet.png to {options.out}")


def _add_train(commands: Any) -> None:
    parser = command(commands, "train", train, "Train a network of the pocket bundle, or go on with it; then pack it.")
    parser.add_argument(
        "network",
        help="codec, denoiser, clip in this order, judge, captioner, dino; then bundle, which packs what was trained",
    )
    parser.add_argument("--minutes", type=float, default=60, help="in total, over all runs of this network")
    parser.add_argument("--piece", type=float, metavar="MINUTES", help="stop after this long; the checkpoint is kept small")
    parser.add_argument("--scenes", type=int, default=24000, help="training scenes to render")
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="one folder for all networks")
    parser.add_argument("--start", type=Path, help="denoiser, clip: a saved pipeline to build on, such as the shipped one")
    parser.add_argument("--to", type=Path, default=ASSETS / "pocket", help="where `train bundle` writes")
    parser.add_argument("--device", default="cpu")


def train(options: argparse.Namespace) -> None:
    """`train codec|denoiser|clip|judge|captioner|dino|bundle`."""
    from ovseg.pocket.recipes import RECIPES, pack

    if options.start and options.network not in ("denoiser", "clip"):
        raise ValueError(f"--start is for the denoiser and clip, but the network is {options.network}.")
    arguments = {"piece": options.piece} | ({"start": options.start} if options.start else {})
    if options.network == "bundle":
        pack(options.out, options.to)
    elif options.network in RECIPES:
        RECIPES[options.network](options.out, options.minutes, options.device, options.scenes, **arguments)
    else:
        raise ValueError(f"The network must be one of {', '.join(RECIPES)}, bundle, but got {options.network!r}.")
