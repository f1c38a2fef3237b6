"""`prototypes build WORD ... | list | verify | ship --to FOLDER`: what OVDiff keeps of each class."""

import argparse
from dataclasses import replace

from ovseg.commands.common import add_networks, add_settings, configuration_of, models_of, show_progress
from ovseg.commands.values import out_folder
from ovseg.methods.ovdiff.cost import build_cost
from ovseg.methods.ovdiff.method import OVDiff, report_on_class
from ovseg.methods.ovdiff.prototypes import drop_damaged, make_prototypes, ship
from ovseg.methods.ovdiff.store import Store, store_of
from ovseg.methods.ovdiff.word_folder import read
from ovseg.models import Models
from ovseg.progress import with_time_left


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["build", "list", "verify", "ship"],
        help="make them for some classes, list all files, read all files, or put prototypes and sheets of their pictures"
        " into the folder of --to, and delete others that it holds",
    )
    parser.add_argument("words", nargs="*", help="build, ship: the classes (ship: default all that the backbone knows)")
    parser.add_argument("--to", type=out_folder, metavar="FOLDER", help="ship: the folder")
    parser.add_argument("--images", type=int, help="build, ship: support images of each class (default: the mode's)")
    parser.add_argument("--repair", action="store_true", help="build: make damaged files of these classes again")
    add_settings(parser)
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Make prototypes, or print what is kept."""
    models = models_of(options)
    if options.action == "build":
        _build(options, models)
        return
    if options.action == "ship":
        _ship(options, models)
        return
    store, count = store_of(models), 0
    for path, header in store.files():
        if options.action == "verify":
            read(path)
        count += 1
        print(f"{header['word']:<20} {header['kind']:<10} {path.stat().st_size / 1e6:7.2f} MB  {path.name}")
    print(f"{count} files in {store.folder}" + (", all undamaged" if options.action == "verify" else ""))


def _method(options: argparse.Namespace, models: Models) -> OVDiff:
    method = configuration_of(options, OVDiff.name).build(models)
    if options.images is not None:
        method = replace(method, images=options.images)
    method.check()
    return method


def _build(options: argparse.Namespace, models: Models) -> None:
    if not options.words:
        raise ValueError('Classes must be named, such as: prototypes build "cat" "dog", but none was given.')
    method = _method(options, models)
    print(build_cost(models, method, len(options.words)))
    report = with_time_left(show_progress)
    for number, word in enumerate(options.words):
        for kind in drop_damaged(models, method, word) if options.repair else ():
            print(f"{word}: damaged {kind} are made again")
        made = make_prototypes(models, method, word, report_on_class(report, number, len(options.words)))
        sizes = ", ".join(f"{name} {len(p.foreground.vectors)} + {len(p.background.vectors)}" for name, p in made.items())
        print(f"\n{word}: prototypes of foreground + background: {sizes}")


def _ship(options: argparse.Namespace, models: Models) -> None:
    if options.to is None:
        raise ValueError("A folder must be given, such as: prototypes ship --to FOLDER, but none was.")
    words = options.words or models.checkpoint.classes.split(", ")
    if words == [""]:
        raise ValueError(f'Classes must be named, such as: prototypes ship "cat", as {models.name} has no list of them.')
    ship(models, _method(options, models), words, options.to, with_time_left(show_progress))
    files = list(Store(options.to).files())
    print(f"\n{len(words)} classes, {len(files)} files, {sum(path.stat().st_size for path, _ in files) / 1e6:.1f} MB")
