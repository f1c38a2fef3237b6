"""Where words stand in a prompt, in characters, and which of its tokens are theirs."""

import re
from collections.abc import Sequence

from ovseg.limits import quoted

QUOTES = str.maketrans("‘’“”", "''\"\"")  # as CLIP's own code reads them; each is one character, so that places stay

Offsets = Sequence[Sequence[int]]
"""For each token the first character that it stands for and the one behind its last; equal where it stands for none."""


def filled(template: str, word: str) -> tuple[str, int]:
    """A template with a word in place of its {}, and the character at which that word begins.

    The place is the template's own: in "a photograph of photograph" it is that of the second one.
    """
    return template.replace("{}", word), template.index("{}")


def phrase_at(prompt: str, phrase: str, start: int | None = None) -> tuple[int, int]:
    """The first character of a phrase in a prompt, and the one behind its last.

    Args:
        start: where the phrase begins; its first occurrence as whole words if not given.

    Raises:
        ValueError: it is not there.
    """
    if start is None:
        place = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", prompt, re.IGNORECASE)
        if not place:
            raise ValueError(f"The phrase must be words of its prompt, but {quoted(phrase)} is not in {quoted(prompt)}.")
        return place.span()
    stop = start + len(phrase)
    if prompt[start:stop].lower() != phrase.lower():
        raise ValueError(
            f"The phrase {quoted(phrase)} must begin at character {start} of its prompt, but that is {quoted(prompt)}."
        )
    return start, stop


def columns_between(offsets: Offsets, start: int, stop: int) -> tuple[int, ...]:
    """The tokens that stand for characters from `start` to before `stop`."""
    return tuple(k for k, (left, right) in enumerate(offsets) if left < min(right, stop) and right > start)
