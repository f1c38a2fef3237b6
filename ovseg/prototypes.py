"""What OVDiff keeps of a class: support images with their masks, and the feature vectors made of them; and their store.

A store is a folder of safetensors files, one for each support set and one for each of its extractors, written whole or
not at all, so that several processes can share it. A file says what made it and holds a checksum of its content.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Int, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = "ovseg prototypes 1"
NOWHERE = 255  # in `Prototypes.regions`: a place that belongs to no part


@dataclass(frozen=True)
class SupportImage:
    """A generated picture of a class, and which of its pixels are the class and which are surely not."""

    image: UInt8[np.ndarray, "h w 3"]
    foreground: Bool[np.ndarray, "h w"]
    background: Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class SupportSet:
    """The support images of a class. `made_by` is all that decides them, JSON-ready."""

    word: str
    images: tuple[SupportImage, ...]
    made_by: Mapping[str, Any]


@dataclass(frozen=True)
class Side:
    """The prototypes of a class's foreground or background in one extractor.

    Rows are the mean, then one for each image that has the side at all, then the parts. `images` says for each row which
    support image it is or, for the mean and the parts, comes nearest to it. `regions` says for each support image and
    place of the feature grid which part it belongs to, or `NOWHERE`.
    """

    vectors: Float16[np.ndarray, "n d"]
    images: Int[np.ndarray, "n"]
    parts: int
    regions: UInt8[np.ndarray, "images y x"]

    def kind_of(self, row: int) -> str:
        """What a row is: "mean", "image" or "part"."""
        if row == 0:
            return "mean"
        return "part" if row >= len(self.vectors) - self.parts else "image"

    def part_of(self, row: int) -> int:
        """The part that a row of kind "part" stands for, as `regions` counts them."""
        return row - (len(self.vectors) - self.parts)


@dataclass(frozen=True)
class Prototypes:
    """What one extractor makes of a support set. The background has no rows where no support image shows any."""

    word: str
    extractor: str
    foreground: Side
    background: Side
    made_by: Mapping[str, Any]


class Store:
    """A folder of support sets and prototypes.

    Args:
        folder: made when something is written to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def support_path(self, word: str, made_by: Mapping[str, Any]) -> Path:
        """Where a support set of these settings is kept."""
        return self.folder / f"{_slug(word)}-{_digest(made_by)}.support.safetensors"

    def prototypes_path(self, word: str, extractor: str, made_by: Mapping[str, Any]) -> Path:
        """Where an extractor's prototypes of these settings are kept."""
        return self.folder / f"{_slug(word)}-{_digest(made_by)}.{extractor}.safetensors"

    def write_support(self, support: SupportSet) -> None:
        """Keep a support set."""
        tensors = {}
        for number, item in enumerate(support.images):
            tensors[f"{number:04d}/picture"] = _packed(item.image)
            tensors[f"{number:04d}/masks"] = _masks_packed(item)
        _write(self.support_path(support.word, support.made_by), tensors, support.word, "support", support.made_by)

    def read_support(self, word: str, made_by: Mapping[str, Any]) -> SupportSet | None:
        """The support set of these settings, or None where there is none.

        Raises:
            ValueError: the file is damaged, or is another's.
        """
        path = self.support_path(word, made_by)
        if not path.exists():
            return None
        tensors = read(path, word, made_by)
        numbers = sorted({name.partition("/")[0] for name in tensors})
        images = tuple(_unpacked(tensors[f"{n}/picture"], tensors[f"{n}/masks"]) for n in numbers)
        return SupportSet(word, images, made_by)

    def write_prototypes(self, kept: Prototypes) -> None:
        """Keep an extractor's prototypes."""
        tensors = {}
        for name, side in (("foreground", kept.foreground), ("background", kept.background)):
            tensors[f"{name}/vectors"], tensors[f"{name}/regions"] = side.vectors, side.regions
            tensors[f"{name}/images"] = side.images.astype(np.int32)
            tensors[f"{name}/parts"] = np.array([side.parts], np.int32)
        path = self.prototypes_path(kept.word, kept.extractor, kept.made_by)
        _write(path, tensors, kept.word, kept.extractor, kept.made_by)

    def read_prototypes(self, word: str, extractor: str, made_by: Mapping[str, Any]) -> Prototypes | None:
        """The prototypes of these settings, or None where there are none.

        Raises:
            ValueError: the file is damaged, or is another's.
        """
        path = self.prototypes_path(word, extractor, made_by)
        if not path.exists():
            return None
        tensors = read(path, word, made_by)
        sides = [
            Side(
                tensors[f"{name}/vectors"], tensors[f"{name}/images"], int(tensors[f"{name}/parts"][0]),
                tensors[f"{name}/regions"],
            )
            for name in ("foreground", "background")
        ]  # fmt: skip
        return Prototypes(word, extractor, *sides, made_by)

    def files(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every file of the store with what it says of itself, in the order of their names.

        Raises:
            ValueError: a file is damaged.
        """
        for path in sorted(self.folder.glob("*.safetensors")):
            yield path, describe(path)


def describe(path: Path) -> dict[str, Any]:
    """What a file says of itself: word, kind and made_by. Its content is not read.

    Raises:
        ValueError: it is no file of a store, or of another format.
    """
    try:
        with safe_open(path, "np") as file:
            told = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"The prototypes {path.name} must be a whole safetensors file, but are not: {error}") from error
    if told.get("format") != FORMAT:
        raise ValueError(f"The prototypes {path.name} must be of the format {FORMAT!r}, but are of {told.get('format')!r}.")
    return {"word": told["word"], "kind": told["kind"], "checksum": told["checksum"], "made_by": json.loads(told["made_by"])}


def read(path: Path, word: str | None = None, made_by: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file, checked.

    Raises:
        ValueError: it is damaged, was changed after it was written, or is not of this word or these settings.
    """
    told = describe(path)
    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dictionary
    if _checksum(tensors) != told["checksum"]:
        raise ValueError(f"The prototypes {path.name} must be as they were written, but their content was changed.")
    if word is not None and (told["word"] != word or told["made_by"] != json.loads(json.dumps(made_by))):
        raise ValueError(f"The prototypes {path.name} must be of {word!r} and these settings, but are of another kind.")
    return tensors


def _write(path: Path, tensors: dict[str, np.ndarray], word: str, kind: str, made_by: Mapping[str, Any]) -> None:
    """Write beside and rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"format": FORMAT, "word": word, "kind": kind, "made_by": json.dumps(made_by), "checksum": _checksum(tensors)}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(save(tensors, told))
    os.replace(partial, path)


def _checksum(tensors: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _digest(made_by: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:10]


def _slug(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") or hashlib.sha256(word.encode()).hexdigest()[:8]


def _packed(image: np.ndarray) -> np.ndarray:
    """A picture as the bytes of a lossless WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _masks_packed(item: SupportImage) -> np.ndarray:
    """Both masks as the bytes of a PNG file: 1 foreground, 2 background."""
    buffer = io.BytesIO()
    Image.fromarray(item.foreground.astype(np.uint8) + 2 * item.background.astype(np.uint8)).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _unpacked(picture: np.ndarray, masks: np.ndarray) -> SupportImage:
    image = np.asarray(Image.open(io.BytesIO(picture.tobytes())).convert("RGB"))
    marks = np.asarray(Image.open(io.BytesIO(masks.tobytes())))
    return SupportImage(image, (marks & 1) > 0, (marks & 2) > 0)
