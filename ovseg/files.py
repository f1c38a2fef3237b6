"""Writing files whole or not at all."""

import os
from pathlib import Path


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
