"""`pocket-report --out DIR`: the figures of the pocket bundle's card."""

import argparse
from pathlib import Path

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.values import out_folder
from ovseg.evaluation.pocket_report import PocketReport


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--per-thing", type=int, default=8, help="generated pictures of each thing (default: 8)")
    parser.add_argument("--pairs", type=int, default=128, help="generated pictures of two things (default: 128)")
    parser.add_argument("--count", type=int, default=256, help="scenes for CLIP and the segmenters (default: 256)")
    parser.add_argument(
        "--out", type=out_folder, required=True, help="folder for card.md, card.json, samples.jpg and the runs"
    )
    parser.add_argument("--sprites", type=Path, help="folder of other sprites (see docs/pocket.md), measured too")
    parser.add_argument("--beside", type=Path, metavar="CARD.json", help="another network's card, for one table of both")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, or continue, and print every figure with its aim."""
    report = PocketReport(
        models_of(options), options.out, options.per_thing, options.pairs, options.count,
        sprites=options.sprites, beside=options.beside,
    )  # fmt: skip
    rows = report.run(show_progress)
    show_progress("measured", 1.0)
    for row in rows:
        print(f"{row.value:>28}  {row.what}" + (f" (aim {row.aim})" if row.aim else ""))
