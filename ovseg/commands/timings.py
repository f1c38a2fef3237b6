"""`timings`: how long things take on this machine."""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.doctor.published import Scale
from ovseg.doctor.random_weights import GENERATIONS, random_models
from ovseg.evaluation.growth import Axis, Sweep, growth_table, table_of
from ovseg.evaluation.sizes import Size, Taken, measure_making, measure_size
from ovseg.evaluation.timings import measure, table
from ovseg.files import as_json, write_whole
from ovseg.maths.flops import matmul_peak
from ovseg.methods import METHODS, Method, find_method, suited_to
from ovseg.models import Models

FULL = {"classes": (1, 5, 20, 60, 200), "side": 512, "images": 32}
GROWTH = {"classes": (1, 2, 4, 8, 16, 32), "sides": (1, 2, 4, 8), "images": (2, 8, 32)}  # sides in halves of the backbone's


def add_options(parser: argparse.ArgumentParser) -> None:
    known, first = ", ".join(kind.name for kind in METHODS), METHODS[0].name
    parser.add_argument(
        "--runs", type=int, help="repetitions: the median is printed, of sizes the fastest (default: 5; 1 for sizes)"
    )
    parser.add_argument(
        "--methods", help=f"some of {known}, with commas (default: {first}; all with --full-size or --growth)"
    )
    parser.add_argument(
        "--full-size",
        action="store_true",
        help="networks of full size with random weights, which nothing is fetched for: seconds by stage, passes, memory, and"
        " the arithmetic's floor, for --classes",
    )
    parser.add_argument(
        "--growth", action="store_true", help="how seconds and memory grow with classes, pixels and support images"
    )
    parser.add_argument("--small", action="store_true", help="with --full-size: narrow networks, which take seconds")
    numbers, fewer = (",".join(map(str, sizes["classes"])) for sizes in (FULL, GROWTH))
    parser.add_argument(
        "--classes", help=f"numbers of classes, with commas (default: {numbers}; {fewer} with --growth alone)"
    )
    parser.add_argument("--side", type=int, help="pixels of the picture's side (default: what the backbone works at)")
    fewer = ",".join(map(str, GROWTH["images"]))
    parser.add_argument(
        "--images",
        help=f"numbers of pictures drawn of a class, with commas (default: {FULL['images']}; {fewer} with --growth)",
    )
    parser.add_argument(
        "--making", action="store_true", help="also draw the pictures of one class, for methods that do, which takes long"
    )
    parser.add_argument("--out", type=Path, help="folder for table.md and sizes.json")
    add_networks(parser)
    parser.set_defaults(backbone=None)


def run(options: argparse.Namespace) -> None:
    """Measure and print the tables."""
    sized = options.full_size or options.growth
    if not sized and (wrong := [name for name in ("classes", "side", "images", "making", "out") if getattr(options, name)]):
        raise ValueError(f"--{wrong[0]} must come with --full-size or --growth.")
    if options.small and not options.full_size:
        raise ValueError("--small must come with --full-size: real weights have one size.")
    names = (options.methods or "").split(",")
    kinds = [find_method(name.strip()) for name in names] if options.methods else METHODS[: len(METHODS) if sized else 1]
    with networks_of(options, kinds) as models:
        if not sized:
            print(table(models, measure(models, 5 if options.runs is None else options.runs, kinds)))
            return
        report(options, models, [suited_to(models, kind) for kind in kinds])


@contextmanager
def networks_of(options: argparse.Namespace, kinds: Sequence[type[Method]]) -> Iterator[Models]:
    """The networks that the options name, or random ones of full size; prototypes are in a folder of their own."""
    if options.full_size and options.backbone not in (None, *GENERATIONS):
        raise ValueError(f"--full-size must come with --backbone {' or '.join(GENERATIONS)}, but got {options.backbone}.")
    options.backbone = options.backbone or ("sd15" if options.full_size else "pocket")
    with tempfile.TemporaryDirectory() as folder:
        if options.full_size:
            scale, networks = Scale(8, 2) if options.small else Scale(), {name for kind in kinds for name in kind.needs}
            models = random_models(options.backbone, Path(folder), scale, options.device, options.dtype, networks=networks)
        else:
            models = models_of(options)
        if options.full_size or options.growth:
            models.prototype_folders = (Path(folder) / "prototypes", None)
        yield models


def report(options: argparse.Namespace, models: Models, methods: Sequence[Method]) -> None:
    """Measure sizes or growth, print the tables as they come, and write them where `--out` says."""
    peak, runs = matmul_peak(models.device, models.dtype), 1 if options.runs is None else options.runs
    side, images = options.side or models.backbone.square_hw()[0], numbers_of(options.images, (FULL["images"],))
    head = (
        f"{'random weights of full size' if options.full_size and not options.small else 'weights'} of"
        f" {options.backbone}{', small' if options.small else ''}, {models.device}, {models.dtype_name},"
        f" {torch.get_num_threads()} threads, torch {torch.__version__}; a large product runs at {peak / 1e9:.0f} GFLOP/s"
    )
    print(head + "\n", flush=True)
    if options.growth:
        sweeps = [*grow(models, methods, sweeps_of(options, side), peak, runs)]
        taken = [item for _, items in sweeps for item in items]
        tables = f"{table_of(taken).markdown()}\n{growth_table(sweeps).markdown()}"
    else:
        sizes = [Size(count, side, number) for count in numbers_of(options.classes, FULL["classes"]) for number in images]
        taken = [*measured(models, methods, sizes, peak, runs)]
        tables = table_of(taken).markdown()
    if options.making:
        made = [measure_making(models, m, Size(1, side, n), peak) for m in methods if m.draws_first for n in images]
        tables += "\n" + table_of(made).markdown()
        taken += made
    print(tables)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_whole(options.out / "table.md", f"{head}\n\n{tables}".encode())
        write_whole(options.out / "sizes.json", as_json([asdict(item) for item in taken], indent=1))


def sweeps_of(options: argparse.Namespace, side: int) -> list[Sweep]:
    """What grows: classes, pixels from half the backbone's side on, support images."""
    base = Size(5, side, FULL["images"])
    return [
        Sweep("classes", base, numbers_of(options.classes, FULL["classes"] if options.full_size else GROWTH["classes"])),
        Sweep("pixels", base, tuple(side * halves // 2 for halves in GROWTH["sides"])),
        Sweep("support images", base, numbers_of(options.images, GROWTH["images"])),
    ]


def grow(
    models: Models, methods: Sequence[Method], sweeps: Sequence[Sweep], peak: float, runs: int
) -> Iterator[tuple[Axis, list[Taken]]]:
    """What each method takes in each sweep; support images are for methods that draw some."""
    for sweep in sweeps:
        own = [m for m in methods if sweep.axis != "support images" or m.draws_first]
        if own:
            yield sweep.axis, [*measured(models, own, list(sweep.sizes()), peak, runs)]


def measured(models: Models, methods: Sequence[Method], sizes: Sequence[Size], peak: float, runs: int) -> Iterator[Taken]:
    """What each method takes for each size, one after the other. Without such pictures their number is no matter."""
    for method in methods:
        own = sizes if method.draws_first else list({(s.classes, s.side): s for s in sizes}.values())
        for number, size in enumerate(own):
            show_progress(f"{method.name}, {size.classes} classes, {size.side} px", number / len(own))
            yield measure_size(models, method, size, peak, runs)
        show_progress(method.name, 1.0)


def numbers_of(text: str | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers with commas between them."""
    if not text:
        return default
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in text.split(",")):
        raise ValueError(f"Numbers must be 1 or more, with commas between them, but got {text!r}.")
    return tuple(int(part) for part in text.split(","))
