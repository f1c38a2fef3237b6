"""A folder of safetensors files, each of a word and all settings that decide its content.

Files are written whole or not at all, so that several processes can share the folder. A file says what made it and holds a
checksum of its content.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ovseg.files import write_whole

MadeBy = Mapping[str, Any]
"""All that decides a file's content beside the word, JSON-ready."""

FORMAT = "ovseg prototypes 1"
LEFT_OVER = 86_400.0  # seconds after which a lock, or what a stop has left of a file, is of no use


class WordFolder:
    """Files of words, found by the word, a kind such as "masks", and all settings that decide the content.

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

    def read(self, word: str, kind: str, made_by: MadeBy) -> dict[str, np.ndarray] | None:
        """The tensors of a file, or None where there is none.

        Raises:
            ValueError: the file is damaged, or is another's.
        """
        for folder in (self.folder, self.shipped):
            path = folder and folder / self._name(word, kind, made_by)
            if path and path.exists():
                tensors = read(path, {"word": word, "kind": kind, "made_by": made_by})
                if folder == self.folder:
                    with suppress(OSError):  # deleted meanwhile, or another's: that it was read is then not noted
                        os.utime(path)
                return tensors
        return None

    def write(self, word: str, kind: str, made_by: MadeBy, tensors: dict[str, np.ndarray]) -> Path:
        """Write beside and rename: a reader sees the whole file or none. Returns the file."""
        header = {"format": FORMAT, "word": word, "kind": kind, "made_by": json.dumps(made_by)}
        path = self.folder / self._name(word, kind, made_by)
        write_whole(path, save(tensors, header | {"checksum": _checksum(tensors)}))
        self._make_room(path)
        return path

    def holds(self, word: str, kind: str, made_by: MadeBy) -> bool:
        """Whether a file of this kind, "pictures", "masks" or an extractor, is there; it is not read."""
        name = self._name(word, kind, made_by)
        return any((folder / name).exists() for folder in (self.folder, self.shipped) if folder)

    def drop_damaged(self, word: str, kind: str, made_by: MadeBy) -> bool:
        """Delete a file, "pictures", "masks" or an extractor's, that cannot be read; whether there was one to delete."""
        path = self.folder / self._name(word, kind, made_by)
        try:
            if path.exists():
                read(path, {"word": word, "kind": kind, "made_by": made_by})
            return False
        except ValueError:
            path.unlink()
            return True

    def files(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every file of the store with what it says of itself, in the order of their names.

        Raises:
            ValueError: a file is damaged.
        """
        for path in sorted(self.folder.glob("*.safetensors")):
            yield path, describe(path)

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
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=1)
                except Timeout:
                    waiting()
        except OSError as error:
            raise ValueError(f"Prototypes must be kept in {self.folder.name}, but it cannot be written: {error}") from error
        try:
            yield
        finally:
            lock.release()

    def _name(self, word: str, kind: str, made_by: MadeBy) -> str:
        slug = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
        digest = hashlib.sha256(json.dumps([word, made_by], sort_keys=True).encode()).hexdigest()[:12]
        return f"{slug}-{digest}.{kind}.safetensors"

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
