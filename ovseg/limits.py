"""How much a request may ask for: every limit in one place, checked before any work. docs/security.md has them as a table.

Each can be changed by an environment variable: OVSEG_MAX_ and the field's name in capitals, such as OVSEG_MAX_CLASSES.
"""

import math
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

PREFIX = "OVSEG_MAX_"
MAY_BE_NONE = "OVSEG_MAX_UNASKED_SECONDS"
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\ufffc\U000e0000-\U000e0fff]"
)
"""Characters of Unicode that are drawn as nothing, beside those that its categories call formats and controls."""
LAST_NON_JOINER = re.compile(r"\u200c(?!\w)")
"""What parts letters, where none follows."""


@dataclass(frozen=True)
class Limits:
    """The most that may be asked for."""

    word_characters: int = 200  # characters of one class word, and of a word in a caption or a prompt
    words_characters: int = 10_000  # characters of all class words together, as they are typed
    text_characters: int = 2_000  # characters of a caption, a prompt or the text of a setting
    phrases: int = 32  # words for the same class, between bars
    # Classes in one request of a visitor or a program; the command line takes as many as one mask can number
    classes: int = 128
    all_phrases: int = 256  # phrases of all classes of such a request
    list_values: int = 100  # numbers or names in the list of a setting
    quoted_characters: int = 80  # characters of what was sent that an error's sentence repeats
    pixels: int = 50_000_000  # pixels of a picture file, width times height
    aspect: int = 16  # how many times the longer side of a visitor's picture may be the shorter one
    upload_bytes: int = 32_000_000  # bytes of one uploaded file
    request_bytes: int = 2_000_000  # bytes of a request that is no upload
    # Rows of the diffusion network (one prompt in one pass) in one request of a visitor or a program: classes times noise
    # levels times draws, and what support images take to be drawn
    rows: int = 8_000
    # Numbers that the masks of one such request are made of: classes and background times pixels times methods
    scores: int = 100_000_000
    # Pixels of a picture whose edges a CRF moves for a visitor or a program: about a kilobyte for each
    crf_pixels: int = 1_100_000
    tiles: int = 100  # pieces in which a method looks at one picture, where it cuts it into tiles
    methods: int = 12  # methods and variants that run on one picture, and variants that a visitor keeps
    steps: int = 100  # sampling steps of one picture that a visitor draws
    pictures: int = 64  # pictures of a data set that a visitor makes
    busy_seconds: int = 60  # for how long a job keeps the network where others wait for it
    unasked_seconds: int = 10  # that a comparison may be expected to take which begins by itself; 0: none does
    queue: int = 128  # events that wait in line, of all visitors together
    jobs: int = 8  # jobs for the networks that one visitor has at once, waiting or at work
    jobs_a_minute: int = 60  # jobs that one visitor may ask for in a minute
    sessions: int = 64  # visitors of whom is kept what they see; the one who asked for something longest ago is forgotten
    # Of what is kept for one of them to look at: half of it for Compare, half for Look inside
    session_bytes: int = 64_000_000
    file_seconds: int = 3600  # for how long a file that is offered is kept
    prototype_bytes: int = 2_000_000_000  # of OVDiff's own folder; what was read longest ago is deleted

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
    least = 0 if name == MAY_BE_NONE else 1
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) >= least):
        raise ValueError(f"The variable {name} must be a whole number, {least} or more, but is {text[:80]!r}.")
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


def visible(text: str) -> str:
    """A text without characters that cannot be seen, in Unicode's composed form: what looks alike is the same word.

    What joins characters stays where it does: in emoji, and in scripts whose letters join.
    """
    kept = ""
    for character in text:
        if not _is_unseen(character) or (kept and _joins(character, kept[-1])):
            kept += character
    return unicodedata.normalize("NFC", LAST_NON_JOINER.sub("", kept))


def _is_unseen(character: str) -> bool:
    formats = unicodedata.category(character) in ("Cf", "Cc") and not character.isspace()
    is_none = ord(character) & 0xFFFE == 0xFFFE or "\ufdd0" <= character <= "\ufdef"  # Unicode's noncharacters
    return formats or is_none or UNSEEN.match(character) is not None


def _joins(character: str, before: str) -> bool:
    """Whether a character that cannot be seen changes the one before it, or joins it to the next."""
    is_symbol = unicodedata.category(before) in ("So", "Sk") or before in "\u200d\ufe0f\u20e3"
    if "\U000e0020" <= character <= "\U000e007f":  # letters of a flag
        return before == "\U0001f3f4" or "\U000e0020" <= before <= "\U000e007f"
    letters_join = unicodedata.bidirectional(before) == "AL" or unicodedata.combining(before) == 9
    return (character in "\u200d\ufe0e\ufe0f" and is_symbol) or (character in "\u200c\u200d" and letters_join)


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
