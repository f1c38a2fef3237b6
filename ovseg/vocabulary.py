"""Class words: what a visitor types, and the prompts made of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ovseg.types import BACKGROUND

TEMPLATES = (  # of CLIP's 80 for ImageNet (Radford et al. 2021, section 3.1.4) its notebook's "sub-set of seven"
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.",
    "art of the {}.", "a photo of the small {}.",
)  # fmt: skip


@dataclass(frozen=True)
class ClassWord:
    """One class: its name, which is the first phrase, and the phrases that mean it."""

    phrases: tuple[str, ...]

    @property
    def name(self) -> str:
        """The phrase that labels and legends show."""
        return self.phrases[0]


def indefinite(word: str) -> str:
    """The word with its article: "an apple", "a tv"."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def prompt_of(words: Sequence[str]) -> str:
    """ "a photograph of a cat and an apple"."""
    return "a photograph of " + " and ".join(map(indefinite, words))


def parse_classes(text: str) -> tuple[ClassWord, ...]:
    """Read "dog|puppy, traffic light, sky": classes between commas, phrases of one class between bars.

    Raises:
        ValueError: nothing is named, a phrase is empty, a phrase occurs twice, or a class is called "background".
    """
    entries = [entry for entry in text.replace("\n", ",").split(",") if entry.strip()]
    if not entries:
        raise ValueError('Classes must be words with commas between them, such as "cat, grass", but none was given.')
    classes = tuple(ClassWord(tuple(" ".join(phrase.split()) for phrase in entry.split("|"))) for entry in entries)
    _check(classes)
    return classes


def _check(classes: tuple[ClassWord, ...]) -> None:
    seen: set[str] = set()
    for word in classes:
        for phrase in word.phrases:
            if not phrase:
                raise ValueError(f'Every phrase between bars must be a word, but got "{"|".join(word.phrases)}".')
            if phrase.lower() == BACKGROUND:
                raise ValueError(f'"{BACKGROUND}" is what remains and cannot be a class; leave it out.')
            if phrase.lower() in seen:
                raise ValueError(f'Each phrase must be given once, but "{phrase}" is there twice.')
            seen.add(phrase.lower())
    if len(classes) > 254:
        raise ValueError(f"At most 254 classes fit one picture, but got {len(classes)}.")


def check_prompt(prompt: str) -> None:
    """Pass if a prompt has one place for the class.

    Raises:
        ValueError: it has none, or several.
    """
    if prompt.count("{}") != 1:
        raise ValueError(f"The prompt must hold {{}} once, where the class goes, but got {prompt!r}.")


def rows_of(classes: tuple[ClassWord, ...]) -> tuple[list[str], list[int]]:
    """Every phrase, and for each the index of its class."""
    phrases = [phrase for word in classes for phrase in word.phrases]
    owners = [index for index, word in enumerate(classes) for _ in word.phrases]
    return phrases, owners


# What fills a picture without having a shape of its own, and what has one: reviewed by hand over the names of PASCAL
# Context, COCO-Stuff, ADE20K and the pocket world. (The released table of OVDiff calls sea, sand, field and hill things.)
STUFF = frozenset({
    "sky", "cloud", "clouds", "grass", "lawn", "ground", "dirt", "earth", "mud", "soil", "gravel", "sand", "beach", "snow",
    "ice", "water", "sea", "ocean", "river", "lake", "pool", "waterfall", "fog", "smoke", "fire", "rain", "field",
    "land", "mountain", "hill", "rock", "stone", "cliff", "forest", "wood", "woods", "bush", "leaves", "moss", "straw",
    "road", "street", "path", "sidewalk", "pavement", "track", "railroad", "runway", "platform", "playingfield", "court",
    "floor", "ceiling", "wall", "brick", "bricks", "brick wall", "tile", "tiles", "planks", "metal", "plastic", "paper",
    "cardboard", "glass", "concrete", "marble", "carpet", "rug", "mat", "curtain", "cloth", "textile", "bedclothes",
    "blanket", "fence", "railing", "net", "vegetation", "plants", "fog bank", "crowd", "salad", "food",
})  # fmt: skip
THINGS = frozenset({
    "person", "bicycle", "car", "motorbike", "airplane", "bus", "train", "truck", "boat", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "bag", "suitcase", "ball",
    "kite", "bottle", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "orange", "pizza", "cake", "chair", "sofa",
    "potted plant", "bed", "table", "toilet", "tv", "laptop", "computer", "mouse", "keyboard", "phone", "oven", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "traffic light", "sign", "tree", "house", "flower", "fish",
    "building", "door", "window", "lamp", "mirror", "shelf", "cabinet", "plate", "tower", "bridge", "statue", "box",
})  # fmt: skip


def is_stuff(name: str) -> bool | None:
    """Whether a class is stuff by the reviewed table, or None for a word that it does not hold."""
    return True if name.lower() in STUFF else False if name.lower() in THINGS else None
