"""A board as a file of the downloaded zip, and back: the same canvases, thresholds and truth, without running anything."""

import base64
import json
import math
import re
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovseg.demo.board import MAPS, unpacked, without_maps
from ovseg.limits import limits
from ovseg.pictures import decode_image
from ovseg.server.component_values import leaves

BOARD_FILE = "board.json"
FIELDS = {
    "run": str, "picture": str, "width": int, "height": int, "truth": (str, type(None)), "asked": int, "steps": int,
    "lines": list, "legend": list, "hues": list, "errors": list, "entries": list, "note": str,
}  # fmt: skip
PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]*={0,2}")
LONGEST = 2000  # characters of a text that is no picture
NOT_OURS = "The file must be a zip that this page made, with a board in it, but "


def board_bytes(value: Mapping[str, Any]) -> bytes:
    """The board's value as the content of `BOARD_FILE`."""
    return json.dumps(value).encode()


def read_board(path: Path) -> dict[str, Any]:
    """The value of a board from a zip that was downloaded, as a run of its own.

    Raises:
        ValueError: it is no such zip, or something in it is not as this page writes it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(BOARD_FILE).file_size > limits().upload_bytes:
                raise ValueError(f"{NOT_OURS}its board is larger than {limits().upload_bytes} bytes.")
            value = json.loads(archive.read(BOARD_FILE))
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise ValueError(f"{NOT_OURS}it cannot be read: {str(error)[:100]}.") from None
    if not isinstance(value, dict) or set(value) != set(FIELDS):
        raise ValueError(f"{NOT_OURS}its board has other fields.")
    if wrong := next((name for name, kind in FIELDS.items() if not isinstance(value[name], kind)), None):
        raise ValueError(f"{NOT_OURS}its {wrong} is of another kind.")
    if not all(isinstance(entry, dict) for entry in value["entries"]):
        raise ValueError(f"{NOT_OURS}one of its entries is of another kind.")
    _check(value | {"entries": [without_maps(entry) for entry in value["entries"]]})
    _check_maps(value)
    return value | {"run": uuid.uuid4().hex}


def _check(value: Any) -> None:
    """Raise ValueError where a text is neither short nor a picture that can be read, or a number is none."""
    for item in leaves(value):
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{NOT_OURS}one of its numbers is {item}.")
        elif isinstance(item, str) and item.startswith("data:"):
            if not PICTURE.fullmatch(item):
                raise ValueError(f"{NOT_OURS}one of its pictures is none.")
            decode_image(base64.b64decode(item.partition(",")[2]), "a picture of the board")
        elif isinstance(item, str) and len(item) > LONGEST:
            raise ValueError(f"{NOT_OURS}one of its texts has {len(item)} characters.")


def _check_maps(value: Mapping[str, Any]) -> None:
    """Raise ValueError where the map of an entry has not the picture's size."""
    image_hw = value["height"], value["width"]
    if math.prod(image_hw) > limits().pixels:
        raise ValueError(f"{NOT_OURS}its picture has more than {limits().pixels} pixels.")
    for entry in value["entries"]:
        for url in (entry[name] for name in MAPS if entry.get(name) is not None):
            try:
                unpacked(str(url), image_hw)
            except ValueError:
                raise ValueError(f"{NOT_OURS}one of its maps is none.") from None
