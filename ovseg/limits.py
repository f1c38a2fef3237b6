"""How much a request may ask for: every limit in one place, checked before any work. docs/security.md has them as a table.

Each can be changed by an environment variable: OVSEG_MAX_ and the field's name in capitals, such as OVSEG_MAX_CLASSES.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

PREFIX = "OVSEG_MAX_"


@dataclass(frozen=True)
class Limits:
    """The most that may be asked for.

    Args:
        word_characters: characters of one class word, and of a word in a caption or a prompt.
        words_characters: characters of all class words together, as they are typed.
        text_characters: characters of a caption, a prompt or the text of a setting.
        phrases: words for the same class, between bars.
        classes: classes in one request of a visitor or a program; the command line takes as many as one mask can number.
        all_phrases: phrases of all classes of such a request.
        list_values: numbers or names in the list of a setting.
        quoted_characters: characters of what was sent that an error's sentence repeats.
        pixels: pixels of a picture file, width times height.
        aspect: how many times the longer side of a visitor's picture may be the shorter one.
        upload_bytes: bytes of one uploaded file.
        request_bytes: bytes of a request that is no upload.
        rows: rows of the diffusion network (one prompt in one pass) in one request of a visitor or a program: classes times
            noise levels times draws, and what support images take to be drawn.
        methods: methods and variants that run on one picture, and variants that a visitor keeps.
        scores: numbers that the masks of one such request are made of: classes and background times pixels times methods.
        crf_pixels: pixels of a picture whose edges a CRF moves for a visitor or a program: about a kilobyte for each.
        steps: sampling steps of one picture that a visitor draws.
        pictures: pictures of a data set that a visitor makes.
        busy_seconds: for how long a job keeps the network where others wait for it.
        queue: events that wait in line, of all visitors together.
        sessions: visitors of whom is kept what they see; the one who asked for something longest ago is forgotten.
        session_bytes: of what is kept for one of them to look at: half of it for Compare, half for Look inside.
        file_seconds: for how long a file that is offered is kept.
        prototype_bytes: of OVDiff's own folder; what was read longest ago is deleted.
    """

    word_characters: int = 200
    words_characters: int = 10_000
    text_characters: int = 2_000
    phrases: int = 32
    classes: int = 128
    all_phrases: int = 256
    list_values: int = 100
    quoted_characters: int = 80
    pixels: int = 50_000_000
    aspect: int = 16
    upload_bytes: int = 32_000_000
    request_bytes: int = 2_000_000
    rows: int = 8_000
    scores: int = 100_000_000
    crf_pixels: int = 1_100_000
    methods: int = 12
    steps: int = 100
    pictures: int = 64
    busy_seconds: int = 60
    queue: int = 128
    sessions: int = 64
    session_bytes: int = 64_000_000
    file_seconds: int = 3600
    prototype_bytes: int = 2_000_000_000

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Limits":
        """The limits with what the environment changes.

        Raises:
            ValueError: a variable is no whole number of 1 or more, or begins like a limit and is none.
        """
        names = {field.name: f"{PREFIX}{field.name.upper()}" for field in fields(cls)}
        for name in environment:
            if name.startswith(PREFIX) and name not in names.values():
                raise ValueError(f"A variable {PREFIX}... must be one of {', '.join(names.values())}, but got {name[:80]}.")
        return cls(**{field: _count(name, environment[name]) for field, name in names.items() if environment.get(name)})


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text)):
        raise ValueError(f"The variable {name} must be a whole number, 1 or more, but is {text[:80]!r}.")
    return int(text)


@cache
def limits() -> Limits:
    """The limits of this process: those of its environment when they were first asked for."""
    return Limits.of(os.environ)


def quoted(value: object) -> str:
    """A value as an error's sentence repeats it: in quotation marks where it is text, and not too long."""
    most = limits().quoted_characters
    short = value[: most + 1] if isinstance(value, str) else value
    shown = ascii(short) if isinstance(value, str) and not is_unicode(short) else repr(short)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON's "\\ud800" is a surrogate, which no file or answer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(name: str, text: str, most: int | None = None) -> None:
    """Pass if a text is short enough, and each of its words.

    Args:
        name: what the text is, as a sentence begins: "The caption".
        most: characters; those of `Limits.text_characters` if not given.

    Raises:
        ValueError: it is too long, has a word that is, or cannot be written.
    """
    most = limits().text_characters if most is None else most
    if len(text) > most:
        raise ValueError(f"{name} must have {most} characters at most, but has {len(text)}.")
    if not is_unicode(text):
        raise ValueError(f"{name} must be characters that can be written, but one of them is a surrogate: {quoted(text)}.")
    longest = max(map(len, text.split()), default=0)
    if longest > limits().word_characters:
        raise ValueError(f"{name} must have words of {limits().word_characters} characters at most, but one has {longest}.")


def check_count(what: str, count: int, most: int, given: str = "got") -> None:
    """Pass if there are not too many of something.

    Args:
        what: the things, as a sentence begins with them: "The phrases of a class".
        given: how the sentence goes on: "but got 7".

    Raises:
        ValueError: there are.
    """
    if count > most:
        raise ValueError(f"{what} must be {most} at most, but {given} {count}.")


def check_number(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Pass if a number is finite and from `low` to `high`.

    Raises:
        ValueError: it is not.
    """
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but got {value}.")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, but got {quoted(value)}.")
