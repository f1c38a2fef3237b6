"""Nouns of a caption, by the Hanover Tagger (Wartena 2019), which carries its English model in its package."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from ovseg.types import BACKGROUND
from ovseg.words.classes import ClassWord

# Before "of", these nouns speak about the picture itself or about an amount: what is shown is the next noun.
FRAMES = frozenset({
    "photo", "photograph", "picture", "image", "painting", "drawing", "view", "shot", "close-up", "closeup", "close",
    "scene", "group", "couple", "pair", "bunch", "lot", "herd", "flock", "pile", "stack", "row", "set", "number", "variety",
    "piece", "slice", "kind", "type", "collection", "crowd", "top", "side", "front", "back",
})  # fmt: skip


@dataclass(frozen=True)
class NounPhrase:
    """A noun with the words before it: "a brown kitchen floor" has adjectives ("brown",), name "kitchen floor"."""

    adjectives: tuple[str, ...]
    name: str  # all nouns in a row, the last one in its dictionary form: "traffic light"

    @property
    def head(self) -> str:
        """The last noun alone, in its dictionary form."""
        return self.name.rsplit(" ", 1)[-1]

    @property
    def described(self) -> str:
        """The name after its adjectives: "brown kitchen floor"."""
        return " ".join((*self.adjectives, self.name))


def noun_phrases(caption: str) -> tuple[NounPhrase, ...]:
    """The things that a caption names, each once, in order; none for a caption without nouns."""
    phrases: dict[str, NounPhrase] = {}
    adjectives: list[str] = []
    nouns: list[tuple[str, str]] = []
    for word, lemma, tag in (*_tagged(caption), ("", "", "END")):
        if tag.startswith(("NN", "NP")):
            nouns.append((word, lemma))
            continue
        if nouns and not (tag == "PRF" and nouns[-1][1] in FRAMES):
            name = " ".join([*(w for w, _ in nouns[:-1]), nouns[-1][1]])
            phrases.setdefault(name, NounPhrase(tuple(adjectives), name))
        if nouns or not tag.startswith("AJ"):
            adjectives = []
        nouns = []
        if tag.startswith("AJ"):
            adjectives.append(word)
    return tuple(phrases.values())


def classes_of(caption: str) -> tuple[ClassWord, ...]:
    """The things that a caption names as classes, with their adjectives; none for a caption without nouns.

    "background" is left out, because it is no class: it is what remains of the picture.
    """
    named = dict.fromkeys(phrase.described for phrase in noun_phrases(caption) if phrase.head != BACKGROUND)
    return tuple(ClassWord((name,)) for name in named)


def _tagged(caption: str) -> list[tuple[str, str, str]]:
    """(word, dictionary form, part of speech) of each word and punctuation mark; tags are the British National Corpus's."""
    words = re.findall(r"[a-z]+(?:['-][a-z]+)*|[^\sa-z]", caption.lower())
    tagged = _tagger().tag_sent(words) if words else []
    return [(word, lemma.lower(), tag) for word, lemma, tag in tagged]


@cache
def _tagger() -> Any:
    from HanTa.HanoverTagger import HanoverTagger  # here, because its model takes a moment to load

    return HanoverTagger("morphmodel_en.pgz")
