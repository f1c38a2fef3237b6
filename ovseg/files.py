"""Writing files whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write beside and rename: a reader, and whoever goes on after a stop, sees the whole file or none.

    Raises:
        ValueError: it cannot be written; the sentence names the file and says why, such as a full disk.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ValueError(f"The file {path} must be writable, but is not: {error.strerror or error}.") from error


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Say in `folder/settings.json` what the folder holds, or pass if it says the same already.

    Raises:
        ValueError: it holds something else, or cannot be written.
    """
    path = folder / "settings.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise ValueError(
            f"The folder {folder} must be new or hold the same, but its settings.json says that it holds something else."
        )
    if not path.exists():
        write_whole(path, (json.dumps(settings, indent=2) + "\n").encode())
