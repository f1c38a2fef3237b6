"""`methods [NAME]`: the methods with their papers, or all settings of one method."""

import argparse
import textwrap
from dataclasses import Field

from ovseg.commands.common import add_networks, models_of
from ovseg.methods import METHODS, Method, find_method, obstacle_to, suited_to, words_on_released
from ovseg.methods.settings import as_text, kind_of, label_of, types_of
from ovseg.models import Models

WIDTH = 100
HEADINGS = {"main": "Main settings", "more": "More settings"}


def add_options(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(kind.name for kind in METHODS)
    parser.add_argument("name", nargs="?", help=f"the method whose settings are listed: {known}")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Print the list, or one method with its settings."""
    models = models_of(options)
    if options.name is None:
        print("\n\n".join(_headline(models, kind) for kind in METHODS))
        print("\n`python -m ovseg methods NAME` lists the settings of a method.")
        return
    kind = find_method(options.name)
    print(_headline(models, kind))
    modes = ", ".join(("suited", "released", *kind.presets))
    print(f"\nModes (--mode MODE): {modes}. Settings (--set FIELD=VALUE):")
    if said := words_on_released(models, kind):
        print(f"\nMode released:\n{_filled(said, 2)}")
    both = kind.as_released(), suited_to(models, kind)
    for group, heading in HEADINGS.items():
        chosen = [_paragraph(one, both, models.name) for one in kind.settings() if one.metadata["group"] == group]
        print("\n".join(["", heading, *chosen]) if chosen else "")


def _headline(models: Models, kind: type[Method]) -> str:
    """The method's name and paper, and why it cannot run with this backbone, if it cannot."""
    paper, obstacle = kind.paper, obstacle_to(models, kind)
    lines = [
        f"{paper.title}.",
        f"{paper.authors}.",
        f"{paper.venue}, https://arxiv.org/abs/{paper.arxiv}, code {paper.code}",
        *([f"Cannot run with the backbone {models.name}: {obstacle}"] if obstacle else []),
    ]
    apart = f": {kind.yardstick}" * bool(kind.yardstick)
    return f"{kind.name} ({kind.title}){apart}\n" + "\n".join(_filled(line, 4) for line in lines)


def _paragraph(setting: Field, both: tuple[Method, Method], backbone: str) -> str:
    """A setting's line of type, range and its values in both modes, "released" and "suited", and its help below."""
    kind, about = types_of(type(both[0]))[setting.name], setting.metadata
    released, suited = (as_text(getattr(method, setting.name)) for method in both)
    limits = f", {about['low']:g} to {about['high']:g}" if kind in (int, float) else ""
    apart = f"; with {backbone}: {suited}" if suited != released else ""
    first = f"  {setting.name} ({label_of(setting)}): {kind_of(kind)}{limits}; released: {released}{apart}"
    return first + "\n" + _filled(about["help"], 6)


def _filled(text: str, indent: int) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent, break_on_hyphens=False)
