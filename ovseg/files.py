"""Files and folders that are written whole or not at all, and folders that say which run they belong to.

What cannot be written raises ValueError, whose sentence names the file or folder and says why, such as a full disk.
"""

import hashlib
import io
import json
import os
import secrets
import shutil
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError

SETTINGS, LIST, LOCK = "settings.json", ".ovseg-files.json", ".ovseg-lock"
"""Names in the folder of a run: what it depends on, where it can go on; which files are its own; that it is at work."""


def write_whole(path: Path, content: bytes, *, lasting: bool = False) -> None:
    """Write to a second file and rename it: whoever reads the path, or goes on after a stop, sees a whole file or none.

    Args:
        lasting: also after a power cut; for files from which a stopped run goes on.
    """
    write_whole_parts(path, [content], lasting=lasting)


def write_whole_parts(path: Path, parts: Iterable[bytes], *, lasting: bool = False) -> None:
    """The same for a content that comes in parts, of which one at a time is in memory."""
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


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """In the block no other run writes to the folder, which is made; one in which nothing is written is not left behind.

    Raises:
        ValueError: another run writes to it, or it cannot be written to.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(f"The folder {folder} must be one run's alone, but another one writes to it now.") from None
    except OSError as error:
        raise ValueError(f"The folder {folder} must be writable, but is not: {_why(error)}.") from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # it is not empty
            folder.rmdir()


class RunFolder:
    """A folder that takes the files of a run. `names` are those that were written, as paths from it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, list[str]()

    def write(self, files: Iterable[tuple[str, bytes]], into: str = "") -> list[Path]:
        """Write files, given by name and content, into the folder or one in it; returns their paths.

        Raises:
            ValueError: one cannot be written.
        """
        begun = len(self.names)
        for name, content in files:
            self.names.append(f"{into}/{name}" if into else name)
            write_whole(self.folder / self.names[-1], content)
        return [self.folder / name for name in self.names[begun:]]


@contextmanager
def run_folder(folder: Path) -> Iterator[RunFolder]:
    """The folder of a run, which writes to it in the block. Files of an earlier run that it does not write again go.

    Raises:
        ValueError: another run writes to it, it is that of a run which can go on, or it cannot be written to.
    """
    with alone_in(folder):
        if (folder / SETTINGS).exists():
            raise ValueError(f"The folder {folder} must be another one: it holds a run that can go on ({SETTINGS}).")
        earlier = read_json(folder / LIST, list) if (folder / LIST).exists() else []
        run = RunFolder(folder)
        try:
            yield run
        finally:
            if run.names:  # of a run that was stopped the next one knows what it has left
                write_whole(folder / LIST, as_json(sorted({*earlier, *run.names})))
        for name in sorted({*earlier} - {*run.names}):
            _delete_ours(folder, folder / str(name))
        write_whole(folder / LIST, as_json(sorted(run.names)))


def _delete_ours(folder: Path, path: Path) -> None:
    """Delete a file in a folder, and the folders that are empty then; nothing that is not in it."""
    if folder.resolve() in path.resolve().parents:
        path.unlink(missing_ok=True)
        for parent in path.relative_to(folder).parents[:-1]:
            with suppress(OSError):  # it is not empty
                (folder / parent).rmdir()


def as_json(value: Any, indent: int | None = 2) -> bytes:
    """A value as the content of a JSON file."""
    text = json.dumps(value, indent=indent, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # a name that is not UTF-8 becomes JSON's own \\udcff


def as_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the content of a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_text(path: str | Path, what: str = "") -> str:
    """The text of a file: in UTF-8, whatever the locale is, or in UTF-16 where its byte order mark says so.

    Args:
        what: what it is, to begin an error's sentence.

    Raises:
        ValueError: it cannot be read, or is no such text.
    """
    begin, name = (f"{what} must be a file", f"{path} ") if what else (f"The file {path} must be one", "")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{begin} that can be read, but {name}is not: {_why(error)}.") from error
    try:
        text = content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{begin} of text in UTF-8, but {name}is not: {error.reason}.") from error
    if "\0" in text:
        raise ValueError(f"{begin} of text in UTF-8, but {name}is not: it holds zeros.")
    return text


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it cannot be read, is empty or damaged, or holds something that is no `kind`; the sentence names it.
    """
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):
            raise
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
    path = folder / SETTINGS
    if (folder / LIST).exists():
        raise ValueError(f"The folder {folder} must be new or hold the same, but it holds the files of another run.")
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
        total.update(path.relative_to(folder).as_posix().encode(errors="surrogateescape"))
        total.update(bytes.fromhex(file_checksum(path)))
    return total.hexdigest()[:12]
