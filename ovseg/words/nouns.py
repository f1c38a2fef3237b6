"""Nouns of a caption: parts of speech by the Hanover Tagger (Wartena 2019), whose English model is in its package.

Its dictionary forms are those of other words at times ("skis" becomes "sky"), so that `singular` gives them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from ovseg.types import BACKGROUND
from ovseg.words.classes import ClassWord
from ovseg.words.singular import LONGEST, singular

# Before "of", these nouns speak about the picture itself or about an amount: what is shown is the next noun.
FRAMES = frozenset({
    "photo", "photograph", "picture", "image", "painting", "drawing", "view", "shot", "close-up", "closeup", "close",
    "scene", "group", "couple", "pair", "bunch", "lot", "herd", "flock", "pile", "stack", "row", "set", "number", "variety",
    "piece", "slice", "kind", "type", "collection", "crowd", "top", "side", "front", "back",
})  # fmt: skip
# Names whose last noun alone means something else, or that the tagger does not keep together; and the head of each.
FIXED = {
    "hot dog": "hot dog", "teddy bear": "teddy bear", "chest of drawers": "chest of drawers", "conveyer belt": "belt",
    "conveyor belt": "belt", "swivel chair": "chair", "potted plant": "plant",
}  # fmt: skip
MOST_WORDS = max(len(name.split()) for name in FIXED)
DETERMINERS = ("AT", "CRD", "DT", "DPS")  # tags of articles, numbers, "this", "my"


@dataclass(frozen=True)
class NounPhrase:
    """A noun with the words before it: "a brown kitchen floor" has adjectives ("brown",), name "kitchen floor"."""

    adjectives: tuple[str, ...]
    name: str  # all nouns in a row, the last one in its dictionary form: "traffic light"

    @property
    def head(self) -> str:
        """The last noun alone, in its dictionary form; "hot dog" is no dog, and stays."""
        fixed = next((head for name, head in FIXED.items() if f" {self.name}".endswith(f" {name}")), None)
        return fixed or self.name.rsplit(" ", 1)[-1]

    @property
    def described(self) -> str:
        """The name after its adjectives: "brown kitchen floor"."""
        return " ".join((*self.adjectives, self.name))


def noun_phrases(caption: str) -> tuple[NounPhrase, ...]:
    """The things that a caption names, each once, in order; none for a caption without nouns."""
    phrases: dict[str, NounPhrase] = {}
    for adjectives, nouns, after in _runs(caption):
        *before, (_, last) = nouns
        if not (after == "PRF" and last in FRAMES):
            name = " ".join([*(word for word, _ in before), last])
            phrases.setdefault(name, NounPhrase(tuple(adjectives), name))
    return tuple(phrases.values())


def every_noun(caption: str) -> tuple[str, ...]:
    """Each noun of a caption by itself, in its dictionary form, in order and as often as it is there.

    A name of `FIXED` counts as its head; the parts of other compounds count one by one, as in DiffSegmenter's filter.
    """
    tagged = _tagged(caption)
    return tuple(FIXED.get(lemma, lemma) for _, lemma, tag in tagged if tag.startswith(("NN", "NP")))


def votes(caption: str) -> tuple[str, ...]:
    """The words that FreeSeg-Diff's released code takes from a caption, in order and as often as they come up.

    Each noun votes as it is written, also the parts of a compound, and each adjective votes for the last noun of the phrase
    that it begins. In "a small brown dog" there are three votes for "dog".
    """
    return tuple(noun for adjectives, nouns in _written(caption) for noun in ([nouns[-1]] * len(adjectives) + nouns))


def words_as_released(caption: str) -> tuple[str, ...]:
    """The words that FreeSeg-Diff's released code adds to the classes with its open vocabulary, each once, in order.

    Each adjective with the last noun of the phrase that it begins, and each noun as it is written, also the parts of a
    compound: "a brown dog on a kitchen floor" has "brown dog", "dog", "kitchen" and "floor".
    """
    said = (word for adjectives, nouns in _written(caption) for word in ([f"{a} {nouns[-1]}" for a in adjectives] + nouns))
    return tuple(dict.fromkeys(said))


def _written(caption: str) -> Iterator[tuple[list[str], list[str]]]:
    """The adjectives and nouns of each run, as they are written; a name of `FIXED` counts as its head."""
    for adjectives, nouns, _ in _runs(caption):
        yield adjectives, [FIXED.get(lemma, word) for word, lemma in nouns]


def _runs(caption: str) -> Iterator[tuple[list[str], list[tuple[str, str]], str]]:
    """Nouns that follow each other, each with its dictionary form; the adjectives before them, and the tag behind them."""
    adjectives: list[str] = []
    nouns: list[tuple[str, str]] = []
    for word, lemma, tag in (*_tagged(caption), ("", "", "END")):
        if tag.startswith(("NN", "NP")):
            nouns.append((word, lemma))
            continue
        if nouns:
            yield adjectives, nouns, tag
            adjectives, nouns = [], []
        adjectives = [*adjectives, word] if tag.startswith("AJ") else []


def classes_of(caption: str) -> tuple[ClassWord, ...]:
    """The things that a caption names as classes, with their adjectives; none for a caption without nouns.

    "background" is left out, because it is no class: it is what remains of the picture.
    """
    named = dict.fromkeys(phrase.described for phrase in noun_phrases(caption) if phrase.head != BACKGROUND)
    return tuple(ClassWord((name,)) for name in named)


def _tagged(caption: str) -> list[tuple[str, str, str]]:
    """(word, dictionary form, part of speech) of each word and punctuation mark; tags are the British National Corpus's.

    A name of `FIXED` is one word. The tagger's time grows with the square of a word's length: longer words than any noun
    are left out.
    """
    words = [word for word in re.findall(r"[a-z]+(?:['-][a-z]+)*|[^\sa-z]", caption.lower()) if len(word) <= LONGEST]
    tags = [tag for _, _, tag in tagger().tag_sent(words)] if words else []
    tagged: list[tuple[str, str, str]] = []
    place = 0
    while place < len(words):
        length, name = _fixed_at(words, place)
        if name:
            tagged.append((name, name, "NN1"))
        else:
            word, tag = words[place], _as_noun(tags, place)
            tagged.append((word, singular(word) if tag.startswith(("NN", "NP")) else word, tag))
        place += length
    return tagged


def _fixed_at(words: list[str], place: int) -> tuple[int, str]:
    """How many words the name of `FIXED` has that begins at this place, and the name; 1 and "" where none does."""
    for length in range(2, MOST_WORDS + 1):
        part = words[place : place + length]
        for name in (" ".join(part), " ".join([*part[:-1], singular(part[-1])]), " ".join([singular(part[0]), *part[1:]])):
            if name in FIXED and len(part) == length:
                return length, name
    return 1, ""


def _as_noun(tags: list[str], place: int) -> str:
    """The tag of a word; that of a noun where it is an adjective or unknown and no noun follows: "a remote on a sofa"."""
    tag, after = tags[place], [*tags[place + 1 : place + 3], "END", "END"]
    if tag == "UNC":
        return "NN1"
    before = tags[place - 1] if place else ""
    if not tag.startswith("AJ") or not before.startswith((*DETERMINERS, "AJ")):
        return tag
    ends = after[0] == "END" or after[0].startswith(("PR", "VB", "VV", "VH", "VD"))
    listed = after[0] in ("CJC", "PUN") and after[1].startswith((*DETERMINERS, "END"))
    return "NN1" if ends or listed else tag


@cache
def tagger() -> Any:
    """What tells nouns from other words. Loading it takes a second: call this before a run that is timed, or a fork."""
    from HanTa.HanoverTagger import HanoverTagger  # here, because its model takes a moment to load

    return HanoverTagger("morphmodel_en.pgz")
