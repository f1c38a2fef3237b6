"""`backbones`: the diffusion networks of the table, what they take, and which methods can be run with them."""

import argparse

from ovseg.backbones import BACKBONES
from ovseg.doctor.checks import where
from ovseg.methods import METHODS, obstacle_to
from ovseg.models import Models


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `backbones`."""
    parser.add_argument("name", nargs="?", default="", help="one of them, or a local folder (default: all of the table)")


def run(options: argparse.Namespace) -> None:
    """Print what each row of the table is; nothing is loaded or fetched."""
    for name in [options.name] if options.name else BACKBONES:
        print("\n".join(_lines(Models(name, "cpu"))) + "\n")
    print("--backbone takes a name, or a local folder of a pipeline of these families; --lora FILE changes its weights.")


def _lines(models: Models) -> list[str]:
    row = models.checkpoint
    why = {kind.title: obstacle_to(models, kind) for kind in METHODS}
    terms = f"{row.licence}, to be agreed to on its page first" if row.gated else row.licence
    return [
        f"{models.name} ({row.title}), {row.side} px",
        f"    {row.source}: {where(row.source)}",
        f"    {row.gigabytes:.1f} GB in half precision; licence: {terms}",
        f"    runs {', '.join(title for title, obstacle in why.items() if not obstacle)}",
        *(f"    not {title}: {obstacle}" for title, obstacle in why.items() if obstacle),
    ]
