"""`Comparison`: several segmentations of one picture, and what can be said of them without running anything."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from ovseg.compare.truth import Truth
from ovseg.limits import quoted
from ovseg.maths.overlap import IGNORED, confusion, dataset_miou, image_miou, iou_per_label
from ovseg.output import view
from ovseg.output.cost import Cost
from ovseg.output.tables import Table, missing
from ovseg.types import BACKGROUND, Segmentation, named

RIGHT, MISSED, CLAIMED, CONFUSED = range(4)
"""Values of an error map: the label is right; a class is missed, and background stands there; a class is claimed where
there is background; a class is taken for another. `IGNORED`, 255, where the truth says nothing."""


def work_on(method: str, backbone: str) -> str:
    """What a method's work on a network is called, such as where its seconds are learned; the usual network has no name."""
    return f"{method} on {backbone}" if backbone else method


@dataclass(frozen=True)
class Entry:
    """What one variant made of the picture, and what it took, as `Cost` counts it.

    Args:
        backbone: the short name of the network that was read, where it is another than the usual one.
        network: its short name, in any case.
        loading: seconds that this network took to be loaded before; they are not in `seconds`.
        card: the run card, where the entry is of `run_variants`.
        yardstick: what it is where it reads no diffusion network, as its method says.
    """

    title: str
    segmentation: Segmentation
    seconds: float  # of the whole run but encoding the picture, which all share; its stages are in `segmentation.timings`
    method: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    passes: int | None = None
    peak_bytes: int | None = None
    rows: int | None = None
    backbone: str = ""
    network: str = ""
    loading: float = 0.0
    card: Mapping[str, object] = field(default_factory=dict)
    yardstick: str = ""

    @property
    def work(self) -> str:
        """What its seconds are learned under."""
        return work_on(self.method, self.backbone)

    @property
    def cost(self) -> Cost:
        """What the run took, as run cards hold it."""
        return Cost(self.seconds, self.passes, self.rows, self.peak_bytes)


@dataclass(frozen=True)
class Failure:
    """A variant that could not be run, and the sentence that says why."""

    title: str
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Segmentations of one picture, the words that were asked for, and the truth if it is known.

    Raises:
        ValueError: two titles are the same, or an entry or the truth belongs to another picture or other classes.
    """

    image: UInt8[np.ndarray, "H W 3"]
    classes: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    failures: tuple[Failure, ...] = ()
    truth: Truth | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        titles = sorted(item.title for item in (*self.entries, *self.failures))
        for title, following in pairwise(titles):
            if title == following:
                raise ValueError(f"Each title must be given once, but {quoted(title)} is there twice.")
        shape = self.image.shape
        for entry in self.entries:
            if entry.segmentation.image.shape != shape:
                raise ValueError(
                    f"{entry.title} must be of the picture's shape {shape}, but got {entry.segmentation.image.shape}."
                )
        if self.truth is not None:
            if self.truth.label_map.shape != shape[:2]:
                raise ValueError(f"The truth must have the shape {shape[:2]}, but got {self.truth.label_map.shape}.")
            if self.truth.labels != (BACKGROUND, *self.classes):
                asked, known = ", ".join(self.classes), ", ".join(self.truth.labels[1:])
                raise ValueError(f"The truth must be about the classes {asked}, but it is about {known}.")
        if len(self.labels) > IGNORED:
            raise ValueError(f"At most {IGNORED - 1} classes can be compared, but got {len(self.labels) - 1}.")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Background, the classes in the order asked for, then what methods found besides, in the entries' order."""
        found = (label for entry in self.entries for label in entry.segmentation.labels)
        return tuple(dict.fromkeys((BACKGROUND, *self.classes, *found)))

    @cached_property
    def label_maps(self) -> dict[str, UInt8[np.ndarray, "H W"]]:
        """Of each entry, by its title: the label map as indices into `Comparison.labels`."""
        return {entry.title: self.indices(entry)[entry.segmentation.label_map] for entry in self.entries}

    @cached_property
    def maps_of_classes(self) -> dict[str, UInt8[np.ndarray, "H W"]]:
        """The same about the classes that were asked for; what an entry found besides is background here.

        Where two entries are compared, or one with the truth, so that a method that also names the ground, which nobody
        asked for, does not differ everywhere from one that calls it background.
        """
        known = len(self.classes)
        return {title: np.where(found > known, 0, found).astype(np.uint8) for title, found in self.label_maps.items()}

    def entry(self, title: str) -> Entry:
        """The entry of this title.

        Raises:
            ValueError: there is none.
        """
        return named({entry.title: entry for entry in self.entries}, "title", title)

    def indices(self, entry: Entry) -> UInt8[np.ndarray, " k"]:
        """For each label of an entry's own list, its index in `Comparison.labels`; colours follow it."""
        return view.indices_in(self.labels, entry.segmentation.labels).astype(np.uint8)

    @property
    def votes(self) -> UInt8[np.ndarray, "H W"]:
        """At each place, how many entries say the same: the size of the largest group that agrees."""
        maps = np.stack(list(self.maps_of_classes.values()))
        return np.max([(maps == label).sum(0) for label in range(len(self.classes) + 1)], axis=0).astype(np.uint8)

    @property
    def agreement(self) -> float:
        """Share of the picture where all entries say the same, 0 to 1; background counts like any label."""
        return float((self.votes == len(self.entries)).mean())

    @property
    def agreement_on_classes(self) -> float:
        """The same among the places where at least one entry sees a class; NaN where none sees any.

        A large background, on which all agree, does not raise it.
        """
        seen = np.any([label_map > 0 for label_map in self.maps_of_classes.values()], axis=0)
        return float((self.votes == len(self.entries))[seen].mean()) if seen.any() else math.nan

    @property
    def mutual_iou(self) -> Float[np.ndarray, "n n"]:
        """Mean IoU between every two entries, over the labels that either of them has, background included."""
        maps, count = list(self.maps_of_classes.values()), len(self.classes) + 1
        ious = [dataset_miou(confusion(one, other, count)) for one in maps for other in maps]
        return np.array(ious).reshape(len(maps), len(maps))

    def confusion(self, entry: Entry) -> np.ndarray:
        """Pixels of each true label (rows) by the entry's (columns), over the background and the classes asked for.

        What an entry found besides counts as background here, as it does in the truth: nobody asked for it.

        Raises:
            ValueError: there is no truth.
        """
        truth, known = self._known_truth(), len(self.classes) + 1
        return confusion(truth.label_map, self.maps_of_classes[entry.title], known)

    def iou(self, entry: Entry) -> dict[str, float]:
        """IoU of the background and each class against the truth, 0 to 1; NaN where neither has it."""
        return dict(zip((BACKGROUND, *self.classes), map(float, iou_per_label(self.confusion(entry))), strict=True))

    def mean_iou(self, entry: Entry) -> float:
        """Mean IoU over the labels that the truth holds, background included: the same labels for every entry."""
        return image_miou(self.confusion(entry))

    def error_map(self, entry: Entry) -> UInt8[np.ndarray, "H W"]:
        """At each place `RIGHT`, `MISSED`, `CLAIMED` or `CONFUSED`, and 255 where the truth says nothing.

        Raises:
            ValueError: there is no truth.
        """
        true, given = self._known_truth().label_map, self.maps_of_classes[entry.title]
        errors = np.full(true.shape, CONFUSED, np.uint8)
        errors[given == 0] = MISSED
        errors[true == 0] = CLAIMED
        errors[true == given] = RIGHT
        errors[true == IGNORED] = IGNORED
        return errors

    def _known_truth(self) -> Truth:
        if self.truth is None:
            raise ValueError("A truth must be given first, but this comparison has none.")
        return self.truth

    def figures(self) -> Table:
        """One row for each entry: IoU in per cent if there is a truth, seconds in all and by stage, passes, memory."""
        rows = [self._figures_of(entry) for entry in self.entries]
        rows += [{"method": failure.title, "stages": f"failed: {failure.sentence}"} for failure in self.failures]
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        return Table(columns, tuple(tuple(row.get(name) for name in columns) for row in rows), {"peak MB": 0})

    def _figures_of(self, entry: Entry) -> dict[str, str | int | float | None]:
        timings = {"loading the network, not counted": entry.loading} if entry.loading else {}
        timings |= entry.segmentation.timings
        stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in timings.items())
        peak = None if entry.peak_bytes is None else entry.peak_bytes / 1e6
        ious = {}
        if self.truth is not None:
            each = {f"IoU {label}": 100 * value for label, value in self.iou(entry).items()}
            ious = {"mean IoU": 100 * self.mean_iou(entry)} | each
        cost = {"seconds": entry.seconds, "passes": entry.passes, "rows": entry.rows, "peak MB": peak, "stages": stages}
        several = len({other.network for other in self.entries}) > 1
        title = f"{entry.title} ({entry.yardstick})" if entry.yardstick else entry.title
        return {"method": title} | ({"network": entry.network} if several else {}) | ious | cost

    def between_entries(self) -> Table:
        """Mutual IoU of every two entries, in per cent."""
        titles = tuple(entry.title for entry in self.entries)
        rows = zip(titles, 100 * self.mutual_iou, strict=True)
        return Table(("", *titles), tuple((title, *map(float, values)) for title, values in rows), {})

    def markdown(self) -> str:
        """The figures of all entries, their mutual IoU and their agreement, as a page of Markdown."""
        parts = [f"Classes: {', '.join(self.classes)}. IoU in per cent, seconds on this machine.", self.figures().markdown()]
        if len(self.entries) > 1:
            parts += [
                f"All entries say the same on {self.agreement:.1%} of the picture.",
                "Mean IoU between every two entries, in per cent:",
                self.between_entries().markdown(),
            ]
        return "\n\n".join(part.strip() for part in parts) + "\n"

    def record(self) -> dict:
        """Everything but the maps, ready for JSON."""
        return {
            "image_hw": list(self.image.shape[:2]),
            "labels": list(self.labels),
            "classes": list(self.classes),
            "seed": self.seed,
            "agreement": self.agreement if self.entries else None,
            "agreement_on_classes": _number(self.agreement_on_classes) if self.entries else None,
            "mutual_iou": self.mutual_iou.tolist(),
            "entries": [self._record_of(entry) for entry in self.entries],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def _record_of(self, entry: Entry) -> dict:
        known = self.truth is not None
        return {
            "title": entry.title,
            "method": entry.method,
            "network": entry.network,
            "loading": entry.loading,
            "yardstick": entry.yardstick,
            "settings": dict(entry.settings),
            **asdict(entry.cost),
            "stages": entry.segmentation.timings,
            "shares": entry.segmentation.shares,
            "iou": {label: _number(value) for label, value in self.iou(entry).items()} if known else None,
            "mean_iou": _number(self.mean_iou(entry)) if known else None,
        }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if missing(value) else value
