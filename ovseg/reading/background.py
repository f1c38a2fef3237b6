"""Where no class is: the background's score from those of the classes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

Rule = Callable[[Tensor, float, Tensor], Tensor | None]
"""The background's score, or None for the threshold itself: from scores of classes (k, y, x), a threshold, and the map of
words that are no class (y, x)."""


def constant(scores: Float[Tensor, "k y x"], threshold: float, others: Float[Tensor, "y x"]) -> None:
    """The threshold everywhere (DiffSegmenter, arXiv 2309.02773)."""
    return None


def offset(scores: Float[Tensor, "k y x"], threshold: float, others: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
    """The threshold on top of what words that are no class score there (GoCA, arXiv 2603.06178, "offset")."""
    return threshold + others


def left_over(scores: Float[Tensor, "k y x"], threshold: float, others: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
    """The square of what the best class leaves of 1 (iSeg, arXiv 2409.03209, on PASCAL VOC and Context)."""
    return (1 - scores.amax(0)) ** 2


BACKGROUNDS: Mapping[str, Rule] = MappingProxyType({"threshold": constant, "offset": offset, "left-over": left_over})
"""The rules by name."""
