"""What is said of class words beside their masks: marks that part no classes, words that are not known."""

import re
from collections.abc import Sequence

from ovseg.backbones import Checkpoint
from ovseg.limits import quoted
from ovseg.words.classes import ClassWord, parse_classes

SYNONYMS = {
    "airplane": ("plane", "aeroplane", "jet"), "bicycle": ("bike",), "boat": ("ship",), "bus": ("coach",),
    "car": ("automobile",), "cat": ("kitten",), "chair": ("seat",), "cow": ("bull",), "dog": ("puppy",),
    "horse": ("pony",), "motorbike": ("motorcycle", "scooter"), "person": ("human",),
    "potted plant": ("plant", "pottedplant", "houseplant"), "sheep": ("ram",), "sofa": ("couch",),
    "train": ("tram",), "tv": ("television", "monitor", "tvmonitor"), "house": ("home",), "flower": ("blossom",),
    "grass": ("lawn",), "water": ("sea",), "road": ("street",), "bricks": ("brick wall",), "wood": ("planks",),
}  # fmt: skip
"""Other words of the pocket world for its names."""
OTHER_MARKS = re.compile(r"[;；؛;፤。｡．።।・･·•‧¦]|\s[./&+–—-]\s|\s\.$")
"""What people put between words where commas belong: "cat; car", and "cat . car ." as Grounding DINO is asked."""


def known_words(checkpoint: Checkpoint) -> list[str] | None:
    """Every class word that the backbone knows, or None where it knows most words."""
    if not checkpoint.classes:
        return None
    names = [word.name for word in parse_classes(checkpoint.classes)]
    return names + [word for name in names for word in SYNONYMS.get(name, ())]


def note_on_photographs(checkpoint: Checkpoint) -> str:
    """A sentence for pictures that are none of a small world; empty where the backbone knows photographs."""
    if not checkpoint.is_small_world:
        return ""
    return "This small network was trained on emoji scenes; its masks on photographs mean little."


def notes_on(checkpoint: Checkpoint, classes: Sequence[ClassWord]) -> list[str]:
    """Sentences on words that may not mean what was meant; none where all is well."""
    phrases = [phrase for word in classes for phrase in word.phrases]
    notes = [
        f'{quoted(phrase)} is taken for one class: commas part classes, as in "cat, car".'
        for phrase in phrases if OTHER_MARKS.search(phrase)
    ]  # fmt: skip
    known = known_words(checkpoint)
    strange = [] if known is None else [quoted(phrase) for phrase in phrases if phrase.lower() not in known]
    if strange:
        notes.append(f"{checkpoint.world[:1].upper()}{checkpoint.world[1:]} does not know {', '.join(strange[:10])}.")
    return notes
