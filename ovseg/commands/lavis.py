"""`lavis install` and `lavis status`: the environment of the LAVIS captioner."""

import argparse

from ovseg.pretrained import lavis


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["install", "status"], help="install it, or say whether it is installed")


def run(options: argparse.Namespace) -> None:
    """Install LAVIS, or print whether it can be used."""
    if options.action == "install":
        print(f"LAVIS is ready in {lavis.install()}")
    else:
        print(lavis.obstacle() or lavis.missing() or f"LAVIS is ready in {lavis.environment()}")
