"""Files that are whole or not there, and folders that belong to one run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovseg.files import write_or_check_settings, write_whole, write_whole_parts


def test_a_file_is_replaced_whole_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    write_whole(path, b"first")
    write_whole(path, b"2nd")
    assert path.read_bytes() == b"2nd" and [item.name for item in path.parent.iterdir()] == ["a.bin"]


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "item.bin"
    write_whole(path, b"old")

    def until_the_disk_is_full() -> Iterator[bytes]:
        yield b"n"
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match=r"item.bin must be writable, but is not: No space left on device"):
        write_whole_parts(path, until_the_disk_is_full())
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_file_may_come_in_parts(tmp_path: Path) -> None:
    write_whole_parts(tmp_path / "parts", (b"one, ", b"two"))
    assert (tmp_path / "parts").read_bytes() == b"one, two"


def test_a_folder_belongs_to_the_settings_that_it_was_made_with(tmp_path: Path) -> None:
    write_or_check_settings(tmp_path, {"seed": 1})
    write_or_check_settings(tmp_path, {"seed": 1})
    with pytest.raises(ValueError, match="must be new or hold the same"):
        write_or_check_settings(tmp_path, {"seed": 2})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 1}
