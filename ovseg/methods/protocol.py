"""How published code evaluates: the labels, class names, background, picture size and windows of a protocol."""

from collections.abc import Collection, Iterator
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from ovseg.maths.maps import windows

AnyMethod = TypeVar("AnyMethod")
"""A method of any kind: a dataclass of settings. `Method` itself names the protocols of its paper."""


@dataclass(frozen=True)
class Sureness:
    """What is too unsure to count, where background is scored.

    Args:
        scale: scores times this are the logits of probabilities over background and classes.
        least: a pixel whose highest probability is below it is background.
        least_share: a class that wins a smaller share of the pixels that are not background is left out.
    """

    scale: float
    least: float = 0.1
    least_share: float = 0.0

    def applied(self, scores: Float32[np.ndarray, "k H W"], words: int = 0) -> Float32[np.ndarray, "k H W"]:
        """The same scores, with the lowest one where a class must not win.

        Args:
            scores: background first.
            words: how many of the last rows are words that count as background.
        """
        end = len(scores) - words
        pooled = np.concatenate([np.concatenate([scores[:1], scores[end:]]).max(0)[None], scores[1:end]])
        counts = np.bincount(pooled.argmax(0).ravel(), minlength=end)
        small = np.flatnonzero(counts[1:] < self.least_share * counts[1:].sum()) + 1
        pooled[small] = scores.min()
        unsure = 1 / np.exp(self.scale * (pooled - pooled.max(0))).sum(0) < self.least
        result = scores.copy()
        result[small] = scores.min()
        result[1:end, unsure] = scores.min()
        return result


@dataclass(frozen=True)
class Protocol:
    """How one published evaluation prepares a picture. Sizes are in pixels.

    Args:
        source: whose evaluation it is, and what of it is left out.
        short_side: the shorter side after resizing, with the aspect kept; None leaves the picture as it is.
        long_side: the longest that the other side may become.
        squashed: the diffusion network sees the picture squashed to a square; nothing else does.
        labels: a name of `LABEL_SOURCES`: the classes that a method is asked for.
        thresholds: for each benchmark the background's threshold, and under "" that of all others; the method's own where
            there is none. It is never above the picture's highest score.
        with_pamr: the same where a method refines by PAMR.
        cuts_itself: the method that cuts the windows itself, so that they are not cut twice.
        settings: for a method's name, and a benchmark or "" for all, the settings that the protocol gives it.
        void_is_background: pixels that no other protocol counts are background.
        swept: background thresholds, each of which is counted beside the method's own.
        likeliest: how many classes a picture may show, those that its CLIP finds likeliest; 0 for all.
        sure: for each benchmark, when a pixel or a class is too unsure to count.
        windows: sides of square sliding windows, whose scores are averaged; empty for the whole picture at once.
        stride: pixels from one window to the next.
        whole_too: the whole picture counts as one more window.
        names: for each benchmark, the variant of its class names; the data set's own names where there is none.
        background_words: extra words that count as background, where background is scored.
    """

    name: str
    source: str
    _: KW_ONLY
    short_side: int | None = None
    long_side: int = 2048
    squashed: bool = False
    windows: tuple[int, ...] = ()
    stride: int = 224
    whole_too: bool = False
    names: dict[str, str] | None = None
    background_words: tuple[str, ...] = ()
    labels: str = "all"
    thresholds: dict[str, float] | None = None
    with_pamr: float | None = None
    cuts_itself: str = ""
    settings: dict[tuple[str, str], dict[str, object]] | None = None
    void_is_background: bool = False
    swept: tuple[float, ...] = tuple(round(0.05 * k, 2) for k in range(20))
    likeliest: int = 0
    sure: dict[str, Sureness] | None = None

    def fitted(self, method: AnyMethod, benchmark: str, chosen: Collection[str] = ()) -> AnyMethod:
        """The method with what the protocol owns on a benchmark of names.json, but for settings that were chosen: no windows
        inside windows, the background's threshold, and its settings.
        """
        known, given = {field.name for field in fields(method)}, {}
        if "windows" in known and self.windows and self.cuts_itself != method.name:
            given |= {"windows": (), "short_side": 0}
        if "threshold" in known and self.thresholds:
            threshold = self.thresholds.get(benchmark, self.thresholds.get(""))
            by_pamr = self.with_pamr if getattr(method, "refinement", "") == "pamr" else None
            given |= {"threshold": by_pamr or threshold} if threshold is not None else {}
        for name in ("", benchmark):
            given |= (self.settings or {}).get((method.name, name), {})
        return replace(method, **{name: value for name, value in given.items() if name not in chosen})

    def working_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """The size (H, W) at which a picture of size `hw` is segmented."""
        if not self.short_side:
            return hw
        scale = min(self.short_side / min(hw), self.long_side / max(hw))
        return round(hw[0] * scale), round(hw[1] * scale)

    def boxes(self, hw: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        """The windows of a picture of size `hw` (H, W), each as a slice of rows and a slice of columns."""
        for side in self.windows:
            yield from windows(hw, side, self.stride)
        if self.whole_too or not self.windows:
            yield slice(None), slice(None)
