"""Class words: reading what a visitor types, and the prompts made of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ovseg.limits import check_count, check_text, limits, quoted, visible
from ovseg.types import BACKGROUND


@dataclass(frozen=True)
class ClassWord:
    """One class: the phrases that mean it, of which the first is its name."""

    phrases: tuple[str, ...]

    @property
    def name(self) -> str:
        """The phrase that is shown in labels and legends."""
        return self.phrases[0]


COMMAS = ",，、､﹐﹑︐︑،߸፣᠂᠈⸲⸴⹁꓾꘍꛵\n\r\v\f\x85\u2028\u2029"
"""What parts classes: commas of all scripts, and ends of lines."""

# The article follows the sound, and at these beginnings the spelling misleads.
SILENT_H = re.compile(r"hour|hono|honest|heir", re.IGNORECASE)
CONSONANT_SOUND = re.compile(
    r"uni(?!n|m|d)|us[aeiu]|uk[eu]|ut[ei]|ura|uri|uro|ubi|uga|uru|(ufo|uk|usb|uv|u|once|one)\b|eu|ew", re.IGNORECASE
)
SPELLED_LETTERS = re.compile(r"(x-ray|suv|led|lcd|mri|mp3|rv|hd|fm)\b|[AEFHILMNORSX](?![a-z]|[A-Z]{3})")


def indefinite(word: str) -> str:
    """The word with its indefinite article by its sound: "an apple", "a unicorn", "an hour", "an SUV", "a tv"."""
    is_vowel = word[0].lower() in "aeiou" and not CONSONANT_SOUND.match(word)
    return f"{'an' if is_vowel or SILENT_H.match(word) or SPELLED_LETTERS.match(word) else 'a'} {word}"


def prompt_of(words: Sequence[str]) -> str:
    """ "a photograph of a cat and an apple"."""
    return "a photograph of " + " and ".join(map(indefinite, words))


def parse_classes(text: str) -> tuple[ClassWord, ...]:
    """Read "dog|puppy, traffic light, sky": commas or new lines part classes, bars part the phrases of one class.

    Commas and bars may be those of other scripts. Characters that cannot be seen are taken out.

    Raises:
        ValueError: nothing is named, a phrase is empty, a phrase occurs twice, a class is called "background", or there are
            more characters, words or phrases than `Limits` allows.
    """
    check_text("The classes", re.sub(f"[|｜{COMMAS}]", " ", text), limits().words_characters)
    entries = [entry for entry in re.split(f"[{COMMAS}]", visible(text).replace("｜", "|")) if entry.strip()]
    if not entries:
        raise ValueError('Classes must be words with commas between them, such as "cat, grass", but none was given.')
    classes = tuple(ClassWord(tuple(" ".join(phrase.split()) for phrase in entry.split("|"))) for entry in entries)
    _check(classes)
    return classes


def _check(classes: tuple[ClassWord, ...]) -> None:
    if len(classes) > 254:
        raise ValueError(f"At most 254 classes fit one picture, but got {len(classes)}.")
    seen: set[str] = set()
    for word in classes:
        check_count("The phrases of a class", len(word.phrases), limits().phrases)
        for phrase in word.phrases:
            if not phrase:
                raise ValueError(f"Every phrase between bars must be a word, but got {quoted('|'.join(word.phrases))}.")
            if phrase.lower() == BACKGROUND:
                raise ValueError(f'"{BACKGROUND}" is what remains and cannot be a class; leave it out.')
            if phrase.lower() in seen:
                raise ValueError(f"Each phrase must be given once, but {quoted(phrase)} is there twice.")
            if len(phrase) > (most := limits().word_characters):
                raise ValueError(f"A phrase must have {most} characters at most, but one has {len(phrase)}.")
            seen.add(phrase.lower())


def check_prompt(prompt: str) -> None:
    """Raise ValueError unless a prompt has one place for the class."""
    if prompt.count("{}") != 1:
        raise ValueError(f"The prompt must hold {{}} once, where the class goes, but got {quoted(prompt)}.")


def rows_of(classes: tuple[ClassWord, ...]) -> tuple[list[str], list[int]]:
    """Every phrase of every class in order, and for each phrase the index of its class."""
    phrases = [phrase for word in classes for phrase in word.phrases]
    owners = [index for index, word in enumerate(classes) for _ in word.phrases]
    return phrases, owners


def check_amount(classes: tuple[ClassWord, ...]) -> None:
    """Raise ValueError unless a visitor or a program may ask for so many classes and phrases at once."""
    check_count("The classes", len(classes), limits().classes)
    check_count("The phrases of all classes", len(rows_of(classes)[0]), limits().all_phrases)
