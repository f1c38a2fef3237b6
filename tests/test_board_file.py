"""A downloaded zip opens again as the same board, and nothing else does."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovseg.demo.board_file import BOARD_FILE, board_bytes, read_board
from tests.board_page import values


def kept(folder: Path, content: bytes, name: str = BOARD_FILE) -> Path:
    path = folder / "ovseg.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def value() -> dict[str, Any]:
    return values(48, 64)["finished"]


def test_it_is_the_same_board_but_a_run_of_its_own(tmp_path: Path, value: dict[str, Any]) -> None:
    opened = read_board(kept(tmp_path, board_bytes(value)))
    assert opened["run"] != value["run"] and opened | {"run": value["run"]} == json.loads(json.dumps(value))


def test_what_is_no_board_is_one_sentence(tmp_path: Path, value: dict[str, Any]) -> None:
    changes = {
        "of another kind": {"width": "64"}, "a picture of the board": {"picture": "data:image/png;base64,aGk="},
        "one of its pictures is none": {"truth": "data:text/html,<script>"}, "one of its texts has": {"hues": ["x" * 9999]},
        "one of its numbers is nan": {"lines": [float("nan")]}, "other fields": {"more": 1},
        "one of its maps is none": {"entries": [value["entries"][0] | {"best": value["entries"][0]["best"][:-30]}]},
        "its picture has more than": {"width": 10**9}, "of its entries": {"entries": ["a"]},
    }  # fmt: skip
    for said, change in changes.items():
        with pytest.raises(ValueError, match=said):
            read_board(kept(tmp_path, board_bytes(value | change)))
    with pytest.raises(ValueError, match="one of its pictures is none"):  # a map is none
        read_board(kept(tmp_path, board_bytes(value | {"picture": value["entries"][0]["best"]})))
    plain = tmp_path / "plain.zip"
    plain.write_bytes(np.random.default_rng(0).bytes(500))
    for path in (plain, kept(tmp_path, b"{"), kept(tmp_path, b"x", "other.json")):
        with pytest.raises(ValueError, match="must be a zip that this page made, with a board in it, but it cannot be read"):
            read_board(path)
