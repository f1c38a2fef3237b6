"""Files that are written whole or not at all, and folders that say which run they belong to."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write to a second file and rename it: whoever reads the path, or goes on after a stop, sees a whole file or none.

    Raises:
        ValueError: it cannot be written; the sentence names the file and says why, such as a full disk.
    """
    write_whole_parts(path, [content])


def write_whole_parts(path: Path, parts: Iterable[bytes]) -> None:
    """The same for a content that comes in parts, of which one at a time is in memory.

    Raises:
        ValueError: it cannot be written; the sentence names the file and says why, such as a full disk.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.writelines(parts)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ValueError(f"The file {path} must be writable, but is not: {error.strerror or error}.") from error


def write_or_check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run to `folder/settings.json`; where the file is there already, it must say the same.

    A stopped run goes on only in a folder that was made with the same settings.

    Raises:
        ValueError: the folder was made with other settings, which the sentence names, or the file cannot be written.
    """
    path = folder / "settings.json"
    if not path.exists():
        write_whole(path, (json.dumps(settings, indent=2) + "\n").encode())
        return
    kept = json.loads(path.read_text())
    if kept != settings:
        names = [name for name in dict.fromkeys([*kept, *settings]) if kept.get(name) != settings.get(name)]
        raise ValueError(
            f"The folder {folder} must be new or hold the same, but its settings.json says that it holds something else:"
            f" it differs in {', '.join(names)}."
        )


def checksum(files: Iterable[Path], folder: Path) -> str:
    """12 digits that depend on the content of files and on their paths from `folder`, in no order."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]
