"""`generate PROMPT --out FILE`: one generated picture."""

import argparse
import io

from PIL import Image

from ovseg.commands.common import add_networks, models_of, show_progress
from ovseg.commands.values import number, out_picture, seed
from ovseg.files import write_whole
from ovseg.scene import from_prompt


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="what the picture shall show")
    parser.add_argument("--seed", type=seed, default=0, help="another seed gives another picture (default: 0)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the backbone's)")
    parser.add_argument("--guidance", type=number(0, 100), help="classifier-free guidance (default: the backbone's)")
    parser.add_argument("--negative", default="", help="what the picture shall not show")
    parser.add_argument("--out", type=out_picture, required=True, help="picture file, such as g.png")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Generate the picture and write it."""
    scene = from_prompt(
        models_of(options),
        options.prompt,
        options.seed,
        steps=options.steps,
        guidance=options.guidance,
        negative=options.negative,
        on_step=lambda done, total: show_progress("sampling", done / total),
    )
    content = io.BytesIO()
    Image.fromarray(scene.image).save(content, Image.registered_extensions()[options.out.suffix.lower()])
    write_whole(options.out, content.getvalue())
    print(f"wrote {options.out} ({scene.image.shape[1]} x {scene.image.shape[0]})")
