"""`generate PROMPT --out FILE`: one generated picture."""

import argparse
from pathlib import Path

from PIL import Image

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.scene import from_prompt


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `generate`."""
    parser.add_argument("prompt", help="what the picture shall show")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another picture (default: 0)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the backbone's)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: the backbone's)")
    parser.add_argument("--negative", default="", help="what the picture shall not show")
    parser.add_argument("--out", type=Path, required=True, help="picture file, such as g.png")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Generate the picture and write it.

    Raises:
        ValueError: the file's ending names no picture format, or the prompt is empty.
    """
    if options.out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out must be a picture file such as g.png, but got {options.out}.")
    scene = from_prompt(
        models_of(options),
        options.prompt,
        options.seed,
        steps=options.steps,
        guidance=options.guidance,
        negative=options.negative,
        on_step=lambda done, total: show_progress("sampling", done / total),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(options.out)
    print(f"wrote {options.out} ({scene.image.shape[1]} x {scene.image.shape[0]})")
