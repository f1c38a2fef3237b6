"""Commands of the data factory: triplets, synthesize, grounded-generation, zero-shot."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovseg.commands.common import add_network, command, models_of, progress
from ovseg.factory.splits import UNSEEN, seen_of
from ovseg.methods.grounded_diffusion import GroundedDiffusion
from ovseg.models import Models
from ovseg.pocket.world import THINGS
from ovseg.progress import silent, with_time_left
from ovseg.words.classes import parse_classes


def add_commands(commands: Any) -> None:
    """Add the commands of this file."""
    _add_triplets(commands)
    _add_synthesize(commands)
    _add_grounded_generation(commands)
    _add_zero_shot(commands)


def _add_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", default="", help='such as "cat, dog"; all things of the pocket world if left out')
    parser.add_argument("--pairs", type=float, default=0.5, help="share of prompts with two classes, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture; the others follow")


def _add_steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, help="sampling steps of a picture; those of the backbone if left out")


def _classes(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(word.name for word in parse_classes(options.classes)) if options.classes else THINGS


def _add_triplets(commands: Any) -> None:
    parser = command(commands, "triplets", triplets, "Generate pictures, features and masks to train a grounding module on.")
    _add_classes(parser)
    parser.add_argument("--split", default="", help=f"the seen classes of {', '.join(UNSEEN)}, in place of --classes")
    parser.add_argument("--count", type=int, default=512, help="pictures")
    parser.add_argument("--detector", default="", help="folder or repository of the segmenter that labels what is drawn")
    parser.add_argument("--timestep", type=int, default=1, help="noise level at which features are taken")
    _add_steps(parser)
    parser.add_argument("--single", action="store_true", help="the surest instance of a class is its mask, not all")
    parser.add_argument("--latents", action="store_true", help="keep latents in place of features: small, slow to train on")
    parser.add_argument("--out", type=Path, required=True)
    add_network(parser)


def triplets(options: argparse.Namespace) -> None:
    """`triplets --backbone B --classes ... --pairs ... --count N --out DIR`, alone or under `accelerate launch`."""
    from accelerate import PartialState

    from ovseg.factory.triplets import Factory, index
    from ovseg.pretrained.detector import load_detector

    if options.count < 1:
        raise ValueError(f"--count must be 1 or more, but got {options.count}.")
    if options.split and options.classes:
        raise ValueError("--split and --classes both say what is drawn: give one of them.")
    models, state = models_of(options), PartialState(cpu=options.device == "cpu")
    if state.num_processes > 1 and models.device.type == "cuda":
        models = Models(models.name, f"cuda:{state.local_process_index}", models.dtype_name)
    source = options.detector or models.checkpoint.detector
    if not source:
        raise ValueError("The pocket world needs --detector, a folder that `train detector` left, but none was given.")
    classes = seen_of(options.split) if options.split else _classes(options)
    factory = Factory(
        models, load_detector(source, models.device), classes, options.count, options.pairs, options.seed, options.timestep,
        options.single, not options.latents, options.steps,
    )  # fmt: skip
    told = with_time_left(progress) if state.is_main_process else silent
    factory.run(options.out, told, state.process_index, state.num_processes)
    state.wait_for_everyone()
    if state.is_main_process:
        counts = index(options.out, options.count)
        progress("triplets made", 1.0)
        share = counts["missed"] / counts["words"]
        print(f"{counts['items']} pictures, {counts['words']} objects asked for, {counts['missed']} ({share:.0%}) not found")


def _add_module(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default="S1", help=f"class split: {', '.join(UNSEEN)}")
    parser.add_argument("--module", default="", help="folder of a grounding module; that of the split if left out")


def _method(options: argparse.Namespace) -> GroundedDiffusion:
    return GroundedDiffusion(module=options.module or options.split)


def _add_synthesize(commands: Any) -> None:
    parser = command(commands, "synthesize", synthesize, "Make a data set of generated pictures with masks.")
    _add_classes(parser)
    _add_module(parser)
    parser.add_argument("--threshold", type=float, default=0.5, help="probability from which a pixel is a class")
    parser.add_argument("--count", type=int, default=64, help="pictures")
    _add_steps(parser)
    parser.add_argument("--out", type=Path, required=True)
    add_network(parser)


def synthesize(options: argparse.Namespace) -> None:
    """`synthesize --classes ... --count N --out DIR`."""
    from ovseg.factory.synthesize import Synthesis, digest

    method = replace(_method(options), threshold=options.threshold)
    made = Synthesis(
        models_of(options), method, _classes(options), options.count, options.pairs, options.seed, options.steps
    )
    made.run(options.out, with_time_left(progress))
    progress("data set made", 1.0)
    print(f"{options.count} pictures in {options.out}, content {digest(options.out)}; README.md there is its card")


def _add_grounded_generation(commands: Any) -> None:
    parser = command(
        commands, "grounded-generation", grounded_generation, "Measure masks of generated pictures, seen and unseen classes."
    )
    _add_module(parser)
    parser.add_argument("--detector", help="folder of the segmenter that labelled the training")
    parser.add_argument("--judge", required=True, help="folder or repository of a segmenter that knows all classes")
    parser.add_argument("--count", type=int, default=24, help="pictures in each of the five groups of prompts")
    _add_steps(parser)
    parser.add_argument("--out", type=Path, required=True)
    add_network(parser)


def grounded_generation(options: argparse.Namespace) -> None:
    """`grounded-generation --split S --judge DIR --out DIR`: Protocol I."""
    from ovseg.factory.grounded_generation import GroundedGeneration, as_markdown
    from ovseg.pretrained.detector import load_detector

    models = models_of(options)
    sources = {"detector": options.detector, "judge": options.judge}
    judges = {name: load_detector(source, models.device) for name, source in sources.items() if source}
    task = GroundedGeneration(models, _method(options), options.split, judges, options.count, steps=options.steps)
    table = task.run(options.out, with_time_left(progress))
    progress("measured", 1.0)
    print(as_markdown(table))


def _add_zero_shot(commands: Any) -> None:
    parser = command(commands, "zero-shot", zero_shot, "Train small segmenters on a synthetic data set and on real scenes.")
    parser.add_argument("--split", default="S1", help=f"class split: {', '.join(UNSEEN)}")
    parser.add_argument("--data", type=Path, required=True, help="folder that `synthesize` made")
    parser.add_argument("--minutes", type=float, default=5, help="of training, each of the five")
    parser.add_argument("--count", type=int, default=256, help="real scenes of the test")
    parser.add_argument("--scenes", type=int, default=24000, help="training scenes to render")
    parser.add_argument("--root", type=Path, default=Path("runs/pocket"), help="where rendered scenes are kept")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)


def zero_shot(options: argparse.Namespace) -> None:
    """`zero-shot --split S --data DIR --out DIR`: Protocol II."""
    from ovseg.factory.zero_shot import ZeroShot, as_markdown
    from ovseg.pocket.training import Budget

    budget = Budget(options.root, options.minutes, options.device, options.scenes, tested=options.count)
    table = ZeroShot(options.split, options.data, budget).run(options.out, progress)
    progress("measured", 1.0)
    print(as_markdown(table))
