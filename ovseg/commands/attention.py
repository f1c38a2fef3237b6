"""`attention IMAGE "a cat on a sofa" --out DIR`: what the network attends to, by token, layer and noise level."""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from ovseg.attention import Attention, Heads, Inspection, heads_of
from ovseg.attention.plan import KEEPS, MOST_BYTES, NOISE_LEVELS, measured_row_seconds, parse_levels
from ovseg.commands.common import add_networks, models_of, say_notes, show_progress
from ovseg.commands.values import more_than_nothing, number, out_folder, seed
from ovseg.files import run_folder
from ovseg.limits import visible
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.attention_files import Look, files_of_attention, usual_weights
from ovseg.output.files import Files
from ovseg.pictures import read_image


def add_options(parser: argparse.ArgumentParser) -> None:
    usual = ",".join(map(str, NOISE_LEVELS))
    parser.add_argument("image", nargs="?", type=Path, help="picture file; none with --generate")
    parser.add_argument("prompt", help='sentence whose words are looked for, such as "a cat on a sofa"')
    parser.add_argument("--noise", help=f"noise levels between commas, 0 to 999 (default: {usual})")
    parser.add_argument("--generate", action="store_true", help="draw a picture of the sentence, and look inside meanwhile")
    parser.add_argument("--seed", type=seed, default=0, help="of the noise, or of the drawn picture (default: 0)")
    parser.add_argument("--steps", type=int, help="sampling steps of --generate (default: the backbone's)")
    parser.add_argument(
        "--guidance", type=number(0, 100), help="classifier-free guidance of --generate (default: the backbone's)"
    )
    parser.add_argument("--negative", default="", help="what a drawn picture shall not show")
    parser.add_argument(
        "--self-attention", default="every", metavar="WHERE", dest="keep",
        help=f"noise levels or steps at which self-attention is kept: {', '.join(KEEPS)} (default: every)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", help="weights of the resolutions between commas, finest first (default: what suits the backbone)"
    )
    parser.add_argument("--at", metavar="X,Y", help="also write what this place attends to; shares of width and height")
    parser.add_argument("--heads", metavar="LAYER,LEVEL", help="also write the heads of a layer apart; both count from 1")
    parser.add_argument(
        "--most-memory", type=more_than_nothing, default=MOST_BYTES / 1e9, help="gigabytes for the result (default: 1)"
    )
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the files and their README.txt")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Say what it takes, look inside, write the files."""
    _check(options)
    models = models_of(options)
    look = _look(options, models)
    place = None if options.at is None else _numbers(options.at, "--at", 2)
    if place and not all(0 <= share <= 1 for share in place):
        raise ValueError(f"--at must lie within the picture, 0 to 1, but got {options.at}.")
    weights = _weights(options, models)
    say_notes(models, ())
    with run_folder(options.out) as out:
        plan, backbone = look.plan(models), models.backbone
        image_hw = backbone.square_hw() if look.image is None else look.image.shape[:2]
        print(plan.sentence(measured_row_seconds(models, backbone.latent_shape(backbone.working_hw(image_hw)))))
        inside = replace(look.run(models, show_progress), weights=weights)
        show_progress("drawn" if options.generate else "looked inside", 1.0)
        if options.heads is not None:
            inside = replace(inside, heads=_heads(options.heads, models, inside.attention))
        written = out.write(files_of_attention(inside))
        if place is not None:
            written += out.write(_of_place(inside.attention, place))
    print("wrote " + ", ".join(str(path) for path in written))


def _check(options: argparse.Namespace) -> None:
    if options.generate and options.image is not None:
        raise ValueError(f"With --generate there must be a sentence alone, but a picture was given too: {options.image}.")
    if not options.generate and options.image is None:
        raise ValueError("A picture must be given before the sentence, or --generate to draw one, but there is neither.")
    only_drawn = {"--steps": options.steps, "--guidance": options.guidance, "--negative": options.negative or None}
    if not options.generate and (extra := next((name for name, value in only_drawn.items() if value is not None), None)):
        raise ValueError(f"{extra} must come with --generate, as it says how a picture is drawn, but that is not given.")
    if options.generate and options.noise is not None:
        raise ValueError("With --generate the levels are the sampling steps, so --noise must not be given, but it is.")


def _look(options: argparse.Namespace, models: Models) -> Look:
    inspection = Inspection(visible(options.prompt).strip(), options.keep, int(options.most_memory * 1e9))
    if options.generate:
        sampling = models.checkpoint.sampling(options.steps, options.guidance, options.negative)
        return Look(inspection, options.seed, sampling)
    levels = NOISE_LEVELS if options.noise is None else parse_levels(options.noise)
    return Look(inspection, options.seed, image=read_image(options.image), levels=levels)


def _weights(options: argparse.Namespace, models: Models) -> dict[int, float]:
    if options.weights is None:
        return usual_weights(models)
    strides = sorted({site.stride for site in models.backbone.sites if site.kind == "cross"})
    numbers = _numbers(options.weights, "--weights", len(strides))
    if min(numbers) < 0 or max(numbers) == 0:
        raise ValueError(f"--weights must be 0 or more, and one of them more than 0, but got {options.weights}.")
    return dict(zip(strides, numbers, strict=True))


def _heads(text: str, models: Models, attention: Attention) -> Heads:
    layer, level = _numbers(text, "--heads", 2)
    sites, levels = list(attention.cross), len(attention.timesteps)
    if layer not in range(1, len(sites) + 1) or level not in range(1, levels + 1):
        raise ValueError(f"--heads must name a layer from 1 to {len(sites)} and a level from 1 to {levels}, but got {text}.")
    return heads_of(models, attention, sites[int(layer) - 1], int(level) - 1)


def _of_place(attention: Attention, place: list[float]) -> Files:
    """A picture for each resolution: what the place attends to, the mean over the levels that were kept."""
    for stride, row in attention.rows_from(*place).items():
        rows, columns = attention.grid(stride)
        yield f"place/{rows}x{columns}.png", view.png(view.marked(view.heat_overlay(attention.image, row), *place))


def _numbers(text: str, name: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be {count} numbers with commas between them, but got {text!r}.")
    return numbers
