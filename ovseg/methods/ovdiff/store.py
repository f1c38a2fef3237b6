"""What OVDiff keeps of a class: drawn pictures, their masks, and the feature vectors made of them; and the store for it.

For each class there is a file of pictures, one of masks and one for each extractor. Prototypes that ship have no pictures,
which are large, but a sheet: small copies to be looked at, with their masks.
"""

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from ovseg.assets import variable
from ovseg.limits import limits
from ovseg.methods.ovdiff.word_folder import MadeBy, WordFolder
from ovseg.models import Models

SHEET_QUALITY = 75  # of a WebP of a picture that is to be looked at alone: 2 kB at 128 px, where an exact one has 16
NOWHERE = 255  # in `Side.regions`: a place that belongs to no part


@dataclass(frozen=True)
class SupportImage:
    """A generated picture of a class, and the attention that each place of the latent grid paid to the class's words."""

    image: UInt8[np.ndarray, "h w 3"]
    attribution: Float[np.ndarray, "y x"]


@dataclass(frozen=True)
class Trimap:
    """Which pixels of a drawn picture are the class, and which are surely not."""

    foreground: Bool[np.ndarray, "h w"]
    background: Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Side:
    """The prototypes of a class's foreground or background in one extractor.

    Rows are the mean, then one for each picture that has the side at all, then the parts. `pictures` says for each row
    which picture it is of or, for the mean and the parts, comes nearest to it. `regions` says for each picture and place
    of the feature grid which part it belongs to, or `NOWHERE`.
    """

    vectors: Float[np.ndarray, "n d"]
    pictures: Int[np.ndarray, " n"]
    parts: int
    regions: UInt8[np.ndarray, "k y x"]

    def part_at(self, row: int) -> int | None:
        """The part that a row stands for, as `regions` counts them; None for the mean and a picture's."""
        part = row - (len(self.vectors) - self.parts)
        return part if part >= 0 else None

    def kind_at(self, row: int) -> str:
        """What a row is, in words: "mean", "picture 3" or "part 5", counted from 1."""
        part = self.part_at(row)
        return "mean" if row == 0 else f"picture {self.pictures[row] + 1}" if part is None else f"part {part + 1}"

    def places_at(self, row: int) -> Bool[np.ndarray, "y x"]:
        """Where a row's features lie in its picture."""
        region, part = self.regions[self.pictures[row]], self.part_at(row)
        return region != NOWHERE if part is None else region == part


@dataclass(frozen=True)
class Prototypes:
    """What one extractor makes of a class's pictures. The background has no rows where no picture shows any."""

    foreground: Side
    background: Side


class Store(WordFolder):
    """The folder of what OVDiff keeps of classes. What reads raises ValueError for a file that is damaged or another's."""

    def read_pictures(self, word: str, made_by: MadeBy, most: int | None = None) -> tuple[SupportImage, ...]:
        """The pictures that were drawn so far, or the first `most` of them; none where there are none."""
        tensors = self.read(word, "pictures", made_by) or {}
        numbers = sorted({name.partition("/")[0] for name in tensors})[:most]
        return tuple(SupportImage(_picture(tensors[f"{n}/picture"]), tensors[f"{n}/attribution"]) for n in numbers)

    def add_pictures(self, word: str, made_by: MadeBy, pictures: Sequence[SupportImage]) -> None:
        """Keep pictures beside those that are kept already, which are not encoded again."""
        tensors = dict(self.read(word, "pictures", made_by) or {})
        first = len(tensors) // 2  # a picture and its attribution each
        for number, item in enumerate(pictures, first):
            tensors[f"{number:04d}/picture"] = _file_of(Image.fromarray(item.image), "WEBP")
            tensors[f"{number:04d}/attribution"] = item.attribution
        self.write(word, "pictures", made_by, tensors)

    def read_masks(self, word: str, made_by: MadeBy) -> tuple[Trimap, ...] | None:
        """The masks of the first pictures, or None where there are none."""
        tensors = self.read(word, "masks", made_by)
        return None if tensors is None else tuple(_mask(tensors[name]) for name in sorted(tensors))

    def write_masks(self, word: str, made_by: MadeBy, masks: Sequence[Trimap]) -> None:
        """Keep masks."""
        self.write(word, "masks", made_by, {f"{number:04d}": _marks(mask) for number, mask in enumerate(masks)})

    def read_sheet(self, word: str, made_by: MadeBy) -> tuple[tuple[np.ndarray, Trimap], ...]:
        """Copies of the pictures, which are not exact, with their masks: to be looked at. None where there are none."""
        tensors = self.read(word, "sheet", made_by) or {}
        numbers = sorted({name.partition("/")[0] for name in tensors})
        return tuple((_picture(tensors[f"{n}/picture"]), _mask(tensors[f"{n}/mask"])) for n in numbers)

    def write_sheet(
        self, word: str, made_by: MadeBy, pictures: Sequence[UInt8[np.ndarray, "_h _w 3"]], masks: Sequence[Trimap]
    ) -> Path:
        """Keep copies of pictures, an eighth as large as the pictures' own files, and their masks; returns the file."""
        tensors = {}
        for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            tensors[f"{number:04d}/picture"] = _file_of(Image.fromarray(picture), "WEBP", SHEET_QUALITY)
            tensors[f"{number:04d}/mask"] = _marks(mask)
        return self.write(word, "sheet", made_by, tensors)

    def read_prototypes(self, word: str, extractor: str, made_by: MadeBy) -> Prototypes | None:
        """An extractor's prototypes, or None where there are none."""
        tensors = self.read(word, extractor, made_by)
        if tensors is None:
            return None
        sides = (
            Side(*(tensors[f"{side}/{part}"] for part in ("vectors", "pictures")), int(tensors[f"{side}/parts"][0]),
                 _unpacked(tensors, side))
            for side in ("foreground", "background")
        )  # fmt: skip
        return Prototypes(*sides)

    def write_prototypes(self, word: str, extractor: str, made_by: MadeBy, kept: Prototypes) -> Path:
        """Keep an extractor's prototypes; returns the file."""
        tensors = {}
        for name, side in (("foreground", kept.foreground), ("background", kept.background)):
            tensors[f"{name}/vectors"], tensors[f"{name}/shape"] = side.vectors, np.array(side.regions.shape, np.int32)
            tensors[f"{name}/regions"] = np.frombuffer(zlib.compress(side.regions.tobytes(), 9), np.uint8)
            tensors[f"{name}/pictures"] = side.pictures.astype(np.int32)
            tensors[f"{name}/parts"] = np.array([side.parts], np.int32)
        return self.write(word, extractor, made_by, tensors)


def store_of(models: Models) -> Store:
    """The store of these models' folders."""
    closed = variable("OVSEG_PROTOTYPES_CLOSED") is not None
    return Store(*models.prototype_folders, most_bytes=limits().prototype_bytes, is_closed=closed)


def _file_of(picture: Image.Image, kind: str, quality: int | None = None) -> np.ndarray:
    """The bytes of a picture file, PNG or WebP, from which the very pixels come back; not so with a WebP's `quality`."""
    buffer = io.BytesIO()
    how = {"lossless": True} if quality is None else {"quality": quality, "method": 6}  # a PNG is lossless anyway
    picture.save(buffer, kind, **how)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _picture(content: np.ndarray, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content.tobytes())).convert(mode))


def _marks(mask: Trimap) -> np.ndarray:
    marks = mask.foreground.astype(np.uint8) + 2 * mask.background.astype(np.uint8)
    return _file_of(Image.fromarray(marks), "PNG")


def _mask(content: np.ndarray) -> Trimap:
    marks = _picture(content, "L")
    return Trimap((marks & 1) > 0, (marks & 2) > 0)


def _unpacked(tensors: Mapping[str, np.ndarray], side: str) -> UInt8[np.ndarray, "k y x"]:
    """The regions of a side; those of older files are not packed."""
    regions, shape = tensors[f"{side}/regions"], tensors.get(f"{side}/shape")
    return regions if shape is None else np.frombuffer(zlib.decompress(regions.tobytes()), np.uint8).reshape(shape)
