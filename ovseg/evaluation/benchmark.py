"""Running a method over a data set: one file per picture, so that a stopped run goes on; then a table."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ovseg.evaluation.datasets import Dataset, Sample, present_classes
from ovseg.evaluation.metrics import confusion, dataset_miou, iou_per_label, mean_image_miou, pixel_accuracy
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.scene import from_image
from ovseg.types import Report, Segmentation, silent

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(20))


@dataclass(frozen=True)
class Benchmark:
    """A method on the first `count` samples of a data set, asked for the classes that each truth holds.

    The background is scored. Where it is a threshold, a picture is also counted at each of `THRESHOLDS`, so that a
    threshold can be chosen on one split and reported on another.
    """

    models: Models
    method: Method
    dataset: Dataset
    count: int
    seed: int = 0

    def run(self, out: Path, report: Report = silent) -> dict:
        """Measure what is not yet in `out/images`, write `table.md` and `table.json`, and return the latter.

        Raises:
            ValueError: `out` holds a run with other settings, or there is nothing to measure.
        """
        if self.count < 1:
            raise ValueError(f"The number of samples must be 1 or more, but got {self.count}.")
        self._claim(out)
        for index in range(self.count):
            path = out / "images" / f"{index:06d}.npz"
            if not path.exists():
                report(f"{self.dataset.name} {index + 1}/{self.count}", index / self.count)
                _write(path, self._measure(self.dataset.sample(index)))
        matrices = {k: np.stack([m[k] for m in self._load(out)]) for k in ("own", "swept")}
        table = self._table(matrices["own"], matrices["swept"])
        (out / "table.json").write_text(json.dumps(table, indent=2) + "\n")
        (out / "table.md").write_text(as_markdown(table))
        return table

    def settings(self) -> dict:
        """What decides the figures: method, backbone, data set, seed."""
        return {
            "method": self.method.name,
            "settings": json.loads(json.dumps(asdict(self.method))),
            "backbone": self.models.name,
            "dtype": str(self.models.dtype).removeprefix("torch."),
            "dataset": self.dataset.name,
            "labels": "ground-truth image labels",
            "background": "scored",
            "seed": self.seed,
        }

    def _claim(self, out: Path) -> None:
        path = out / "settings.json"
        if path.exists() and json.loads(path.read_text()) != self.settings():
            raise ValueError(f"{out} must be a new folder or one of the same run, but it holds a run with other settings.")
        (out / "images").mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.settings(), indent=2) + "\n")

    def _measure(self, sample: Sample) -> dict[str, np.ndarray]:
        scene = from_image(self.models, sample.image, self.seed)
        result = self.method.segment(self.models, scene, present_classes(self.dataset, sample))
        moved = [result] if result.threshold is None else [result.with_threshold(t) for t in THRESHOLDS]
        return {
            "own": self._confusion(sample, result),
            "swept": np.stack([self._confusion(sample, other) for other in moved]),
        }

    def _confusion(self, sample: Sample, result: Segmentation) -> np.ndarray:
        index = np.array([self.dataset.labels.index(label) for label in result.labels])
        return confusion(sample.labels, index[result.label_map], len(self.dataset.labels))

    def _load(self, out: Path) -> list[dict[str, np.ndarray]]:
        loaded = []
        for index in range(self.count):
            with np.load(out / "images" / f"{index:06d}.npz") as file:
                loaded.append({name: file[name] for name in ("own", "swept")})
        return loaded

    def _table(self, own: np.ndarray, swept: np.ndarray) -> dict:
        per_label = iou_per_label(own.sum(0))
        table = self.settings() | {
            "count": self.count,
            "miou": dataset_miou(own),
            "mean_image_miou": mean_image_miou(own),
            "pixel_accuracy": pixel_accuracy(own),
            "iou": {n: float(v) for n, v in zip(self.dataset.labels, per_label, strict=True) if not np.isnan(v)},
        }
        if swept.shape[1] == len(THRESHOLDS):
            table["miou_at_threshold"] = {str(t): dataset_miou(swept[:, k]) for k, t in enumerate(THRESHOLDS)}
        return table


def as_markdown(table: dict) -> str:
    """The table for people: what ran, on what, and the figures in percent."""
    settings = ", ".join(f"{name} {value}" for name, value in table["settings"].items())
    lines = [
        f"{table['method']} ({settings}) on {table['dataset']}, {table['count']} pictures; backbone {table['backbone']},"
        f" {table['dtype']}; {table['labels']}; background {table['background']}; seed {table['seed']}.",
        "",
        "| dataset mIoU | mean per-image mIoU | pixel accuracy |",
        "|---|---|---|",
        f"| {table['miou']:.1%} | {table['mean_image_miou']:.1%} | {table['pixel_accuracy']:.1%} |",
        "",
        "| label | IoU |",
        "|---|---|",
        *(f"| {label} | {value:.1%} |" for label, value in table["iou"].items()),
    ]
    if "miou_at_threshold" in table:
        swept = table["miou_at_threshold"]
        best = max(swept, key=swept.get)
        lines += ["", f"Best threshold on these very pictures: {best} (dataset mIoU {swept[best]:.1%})."]
    return "\n".join(lines) + "\n"


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, path)
