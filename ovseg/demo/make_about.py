"""The pictures of the About tab: each method's steps on one scene of the pocket world, as the shipped networks do them.

    python -m ovseg.demo.make_about

Writes WebP files and `steps.json` into the folder `about/` of each method. Run it again whenever the pocket networks or a
method's steps change. Everything is seeded: the same weights give the same pictures.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from ovseg.assets import SHIPPED
from ovseg.compare import board_of
from ovseg.demo.about_tab import ABOUT, STEPS
from ovseg.methods import METHODS, Method, find_method, runs_on, suited_to
from ovseg.methods.strips import Painter, Picture, Subject
from ovseg.models import Models
from ovseg.output import view
from ovseg.pocket.world import scene as world_scene
from ovseg.scene import from_image
from ovseg.types import Evidence, Segmentation
from ovseg.words.classes import parse_classes

SCENE = 63  # of the split "val": two things that stand apart, on which all methods do well
SIDE = 288  # pixels of a picture: twice what the page shows, for fine screens
MOST_BYTES = 20_000  # of one file


class Painting(Painter):
    """Draws the values of strips with the colours of the page."""

    def heat(self, values: Float[np.ndarray, "y x"]) -> Picture:
        return view.heat(values)

    def heat_over(self, image: Picture, values: Float[np.ndarray, "y x"]) -> Picture:
        return view.heat_overlay(image, values)

    def masks(self, result: Segmentation, order: Sequence[str] | None = None) -> Picture:
        return view.overlay(result, order=order)

    def regions(self, clusters: Evidence, image: Picture) -> Picture:
        return view.evidence_picture(clusters, image)

    def parts(self, image: Picture, region: UInt8[np.ndarray, "y x"], inside: Bool[np.ndarray, "y x"]) -> Picture:
        grown, held = (
            np.asarray(Image.fromarray(values).resize(image.shape[1::-1], Image.Resampling.NEAREST))
            for values in (region, inside)
        )
        label_map = np.where(held, grown + 1, 0)
        count = int(label_map.max()) + 1
        return view.paint(image, label_map, view.palette(count), 0.75 * (np.arange(count) > 0))

    def from_the_middle(self, image: Picture, affinity: Evidence, inside: Bool[np.ndarray, "h w"]) -> Picture:
        at_y, at_x = (np.argwhere(inside).mean(0) + 0.5) / inside.shape
        shown = view.heat_overlay(image, view.affinity_at(affinity, at_x, at_y))
        return np.where(_ring(image.shape[:2], at_y, at_x)[..., None], np.uint8(255), shown)

    def mosaic(self, pictures: Sequence[Picture]) -> Picture:
        """The first four pictures, two by two with a thin white gap, each scaled to the same square."""
        cell, gap = (SIDE - 4) // 2, 4
        sheet = np.full((SIDE, SIDE, 3), 255, np.uint8)
        for number, picture in enumerate(pictures[:4]):
            top, left = (place * (cell + gap) for place in divmod(number, 2))
            smooth = Image.Resampling.LANCZOS if len(picture) > cell else Image.Resampling.NEAREST
            sheet[top : top + cell, left : left + cell] = np.asarray(Image.fromarray(picture).resize((cell, cell), smooth))
        return sheet


def _ring(hw: tuple[int, int], at_y: float, at_x: float) -> Bool[np.ndarray, "h w"]:
    ys, xs = np.ogrid[: hw[0], : hw[1]]
    away = np.hypot(ys - at_y * hw[0], xs - at_x * hw[1]) / max(hw)
    return (away > 0.035) & (away < 0.047)


def subject_of(models: Models, number: int) -> Subject:
    """Scene `number` of the split "val" at 512 px, asked for its own things."""
    drawn = world_scene("val", number, 512)
    return Subject(models, from_image(models, drawn.image), parse_classes(", ".join(dict.fromkeys(drawn.things))))


def write_strip(subject: Subject, kind: type[Method], folder: Path) -> None:
    """Write the pictures of a method's steps and `steps.json`; nothing for a method that shows none."""
    strip = []
    for number, step in enumerate(suited_to(subject.models, kind).strip(subject, Painting()), 1):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.webp").write_bytes(webp(step.picture))
        strip.append({"file": f"{number}.webp", "caption": step.caption, "alt": step.alt})
    if strip:
        (folder / STEPS).write_text(json.dumps(strip, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def webp(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture scaled to `SIDE` on its longer side as a WebP file of at most `MOST_BYTES`.

    Raises:
        ValueError: no quality makes it as small.
    """
    scale = SIDE / max(picture.shape[:2])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    # A coarse map keeps its squares; a picture is made smaller smoothly.
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    small = Image.fromarray(picture).resize(size, smooth)
    for quality in (86, 76, 66, 50):
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=6)
        if len(buffer.getvalue()) <= MOST_BYTES:
            return buffer.getvalue()
    raise ValueError(f"A picture of the About tab must fit {MOST_BYTES} bytes, but has {len(buffer.getvalue())}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures of all methods, or of some."""
    parser = argparse.ArgumentParser(prog="python -m ovseg.demo.make_about", description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=int, default=SCENE, help='number of the scene in the split "val"')
    parser.add_argument("--methods", default=",".join(kind.name for kind in METHODS), help="names with commas between them")
    parser.add_argument("--out", type=Path, help="folder with a folder for each method, in place of the methods' own")
    options = parser.parse_args(arguments)
    models = board_of(SHIPPED, "cpu")
    for kind in map(find_method, options.methods.split(",")):
        subject = subject_of(runs_on(models, kind), options.scene)
        write_strip(subject, kind, options.out / kind.name if options.out else kind.folder() / ABOUT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
