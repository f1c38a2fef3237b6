"""`zero-shot --split S --data DIR --out DIR`: Protocol II of Grounded Diffusion."""

import argparse
from pathlib import Path

from ovseg.commands.common import show_progress
from ovseg.commands.values import more_than_nothing, out_folder, whole
from ovseg.factory.splits import OWN, UNSEEN, find_split
from ovseg.factory.zero_shot import ZeroShot, as_markdown
from ovseg.pocket.training import Budget


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default="S1", help=f"class split: {', '.join(UNSEEN)}, or {OWN} (default: S1)")
    parser.add_argument("--data", type=Path, required=True, help="folder that `synthesize` wrote")
    parser.add_argument(
        "--minutes", type=more_than_nothing, default=5, help="training time of each of the five (default: 5)"
    )
    parser.add_argument("--count", type=whole(1), default=256, help="real scenes of the test (default: 256)")
    parser.add_argument("--scenes", type=whole(1), default=24000, help="training scenes to render (default: 24000)")
    parser.add_argument(
        "--root", type=Path, default=Path("runs/pocket"), help="folder for rendered scenes (default: runs/pocket)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or mps (default: cpu)")
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the table and the segmenters")


def run(options: argparse.Namespace) -> None:
    """Train what is missing, measure, and print the table."""
    budget = Budget(options.root, options.minutes, options.device, options.scenes, tested=options.count)
    table = ZeroShot(find_split(options.split, tuple(UNSEEN)).source, options.data, budget).run(options.out, show_progress)
    show_progress("measured", 1.0)
    print(as_markdown(table))
