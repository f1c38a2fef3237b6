"""Which classes are stuff, and which of them a picture holds by CLIP: OVDiff's category pre-filter."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.base import word_states
from ovseg.methods.ovdiff.features import resized
from ovseg.models import Models
from ovseg.words.classes import ClassWord, rows_of
from ovseg.words.stuff import RELEASED_STUFF, STUFF, THINGS, is_stuff

MOST_CANDIDATES = 10  # classes whose subsets are tried; the code's
MOST_KEPT = 2**7  # subsets whose vectors are made before a picture is seen
SHORT, SQUARE = 448, 512  # pixels of a picture's short side, and of the square after it, that the released code makes first


def which_are_stuff(
    models: Models, classes: Sequence[ClassWord], table: Literal["reviewed", "released"] = "reviewed"
) -> tuple[bool, ...]:
    """Which classes are stuff: as the reviewed table says of the first of their phrases that it holds.

    A class of which it holds none is what the word of the table is whose text state is most like one of its phrases'. The
    released table has a flag for each class name; a name that is not among its stuff is a thing.
    """
    if table == "released":
        return tuple(any(phrase in RELEASED_STUFF for phrase in word.phrases) for word in classes)
    known = [next((kind for phrase in word.phrases if (kind := is_stuff(phrase)) is not None), None) for word in classes]
    if None not in known:
        return tuple(known)
    words, (phrases, owners) = sorted(STUFF | THINGS), rows_of(tuple(classes))
    alike = word_states(models.backbone, phrases) @ word_states(models.backbone, words).T
    for number, kind in enumerate(known):
        if kind is None:
            own = alike[[row for row, owner in enumerate(owners) if owner == number]]
            known[number] = words[int(own.amax(0).argmax())] in STUFF
    return tuple(known)


@dataclass(frozen=True, eq=False)
class Things:
    """CLIP's unit vectors of the classes that are things.

    Args:
        rows: of every phrase.
        subsets: of every subset of the classes, by its prompt; empty where there are too many subsets.
    """

    rows: Float[Tensor, "n d"]
    subsets: Mapping[str, Float[Tensor, " d"]]

    @classmethod
    def of(cls, models: Models, classes: Sequence[ClassWord], stuff: Sequence[bool], clip: str = "") -> "Things | None":
        """The vectors of these classes' things; None where less than two are."""
        things = tuple(word for word, is_so in zip(classes, stuff, strict=True) if not is_so)
        if len(things) < 2:
            return None
        network = models.clip_named(clip)
        rows = network.text_embeddings([f"a {phrase}" for phrase in rows_of(things)[0]])
        prompts = _all_prompts([word.phrases for word in things])
        return cls(rows, dict(zip(prompts, network.subset_embeddings(prompts), strict=True)) if prompts else {})


def _all_prompts(phrases: Sequence[Sequence[str]]) -> list[str]:
    """The prompts of all subsets of classes, each class by each of its phrases; none if there are more than `MOST_KEPT`."""
    if math.prod(1 + len(own) for own in phrases) > MOST_KEPT:
        return []
    choices = itertools.product(*((None, *own) for own in phrases))
    return [_prompt(words) for choice in choices if (words := [word for word in choice if word])]


def _prompt(words: Sequence[str]) -> str:
    return " and ".join(f"a {word}" for word in words)


def chosen_classes(
    models: Models,
    image: UInt8[np.ndarray, "H W 3"],
    classes: Sequence[ClassWord],
    stuff: Sequence[bool],
    kept: Things,
    *,
    clip: str = "",
    as_released: bool = False,
) -> tuple[int, ...]:
    """The classes that are compared at all: stuff, and the subset of things whose words fit the picture best.

    A class goes by the phrase that fits the picture best. Of many things, which subsets are tried depends on the picture,
    so that only `Clip` keeps their vectors.

    Args:
        kept: the vectors of the things among these classes.
        clip: what open_clip calls the network; that of the backbone if empty.
        as_released: the picture is squashed, so that CLIP sees all of it, and where more than ten classes pass, a subset
            names its words by falling probability; else in the order of the classes.
    """
    network = models.clip_named(clip)
    things = [k for k in range(len(classes)) if not stuff[k]]
    if as_released:
        short = min(image.shape[:2])
        image = resized(image, (SHORT * image.shape[0] // short, SHORT * image.shape[1] // short))
    seen = network.image_embeddings([image], SQUARE if as_released else 0)
    best = [part.max(0) for part in (seen @ kept.rows.T)[0].cpu().split([len(classes[k].phrases) for k in things])]
    words = {k: classes[k].phrases[int(one.indices)] for k, one in zip(things, best, strict=True)}
    likely = torch.stack([one.values for one in best]).softmax(0)
    order = likely.argsort(descending=True, stable=True).tolist()
    passed = [k for k in order if likely[k] >= 1 / len(things)] or order
    by_probability = as_released and len(passed) > MOST_CANDIDATES
    candidates = passed[:MOST_CANDIDATES]
    names = [things[k] for k in (candidates if by_probability else sorted(candidates))]
    subsets = [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]
    prompts = [_prompt([words[k] for k in s]) for s in subsets]
    if kept.subsets and not by_probability:
        texts = torch.stack([kept.subsets[prompt] for prompt in prompts])
    else:
        texts = network.subset_embeddings(prompts)
    fitting = subsets[int((texts @ seen[0]).argmax())]
    return tuple(k for k in range(len(classes)) if stuff[k] or k in fitting)
