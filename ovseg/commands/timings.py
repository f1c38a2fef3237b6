"""`timings`: how long things take on this machine."""

import argparse

from ovseg.commands.common import add_networks, models_of
from ovseg.evaluation.timings import measure, table
from ovseg.methods import METHODS, find_method


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `timings`."""
    known, first = ", ".join(kind.name for kind in METHODS), METHODS[0].name
    parser.add_argument("--runs", type=int, default=5, help="repetitions, of which the median is printed (default: 5)")
    parser.add_argument("--methods", nargs="*", default=[first], help=f"some of {known} (default: {first})")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Measure and print the table."""
    models = models_of(options)
    print(table(models, measure(models, options.runs, [find_method(name) for name in options.methods])))
