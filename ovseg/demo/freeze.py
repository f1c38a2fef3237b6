"""A frozen page: comparisons and what lies inside them as a folder of static files; looking at them needs no server.

The files are those of the page: its board and its Look inside, with values that were made once. Each comparison is a script
that a browser also reads from the disk, where a page may not fetch data.
"""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ovseg import __version__
from ovseg.demo import board, inside
from ovseg.demo.inside import inside_value, place_value, token_maps
from ovseg.demo.inside_tab import Looked, look_at
from ovseg.demo.looking import evidence_of
from ovseg.demo.picture import Picture, of_origin
from ovseg.demo.run import drawn, run_at_first
from ovseg.demo.static_files import script_of, static
from ovseg.files import run_folder
from ovseg.models import Models
from ovseg.progress import Report, within
from ovseg.server.durations import Durations

PLACES = 16  # a clicked place is the nearest of so many by so many


def freeze(models: Models, origins: Sequence[str], out: Path, report: Report) -> list[Path]:
    """Write `index.html` and what it shows; returns the files.

    Args:
        origins: pictures as a link of the page writes them: "example-cat-car", "scene-12".

    Raises:
        ValueError: there is no such picture, a network is missing, or a file cannot be written.
    """
    pictures = {origin: of_origin(origin) for origin in origins}
    style = static("frozen.css", "elements.css", "board.css", "inside.css").encode()
    files = {"index.html": _index(models, pictures), "frozen.css": style, "frozen.js": _script()}
    for number, (origin, picture) in enumerate(pictures.items()):
        part = within(report, number / len(pictures), (number + 1) / len(pictures))
        files |= _comparison(models, origin, picture, part)
    with run_folder(out) as folder:
        return folder.write(files.items())


def _comparison(models: Models, origin: str, picture: Picture, report: Report) -> dict[str, bytes]:
    """The script of one picture, with all that it shows."""
    results = run_at_first(models, picture, Durations(), within(report, 0.0, 0.5))
    looked = look_at(models, picture, within(report, 0.5, 1.0))
    evidence = [{"title": entry.title, "html": evidence_of(entry)} for entry in results.comparison.entries]
    value = {"board": drawn(results, uuid.uuid4().hex), "evidence": evidence, **_inside(looked)}
    return {f"{origin}.js": f'ovsegFrozen("{origin}", {json.dumps(value)});\n'.encode()}


def _inside(looked: Looked) -> dict:
    """What Look inside shows, with the maps of every token and what a grid of places attends to."""
    attention, run_name = looked.inside.attention, looked.run
    middles = (np.arange(PLACES) + 0.5) / PLACES
    return {
        "sentence": looked.inside.attention.prompt,
        "inside": inside_value(attention, run_name, looked.inside.weights, looked.token),
        "tokens": [token_maps(attention, run_name, token) for token in range(len(attention.tokens))],
        "places": [[place_value(attention, run_name, x, y, None) for x in middles] for y in middles],
    }


def _index(models: Models, pictures: dict[str, Picture]) -> bytes:
    named = {origin: picture.words or origin for origin, picture in pictures.items()}
    facts = {"NETWORK": models.checkpoint.title, "KNOWS": models.checkpoint.knows, "VERSION": __version__}
    text = static("frozen.html").replace("PICTURES", json.dumps(named))
    for name, fact in facts.items():
        text = text.replace(name, fact)
    return text.encode()


def _script() -> bytes:
    """The two components as functions of what gr.HTML gives them, and the page's own script."""
    functions = [
        f"const {name} = {{ html: {json.dumps(static(f'{part}.html'))}, start(element, props, trigger, watch) {{\n"
        f"{script_of(scripts)}\n}} }};"
        for name, part, scripts in (("Board", "board", board.SCRIPTS), ("Inside", "inside", inside.SCRIPTS))
    ]
    return "\n".join([*functions, script_of(("elements", "frozen"))]).encode()
