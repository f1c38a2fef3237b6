"""What OVDiff keeps of a class: drawn pictures, their masks, and the feature vectors made of them; and the store for it.

A store is a folder of safetensors files, for each class one of pictures, one of masks and one for each extractor, written
whole or not at all, so that several processes can share it. A file says what made it and holds a checksum of its content.
Prototypes that ship have no pictures, which are large, but a sheet: small copies to be looked at, with their masks.
"""

import hashlib
import io
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Bool, Float16, Int, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ovseg.assets import variable
from ovseg.files import write_whole
from ovseg.limits import limits
from ovseg.models import Models

MadeBy = Mapping[str, Any]
"""All that decides a file's content beside the word, JSON-ready."""

FORMAT = "ovseg prototypes 1"
LEFT_OVER = 86_400.0  # seconds after which a lock, or what a stop has left of a file, is of no use
SHEET_QUALITY = 75  # of a WebP of a picture that is to be looked at alone: 2 kB at 128 px, where an exact one has 16
NOWHERE = 255  # in `Side.regions`: a place that belongs to no part


@dataclass(frozen=True)
class SupportImage:
    """A generated picture of a class, and the attention that each place of the latent grid paid to the class's words."""

    image: UInt8[np.ndarray, "h w 3"]
    attribution: Float16[np.ndarray, "y x"]


@dataclass(frozen=True)
class Mask:
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

    vectors: Float16[np.ndarray, "n d"]
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


class Store:
    """A folder of what OVDiff keeps of classes. Every method takes the word and all settings that decide the content.

    Args:
        folder: made when something is written to it.
        shipped: another folder that is looked into where this one has nothing, and never written to.
        most_bytes: of all files of the folder; where there would be more, those that were read longest ago are deleted.
        is_closed: nothing may be added.
    """

    def __init__(
        self, folder: Path, shipped: Path | None = None, *, most_bytes: int | None = None, is_closed: bool = False
    ) -> None:
        self.folder, self.shipped, self.most_bytes, self.is_closed = folder, shipped, most_bytes, is_closed

    def read_pictures(self, word: str, made_by: MadeBy, most: int | None = None) -> tuple[SupportImage, ...]:
        """The pictures that were drawn so far, or the first `most` of them; none where there are none.

        Raises:
            ValueError: the file is damaged, or is another's.
        """
        tensors = self._read(word, "pictures", made_by) or {}
        numbers = sorted({name.partition("/")[0] for name in tensors})[:most]
        return tuple(SupportImage(_picture(tensors[f"{n}/picture"]), tensors[f"{n}/attribution"]) for n in numbers)

    def add_pictures(self, word: str, made_by: MadeBy, pictures: Sequence[SupportImage]) -> None:
        """Keep pictures beside those that are kept already, which are not encoded again.

        Raises:
            ValueError: the file with these is damaged, or is another's.
        """
        tensors = dict(self._read(word, "pictures", made_by) or {})
        first = len(tensors) // 2  # a picture and its attribution each
        for number, item in enumerate(pictures, first):
            tensors[f"{number:04d}/picture"] = _file_of(Image.fromarray(item.image), "WEBP")
            tensors[f"{number:04d}/attribution"] = item.attribution
        self._write(word, "pictures", made_by, tensors)

    @contextmanager
    def being_made(self, word: str, made_by: MadeBy, waiting: Callable[[], None]) -> Iterator[None]:
        """Only one process or thread at a time makes a word with these settings; the others wait until it is done.

        Args:
            waiting: called about once a second while another makes the word; it may raise to stop waiting.

        Raises:
            ValueError: the folder cannot be written, or nothing may be added.
        """
        if self.is_closed:
            raise ValueError(f"OVDiff's classes must be among those that this server keeps, but {word!r} is not.")
        path = self.folder / self._name(word, "lock", made_by).replace(".safetensors", "")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            while True:
                try:
                    lock.acquire(timeout=1)
                    break
                except Timeout:
                    waiting()
        except OSError as error:
            raise ValueError(f"Prototypes must be kept in {self.folder.name}, but it cannot be written: {error}") from error
        try:
            yield
        finally:
            lock.release()

    def read_masks(self, word: str, made_by: MadeBy) -> tuple[Mask, ...] | None:
        """The masks of the first pictures, or None where there are none.

        Raises:
            ValueError: the file is damaged, or is another's.
        """
        tensors = self._read(word, "masks", made_by)
        if tensors is None:
            return None
        return tuple(_mask(tensors[name]) for name in sorted(tensors))

    def write_masks(self, word: str, made_by: MadeBy, masks: Sequence[Mask]) -> None:
        """Keep masks."""
        self._write(word, "masks", made_by, {f"{number:04d}": _marks(mask) for number, mask in enumerate(masks)})

    def read_sheet(self, word: str, made_by: MadeBy) -> tuple[tuple[np.ndarray, Mask], ...]:
        """Copies of the pictures, which are not exact, with their masks: to be looked at. None where there are none.

        Raises:
            ValueError: the file is damaged, or is another's.
        """
        tensors = self._read(word, "sheet", made_by) or {}
        numbers = sorted({name.partition("/")[0] for name in tensors})
        return tuple((_picture(tensors[f"{n}/picture"]), _mask(tensors[f"{n}/mask"])) for n in numbers)

    def write_sheet(
        self, word: str, made_by: MadeBy, pictures: Sequence[UInt8[np.ndarray, "_h _w 3"]], masks: Sequence[Mask]
    ) -> Path:
        """Keep copies of pictures, an eighth as large as the pictures' own files, and their masks; returns the file."""
        tensors = {}
        for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            tensors[f"{number:04d}/picture"] = _file_of(Image.fromarray(picture), "WEBP", SHEET_QUALITY)
            tensors[f"{number:04d}/mask"] = _marks(mask)
        return self._write(word, "sheet", made_by, tensors)

    def read_prototypes(self, word: str, extractor: str, made_by: MadeBy) -> Prototypes | None:
        """An extractor's prototypes, or None where there are none.

        Raises:
            ValueError: the file is damaged, or is another's.
        """
        tensors = self._read(word, extractor, made_by)
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
        return self._write(word, extractor, made_by, tensors)

    def drop_damaged(self, word: str, kind: str, made_by: MadeBy) -> bool:
        """Delete a file, "pictures", "masks" or an extractor's, that cannot be read; whether there was one to delete."""
        path = self.folder / self._name(word, kind, made_by)
        if not path.exists():
            return False
        try:
            read(path, {"word": word, "kind": kind, "made_by": made_by})
        except ValueError:
            path.unlink()
            return True
        return False

    def _name(self, word: str, kind: str, made_by: MadeBy) -> str:
        slug = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
        digest = hashlib.sha256(json.dumps([word, made_by], sort_keys=True).encode()).hexdigest()[:12]
        return f"{slug}-{digest}.{kind}.safetensors"

    def holds(self, word: str, kind: str, made_by: MadeBy) -> bool:
        """Whether a file of this kind, "pictures", "masks" or an extractor, is there; it is not read."""
        name = self._name(word, kind, made_by)
        return any((folder / name).exists() for folder in (self.folder, self.shipped) if folder)

    def _read(self, word: str, kind: str, made_by: MadeBy) -> dict[str, np.ndarray] | None:
        for folder in (self.folder, self.shipped):
            path = folder and folder / self._name(word, kind, made_by)
            if path and path.exists():
                tensors = read(path, {"word": word, "kind": kind, "made_by": made_by})
                if folder == self.folder:
                    with suppress(OSError):  # deleted meanwhile, or another's: that it was read is then not noted
                        os.utime(path)
                return tensors
        return None

    def _write(self, word: str, kind: str, made_by: MadeBy, tensors: dict[str, np.ndarray]) -> Path:
        """Write beside and rename: a reader sees the whole file or none. Returns the file."""
        header = {
            "format": FORMAT,
            "word": word,
            "kind": kind,
            "made_by": json.dumps(made_by),
            "checksum": _checksum(tensors),
        }
        path = self.folder / self._name(word, kind, made_by)
        write_whole(path, save(tensors, header))
        self._make_room(path)
        return path

    def _make_room(self, written: Path) -> None:
        """Delete what was read longest ago until the files have `most_bytes`, and what stops have left; never `written`."""
        if self.most_bytes is None:
            return
        found = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room, too
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in found)
        for modified, size, path in sorted(found):
            left_over = path.suffix != ".safetensors" and time.time() - modified > LEFT_OVER
            if path != written and (left_over or (total > self.most_bytes and path.suffix == ".safetensors")):
                path.unlink(missing_ok=True)
                total -= size

    def files(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every file of the store with what it says of itself, in the order of their names.

        Raises:
            ValueError: a file is damaged.
        """
        for path in sorted(self.folder.glob("*.safetensors")):
            yield path, describe(path)


def store_of(models: Models) -> Store:
    """The store of these models' folders."""
    closed = variable("OVSEG_PROTOTYPES_CLOSED") is not None
    return Store(*models.prototype_folders, most_bytes=limits().prototype_bytes, is_closed=closed)


def describe(path: Path) -> dict[str, Any]:
    """What a file says of itself: word, kind and made_by. Its content is not read.

    Raises:
        ValueError: it is no file of a store, or of another format.
    """
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"The prototypes {path.name} must be a whole safetensors file, but are not: {error}") from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"The prototypes {path.name} must be of the format {FORMAT!r}, but are of {header.get('format')!r}."
        )
    return {name: header[name] for name in ("word", "kind", "checksum")} | {"made_by": json.loads(header["made_by"])}


def read(path: Path, expected: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file, checked.

    Args:
        expected: what the file must say of itself, as `describe` gives it.

    Raises:
        ValueError: it is damaged, was changed after it was written, or says something else.
    """
    header = describe(path)
    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dictionary
    if _checksum(tensors) != header["checksum"]:
        raise ValueError(f"The prototypes {path.name} must be as they were written, but their content was changed.")
    wrong = [name for name, value in (expected or {}).items() if header[name] != json.loads(json.dumps(value))]
    if wrong:
        raise ValueError(f"The prototypes {path.name} must be what their name says, but their {wrong[0]} is another.")
    return tensors


def _checksum(tensors: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _file_of(picture: Image.Image, kind: str, quality: int | None = None) -> np.ndarray:
    """The bytes of a picture file, PNG or WebP, from which the very pixels come back; not so with a WebP's `quality`."""
    buffer = io.BytesIO()
    how = {"lossless": True} if quality is None else {"quality": quality, "method": 6}  # a PNG is lossless anyway
    picture.save(buffer, kind, **how)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _picture(content: np.ndarray, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content.tobytes())).convert(mode))


def _marks(mask: Mask) -> np.ndarray:
    marks = mask.foreground.astype(np.uint8) + 2 * mask.background.astype(np.uint8)
    return _file_of(Image.fromarray(marks), "PNG")


def _mask(content: np.ndarray) -> Mask:
    marks = _picture(content, "L")
    return Mask((marks & 1) > 0, (marks & 2) > 0)


def _unpacked(tensors: Mapping[str, np.ndarray], side: str) -> UInt8[np.ndarray, "k y x"]:
    """The regions of a side; those of older files are not packed."""
    regions, shape = tensors[f"{side}/regions"], tensors.get(f"{side}/shape")
    return regions if shape is None else np.frombuffer(zlib.decompress(regions.tobytes()), np.uint8).reshape(shape)
