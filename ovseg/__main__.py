"""The command line: `python -m ovseg COMMAND --help`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg import view
from ovseg.assets import ASSETS
from ovseg.backbones import BACKBONES
from ovseg.card import run_card
from ovseg.evaluation import workers
from ovseg.evaluation.ablations import ABLATIONS, Ablation
from ovseg.evaluation.ablations import as_markdown as ablation_table
from ovseg.evaluation.baselines import MEASURABLE
from ovseg.evaluation.benchmark import Benchmark, as_markdown, with_best_threshold
from ovseg.evaluation.datasets import DATASETS, Dataset, find_dataset
from ovseg.evaluation.labels import LABEL_SOURCES
from ovseg.evaluation.protocols import PROTOCOLS
from ovseg.methods import METHODS, Method, find_method, modes_of, suited_to
from ovseg.models import Models
from ovseg.nouns import noun_phrases
from ovseg.pretrained import lavis
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS
from ovseg.scene import from_image, from_prompt, read_image
from ovseg.settings import read_setting
from ovseg.timings import measure, table
from ovseg.types import named
from ovseg.vocabulary import ClassWord
from ovseg.words import asked_for, look_for


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Bad input is one sentence on stderr and exit code 2."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        print(f"ovseg: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ovseg: stopped", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(prog="python -m ovseg", description="See how a diffusion model segments a picture.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_generate(commands)
    _add_caption(commands)
    _add_lavis(commands)
    _add_serve(commands)
    _add_evaluate(commands)
    _add_ablate(commands)
    _add_pocket_report(commands)
    _add_timings(commands)
    _add_scenes(commands)
    _add_train(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="pocket", help=f"{', '.join(BACKBONES)}, or a local diffusers folder")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; the best there is if not given")
    parser.add_argument("--dtype", help="float32, float16 or bfloat16; float32 on the CPU if not given, else float16")


def _models(options: argparse.Namespace) -> Models:
    return Models(options.backbone, options.device, options.dtype)


def _progress(stage: str, share: float) -> None:
    print(f"\r{stage} {share:4.0%}".ljust(60), end="\n" if share >= 1 else "", file=sys.stderr, flush=True)


def _add_segment(commands: Any) -> None:
    parser = _command(commands, "segment", segment, "Segment a picture file into classes; write masks and a run card.")
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--classes", default="", help='such as "dog|puppy, traffic light, sky"; a caption gives them if left out'
    )
    parser.add_argument("--caption", default="", help="what the picture shows; the captioner says it if left out")
    _add_captioner(parser)
    parser.add_argument("--only-present", action="store_true", help="leave out classes that CLIP and the caption do not see")
    _add_method(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--square", action="store_true", help="squash to a square first, as DiffSegmenter's code does")
    parser.add_argument("--attention", action="store_true", help="also write every attention map as a picture")
    parser.add_argument("--out", type=Path, required=True, help="folder for overlay.png, mask.png, legend.json, run.json")
    _add_network(parser)


def _add_captioner(parser: argparse.ArgumentParser) -> None:
    known = ", ".join((*CAPTIONERS, *LAVIS_MODELS))
    parser.add_argument("--captioner", default="", help=f"{known}; the backbone's if not given")


def _add_method(parser: argparse.ArgumentParser, kinds: Sequence[type[Method]] = METHODS) -> None:
    parser.add_argument("--method", default=kinds[0].name, help=", ".join(kind.name for kind in kinds))
    parser.add_argument("--mode", default="suited", help="suited (to the backbone), released (the paper's), best effort")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", dest="settings", help=_settings_help())


def _settings_help() -> str:
    return "; ".join(f"{m.name}: {', '.join(f.name for f in fields(m))}" for m in METHODS)


def _method(options: argparse.Namespace, models: Models, kind: type[Method]) -> Method:
    settings = {}
    for item in options.settings:
        name, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"A setting must be FIELD=VALUE, but got {item!r}.")
        settings[name] = read_setting(kind, name, value)
    return replace(named(modes_of(models, kind), f"mode of {kind.title}", options.mode), **settings)


def segment(options: argparse.Namespace) -> None:
    """`segment IMAGE --classes ... --out DIR`."""
    models, kind, image = _models(options), find_method(options.method), read_image(options.image)
    method = _method(options, models, kind)
    classes, said = asked_for(
        models, kind, image, options.classes, caption=options.caption, captioner=options.captioner, report=_progress
    )
    if options.only_present:
        classes = _present(models, image, classes, said)
    scene = from_image(models, image, options.seed, caption=said, square=options.square)
    result = method.segment(models, scene, classes, _progress)
    written = view.write_masks(result, options.out, run_card(models, scene, classes, method, result))
    if options.attention:
        view.write_attention(result, options.out / "attention")
    for name, share in result.shares.items():
        print(f"{share:7.2%}  {name}")
    print("wrote " + ", ".join(str(path) for path in written))


def _present(models: Models, image: np.ndarray, classes: tuple[ClassWord, ...], caption: str) -> tuple[ClassWord, ...]:
    """The classes that seem to be there; what speaks for each is printed."""
    found = look_for(models, image, classes, caption)
    for item in found:
        print(f"{'present' if item.present else 'absent':>8}  {item.name} (looks {item.looks:.2f}, said {item.said:.2f})")
    return tuple(word for word, item in zip(classes, found, strict=True) if item.present)


def _add_generate(commands: Any) -> None:
    parser = _command(commands, "generate", generate, "Generate a picture from a prompt.")
    parser.add_argument("prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="sampling steps; what suits the backbone if not given")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance; what suits the backbone if not given")
    parser.add_argument("--negative", default="", help="what to keep out")
    parser.add_argument("--out", type=Path, required=True, help="picture file, such as g.png")
    _add_network(parser)


def generate(options: argparse.Namespace) -> None:
    """`generate PROMPT --seed N --out FILE`."""
    if options.out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out must be a picture file such as g.png, but got {options.out}.")
    scene = from_prompt(
        _models(options),
        options.prompt,
        options.seed,
        steps=options.steps,
        guidance=options.guidance,
        negative=options.negative,
        on_step=lambda done, total: _progress("sampling", done / total),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(options.out)
    print(f"wrote {options.out} ({scene.image.shape[1]} x {scene.image.shape[0]})")


def _add_caption(commands: Any) -> None:
    parser = _command(commands, "caption", caption, "Say in a sentence what a picture shows, and the things that it names.")
    parser.add_argument("image", type=Path)
    _add_captioner(parser)
    parser.add_argument("--prefix", default="", help="how the sentence must begin")
    _add_network(parser)


def caption(options: argparse.Namespace) -> None:
    """`caption IMAGE`."""
    image = read_image(options.image)
    sentence = _models(options).captioner(options.captioner).caption(image, options.prefix)
    print(sentence)
    print("things: " + (", ".join(phrase.described for phrase in noun_phrases(sentence)) or "none"))


def _add_lavis(commands: Any) -> None:
    parser = _command(commands, "lavis", manage_lavis, "Build the environment of the LAVIS captioner.")
    parser.add_argument("action", choices=["install", "status"])


def manage_lavis(options: argparse.Namespace) -> None:
    """`lavis install|status`."""
    if options.action == "install":
        print(f"LAVIS is ready in {lavis.install()}")
    else:
        print(lavis.obstacle() or lavis.missing() or f"LAVIS is ready in {lavis.environment()}")


def _add_serve(commands: Any) -> None:
    parser = _command(commands, "serve", serve, "Open the page, as `python app.py` does.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    _add_network(parser)


def serve(options: argparse.Namespace) -> None:
    """`serve`."""
    from ovseg.demo import launch

    launch(_models(options), options.host, options.port)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="pocket-val", help=", ".join(DATASETS))
    parser.add_argument("--data", type=Path, help="the folder that holds it; the pocket world needs none")
    parser.add_argument("--split", help="of a benchmark: the one that papers report if not given, or the training split")


def _dataset(options: argparse.Namespace) -> Dataset:
    return find_dataset(options.dataset, options.data, options.split)


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", evaluate, "Measure a method on a data set; a stopped run goes on in its folder.")
    _add_dataset(parser)
    parser.add_argument("--count", type=int, help="pictures; all of a benchmark, 64 of the pocket world if not given")
    parser.add_argument("--labels", default="ground-truth", help=f"classes asked for: {', '.join(LABEL_SOURCES)}")
    parser.add_argument("--protocol", default="native", help=", ".join(PROTOCOLS))
    parser.add_argument(
        "--threshold-from", type=Path, metavar="DIR", help="take the best threshold of a run on another split"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes here; or start this command with torchrun")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables, the sheet and the pictures' counts")
    _add_method(parser, MEASURABLE)
    _add_network(parser)


def evaluate(options: argparse.Namespace) -> None:
    """`evaluate --method M --dataset D --count N --out DIR`."""
    models, dataset = _models(options), _dataset(options)
    count = options.count or (64 if dataset.length is None else None)
    protocol = named(PROTOCOLS, "protocol", options.protocol)
    method = _method(options, models, find_method(options.method, MEASURABLE))
    task = Benchmark(models, method, dataset, count, options.seed, options.labels, protocol)
    if options.threshold_from:
        task = with_best_threshold(task, options.threshold_from)
    table = workers.run(task, options.out, options.workers, _progress)
    if table:
        _progress(f"{dataset.name} {task.total}/{task.total}", 1.0)
        print(as_markdown(table))


def _add_ablate(commands: Any) -> None:
    parser = _command(commands, "ablate", ablate, "Measure the variants of a method, one thing changed in each; one table.")
    parser.add_argument("--method", default=METHODS[0].name, help=", ".join(ABLATIONS))
    _add_dataset(parser)
    parser.add_argument("--count", type=int, default=64, help="pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table and the runs")
    _add_network(parser)


def ablate(options: argparse.Namespace) -> None:
    """`ablate --method M --dataset D --count N --out DIR`."""
    models, kind = _models(options), find_method(options.method)
    task = Benchmark(models, suited_to(models, kind), _dataset(options), options.count)
    rows = Ablation(task, kind).run(options.out, _progress)
    _progress("measured", 1.0)
    print(ablation_table(rows))


def _add_pocket_report(commands: Any) -> None:
    parser = _command(commands, "pocket-report", pocket_report, "Measure every figure of the pocket bundle's card.")
    parser.add_argument("--per-thing", type=int, default=8, help="pictures generated of each thing")
    parser.add_argument("--pairs", type=int, default=64, help="pictures generated of two things")
    parser.add_argument("--count", type=int, default=256, help="scenes for CLIP and the segmenters")
    parser.add_argument("--out", type=Path, required=True, help="folder for card.md, card.json, samples.png and the runs")
    _add_network(parser)


def pocket_report(options: argparse.Namespace) -> None:
    """`pocket-report --out DIR`."""
    from ovseg.evaluation.pocket_report import PocketReport

    report = PocketReport(_models(options), options.out, options.per_thing, options.pairs, options.count)
    rows = report.run(_progress)
    _progress("measured", 1.0)
    for row in rows:
        print(f"{row.value:>28}  {row.what}" + (f" (aim {row.aim})" if row.aim else ""))


def _add_timings(commands: Any) -> None:
    parser = _command(commands, "timings", timings, "Measure how long loading, generating and segmenting take here.")
    parser.add_argument("--runs", type=int, default=5)
    _add_network(parser)


def timings(options: argparse.Namespace) -> None:
    """`timings`."""
    models = _models(options)
    print(table(models, measure(models, options.runs)))


def _add_scenes(commands: Any) -> None:
    parser = _command(commands, "scenes", scenes, "Write scenes of the pocket world: pictures, masks, captions, a sheet.")
    parser.add_argument("--split", default="val", help="train, val or novel")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--start", type=int, default=0, help="index of the first scene")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--out", type=Path, required=True)


def scenes(options: argparse.Namespace) -> None:
    """`scenes --split val --count 16 --out DIR`."""
    from ovseg.pocket.export import write_scenes

    write_scenes(options.split, range(options.start, options.start + options.count), options.size, options.out)
    print(f"wrote {options.count} scenes and sheet.png to {options.out}")


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", train, "Train a network of the pocket bundle, or go on with it; then pack it.")
    parser.add_argument(
        "network",
        help="codec, denoiser, clip in this order, judge, captioner, dino; then bundle, which packs what was trained",
    )
    parser.add_argument("--minutes", type=float, default=60, help="in total, over all runs of this network")
    parser.add_argument("--piece", type=float, metavar="MINUTES", help="stop after this long; the checkpoint is kept small")
    parser.add_argument("--scenes", type=int, default=24000, help="training scenes to render")
    parser.add_argument("--out", type=Path, default=Path("runs/pocket"), help="one folder for all networks")
    parser.add_argument("--start", type=Path, help="denoiser, clip: a saved pipeline to build on, such as the shipped one")
    parser.add_argument("--to", type=Path, default=ASSETS / "pocket", help="where `train bundle` writes")
    parser.add_argument("--device", default="cpu")


def train(options: argparse.Namespace) -> None:
    """`train codec|denoiser|clip|judge|captioner|dino|bundle`."""
    from ovseg.pocket.recipes import RECIPES, pack

    if options.start and options.network not in ("denoiser", "clip"):
        raise ValueError(f"--start is for the denoiser and clip, but the network is {options.network}.")
    arguments = {"piece": options.piece} | ({"start": options.start} if options.start else {})
    if options.network == "bundle":
        pack(options.out, options.to)
    elif options.network in RECIPES:
        RECIPES[options.network](options.out, options.minutes, options.device, options.scenes, **arguments)
    else:
        raise ValueError(f"The network must be one of {', '.join(RECIPES)}, bundle, but got {options.network!r}.")


if __name__ == "__main__":
    sys.exit(main())
