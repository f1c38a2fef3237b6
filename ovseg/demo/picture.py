"""The picture that methods are compared on: where it came from, its words, and its truth where one is known."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ovseg.assets import ASSETS
from ovseg.compare import Truth, read_legend, read_truth
from ovseg.demo import board
from ovseg.pictures import decode_image, read_image
from ovseg.pocket.world import LABELS, scene
from ovseg.server.download_folders import new_folder
from ovseg.words.classes import ClassWord
from ovseg.words.notes import SYNONYMS

EXAMPLES = ASSETS / "examples"
LONGEST_SIDE = 1024  # pixels on the page; larger uploads are shrunk, the command line keeps them
SCENE_SIDE = 512  # pixels of a scene that the page shows; benchmarks draw the same scenes at 128
SPLIT = "val"  # scenes that no network was trained on
MOST_SCENES = 1_000_000


@dataclass(frozen=True, eq=False)  # told apart by identity: pictures are large
class Picture:
    """What a visitor looks at. Kept in the session.

    `origin` is what a link writes to bring the picture back, such as "scene-12"; "" for an uploaded or drawn one.
    `world` (H, W) is the truth of a pocket scene, whose values index the pocket world's `LABELS`; `truth_file` is an
    uploaded one, which can be read only when the words are known.
    """

    image: np.ndarray
    origin: str = ""
    caption: str = ""
    words: str = ""
    world: np.ndarray | None = None
    truth_file: Path | None = None
    legend_file: Path | None = None

    @property
    def scene(self) -> int | None:
        """The number of the pocket scene that this is, or None."""
        return int(self.origin.removeprefix("scene-")) if self.origin.startswith("scene-") else None

    @cached_property
    def _seen(self) -> dict[str, Any]:
        return board.seen_of(self.image)

    def on_board(self, labels: Sequence[str], truth: np.ndarray | None = None) -> dict[str, Any]:
        """What `board.board_picture` gives; the picture itself is encoded once."""
        return board.board_picture(self.image, labels, truth, self._seen)

    def truth_of(self, classes: tuple[ClassWord, ...]) -> Truth | None:
        """The truth in the labels of these classes, or None where none is known.

        Raises:
            ValueError: an uploaded truth does not fit the picture or the words.
        """
        if self.truth_file:
            legend = read_legend(self.legend_file) if self.legend_file else None
            return read_truth(self.truth_file, self.image.shape[:2], classes, legend)
        if self.world is None:
            return None
        return Truth.from_values(self.world, dict(enumerate(LABELS)), [_with_world_names(word) for word in classes])


def _with_world_names(word: ClassWord) -> ClassWord:
    """A class that also goes by the pocket world's own names for what its phrases mean: a kitten is a cat there."""
    phrases = {phrase.lower() for phrase in word.phrases}
    names = [name for name, others in SYNONYMS.items() if name not in phrases and phrases & set(others)]
    return ClassWord((*word.phrases, *names))


def of_scene(index: int) -> Picture:
    """Scene `index` of the pocket world's validation split, at the size that the page shows."""
    if not 0 <= index < MOST_SCENES:
        raise ValueError(f"The scene's number must be from 0 to {MOST_SCENES - 1}, but got {index}.")
    made = scene(SPLIT, index, SCENE_SIDE)
    return Picture(made.image, f"scene-{index}", words=", ".join(dict.fromkeys(made.things)), world=made.labels)


def of_file(path: str | Path) -> Picture:
    """A picture file, read as the command line reads it, and shrunk to what the page bears."""
    return Picture(read_image(path, LONGEST_SIDE))


def of_kept(text: str) -> Picture:
    """A picture of the visitor's own, as the browser keeps it: JSON with the board's `picture` and `truth`."""
    try:
        kept = json.loads(text)
        picture, truth = (base64.b64decode((kept[name] or "").partition(",")[2]) for name in ("picture", "truth"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("The picture that your browser kept must be as this page keeps it, but it is not.") from None
    made = Picture(decode_image(picture, "the picture that your browser kept", LONGEST_SIDE))
    if not truth:
        return made
    file = new_folder() / "truth.png"
    file.write_bytes(truth)
    return replace(made, truth_file=file)


def example_names() -> list[str]:
    """The example pictures by their words, such as "boat-bird"."""
    return sorted(path.stem for path in EXAMPLES.glob("*.png") if not path.stem.endswith("-truth"))


def example_gallery(elem_id: str, columns: int, height: int, *, shows: bool = True) -> gr.Gallery:
    """The example pictures to choose from, with their words; empty where they mean nothing to the network."""
    known = [(str(EXAMPLES / f"{name}.png"), name.replace("-", ", ").replace("_", " ")) for name in example_names()]
    return gr.Gallery(
        known if shows else [], columns=columns, height=height, allow_preview=False, show_label=False, format="png",
        elem_id=elem_id, object_fit="cover", interactive=False,
    )  # fmt: skip


def of_example(name: str) -> Picture:
    """An example picture with its words and its truth."""
    if name not in example_names():
        raise ValueError(f"The example must be one of {', '.join(example_names())}, but got {name[:40]!r}.")
    words = ", ".join(word.replace("_", " ") for word in name.split("-"))
    plain = of_file(EXAMPLES / f"{name}.png")
    truth, legend = EXAMPLES / f"{name}-truth.png", EXAMPLES / f"{name}-legend.json"
    return replace(plain, origin=f"example-{name}", words=words, truth_file=truth, legend_file=legend)


def of_origin(origin: str) -> Picture:
    """The picture that a link names."""
    kind, _, name = origin.partition("-")
    if kind == "example":
        return of_example(name)
    if kind != "scene" or not name.isdecimal() or len(name) > len(str(MOST_SCENES)):
        raise ValueError(
            f'The picture of a link must be "scene-" and a number or "example-" and its words, but got {origin[:40]!r}.'
        )
    return of_scene(int(name))
