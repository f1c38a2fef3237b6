"""Commands of the pocket world: scenes, train."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg.assets import ASSETS
from ovseg.commands.common import command
from ovseg.factory.splits import UNSEEN, seen_of, unseen_of
from ovseg.models import Models
from ovseg.pocket.world import THINGS

if TYPE_CHECKING:
    from ovseg.pocket.training import Budget

OPTIONS_OF = {"start": ("denoiser", "clip", "all"), "split": ("detector", "grounding", "all"), "anew": ("all",)}


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
        help="codec, denoiser, clip in this order, judge, captioner, dino, detector, grounding; then bundle packs them;"
        " all does all of this",
    )
    parser.add_argument(
        "--minutes", nargs="+", default=[], metavar="MINUTES",
        help="training time over all runs of the network; with all, NAME=MINUTES for each that differs from the table",
    )  # fmt: skip
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
    parser.add_argument(
        "--anew", action="store_true", help="all: a new codec and denoiser, in place of going on from --start"
    )
    parser.add_argument("--device", default="cpu")


def train(options: argparse.Namespace) -> None:
    """`train codec|denoiser|clip|judge|captioner|dino|detector|grounding|bundle|all`."""
    from ovseg.pocket.recipes import MINUTES, RECIPES, pack
    from ovseg.pocket.train_segmenter import train_detector

    network = options.network
    _check_options(options)
    if network == "all":
        _train_all(options)
    elif network == "bundle":
        pack(options.out, options.to)
    elif network not in MINUTES:
        raise ValueError(f"The network must be one of {', '.join((*MINUTES, 'bundle', 'all'))}, but got {network!r}.")
    elif network == "detector":
        name = options.split or "all"
        train_detector(_budget(options), THINGS if name == "all" else seen_of(name), name)
    elif network == "grounding":
        _train_grounding(options)
    elif options.start:
        RECIPES[network](_budget(options), start=options.start)
    else:
        RECIPES[network](_budget(options))


def _check_options(options: argparse.Namespace) -> None:
    for name, networks in OPTIONS_OF.items():
        if getattr(options, name) and options.network not in networks:
            known = " or ".join(filter(None, (", ".join(networks[:-1]), networks[-1])))
            raise ValueError(f"--{name} is for {known}, but the network is {options.network}.")


def _minutes(options: argparse.Namespace) -> dict[str, float]:
    """The table of minutes with the changes of --minutes: one number for one network, NAME=MINUTES for `all`."""
    from ovseg.pocket.recipes import MINUTES

    changes = {}
    for text in options.minutes:
        name, separator, value = text.rpartition("=")
        name = name or options.network
        if name not in MINUTES or (separator and options.network not in ("all", name)):
            raise ValueError(
                f"--minutes must be a number, or NAME=MINUTES with `all` and a network's name, but got {text!r}."
            )
        try:
            changes[name] = float(value)
        except ValueError:
            raise ValueError(f"--minutes must be numbers, but got {value!r}.") from None
    return {**MINUTES, **changes}


def _budget(options: argparse.Namespace) -> "Budget":
    from ovseg.pocket.training import Budget

    minutes = _minutes(options).get(options.network, 0.0)
    return Budget(options.out, minutes, options.device, options.scenes, options.piece)


def _train_all(options: argparse.Namespace) -> None:
    from ovseg.factory.chain import NEXT, Chain

    given = {"start": options.start} if options.start else {}
    chain = Chain(_budget(options), options.to, _minutes(options), options.anew, split=options.split or "S1", **given)
    finished = chain.run(lambda step, share: print(f"{step}, {share:.0%} of the steps are done", flush=True))
    print(NEXT if finished else "stopped; run the same command again to go on")


def _train_grounding(options: argparse.Namespace) -> None:
    from ovseg.factory.train_grounding import GroundingRecipe, train_grounding

    if not options.triplets or not options.split:
        raise ValueError("`train grounding` needs --triplets, a folder that `triplets` made, and its --split.")
    unseen_of(options.split)
    given = {name: value for name in ("rate", "loss", "independent") if (value := getattr(options, name))}
    models = Models(options.backbone, options.device)
    train_grounding(models, options.triplets, options.split, _budget(options), GroundingRecipe(**given))
