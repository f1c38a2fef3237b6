"""Commands that make and look at pictures: segment, generate, caption, lavis, prototypes, serve."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg.commands.common import (
    add_captioner,
    add_files,
    add_method,
    add_network,
    command,
    method_of,
    models_of,
    parts_of,
    progress,
)  # fmt: skip
from ovseg.methods import find_method
from ovseg.methods.ovdiff.cost import build_cost
from ovseg.methods.ovdiff.method import OVDiff, report_on_class
from ovseg.methods.ovdiff.prototypes import drop_damaged, make_prototypes
from ovseg.methods.ovdiff.store import read as read_prototypes
from ovseg.methods.ovdiff.store import store_of
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.cost import measuring
from ovseg.output.files import Result, write_files
from ovseg.output.run_card import run_card
from ovseg.pretrained import lavis
from ovseg.progress import with_time_left
from ovseg.scene import from_image, from_prompt, read_image
from ovseg.words.classes import ClassWord
from ovseg.words.nouns import noun_phrases
from ovseg.words.presence import asked_for, look_for


def add_commands(commands: Any) -> None:
    """Add the commands of this file."""
    _add_segment(commands)
    _add_generate(commands)
    _add_caption(commands)
    _add_lavis(commands)
    _add_serve(commands)
    _add_prototypes(commands)


def _add_segment(commands: Any) -> None:
    parser = command(commands, "segment", segment, "Segment a picture file into classes; write masks and a run card.")
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--classes", default="", help='such as "dog|puppy, traffic light, sky"; a caption gives them if left out'
    )
    parser.add_argument("--caption", default="", help="what the picture shows; the captioner says it if left out")
    add_captioner(parser)
    parser.add_argument("--only-present", action="store_true", help="leave out classes that CLIP and the caption do not see")
    add_method(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--square", action="store_true", help="squash to a square first, as DiffSegmenter's code does")
    parser.add_argument("--attention", action="store_true", help="also write every attention map as a picture")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files and their README.txt")
    add_files(parser)
    add_network(parser)


def segment(options: argparse.Namespace) -> None:
    """`segment IMAGE --classes ... --out DIR`."""
    models, kind, image = models_of(options), find_method(options.method), read_image(options.image)
    method, parts = method_of(options, models, kind), parts_of(options.files)
    classes, said = asked_for(
        models,
        image,
        options.classes,
        names_itself=kind.names_itself,
        caption=options.caption,
        captioner=options.captioner,
        report=progress,
    )
    if options.only_present:
        classes = _present(models, image, classes, said)
    scene = from_image(models, image, options.seed, caption=said, square=options.square)
    with measuring(models.device) as cost:
        result = method.segment(models, scene, classes, progress)
    card = run_card(models, scene, classes, method, result, cost=cost)
    written = write_files(Result(result, card), options.out, parts)
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
    parser = command(commands, "generate", generate, "Generate a picture from a prompt.")
    parser.add_argument("prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="sampling steps; what suits the backbone if not given")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance; what suits the backbone if not given")
    parser.add_argument("--negative", default="", help="what to keep out")
    parser.add_argument("--out", type=Path, required=True, help="picture file, such as g.png")
    add_network(parser)


def generate(options: argparse.Namespace) -> None:
    """`generate PROMPT --seed N --out FILE`."""
    if options.out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out must be a picture file such as g.png, but got {options.out}.")
    scene = from_prompt(
        models_of(options),
        options.prompt,
        options.seed,
        steps=options.steps,
        guidance=options.guidance,
        negative=options.negative,
        on_step=lambda done, total: progress("sampling", done / total),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(options.out)
    print(f"wrote {options.out} ({scene.image.shape[1]} x {scene.image.shape[0]})")


def _add_caption(commands: Any) -> None:
    parser = command(commands, "caption", caption, "Say in a sentence what a picture shows, and the things that it names.")
    parser.add_argument("image", type=Path)
    add_captioner(parser)
    parser.add_argument("--prefix", default="", help="how the sentence must begin")
    add_network(parser)


def caption(options: argparse.Namespace) -> None:
    """`caption IMAGE`."""
    image = read_image(options.image)
    sentence = models_of(options).captioner(options.captioner).caption(image, options.prefix)
    print(sentence)
    print("things: " + (", ".join(phrase.described for phrase in noun_phrases(sentence)) or "none"))


def _add_lavis(commands: Any) -> None:
    parser = command(commands, "lavis", manage_lavis, "Build the environment of the LAVIS captioner.")
    parser.add_argument("action", choices=["install", "status"])


def manage_lavis(options: argparse.Namespace) -> None:
    """`lavis install|status`."""
    if options.action == "install":
        print(f"LAVIS is ready in {lavis.install()}")
    else:
        print(lavis.obstacle() or lavis.missing() or f"LAVIS is ready in {lavis.environment()}")


def _add_serve(commands: Any) -> None:
    parser = command(commands, "serve", serve, "Open the page, as `python app.py` does.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    add_network(parser)


def serve(options: argparse.Namespace) -> None:
    """`serve`."""
    from ovseg.demo import launch

    launch(models_of(options), options.host, options.port)


def _add_prototypes(commands: Any) -> None:
    parser = command(commands, "prototypes", manage_prototypes, "Make, list or check the prototypes that OVDiff keeps.")
    parser.add_argument("action", choices=["build", "list", "verify"])
    parser.add_argument("words", nargs="*", help="classes, for build")
    parser.add_argument("--images", type=int, help="support images of each class; what suits the backbone if not given")
    parser.add_argument("--repair", action="store_true", help="make damaged files of these classes again; refused without")
    parser.add_argument("--mode", default="suited", help="suited (to the backbone) or released (the paper's)")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", dest="settings", help="other settings of OVDiff"
    )
    add_network(parser)


def manage_prototypes(options: argparse.Namespace) -> None:
    """`prototypes build WORD ... | list | verify`."""
    models = models_of(options)
    if options.action == "build":
        _build_prototypes(options, models)
        return
    count = 0
    for path, told in store_of(models).files():
        if options.action == "verify":
            read_prototypes(path)
        count += 1
        print(f"{told['word']:<20} {told['kind']:<10} {path.stat().st_size / 1e6:7.2f} MB  {path.name}")
    print(
        f"{count} files in {store_of(models).folder}" + (", all as they were written" if options.action == "verify" else "")
    )


def _build_prototypes(options: argparse.Namespace, models: Models) -> None:
    if not options.words:
        raise ValueError('Classes must be named, such as: prototypes build "cat" "dog", but none was given.')
    method = method_of(options, models, OVDiff)
    if options.images is not None:
        method = replace(method, images=options.images)
    method.check()
    print(build_cost(models, method, len(options.words)))
    told = with_time_left(progress)
    for number, word in enumerate(options.words):
        for kind in drop_damaged(models, method, word) if options.repair else ():
            print(f"{word}: damaged {kind} are made again")
        made = make_prototypes(models, method, word, report_on_class(told, number, len(options.words)))
        sizes = ", ".join(f"{name} {len(p.foreground.vectors)} + {len(p.background.vectors)}" for name, p in made.items())
        print(f"\n{word}: prototypes of foreground + background: {sizes}")
