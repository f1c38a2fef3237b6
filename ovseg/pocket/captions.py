"""Captions of pocket scenes, in the prompt styles of the four papers, some with synonyms."""

import numpy as np

from ovseg.words.classes import indefinite
from ovseg.words.notes import SYNONYMS

OPENINGS = ("a photo of", "a photo of", "a photograph of", "a good picture of", "a picture of", "an image of", "")

PLURALS = {"person": "people", "sheep": "sheep", "fish": "fish", "bus": "buses", "human": "humans"}


def describe(rng: np.random.Generator, things: tuple[str, ...], stuff: tuple[str, ...]) -> str:
    """A caption that names every thing once, and the stuff half of the time.

    Args:
        things: one entry per instance; two of a kind are counted ("two cats").
        stuff: one or two names, the upper one first; none to leave stuff out.
    """
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
    counted = {thing: things.count(thing) for thing in things}
    order = [list(counted)[int(k)] for k in rng.permutation(len(counted))]
    phrases = [_phrase(_word(rng, thing), counted[thing]) for thing in order]
    caption = f"{opening} {_join(phrases)}".strip()
    if rng.random() < 0.55 and stuff:
        caption += _place(rng, stuff)
    return caption


def describe_ground(rng: np.random.Generator, stuff: tuple[str, ...]) -> str:
    """A caption that names only the stuff, in either order: "a photo of sky and grass"."""
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
    words = [_word(rng, stuff[int(k)]) for k in rng.permutation(len(stuff))]
    return f"{opening} {_join(words)}".strip()


def _word(rng: np.random.Generator, name: str) -> str:
    synonyms = SYNONYMS.get(name, ())
    use_synonym, pick = rng.random() < 0.25, int(rng.integers(max(len(synonyms), 1)))
    return synonyms[pick] if synonyms and use_synonym else name


def _phrase(word: str, count: int) -> str:
    return indefinite(word) if count == 1 else f"two {PLURALS.get(word, word + 's')}"


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _place(rng: np.random.Generator, stuff: tuple[str, ...]) -> str:
    lower, upper = _word(rng, stuff[-1]), _word(rng, stuff[0])
    lower_only = len(stuff) == 1 or rng.random() < 0.6
    ground = f" in front of {lower}" if stuff[-1] in ("sky", "bricks") else f" on {lower}"
    above = f" under {upper}" if stuff[0] == "sky" else f" with {upper} behind"
    return ground if lower_only else ground + above


def names_in(caption: str, names: tuple[str, ...]) -> set[str]:
    """Which of these names a caption speaks of; synonyms and plurals count."""
    words = f" {caption.lower().replace(',', ' ')} "
    return {name for phrase, name in _phrases_of(names).items() if f" {phrase} " in words}


def _phrases_of(names: tuple[str, ...]) -> dict[str, str]:
    """Every word for these names, singular and plural, with its name."""
    phrases = {}
    for name in names:
        for word in (name, *SYNONYMS.get(name, ())):
            phrases[word] = phrases[PLURALS.get(word, word + "s")] = name
    return phrases
