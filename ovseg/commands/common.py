"""What several commands share: options, and how they become models and methods."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from ovseg.backbones import BACKBONES
from ovseg.methods import METHODS, Method, modes_of
from ovseg.methods.settings import read_setting
from ovseg.models import Models
from ovseg.output.files import PARTS
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS
from ovseg.types import named


def command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
    """A new command that calls `run` with its options."""
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    return parser


def add_network(parser: argparse.ArgumentParser) -> None:
    """Options that say which networks, where, and in what precision."""
    parser.add_argument("--backbone", default="pocket", help=f"{', '.join(BACKBONES)}, or a local diffusers folder")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; the best there is if not given")
    parser.add_argument("--dtype", help="float32, float16 or bfloat16; float32 on the CPU if not given, else float16")


def models_of(options: argparse.Namespace) -> Models:
    """The networks that the options ask for; nothing is loaded yet."""
    return Models(options.backbone, options.device, options.dtype)


def progress(stage: str, share: float) -> None:
    """A `Report` on the terminal, one line that is written over."""
    print(f"\r{stage} {share:4.0%}".ljust(60), end="\n" if share >= 1 else "", file=sys.stderr, flush=True)


def add_captioner(parser: argparse.ArgumentParser) -> None:
    """The option that names a captioner."""
    known = ", ".join((*CAPTIONERS, *LAVIS_MODELS))
    parser.add_argument("--captioner", default="", help=f"{known}; the backbone's if not given")


def add_method(parser: argparse.ArgumentParser, kinds: Sequence[type[Method]] = METHODS) -> None:
    """Options that choose a method and its settings."""
    parser.add_argument("--method", default=kinds[0].name, help=", ".join(kind.name for kind in kinds))
    parser.add_argument("--mode", default="suited", help="suited (to the backbone), released (the paper's), best effort")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", dest="settings", help=_settings_help())


def _settings_help() -> str:
    return "; ".join(f"{m.name}: {', '.join(f.name for f in fields(m))}" for m in METHODS)


def method_of(options: argparse.Namespace, models: Models, kind: type[Method]) -> Method:
    """A method in the mode and with the settings that the options ask for.

    Raises:
        ValueError: there is no such mode or setting, or a value cannot be read.
    """
    settings = {}
    for item in options.settings:
        name, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"A setting must be FIELD=VALUE, but got {item!r}.")
        settings[name] = read_setting(kind, name, value)
    return replace(named(modes_of(models, kind), f"mode of {kind.title}", options.mode), **settings)


def add_files(parser: argparse.ArgumentParser) -> None:
    """The option that says which files are written."""
    known = ", ".join(PARTS)
    parser.add_argument("--files", default="masks", help=f"what is written: all, or some of {known} (default: masks)")


def parts_of(text: str) -> tuple[str, ...]:
    """What `--files` asks for: names of `PARTS` between commas, or "all".

    Raises:
        ValueError: one is unknown.
    """
    known = {name: name for name in (*PARTS, "all")}
    return tuple(named(known, "files", name.strip()) for name in text.split(",") if name.strip())
