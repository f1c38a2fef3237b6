import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovseg.__main__ import main
from ovseg.evaluation import benchmark
from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.datasets import PocketDataset, find_dataset, present_classes
from ovseg.evaluation.metrics import confusion, dataset_miou, iou_per_label, mean_image_miou, pixel_accuracy
from ovseg.methods import DiffSegmenter
from ovseg.models import Models
from ovseg.pocket.world import LABELS, scene

TRUTH = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
GUESS = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)


def test_confusion_counts_pixels_and_leaves_out_255() -> None:
    assert confusion(TRUTH, GUESS, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_metrics_worked_out_by_hand() -> None:
    first = confusion(TRUTH, GUESS, 4)
    assert iou_per_label(first)[:3].tolist() == [1 / 3, 2 / 3, 0.0] and np.isnan(iou_per_label(first)[3])
    second = confusion(np.full((2, 2), 1, np.uint8), np.full((2, 2), 1, np.uint8), 4)
    both = np.stack([first, second])
    assert dataset_miou(both) == pytest.approx((1 / 3 + 6 / 7 + 0) / 3)
    assert mean_image_miou(both) == pytest.approx(((1 / 3 + 2 / 3 + 0) / 3 + 1) / 2)
    assert pixel_accuracy(both) == pytest.approx(7 / 9)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"truth's shape \(2, 3\), but got \(1, 3\)"):
        confusion(TRUTH, GUESS[:1], 3)
    with pytest.raises(ValueError, match="below 2, but got 2"):
        confusion(TRUTH, GUESS, 2)


@pytest.mark.parametrize("stuff", [False, True])
def test_pocket_samples_hold_the_worlds_masks(stuff: bool) -> None:
    dataset, item = PocketDataset("val", stuff), scene("val", 3)
    sample = dataset.sample(3)
    for label in np.unique(item.labels):
        name = LABELS[label] if stuff or label < 24 else "background"
        assert {dataset.labels[k] for k in sample.labels[item.labels == label]} == {name}
    classes = {word.name for word in present_classes(dataset, sample)}
    assert classes == set(item.things) | (set(item.stuff) if stuff else set())


def test_a_stopped_run_goes_on_where_it_was(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 4)
    whole = task.run(tmp_path / "whole")

    def stop_at_the_third(stage: str, share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task.run(tmp_path / "parts", stop_at_the_third)
    assert len(list((tmp_path / "parts" / "images").glob("*.npz"))) == 2
    measured = []
    original = Benchmark._measure
    monkeypatch.setattr(Benchmark, "_measure", lambda self, sample: measured.append(sample.name) or original(self, sample))
    assert task.run(tmp_path / "parts") == whole
    assert measured == ["val-000002", "val-000003"]
    assert json.loads((tmp_path / "parts" / "table.json").read_text()) == whole
    assert "dataset mIoU" in (tmp_path / "parts" / "table.md").read_text()


def test_the_sweep_agrees_with_the_methods_own_threshold(models: Models, tmp_path: Path) -> None:
    table = Benchmark(models, DiffSegmenter(threshold=0.35), PocketDataset("val"), 2).run(tmp_path)
    assert table["miou_at_threshold"]["0.35"] == table["miou"]
    assert len(table["miou_at_threshold"]) == len(benchmark.THRESHOLDS)


def test_a_folder_of_another_run_is_refused(models: Models, tmp_path: Path) -> None:
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 1)
    task.run(tmp_path)
    with pytest.raises(ValueError, match="run with other settings"):
        replace(task, method=DiffSegmenter(draws=2)).run(tmp_path)
    with pytest.raises(ValueError, match="1 or more, but got 0"):
        replace(task, count=0).run(tmp_path)
    with pytest.raises(ValueError, match="data set must be one of pocket-train"):
        find_dataset("imagenet")


def test_evaluate_command(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["evaluate", "--dataset", "pocket-novel", "--count", "2", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--backbone", str(tiny_folder), "--device", "cpu", "--set", "draws=2"]) == 0
    out = capsys.readouterr().out
    assert "on pocket-novel, 2 pictures" in out and "draws 2" in out
