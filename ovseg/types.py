"""The values that move through the program: `Scene`, `Segmentation`, `Evidence`, `Paper`, and `knob` for settings."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Integer, UInt8
from torch import Tensor

from ovseg.layer_attention import LayerAttention
from ovseg.limits import quoted

BACKGROUND = "background"
STRIP = 2**18  # pixels of a picture that are looked at together
PACKED_FROM = 2**21  # numbers, from which scores are worth the time that compressing them takes
LOSSLESS = (  # neighbours differ little, so TIFF's differences of neighbours take half the bytes
    cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE,
    cv2.IMWRITE_TIFF_PREDICTOR, cv2.IMWRITE_TIFF_PREDICTOR_HORIZONTAL,
)  # fmt: skip

Named = TypeVar("Named")


@dataclass(frozen=True)
class Paper:
    """The publication that a method implements."""

    title: str
    authors: str
    venue: str
    arxiv: str
    code: str


@dataclass(frozen=True)
class Scene:
    """A picture with its latent: what a method segments.

    The image grid (H, W) is that of `image`; the latent grid (y, x) belongs to the backbone that made the latent.

    Args:
        encoded: the latent, or a function that makes it: methods that do not read it then do not pay for it.
    """

    image: UInt8[np.ndarray, "H W 3"]
    encoded: Float[Tensor, "1 c y x"] | Callable[[], Tensor]
    caption: str = ""
    seed: int = 0

    @cached_property
    def latent(self) -> Float[Tensor, "1 c y x"]:
        """The picture as the backbone's codec encodes it."""
        return self.encoded() if callable(self.encoded) else self.encoded

    @property
    def latent_hw(self) -> tuple[int, int] | None:
        """Rows and columns of the latent; None as long as nobody has looked at it."""
        made = vars(self).get("latent", self.encoded)
        return None if callable(made) else tuple(made.shape[-2:])

    def __reduce__(self) -> tuple:
        return Scene, (self.image, self.latent, self.caption, self.seed)


@dataclass(frozen=True)
class Neighbours:
    """For each place of a grid, the candidates (such as prototypes) that are most like it, best first.

    Args:
        nearest: indices of candidates.
        closeness: their cosines with the place.
        titles: one for each candidate.
        pictures: RGB pictures that candidates were taken from.
        picture_of: for each candidate, the index of its picture.
        places: for each candidate, the part of its picture that it was taken from, as a mask on any grid.
    """

    nearest: Integer[np.ndarray, "y x k"]
    closeness: Float[np.ndarray, "y x k"]
    titles: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    picture_of: tuple[int, ...]
    places: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Evidence:
    """An intermediate result of a method, for people to look at.

    "heat": `map` is float (y, x), brighter is more. "affinity": `affinity` gives the attention of every place to every
    other. "regions": `map` is integer (y, x). "images": `images` holds RGB uint8 pictures.
    "neighbours": `neighbours` holds what is most like each place.
    `group` names the row of the gallery where it is shown, and `label` the class that it is about, if any.
    """

    title: str
    kind: Literal["heat", "affinity", "regions", "images", "neighbours"]
    map: np.ndarray | None = None
    images: tuple[np.ndarray, ...] = ()
    group: str = ""
    label: str = ""
    neighbours: Neighbours | None = None
    affinity: LayerAttention | None = None

    @classmethod
    def heat(cls, title: str, values: Float[Tensor, "y x"], group: str, label: str) -> "Evidence":
        """A heat map of values on any device."""
        return cls(title, "heat", map=values.float().cpu().numpy(), group=group, label=label)


class EvidenceOnDemand:
    """Evidence that is made when it is first asked for, once, also where several threads ask at the same time.

    Pickling makes it: a result that goes to another process takes its evidence along.

    Args:
        make: gives the evidence. It is let go afterwards, with all that it holds.
    """

    def __init__(self, make: Callable[[], tuple[Evidence, ...]] = tuple) -> None:
        self._lock = threading.Lock()
        self._make: Callable[[], tuple[Evidence, ...]] | None = make
        self._made: tuple[Evidence, ...] = ()

    def get(self) -> tuple[Evidence, ...]:
        """The evidence. Where making it raises, the next call tries again."""
        with self._lock:
            if self._make is not None:
                self._made = self._make()
                self._make = None
            return self._made

    def __reduce__(self) -> tuple:
        return EvidenceOnDemand, (partial(tuple, self.get()),)


@dataclass(frozen=True, eq=False)
class OwnScores:
    """Scores at a method's own resolution, which take a fraction of what they take at the picture's.

    Args:
        content: rows of classes (k, y, x) on the CPU; or a TIFF file of them, one below the other.
        grid: k, y, x.
        image_hw: what they are expanded to.
        threshold: a background row of this score comes first, if it is not None.
    """

    content: Tensor | bytes
    grid: tuple[int, int, int]
    image_hw: tuple[int, int]
    threshold: float | None = None

    @classmethod
    def of(cls, rows: Float[Tensor, "k y x"], image_hw: tuple[int, int], threshold: float | None = None) -> "OwnScores":
        """The scores of these rows, on any device. Half precision is expanded in single."""
        held = rows.detach().cpu()
        held = held if held.dtype in (torch.float32, torch.float64) else held.float()
        return cls(held, tuple(held.shape), tuple(image_hw), threshold)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the expanded scores."""
        return self.grid[0] + (self.threshold is not None), *self.image_hw

    def expanded(self) -> Float32[np.ndarray, "k H W"]:
        """The scores of every pixel; expansion is bilinear."""
        rows = self.content
        if isinstance(rows, bytes):
            numbers = cv2.imdecode(np.frombuffer(rows, np.uint8), cv2.IMREAD_UNCHANGED)
            rows = torch.from_numpy(numbers.reshape(self.grid))
        grown = F.interpolate(rows[None], self.image_hw, mode="bilinear", align_corners=False)[0].float().numpy()
        if self.threshold is None:
            return grown
        return np.concatenate([np.full((1, *self.image_hw), self.threshold, np.float32), grown])

    def packed(self) -> "OwnScores":
        """The same, compressed without loss where that saves more than it costs: where rows are large."""
        if isinstance(self.content, bytes) or self.content.dtype != torch.float32 or self.content.numel() < PACKED_FROM:
            return self
        _, packed = cv2.imencode(".tiff", self.content.numpy().reshape(-1, self.grid[2]), LOSSLESS)
        return replace(self, content=packed.tobytes())


@dataclass(frozen=True)
class Segmentation:
    """What every method returns and every view shows. `scores()` is primary; the label map is derived from it.

    `evidence` is made when it is first looked at. `threshold` is the constant score of the background, where the method
    decides so; None where it scores the background by itself.

    Args:
        own: scores of every pixel, or those of the method's own resolution, which take less memory.
        class_thresholds: of classes whose threshold is their own; they are in the scores already.
    """

    image: UInt8[np.ndarray, "H W 3"]
    labels: tuple[str, ...]
    own: Float32[np.ndarray, "k H W"] | OwnScores
    on_demand: EvidenceOnDemand = field(default_factory=EvidenceOnDemand, repr=False, compare=False)
    timings: dict[str, float] = field(default_factory=dict)
    threshold: float | None = None
    class_thresholds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels or self.labels[0] != BACKGROUND:
            raise ValueError(f"labels[0] must be {BACKGROUND!r}, but got {self.labels[:1]!r}.")
        shape, expected = self.own.shape, (len(self.labels), *self.image.shape[:2])
        if shape != expected:
            raise ValueError(f"scores must have shape {expected}, but got {shape}.")

    @classmethod
    def from_scores(
        cls,
        image: UInt8[np.ndarray, "H W 3"],
        classes: tuple[str, ...],
        scores: Float[Tensor, "k y x"],
        threshold: float | None = None,
        *,
        evidence: Callable[[], tuple[Evidence, ...]] = tuple,
        timings: dict[str, float] | None = None,
    ) -> "Segmentation":
        """Scores that expand to the image, off the accelerator: the one place that does so.

        Args:
            classes: names of the classes, without background.
            scores: one row per class; if `threshold` is None, a background row comes first. Expansion is bilinear.
            threshold: the background's constant score.
            evidence: makes the evidence, when it is first looked at.
            timings: seconds of each stage.
        """
        own = OwnScores.of(scores, image.shape[:2], threshold)
        return cls(image, (BACKGROUND, *classes), own, EvidenceOnDemand(evidence), timings or {}, threshold)

    def scores(self) -> Float32[np.ndarray, "k H W"]:
        """The scores of every pixel. Where they are kept at the method's own resolution, each call expands them."""
        return self.own.expanded() if isinstance(self.own, OwnScores) else self.own

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What led to the result and can be looked at; the first look makes it."""
        return self.on_demand.get()

    @property
    def label_map(self) -> UInt8[np.ndarray, "H W"]:
        """Index into `labels` of the highest score; equal scores go to the earlier label."""
        scores = self.scores()
        labels = np.empty(scores.shape[1:], np.uint8)
        for lines in strips(labels.shape):
            labels[lines] = scores[:, lines].argmax(0)
        return labels

    @property
    def shares(self) -> dict[str, float]:
        """Share of the picture that each label covers, 0 to 1, background included."""
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.labels))
        return {label: float(count / counts.sum()) for label, count in zip(self.labels, counts, strict=True)}

    def with_threshold(self, threshold: float) -> "Segmentation":
        """The same scores with another background threshold; runs no network.

        Raises:
            ValueError: this segmentation's background is not a threshold.
        """
        if self.threshold is None:
            raise ValueError(
                "The background of this segmentation must be a threshold to be moved, but it has its own score."
            )
        if isinstance(self.own, OwnScores):
            return replace(self, own=replace(self.own, threshold=threshold), threshold=threshold)
        scores = self.own.copy()
        scores[0] = threshold
        return replace(self, own=scores, threshold=threshold)

    def with_class_thresholds(self, thresholds: Mapping[str, float]) -> "Segmentation":
        """The same with thresholds of their own for some classes; runs no network.

        A class is where it is above its threshold; of several that are, the one that is furthest above wins. So the scores
        of such a class are moved by what its threshold differs from the others'.

        Raises:
            ValueError: this segmentation's background is not a threshold, or there is no such class.
        """
        if self.threshold is None:
            raise ValueError("The background of this segmentation must be a threshold, but it has its own score.")
        scores = self.scores().copy()
        for name, threshold in thresholds.items():
            if name not in self.labels[1:]:
                known = ", ".join(self.labels[1:])
                raise ValueError(f"A class with its own threshold must be one of {known}, but got {quoted(name)}.")
            scores[self.labels.index(name)] += self.threshold - threshold
        return replace(self, own=scores, class_thresholds=dict(thresholds))

    def packed(self) -> "Segmentation":
        """The same in less memory, for what is kept and looked at now and then."""
        in_pixels = not isinstance(self.own, OwnScores)
        own = OwnScores.of(torch.from_numpy(self.own), self.image.shape[:2]) if in_pixels else self.own
        return replace(self, own=own.packed())


def strips(image_hw: tuple[int, int]) -> Iterator[slice]:
    """A picture's lines, some at a time: numpy looks along the classes in a copy, which would be as large as all scores."""
    height, width = image_hw
    step = STRIP // width + 1
    return (slice(top, top + step) for top in range(0, height, step))


def knob(
    default: Any,
    help: str,
    *,
    label: str,
    group: Literal["main", "more"] = "more",
    kind: Literal["", "network", "captioner", "clip", "grounding"] = "",
    low: float = 0,
    high: float = 1,
    step: float = 0,
) -> Any:
    """A dataclass field that a visitor may turn, with what a page shows of it in the field's metadata.

    Args:
        help: what it does, and where its default comes from.
        label: its name, in a few words.
        group: "main" for what most visitors turn, "more" for the rest.
        kind: "network" where it names a network, a file or a repository: visitors of a page then have the method's own
            alone, unless its owner allows more. "captioner", "clip" and "grounding" where it names one of those that
            `Models` loads: visitors then choose among what there is. Empty where it names nothing of the kind.
        low: least value of a number; `high` and `step` belong to numbers too, and a `step` of 0 is 1 of whole numbers and
            0.01 of others. A control is made by the field's type.
    """
    metadata = {"help": help, "label": label, "group": group, "kind": kind, "low": low, "high": high, "step": step}
    return field(default=default, metadata=metadata)


def named(table: Mapping[str, Named], what: str, name: str) -> Named:
    """The entry of this name in a table of choices.

    Args:
        what: what the table holds, for the error's sentence: "split".

    Raises:
        ValueError: there is no such entry; the sentence names all entries.
    """
    if name not in table:
        raise ValueError(f"The {what} must be one of {', '.join(table)}, but got {quoted(name)}.")
    return table[name]
