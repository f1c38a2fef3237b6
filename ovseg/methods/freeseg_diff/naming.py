"""Which class each cluster gets: the classes that a caption speaks of, and CLIP's choice among them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ovseg.maths.maps import best_of_each
from ovseg.methods.freeseg_diff.settings import Settings
from ovseg.models import Models
from ovseg.pretrained.templates import TEMPLATES
from ovseg.words.classes import ClassWord, rows_of
from ovseg.words.nouns import classes_of, noun_phrases, votes, words_as_released

# Nouns that spaCy's English list of stop words holds: they do not vote in the released code.
STOP_WORDS = frozenset({"amount", "back", "bottom", "call", "front", "name", "part", "show", "side", "top"})


@dataclass(frozen=True)
class Candidates:
    """The names that CLIP chooses among (`names`), those that may be given to a cluster, and the caption behind them."""

    names: tuple[ClassWord, ...]
    allowed: tuple[bool, ...]
    caption: str


def with_released_words_of(caption: str, classes: tuple[ClassWord, ...], all_allowed: bool) -> Candidates:
    """As `with_words_of`, with the released code's list of words, which counts "brown dog" and "dog" as two."""
    words = [word for word in words_as_released(caption) if word not in STOP_WORDS]
    allowed = tuple(all_allowed or not set(words).isdisjoint(word.phrases) for word in classes)
    own = [word for word in words if not any(word in given.phrases for given in classes)]
    return Candidates((*classes, *(ClassWord((word,)) for word in own)), allowed + (True,) * len(own), caption)


def with_words_of(caption: str, classes: tuple[ClassWord, ...], all_allowed: bool) -> Candidates:
    """The given classes and what the caption names.

    A given class may be found if the caption names it. Beside the caption's own words it stands for itself alone, not for
    whatever comes nearest to it.
    """
    phrases = noun_phrases(caption)
    names = {phrase.described: {phrase.described, phrase.name, phrase.head} for phrase in phrases}
    allowed = tuple(all_allowed or any(said & set(word.phrases) for said in names.values()) for word in classes)
    given = {phrase for word in classes for phrase in word.phrases}
    own = tuple(word for word in classes_of(caption) if not names[word.name] & given)
    return Candidates((*classes, *own), allowed + (True,) * len(own), caption)


def clip_rows(models: Models, settings: Settings, names: tuple[ClassWord, ...]) -> Float[Tensor, "n d"] | None:
    """CLIP's unit vectors of all phrases of these names, one name after the other; None without names."""
    templates = TEMPLATES if settings.ensemble else [settings.template]
    return models.clip_named(settings.clip).class_embeddings(rows_of(names)[0], templates) if names else None


def best_of_phrases(values: Float[Tensor, "n phrases"], names: tuple[ClassWord, ...]) -> Float[Tensor, "n names"]:
    """For every name the highest value of its phrases."""
    return best_of_each(values.T[:, None], rows_of(names)[1])[:, 0].T


def nouns_of(caption: str, every_vote: bool) -> tuple[str, ...]:
    """The nouns by which a caption decides: those of all votes as released, or the last one of each thing, once."""
    if every_vote:
        return tuple(noun for noun in votes(caption) if noun not in STOP_WORDS)
    return tuple(dict.fromkeys(phrase.head for phrase in noun_phrases(caption)))


def meanings_of(models: Models, classes: tuple[ClassWord, ...]) -> Float[Tensor, "n d"]:
    """What nouns are compared with: a row for each phrase, the mean of those of its words."""
    phrases, _ = rows_of(classes)
    rows = [_states(models, [f"A photo of {word}" for word in phrase.split()]).mean(0) for phrase in phrases]
    return _correlatable(torch.stack(rows))


def spoken_of(
    models: Models, classes: tuple[ClassWord, ...], meanings: Float[Tensor, "n d"], nouns: Sequence[str]
) -> tuple[bool, ...]:
    """Which classes the nouns of a caption mean (the released code's closed vocabulary).

    Words and classes are means of the text encoder's states. Each noun proposes the class with the phrase of the smallest
    correlation distance; nouns whose distance is above the mean distance are ignored.

    Args:
        meanings: those of the classes, as `meanings_of` gives them.
        nouns: of the caption; one that is there twice counts twice in the mean.
    """
    if not nouns:
        return (False,) * len(classes)
    alike = best_of_phrases(_correlatable(_states(models, list(nouns))) @ meanings.T, classes)
    nearest, proposed = (1 - alike).min(1)
    heard = {int(k) for k in proposed[nearest <= nearest.mean() + 1e-6]}
    return tuple(k in heard for k in range(len(classes)))


def _states(models: Models, prompts: list[str]) -> Tensor:
    """The mean of each prompt's token states, padding included (n, d)."""
    return models.backbone.encode_text(prompts, [""] * len(prompts)).embeddings.float().mean(1)


def _correlatable(rows: Tensor) -> Tensor:
    return F.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def assign(
    similar: Float[np.ndarray, "names clusters"], allowed: tuple[bool, ...], one_each: bool
) -> tuple[int | None, ...]:
    """The name that each cluster gets, or None, from CLIP's probabilities (the released code's rule).

    Names that are not allowed are out; with `one_each` a name can be given to its best cluster only; then every cluster
    takes the best of what is left.
    """
    left = np.where(np.array(allowed, bool)[:, None], similar, 0)
    if one_each and len(left):
        best = left.argmax(1)
        left = np.where(np.arange(left.shape[1])[None] == best[:, None], left, 0)
    return tuple(int(column.argmax()) if column.size and column.max() > 0 else None for column in left.T)
