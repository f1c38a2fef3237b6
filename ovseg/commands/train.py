"""`train NETWORK`: the networks of the pocket bundle; `train all`: all of them, one after the other."""

import argparse
from dataclasses import replace
from pathlib import Path

from ovseg.assets import ASSETS
from ovseg.commands.prompts import KNOWN_SPLITS, split_of
from ovseg.commands.values import more_than_nothing, out_folder, whole
from ovseg.factory.chain import NEXT, Chain
from ovseg.factory.splits import UNSEEN, find_split
from ovseg.factory.train_grounding import RATE, train_grounding
from ovseg.factory.triplets import TripletSet
from ovseg.files import read_json
from ovseg.models import Models
from ovseg.pocket.bundle import pack
from ovseg.pocket.recipes import MINUTES, RECIPES
from ovseg.pocket.train_segmenter import train_detector
from ovseg.pocket.training import Budget
from ovseg.pocket.world import THINGS
from ovseg.pretrained.grounding import copy_grounding
from ovseg.types import named

POCKET = Path("runs/pocket")
NETWORKS = (*MINUTES, "bundle", "all")
OPTIONS_OF = {
    "start": ("denoiser", "clip", "transformer", "all"), "split": ("detector", "grounding", "all"), "anew": ("all",),
    "dtype": ("grounding",),
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network",
        help=f"one of {', '.join(NETWORKS)}; codec, denoiser and clip are trained in this order, bundle packs all networks,"
        " all does everything",
    )
    parser.add_argument(
        "--minutes",
        nargs="+",
        default=[],
        metavar="MINUTES",
        help="training time over all runs of the network; with all, NAME=MINUTES for each network whose time differs"
        " (default: the recipe's)",
    )
    parser.add_argument(
        "--piece", type=more_than_nothing, metavar="MINUTES", help="stop this run earlier, with a checkpoint"
    )
    parser.add_argument(
        "--scenes",
        type=whole(1),
        default=24000,
        help="training scenes to render (default: 24000; CLIP and the captioner take three times as many)",
    )
    parser.add_argument(
        "--out",
        type=out_folder,
        help="folder for all networks (default: runs/pocket; for the grounding module of another backbone, runs/BACKBONE)",
    )
    parser.add_argument(
        "--start", type=Path, help="denoiser, clip, all: saved pipeline to begin with, such as the shipped one"
    )
    parser.add_argument(
        "--to", type=out_folder, default=ASSETS / "pocket", help="bundle, all: folder for the result (default: %(default)s)"
    )
    parser.add_argument(
        "--split",
        help=f"grounding: class split: {KNOWN_SPLITS}; detector, all: those of the pocket backbone; for a detector also all,"
        " its default",
    )
    parser.add_argument("--triplets", type=Path, help="grounding: folder that `triplets` wrote")
    parser.add_argument("--rate", type=more_than_nothing, default=RATE, help=f"grounding: learning rate (default: {RATE})")
    parser.add_argument("--backbone", default="pocket", help="grounding: the backbone of the triplets (default: pocket)")
    parser.add_argument(
        "--anew", action="store_true", help="all: train a new codec and denoiser and do not begin with --start"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps (default: cpu; grounding: the best one of this machine)")
    parser.add_argument(
        "--dtype", help="grounding: number format of the backbone: float32, float16 or bfloat16 (default: the triplets' own)"
    )


def run(options: argparse.Namespace) -> None:
    """Train one network or all, or pack all."""
    network = options.network
    _check_options(options)
    if network == "all":
        _train_all(options)
    elif network == "bundle":
        pack(options.out or POCKET, options.to)
    elif network not in MINUTES:
        raise ValueError(f"The network must be one of {', '.join(NETWORKS)}, but got {network!r}.")
    elif network == "detector":
        _train_detector(options)
    elif network == "grounding":
        _train_grounding(options)
    else:
        RECIPES[network](_budget(options), **_start(options))


def _check_options(options: argparse.Namespace) -> None:
    for name, networks in OPTIONS_OF.items():
        if getattr(options, name) and options.network not in networks:
            known = " or ".join(filter(None, (", ".join(networks[:-1]), networks[-1])))
            raise ValueError(f"--{name} is for {known}, but the network is {options.network}.")


def _minutes(options: argparse.Namespace) -> dict[str, float]:
    """The recipes' minutes with the changes of --minutes: one number for one network, NAME=MINUTES for `all`."""
    changes = {}
    for text in options.minutes:
        name, separator, value = text.rpartition("=")
        name = name or options.network
        if name not in MINUTES or (separator and options.network not in ("all", name)):
            raise ValueError(
                f"--minutes must be a number, or NAME=MINUTES with `all` and a network's name, but got {text!r}."
            )
        try:
            changes[name] = more_than_nothing(value)
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"--minutes must be numbers: {error}") from None
    return {**MINUTES, **changes}


def _budget(options: argparse.Namespace) -> Budget:
    minutes = _minutes(options).get(options.network, 0.0)
    return Budget(options.out or POCKET, minutes, options.device or "cpu", options.scenes, options.piece)


def _start(options: argparse.Namespace) -> dict[str, Path]:
    return {"start": options.start} if options.start else {}


def _train_all(options: argparse.Namespace) -> None:
    split = named({name: name for name in UNSEEN}, "class split", options.split or "S1")
    chain = Chain(_budget(options), options.to, _minutes(options), options.anew, split=split, **_start(options))
    finished = chain.run(lambda step, share: print(f"{step}, {share:.0%} of the steps are done", flush=True))
    print(NEXT if finished else "stopped; run the same command again to continue")


def _train_detector(options: argparse.Namespace) -> None:
    if options.split in (None, "all"):
        train_detector(_budget(options), THINGS, "all")
        return
    split = find_split(options.split, tuple(UNSEEN))
    strange = [word for word in split.classes if word not in THINGS]
    if strange:
        raise ValueError(f"The split's classes must be things of the pocket world, but {strange[0]!r} is none.")
    train_detector(_budget(options), split.seen, split.name)


def _train_grounding(options: argparse.Namespace) -> None:
    if not options.triplets or not options.split:
        raise ValueError("`train grounding` needs --triplets, a folder that `triplets` made, and its --split.")
    settings = TripletSet(options.triplets).settings
    models = Models(options.backbone, options.device, options.dtype or settings.get("dtype"))
    split = split_of(options, models)
    hidden = [word for word in settings["classes"] if word not in split.seen]
    if hidden:
        raise ValueError(f"The triplets must show seen classes of {split.name} alone, but {hidden[0]!r} is none of them.")
    root = options.out or (POCKET if models.name == "pocket" else Path("runs") / models.folder_name)
    budget = replace(_budget(options), root=root, device=str(models.device))
    is_own = not models.checkpoint.grounding  # else `train bundle` packs the module
    place = models.new_grounding(split.name)
    config = place / "config.json"  # that of an earlier module of the same backbone and split may be there, and no other
    if is_own and config.is_file() and read_json(config)["training"]["backbone"] != models.backbone.fingerprint:
        raise ValueError(f"The place of the trained module must be free, but another backbone's module is in {place}.")
    if train_grounding(models, options.triplets, split.name, budget, options.rate) and is_own:
        copy_grounding(root / f"grounding-{split.name}" / "module", place)
        print(f"The module is in {place}.\nTo use it: --method grounded-diffusion --backbone {models.name}", end="")
        print(f" --set module={split.name}")
