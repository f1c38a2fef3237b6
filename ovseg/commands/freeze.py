"""`freeze --out site`: comparisons and what lies inside them as static files, which need no server."""

import argparse

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.values import out_folder
from ovseg.demo.freeze import freeze

PICTURES = ("example-cat-car", "example-boat-bird", "example-sheep-house")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pictures", nargs="+", default=PICTURES, metavar="NAME",
        help=f"as a link of the page names them: scene-12, example-cat-car (default: {' '.join(PICTURES)})",
    )  # fmt: skip
    parser.add_argument("--out", type=out_folder, required=True, help="folder for index.html and what it shows")
    add_networks(parser, several=True)


def run(options: argparse.Namespace) -> None:
    """Run the methods on each picture, look inside, write the files."""
    written = freeze(models_of(options), options.pictures, options.out, show_progress)
    show_progress("frozen", 1.0)
    size = sum(path.stat().st_size for path in written) / 1e6
    print(f"wrote {len(written)} files, {size:.1f} MB, to {options.out}; open {options.out / 'index.html'}")
