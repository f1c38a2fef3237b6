"""Files and folders that are written whole or not at all, and folders that say which run they belong to."""

import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError


def write_whole(path: Path, content: bytes, *, lasting: bool = False) -> None:
    """Write to a second file and rename it: whoever reads the path, or goes on after a stop, sees a whole file or none.

    Args:
        lasting: also after a power cut; for files from which a stopped run goes on.

    Raises:
        ValueError: it cannot be written; the sentence names the file and says why, such as a full disk.
    """
    write_whole_parts(path, [content], lasting=lasting)


def write_whole_parts(path: Path, parts: Iterable[bytes], *, lasting: bool = False) -> None:
    """The same for a content that comes in parts, of which one at a time is in memory.

    Raises:
        ValueError: it cannot be written; the sentence names the file and says why, such as a full disk.
    """
    with _beside(path) as partial:
        with partial.open("xb") as file:  # never a file, or a link, that is there already
            file.writelines(parts)
        if lasting:
            _sync(partial)
        os.replace(partial, path)
        if lasting:
            _sync(path.parent)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to be filled in the block, which then takes the place of `folder`. It lasts, also after a power cut.

    A stop leaves the folder as it was, or, between two renames, none.

    Raises:
        ValueError: it cannot be written; the sentence names the folder and says why, such as a full disk.
    """
    with _beside(folder) as partial:
        partial.mkdir()
        yield partial
        for path in sorted(partial.rglob("*")):
            _sync(path)
        if folder.is_dir():
            with _beside(folder) as old:
                os.replace(folder, old)
                os.replace(partial, folder)
        else:
            os.replace(partial, folder)
        _sync(folder.parent)


@contextmanager
def whole_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """A new .npy file, mapped into memory to be filled in the block; it has its name when the block ends.

    Its room on the disk is taken beforehand: a disk that fills up later would end the process.

    Raises:
        ValueError: it cannot be written; the sentence names the file and says why, such as a full disk.
    """
    with _beside(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", dtype, shape)
        with partial.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # not on every system
                os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
        yield array
        array.flush()
        os.replace(partial, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name that is free, in the folder of `path`, which is made; what has this name at the end is deleted.

    Raises:
        ValueError: something in the block cannot be written.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
        finally:
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"The file {path} must be writable, but is not: {_why(error)}.") from error


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def check_folder(folder: Path) -> Path:
    """The folder, if files can be written to it; if it is not there, none is made.

    Raises:
        ValueError: it is no folder, or cannot be written to or made.
    """
    there = folder
    try:
        while not os.path.lexists(there):
            there = there.parent
        if not there.is_dir():
            raise ValueError(f"The folder {folder} must be a folder, but {there} is a file.")
        probe = there / f".{secrets.token_hex(8)}.partial"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ValueError(f"The folder {folder} must be writable, but is not: {_why(error)}.") from error
    return folder


def as_json(value: Any, indent: int | None = 2) -> bytes:
    """A value as the content of a JSON file."""
    return (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode()


def as_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the content of a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it cannot be read, is empty or damaged, or holds something that is no `kind`; the sentence names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"The file {path} must be one that can be read, but is not: {_why(error)}.") from error
    except ValueError as error:
        raise ValueError(f"The file {path} must be JSON, but is empty or damaged: {error}.") from error
    if not isinstance(content, kind):
        raise ValueError(f"The file {path} must hold a JSON {kind.__name__}, but holds a {type(content).__name__}.")
    return content


def write_or_check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run to `folder/settings.json`; where the file is there already, it must say the same.

    A stopped run goes on only in a folder that was made with the same settings.

    Raises:
        ValueError: the folder was made with other settings, which the sentence names, or the file is damaged or cannot be
            written.
    """
    path = folder / "settings.json"
    if not os.path.lexists(path):
        write_whole(path, as_json(settings), lasting=True)
        return
    kept = read_json(path)
    if kept != settings:
        names = [name for name in dict.fromkeys([*kept, *settings]) if kept.get(name) != settings.get(name)]
        raise ValueError(
            f"The folder {folder} must be new or hold the same, but its settings.json says that it holds something else:"
            f" it differs in {', '.join(names)}."
        )


def file_checksum(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(files: Iterable[Path], folder: Path) -> str:
    """12 digits that depend on the content of files and on their paths from `folder`, in no order."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.relative_to(folder).as_posix().encode())
        total.update(bytes.fromhex(file_checksum(path)))
    return total.hexdigest()[:12]
