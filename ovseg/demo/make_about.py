"""The pictures of the About tab: each method's steps on one scene of the pocket world, as the shipped networks do them.

    python -m ovseg.demo.make_about

Writes WebP files and `steps.json` into `ovseg/demo/static/about/`. Run it again whenever the pocket networks or a method's
steps change. Everything is seeded: the same weights give the same pictures.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from ovseg.backbones.base import Sampling
from ovseg.demo.about_tab import FOLDER, STEPS
from ovseg.methods import METHODS, suited_to
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.grounded_diffusion import GroundedDiffusion
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.ovdiff.prototypes import make_prototypes
from ovseg.methods.ovdiff.store import NOWHERE
from ovseg.models import Models
from ovseg.output import view
from ovseg.pocket.world import scene as world_scene
from ovseg.scene import from_image, from_prompt
from ovseg.types import BACKGROUND, Evidence, Scene, Segmentation
from ovseg.words.classes import ClassWord, indefinite, parse_classes

SCENE = 63  # of the split "val": two things that stand apart, on which all four methods do well
DRAWN_SEED = 2  # of the picture that Grounded Diffusion draws
DRAWN_ON = "road"  # in that picture
SIDE = 288  # pixels of a picture: twice what the page shows, for fine screens
MOST_BYTES = 20_000  # of one file


@dataclass(frozen=True)
class Step:
    """One picture of a strip, the line under it, and what it shows for those who cannot see it."""

    picture: UInt8[np.ndarray, "h w 3"]
    caption: str
    alt: str


@dataclass(frozen=True)
class Subject:
    """What all strips are about: a scene and the things on it, the first of which is looked at most closely."""

    models: Models
    scene: Scene
    classes: tuple[ClassWord, ...]

    @property
    def first(self) -> str:
        """The name of the first class."""
        return self.classes[0].name

    @property
    def names(self) -> str:
        """All classes in a row of words: "cat and car"."""
        return " and ".join(word.name for word in self.classes)


def subject_of(models: Models, number: int) -> Subject:
    """Scene `number` of the split "val" at 512 px, asked for its own things.

    Raises:
        ValueError: there is no such scene.
    """
    drawn = world_scene("val", number, 512)
    return Subject(models, from_image(models, drawn.image), parse_classes(", ".join(dict.fromkeys(drawn.things))))


def diffsegmenter(subject: Subject) -> tuple[Step, ...]:
    """Picture, noised latent, cross-attention on each grid, self-attention from one place, masks."""
    method = suited_to(subject.models, DiffSegmenter)
    result = method.segment(subject.models, subject.scene, subject.classes)
    mine = [item for item in result.evidence if item.label == subject.first]
    grids = [item.map for item in mine if item.group.endswith("grid")]
    (fused,) = (item.map for item in mine if "fused" in item.group)
    (affinity,) = (item for item in result.evidence if item.kind == "affinity")
    sides = ", ".join(str(len(grid)) for grid in grids)
    level = method.timesteps[0]
    if method.refinements:
        often = "once" if method.refinements == 1 else f"{method.refinements} times"
        refined = f"The map is spread along the self-attention, {often}"
    else:
        refined = "The paper spreads the map along this; the pocket settings leave it out"
    return (
        _picture_step(subject),
        Step(
            _noised_picture(subject, level), f"Encoded, and noised to level {level} of 999",
            "The same picture, a little noisy: its latent with noise, decoded again to be seen.",
        ),
        Step(
            _mosaic([view.heat(grid) for grid in (*grids[:3], fused)]),
            f"Cross-attention of “{subject.first}” on grids of {sides} places a side; last: their weighted sum",
            f"Four heat maps: the grids from fine to coarse, and their weighted sum, brightest on the {subject.first}.",
        ),
        Step(
            _from_the_middle(subject.scene.image, affinity, result.label_map == 1),
            f"Self-attention from the ringed place. {refined}",
            f"A heat map over the picture: what one place of the {subject.first} looks at.",
        ),
        _mask_step(subject, result, f"Above the threshold of {method.threshold:g}, the strongest class wins"),
    )  # fmt: skip


def ovdiff(subject: Subject) -> tuple[Step, ...]:
    """Support images of two classes, their masks, their parts, the nearest class of each place, masks."""
    method = suited_to(subject.models, OVDiff)
    blocks = replace(method, refinement="none").segment(subject.models, subject.scene, subject.classes)
    result = method.segment(subject.models, subject.scene, subject.classes)
    sheets = {item.label: item.images for item in result.evidence if item.group == "Support images"}
    words = [word.name for word in subject.classes[:2]]
    drawn, shaded, parted = [], [], []
    for word in words:
        drawn += _support_images(subject.models, method, word, 2)
        shaded += sheets[word][:2]
        regions = make_prototypes(subject.models, method, word)["diffusion"].foreground.regions
        parted += [_parted(image, region) for image, region in zip(sheets[word][:2], regions, strict=False)]
    above, below = words
    return (
        Step(
            _mosaic(drawn), f"The network draws “{above}” and “{below}”, {method.images} pictures each",
            f"Two generated pictures of {indefinite(above)} above two of {indefinite(below)}.",
        ),
        Step(
            _mosaic(shaded), "Its attention to the word parts the thing (bright) from what stands around it (half dark)",
            "The same four pictures, darkened but for the thing itself.",
        ),
        Step(
            _mosaic(parted), f"The features of each word's things in {method.parts} clusters: prototypes of its parts",
            f"The same four pictures; the parts of each {above} and {below} have a colour each.",
        ),
        Step(
            view.overlay(blocks), "In the given picture each place takes the class, or background, of its nearest prototype",
            f"The picture with blocky coloured regions where the {subject.names} are.",
        ),
        _mask_step(subject, result, "Edges moved to those of the picture: the masks"),
    )  # fmt: skip


def _support_images(models: Models, method: OVDiff, word: str, count: int) -> list[np.ndarray]:
    """The first support images of a class, as OVDiff draws them: seed by seed."""
    sampling = Sampling(method.steps, method.guidance, method.negative, dpm_solver=True)
    seeds = [method.first_seed + k for k in range(count)]
    return [made.image for made in models.backbone.generate(method.prompt.replace("{}", word), seeds, sampling)]


def freeseg_diff(subject: Subject) -> tuple[Step, ...]:
    """Caption, features, clusters, what CLIP sees of each cluster, masks."""
    method = suited_to(subject.models, FreeSegDiff)
    result = method.segment(subject.models, subject.scene, subject.classes)
    (clusters,), (features,) = (
        [item for item in result.evidence if item.group == group] for group in ("Clusters", "Features")
    )
    seen = [item for item in result.evidence if item.group == "What CLIP sees"]
    named = [item for item in seen if item.label != "background"]
    others = [item for item in seen if item.label == "background"]
    caption = subject.models.captioner().caption(subject.scene.image)
    return (
        Step(subject.scene.image, f"A captioner says: “{caption}”", _alt_of_scene(subject)),
        Step(
            features.images[0], "The network's features, three strongest components as colours",
            "A coarse picture in false colours, in which things and ground have different colours.",
        ),
        Step(
            view.evidence_picture(clusters, subject.scene.image), f"The features in {len(seen)} clusters, without names",
            "The picture in flat colours, one for each cluster of features.",
        ),
        Step(
            _mosaic([item.images[0] for item in (*named, *others)][:4]),
            f"CLIP sees one cluster at a time. Named here: {', '.join(f'“{item.label}”' for item in named)}",
            "Four times the picture, black but for one cluster.",
        ),
        _mask_step(subject, result, "Edges moved to those of the picture: the masks"),
    )  # fmt: skip


def grounded_diffusion(subject: Subject) -> tuple[Step, ...]:
    """A picture drawn from a prompt, its features fused, what the word's query looked at, its mask; then the scene's."""
    models, word = subject.models, subject.classes[-1]
    method = suited_to(models, GroundedDiffusion)
    prompt = f"a photo of {indefinite(word.name)} on {DRAWN_ON}"
    drawn = from_prompt(models, prompt, DRAWN_SEED)
    result = method.segment(models, drawn, (word,))
    finest = [item for item in result.evidence if item.group == "Features"][-1]
    order = (BACKGROUND, *(known.name for known in subject.classes))
    (looked,) = (item for item in result.evidence if item.group == "Queries")
    return (
        Step(drawn.image, f"Drawn from the prompt “{prompt}”", f"A generated picture of {indefinite(word.name)}."),
        Step(
            finest.images[0], "Features of all resolutions, fused; three strongest components as colours",
            f"A picture in false colours, in which the {word.name} stands out.",
        ),
        Step(
            view.heat_overlay(drawn.image, looked.map), f"Where the query “{word.name}” looks, in squares of 4 x 4 places",
            f"A heat map over the picture, bright in a few places of the {word.name}.",
        ),
        Step(
            view.overlay(result, order=order), "The word's vector times the features: the mask",
            f"The {word.name} under one colour.",
        ),
        _mask_step(
            subject, method.segment(models, subject.scene, subject.classes), "The same module on a picture that is given"
        ),
    )  # fmt: skip


STRIPS: dict[str, Callable[[Subject], tuple[Step, ...]]] = {
    DiffSegmenter.name: diffsegmenter,
    OVDiff.name: ovdiff,
    FreeSegDiff.name: freeseg_diff,
    GroundedDiffusion.name: grounded_diffusion,
}


def write_strips(subject: Subject, folder: Path, names: Sequence[str]) -> None:
    """Write the pictures of these methods and `steps.json`, in which other methods' strips stay as they are.

    Raises:
        ValueError: a picture does not get small enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / STEPS
    strips = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
    for name in names:
        strips[name] = []
        for number, step in enumerate(STRIPS[name](subject), 1):
            file = f"{name}-{number}.webp"
            (folder / file).write_bytes(webp(step.picture))
            strips[name].append({"file": file, "caption": step.caption, "alt": step.alt})
    index.write_text(json.dumps(strips, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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


def _alt_of_scene(subject: Subject) -> str:
    return f"A drawn scene with {' and '.join(indefinite(word.name) for word in subject.classes)}."


def _picture_step(subject: Subject) -> Step:
    return Step(subject.scene.image, f"A picture, and words: “{subject.names}”", _alt_of_scene(subject))


def _mask_step(subject: Subject, result: Segmentation, caption: str) -> Step:
    shares = [f"{name} {share:.0%}" for name, share in result.shares.items() if name != "background"]
    return Step(view.overlay(result), caption, f"The scene with coloured masks. Shares of it: {', '.join(shares)}.")


def _noised_picture(subject: Subject, timestep: int) -> np.ndarray:
    """The latent with the noise of the scene's seed, decoded: what the network is given, as far as eyes can see it."""
    backbone = subject.models.backbone
    return backbone.decode(backbone.noised(subject.scene.latent, timestep, subject.scene.seed))


def _mosaic(pictures: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    """The first four pictures, two by two with a thin white gap, each scaled to the same square."""
    cell, gap = (SIDE - 4) // 2, 4
    sheet = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for number, picture in enumerate(pictures[:4]):
        top, left = (place * (cell + gap) for place in divmod(number, 2))
        smooth = Image.Resampling.LANCZOS if len(picture) > cell else Image.Resampling.NEAREST
        sheet[top : top + cell, left : left + cell] = np.asarray(Image.fromarray(picture).resize((cell, cell), smooth))
    return sheet


def _from_the_middle(image: np.ndarray, affinity: Evidence, inside: Bool[np.ndarray, "h w"]) -> np.ndarray:
    """What the middle of a mask attends to, laid over the picture, with a ring around that place."""
    at_y, at_x = (np.argwhere(inside).mean(0) + 0.5) / inside.shape
    shown = view.heat_overlay(image, view.affinity_at(affinity, at_x, at_y))
    return np.where(_ring(image.shape[:2], at_y, at_x)[..., None], np.uint8(255), shown)


def _ring(hw: tuple[int, int], at_y: float, at_x: float) -> Bool[np.ndarray, "h w"]:
    ys, xs = np.ogrid[: hw[0], : hw[1]]
    away = np.hypot(ys - at_y * hw[0], xs - at_x * hw[1]) / max(hw)
    return (away > 0.035) & (away < 0.047)


def _parted(image: UInt8[np.ndarray, "h w 3"], region: UInt8[np.ndarray, "y x"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture in which each part of the thing has a colour."""
    grown = np.asarray(Image.fromarray(region).resize(image.shape[1::-1], Image.Resampling.NEAREST))
    inside = grown != NOWHERE
    label_map = np.where(inside, grown + 1, 0)
    count = int(label_map.max()) + 1
    return view.paint(image, label_map, view.palette(count), 0.75 * (np.arange(count) > 0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures of all methods, or of some."""
    parser = argparse.ArgumentParser(prog="python -m ovseg.demo.make_about", description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=int, default=SCENE, help='number of the scene in the split "val"')
    parser.add_argument("--methods", default=",".join(kind.name for kind in METHODS), help="names with commas between them")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures and of steps.json")
    options = parser.parse_args(arguments)
    write_strips(subject_of(Models("pocket", "cpu"), options.scene), options.out, options.methods.split(","))
    return 0


if __name__ == "__main__":
    sys.exit(main())
