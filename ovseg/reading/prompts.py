"""What the network is told: one sentence for each phrase, or few for all of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ovseg.backbones.base import Backbone
from ovseg.backbones.phrases import filled
from ovseg.limits import quoted
from ovseg.words.classes import indefinite


@dataclass(frozen=True)
class Sentence:
    """A sentence with the phrases that are read in it, and the character at which each begins.

    Args:
        others: how many of the phrases, the last ones, are no class: they take what classes would take else.
    """

    text: str
    phrases: tuple[str, ...]
    starts: tuple[int, ...]
    others: int = 0


def owners_of(sentences: Sequence[Sentence], classes: Iterable[int]) -> list[int]:
    """For each phrase of the sentences, in order, the next of the classes, or -1 for words that are no class."""
    own = iter(classes)
    return [next(own) if k < len(one.phrases) - one.others else -1 for one in sentences for k in range(len(one.phrases))]


def one_each(template: str, phrases: Sequence[str]) -> tuple[Sentence, ...]:
    """A sentence for each phrase, which goes where the template has {} (DiffSegmenter, arXiv 2309.02773)."""
    made = ((phrase, *filled(template, phrase)) for phrase in phrases)
    return tuple(Sentence(text, (phrase,), (start,)) for phrase, text, start in made)


def all_in_one(template: str, phrases: Sequence[str], others: Sequence[str] = (), *, between: str = " and ") -> Sentence:
    """One sentence for all phrases (GoCA, arXiv 2603.06178; iSeg, 2409.03209), and behind them words that are no class.

    Args:
        template: has {} where the list of phrases goes; "a {}" gives each its article by its sound.
        others: words that stand for what is no class.
        between: what joins two phrases.
    """
    begin = template.index("{}")
    articles = template[:begin].endswith(("a ", "an "))
    text = template[:begin].removesuffix("a ") if articles else template[:begin]
    starts, known = [], {phrase.lower() for phrase in phrases}
    others = [word for word in others if word.lower() not in known]
    for number, phrase in enumerate((*phrases, *others)):
        text += between * (number > 0)
        named = indefinite(phrase) if articles and number < len(phrases) else phrase
        starts.append(len(text) + len(named) - len(phrase))
        text += named
    return Sentence(text + template[begin + 2 :], (*phrases, *others), tuple(starts), len(others))


def as_few(backbone: Backbone, make: Callable[[Sequence[str]], Sentence], phrases: Sequence[str]) -> tuple[Sentence, ...]:
    """As few sentences as the text encoder takes, with about as many phrases in each.

    Raises:
        ValueError: not even a single phrase fits.
    """
    for parts in range(1, len(phrases) + 1):
        ends = [len(phrases) * k // parts for k in range(parts + 1)]
        sentences = tuple(make(phrases[a:b]) for a, b in pairwise(ends))
        if all(backbone.fits(sentence.text) for sentence in sentences):
            return sentences
    longest = max((make([phrase]).text for phrase in phrases), key=len)
    raise ValueError(f"A phrase and the words around it must fit the text encoder, but this does not: {quoted(longest)}.")


def after_caption(caption: str, words: Sentence, backbone: Backbone) -> str:
    """A caption, then words: "caption ; cat, dog" (FA-Seg, arXiv 2506.23323); of a long one the end is left out."""
    kept = caption.split()
    while kept and not backbone.fits(f"{' '.join(kept)} ; {words.text}"):
        kept = kept[:-1]
    return f"{' '.join(kept)} ; {words.text}" if kept else words.text
