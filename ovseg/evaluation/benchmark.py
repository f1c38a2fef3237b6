"""Running a method over a data set: one file for each picture, so that a stopped run can continue; then the tables."""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from ovseg.evaluation.datasets import Dataset, FolderDataset, Sample
from ovseg.evaluation.figures import counted, figures_markdown, figures_of
from ovseg.evaluation.labels import FILTERS, LABEL_SOURCES, NETWORKS, ground_truth
from ovseg.evaluation.protocols import PROTOCOLS, Protocol, segment_under
from ovseg.files import as_json, as_npz, read_json, write_or_check_settings, write_whole
from ovseg.maths.overlap import IGNORED, confusion, dataset_miou, image_miou
from ovseg.methods import Method, released_for
from ovseg.methods.base import Prepared
from ovseg.methods.grammar import Configuration
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.run_card import own_network, weights_of
from ovseg.processes import one_thread
from ovseg.progress import Report, silent, with_time_left
from ovseg.read_ahead import read_ahead
from ovseg.types import named
from ovseg.words.classes import ClassWord

SHOWN = 8  # worst and best pictures on the sheet, each
USUAL = {"protocol": "native", "seed": 0, "backbone": "pocket", "dtype": "float32"}  # options that need not be typed
KEPT = 4  # sets of words that a method stays prepared for


@dataclass(frozen=True)
class Benchmark:
    """A method on the first `count` samples of a data set.

    If the method's background is a threshold, every picture is also counted at each of the protocol's `swept` thresholds:
    so a threshold can be chosen on one split and used on another. If the data set does not score background, every pixel
    gets its best class.
    """

    models: Models
    method: Method
    dataset: Dataset
    count: int | None = None  # number of samples; all of the data set if not given
    _: KW_ONLY
    seed: int = 0  # of the noise
    labels: str = ""  # a name of `LABEL_SOURCES`: which classes the method is asked for; those of the protocol if empty
    protocol: Protocol = PROTOCOLS["native"]  # picture size, windows and class names
    threshold_note: str = "the method's own setting"  # where the threshold of the background was chosen

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.labels or self.protocol.labels)
        named(LABEL_SOURCES, "label source", self.labels)
        if self.count is None and self.dataset.length is None:
            raise ValueError(f"{self.dataset.name} has no end of pictures: their number must be given.")
        if self.count is not None and self.count < 1:
            raise ValueError(f"The number of samples must be 1 or more, but got {self.count}.")
        if self.count is not None and self.dataset.length is not None and self.count > self.dataset.length:
            raise ValueError(f"{self.dataset.name} holds {self.dataset.length} samples, but {self.count} were asked for.")

    @cached_property
    def total(self) -> int:
        """Number of samples."""
        return self.count or self.dataset.length

    @cached_property
    def names(self) -> str:
        """The variant of the class names."""
        return (self.protocol.names or {}).get(self.dataset.entry, "plain")

    @cached_property
    def classes(self) -> tuple[ClassWord, ...]:
        """The data set's classes; label k is class k - 1."""
        return self.dataset.classes(self.names)

    @cached_property
    def sweeps(self) -> bool:
        """Whether every picture is also counted at each threshold of the protocol."""
        return self.dataset.background == "scored" and any(f.name == "threshold" for f in fields(self.method))

    def command(self, out: str) -> str:
        """The command that measures it, into the folder `runs/OUT`; the data set's folder stands there by its name alone.

        It says what differs from the defaults: settings from those that suit the backbone. Where the threshold was taken
        from another run, the command gives the threshold itself.
        """
        dataset, method = self.dataset, Configuration.of(self.models, self.method).text
        words = ["python", "-m", "ovseg", "evaluate", "--method", method]
        options: dict[str, object] = {"dataset": dataset.benchmark}
        if dataset.name != dataset.benchmark:
            options["data"] = dataset.root.name
        if isinstance(dataset, FolderDataset):
            options["split"] = dataset.split
        options |= {"backbone": self.models.name.rpartition("/")[2], "dtype": self.models.dtype_name, "count": self.total}
        options |= {} if self.labels == self.protocol.labels else {"labels": self.labels}
        options |= {"protocol": self.protocol.name, "seed": self.seed, "out": f"runs/{out}"}
        for option, value in options.items():
            words += [f"--{option}", str(value)] if value != USUAL.get(option) else []
        return shlex.join(words)

    def run(self, out: Path, report: Report = silent) -> dict:
        """Measure what is not yet in `out`, write the tables and the sheet, and return the table.

        Raises:
            ValueError: `out` holds a run with other settings, or a sample is missing or wrong.
        """
        self.measure(out, range(self.total), report)
        return self.summarise(out)

    def measure(self, out: Path, indices: range, report: Report = silent) -> None:
        """Measure those of these samples that are not yet in `out/images`; the next ones are read meanwhile.

        On a CPU this uses one thread, so that the figures do not depend on the number of processes (`workers`).
        """
        write_or_check_settings(out, self.settings())
        missing = [index for index in indices if not self.path(out, index).exists()]
        report, count = with_time_left(report), len(indices)
        with one_thread(self.models.device):
            for done, (index, sample) in enumerate(read_ahead(missing, self.dataset.sample), count - len(missing)):
                report(f"{self.dataset.name} {done + 1}/{count}", done / count)
                write_whole(self.path(out, index), as_npz(self._measure(sample.result())), lasting=True)

    def summarise(self, out: Path) -> dict:
        """Write `table.md`, `table.json` and `sheet.png` of a measured run, and return the table."""
        table, order = self._table(out)
        write_whole(out / "table.json", as_json(table))
        write_whole(out / "table.md", as_markdown(table).encode())
        write_whole(out / "sheet.png", view.png(self._sheet(out, order)))
        return table

    def settings(self) -> dict:
        """Everything that the figures depend on."""
        protocol = self.protocol
        size = "squashed to a square for the diffusion network" if protocol.squashed else "as it is"
        return {
            "method": self.method.name,
            "settings": json.loads(json.dumps(asdict(self.method))),
            "backbone": self.models.name,
            "weights": self._weights(),
            "dtype": self.models.dtype_name,
            "dataset": self.dataset.name,
            "labels": f"clip, ratio {self.models.checkpoint.clip_ratio}" if self.labels == "clip" else self.labels,
            "names": self.names,
            "background": self.dataset.background,
            "background_words": len(self._background_words),
            "threshold": self.threshold_note,
            "protocol": f"{protocol.name} ({protocol.source})",
            "picture": f"short side {protocol.short_side} px" if protocol.short_side else size,
            "windows": f"{', '.join(map(str, protocol.windows))} px, stride {protocol.stride}"
            if protocol.windows
            else "none",
            "refinement": getattr(self.method, "refinement", "none"),
            "seed": self.seed,
        }

    def _weights(self) -> dict[str, str]:
        """Fingerprints of all networks that the figures depend on; those of the labels beside those of the method."""
        helpers, of_labels = self.method.helpers(self.models), NETWORKS.get(self.labels, ())
        for name, load in helpers.items():
            if name == "captioner":
                load()  # its weights are named where it is loaded
        if "captioner" in of_labels:
            self.models.captioner()
        weights = weights_of(self.models, self.method, besides=of_labels)
        if self.labels in FILTERS:
            loads = released_for(self.models, FILTERS[self.labels]).helpers(self.models)
            return weights | {f"{name} of the labels": load().fingerprint for name, load in loads.items()}
        others = {name: own_network(self.models, name).fingerprint for name in of_labels}
        return weights | {f"{name} of the labels": other for name, other in others.items() if other != weights[name]}

    def path(self, out: Path, index: int) -> Path:
        """The file of a sample's counts."""
        return out / "images" / f"{index:06d}.npz"

    @cached_property
    def _background_words(self) -> tuple[ClassWord, ...]:
        if self.dataset.background != "scored":
            return ()
        taken = {phrase for word in self.classes for phrase in word.phrases}
        return tuple(ClassWord((word,)) for word in self.protocol.background_words if word not in taken)

    def _measure(self, sample: Sample) -> dict[str, np.ndarray]:
        """Confusion matrices at the method's threshold and at each that is swept: places and values of what is not 0."""
        truth, predictions = self._truth(sample), self._predict(sample)
        matrices = np.stack([confusion(truth, labels, len(self.classes) + 1) for labels in predictions]).ravel()
        places = np.flatnonzero(matrices)
        return {"places": places.astype(np.int32), "counts": matrices[places].astype(np.int32), "prediction": predictions[0]}

    def _truth(self, sample: Sample) -> np.ndarray:
        if self.protocol.void_is_background and self.dataset.background == "scored":
            return np.where(sample.labels == IGNORED, np.uint8(0), sample.labels)
        return counted(self.dataset, sample)

    def _predict(self, sample: Sample) -> list[np.ndarray]:
        """Label maps (H, W) in the data set's labels: at the method's threshold; if it `sweeps`, then at all."""
        asked = LABEL_SOURCES[self.labels](self.models, sample, self.classes)
        words = tuple(self.classes[k] for k in asked) + self._background_words
        if not asked:
            return [np.zeros(sample.labels.shape, np.uint8)] * (1 + len(self.protocol.swept) * self.sweeps)
        result = segment_under(
            self.protocol,
            self._prepared(words),
            sample.image,
            seed=self.seed,
            benchmark=self.dataset.entry,
            words=len(self._background_words),
        )
        label_of = np.array([0, *(k + 1 for k in asked), *(0 for _ in self._background_words)], np.uint8)
        if self.dataset.background != "scored":
            return [label_of[result.scores()[1:].argmax(0) + 1]]
        scores = result.scores()[1:]
        best, winners = scores.max(0), label_of[scores.argmax(0) + 1]
        moved = [np.where(best > t, winners, np.uint8(0)) for t in self.protocol.swept] if self.sweeps else []
        return [label_of[result.label_map], *moved]

    @cached_property
    def _prepared(self) -> Callable[[tuple[ClassWord, ...]], Prepared]:
        """The method with some words; of the sets that were asked for last, `KEPT` are kept."""
        return lru_cache(KEPT)(partial(self.method.prepare, self.models))

    def __getstate__(self) -> dict:
        """What another process needs: the fields, and nothing that is kept."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _load(self, out: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places and values of every sample's matrices."""
        for index in range(self.total):
            with np.load(self.path(out, index)) as file:
                yield file["places"], file["counts"]

    def _table(self, out: Path) -> tuple[dict, list[int]]:
        """The table, and the samples from the worst to the best."""
        size = len(self.classes) + 1
        totals = np.zeros((1 + len(self.protocol.swept), size, size), np.int64)
        per_image = []
        for places, counts in self._load(out):
            totals.reshape(-1)[places] += counts  # each place occurs once
            own = np.zeros(size * size, np.int64)
            own[places[places < own.size]] = counts[places < own.size]
            per_image.append(image_miou(own.reshape(size, size)))
        networks = sorted({*self.method.helpers(self.models), *NETWORKS.get(self.labels, ())})
        table = self.settings() | {
            "count": self.total,
            "yardstick": self.method.yardstick,
            "weight files": self.models.weight_files(networks),
            "command": self.command(self.method.name),
            **figures_of(self.dataset, self.classes, totals[0], per_image),
        }
        if self.sweeps:  # where the background is scored
            swept = zip(self.protocol.swept, totals[1:], strict=True)
            table["miou_at_threshold"] = {str(threshold): dataset_miou(total) for threshold, total in swept}
        order = [int(k) for k in np.argsort(per_image, kind="stable") if not np.isnan(per_image[k])]
        return table, order

    def _sheet(self, out: Path, order: list[int]) -> np.ndarray:
        """The worst and the best pictures: the picture, its truth, and the prediction."""
        shown = [*order[:SHOWN], *order[max(SHOWN, len(order) - SHOWN) :]]
        colours = view.palette(len(self.classes) + 1)
        colours = np.concatenate([colours, np.full((256 - len(colours), 3), 160, np.uint8)])
        opacity = np.full(256, 0.6)
        opacity[0] = 0
        pictures, captions = [], []
        for index in shown:
            sample = self.dataset.sample(index)
            with np.load(self.path(out, index)) as file:
                prediction = file["prediction"]
            own = confusion(self._truth(sample), prediction, len(self.classes) + 1)
            present = [self.classes[k].name for k in ground_truth(self.models, sample, self.classes)]
            pictures += [sample.image, *(view.paint(sample.image, m, colours, opacity) for m in (sample.labels, prediction))]
            captions += [sample.name, "truth: " + ", ".join(present), f"{self.method.name}: {image_miou(own):.0%}"]
        return view.contact_sheet(pictures, captions, columns=6)


def with_best_threshold(task: Benchmark, run: Path) -> Benchmark:
    """The task with the best threshold of a finished run on another split.

    Raises:
        ValueError: there is no such run, its settings differ in more than the threshold, or it is on the same split.
    """
    path = run / "table.json"
    if not path.is_file():
        raise ValueError(f"The threshold must come from a finished run, but there is no {path}.")
    table, mine = read_json(path), task.settings()
    if "miou_at_threshold" not in table or not task.sweeps:
        raise ValueError("A threshold can be chosen only where the background is scored and the method has a threshold.")
    for key in ("method", "backbone", "labels", "names", "background", "protocol"):
        if table[key] != mine[key]:
            raise ValueError(
                f"The threshold must come from a run with {key} {mine[key]!r}, but that one has {table[key]!r}."
            )
    theirs, ours = ({k: v for k, v in t["settings"].items() if k != "threshold"} for t in (table, mine))
    if theirs != ours:
        raise ValueError("The threshold must come from a run with the same settings of the method, but they differ.")
    if table["dataset"] == mine["dataset"]:
        raise ValueError(f"The threshold must be chosen on another split than the one reported, {mine['dataset']}.")
    best = max(table["miou_at_threshold"], key=table["miou_at_threshold"].get)
    note = f"the best on {table['dataset']} ({table['count']} pictures)"
    return replace(task, method=replace(task.method, threshold=float(best)), threshold_note=note)


def as_markdown(table: dict) -> str:
    """The table as Markdown: a sentence with all settings, then the figures in percent."""
    told = {name: value for name, value in table["settings"].items() if name != "tile_side" or value}
    settings = ", ".join(f"{name} {value}" for name, value in told.items())
    words = f" with {table['background_words']} background words" if table["background_words"] else ""
    yardstick = table.get("yardstick")  # tables written before there were any have none
    apart = f", {yardstick}" if yardstick else ""
    text = (
        f"{table['method']} ({settings or 'no settings'}){apart} on {table['dataset']}, {table['count']} pictures; backbone"
        f" {table['backbone']}, {table['dtype']}; labels {table['labels']}, names {table['names']}; background"
        f" {table['background']}{words}, its threshold {table['threshold']}; protocol {table['protocol']}; picture"
        f" {table['picture']}, windows {table['windows']}; refinement {table['refinement']}; seed {table['seed']}.\n\n"
    ) + figures_markdown(table)
    if "miou_at_threshold" in table:
        swept = table["miou_at_threshold"]
        best = max(swept, key=swept.get)
        text += f"\nBest threshold on these pictures: {best} (dataset mIoU {swept[best]:.1%}).\n"
    return text
