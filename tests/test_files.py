"""Files that are whole or not there, and folders that belong to one run."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ovseg.files import check_folder, whole_array, whole_folder, write_or_check_settings, write_whole, write_whole_parts


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


def test_a_file_that_should_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    for path in (tmp_path / "out" / "a.png", tmp_path / "out" / "deep" / "a.png"):
        with pytest.raises(ValueError, match=r"a\.png must be writable, but is not: (Not a directory|File exists)"):
            write_whole(path, b"content")
        with pytest.raises(ValueError, match=r"must be a folder, but .*out is a file"):
            check_folder(path.parent)
    assert (tmp_path / "out").read_text() == "a file"


def test_what_lies_beside_a_file_is_neither_used_nor_changed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    for name in (f"a.bin.{os.getpid()}.partial", "a.bin.partial", ".partial"):
        (tmp_path / name).symlink_to(other)
    write_whole(tmp_path / "a.bin", b"content", lasting=True)
    assert (tmp_path / "a.bin").read_bytes() == b"content" and other.read_bytes() == b"mine"
    assert not (tmp_path / "a.bin").is_symlink()


def test_two_threads_write_the_same_file_one_after_the_other(tmp_path: Path) -> None:
    contents = [bytes([n]) * 300_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_whole(tmp_path / "a", content), contents))
    assert (tmp_path / "a").read_bytes() in contents and len(list(tmp_path.iterdir())) == 1


def test_what_lasts_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, path = [], tmp_path / "a"
    original = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: (synced.append((os.fstat(number).st_ino, path.exists())), original(number))
    )
    write_whole(path, b"quick")
    assert not synced
    path.unlink()
    write_whole(path, b"content", lasting=True)
    assert synced == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_a_folder_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "network"
    with whole_folder(folder) as new:
        (new / "old.bin").write_bytes(b"old")
    with (
        pytest.raises(ValueError, match="network must be writable, but is not: No space left on device"),
        whole_folder(folder) as new,
    ):
        (new / "new.bin").write_bytes(b"new")
        raise OSError(28, "No space left on device")
    assert [path.name for path in folder.iterdir()] == ["old.bin"]
    with whole_folder(folder) as new:
        (new / "new.bin").write_bytes(b"new")
        assert [path.name for path in folder.iterdir()] == ["old.bin"]
    assert [path.name for path in folder.iterdir()] == ["new.bin"] and len(list(folder.parent.iterdir())) == 1


def test_an_array_has_its_name_when_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with whole_array(path, np.uint8, (2, 3)) as array:
        array[:] = 7
        assert not path.exists()
    assert np.array_equal(np.load(path), np.full((2, 3), 7)) and len(list(tmp_path.iterdir())) == 1
