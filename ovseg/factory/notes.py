"""What is known of a file since it was written: its checksum, its bytes and when it was last changed."""

from pathlib import Path

from ovseg.files import as_json, file_checksum, read_json, write_whole


def note_path(path: Path) -> Path:
    """Where the note of `out/shards/NAME` is: `out/notes/NAME.json`."""
    return path.parent.parent / "notes" / f"{path.name}.json"


def write_note(path: Path, checksum: str) -> None:
    """Write the note of a file as it is now."""
    written = path.stat()
    note = {"sha256": checksum, "bytes": written.st_size, "modified": written.st_mtime_ns}
    write_whole(note_path(path), as_json(note, None), lasting=True)


def checked(path: Path, known: str | None) -> str:
    """A file's checksum, if the file is as it was written. One with the bytes and the time of its note is not read.

    Args:
        known: its checksum, if it has no note.

    Raises:
        ValueError: it was changed since.
    """
    note, now = read_json(note_path(path)) if note_path(path).exists() else {}, path.stat()
    if "sha256" in note and (note.get("bytes"), note.get("modified")) == (now.st_size, now.st_mtime_ns):
        return note["sha256"]
    checksum, known = file_checksum(path), note.get("sha256", known)
    if known not in (None, checksum):
        raise ValueError(
            f"The shard {path} must be as it was written, but was changed: delete it, and run `triplets` again to make it."
        )
    write_note(path, checksum)
    return checksum
