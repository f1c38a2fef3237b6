import json
import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.__main__ import main
from ovseg.evaluation import workers
from ovseg.evaluation.baselines import AllBackground, CentrePrior, ClipCentrePrior, OneClass, PreparedTrivial
from ovseg.evaluation.benchmark import Benchmark, with_best_threshold
from ovseg.evaluation.datasets import PocketDataset, Sample
from ovseg.evaluation.labels import LABEL_SOURCES, all_names, ground_truth
from ovseg.evaluation.protocols import PROTOCOLS, Protocol, segment_under
from ovseg.maths.maps import box_of
from ovseg.maths.overlap import confusion, dataset_miou, image_miou, iou, iou_per_label, pixel_accuracy
from ovseg.methods import DiffSegmenter
from ovseg.models import Models
from ovseg.pocket.world import LABELS, scene
from ovseg.progress import Report, silent
from ovseg.scene import from_image
from ovseg.types import EvidenceOnDemand, Scene, Segmentation
from ovseg.words.class_filter import photo_prompts
from ovseg.words.classes import ClassWord, parse_classes
from tests.forked import FORK, torchrun
from tests.networks import with_traits

TRUTH = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
GUESS = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)


def test_metrics_worked_out_by_hand() -> None:
    first = confusion(TRUTH, GUESS, 4)
    assert iou_per_label(first)[:3].tolist() == [1 / 3, 2 / 3, 0.0] and np.isnan(iou_per_label(first)[3])
    second = confusion(np.full((2, 2), 1, np.uint8), np.full((2, 2), 1, np.uint8), 4)
    assert dataset_miou(first + second) == pytest.approx((1 / 3 + 6 / 7 + 0) / 3)
    assert dataset_miou(first + second, np.array([False, True, True, True])) == pytest.approx((6 / 7 + 0) / 2)
    assert (image_miou(first), image_miou(second)) == (pytest.approx((1 / 3 + 2 / 3 + 0) / 3), 1)
    assert np.isnan(image_miou(np.zeros((3, 3), np.int64)))
    assert pixel_accuracy(first + second) == pytest.approx(7 / 9)


@pytest.mark.parametrize("stuff", [0, 4, 8])
def test_pocket_samples_hold_the_worlds_masks(models: Models, stuff: int) -> None:
    dataset, item = PocketDataset("val", stuff), scene("val", 3)
    sample, words = dataset.sample(3), dataset.classes()
    for label in np.unique(item.labels):
        name = LABELS[label] if label < 24 + stuff else "background"
        assert {words[k - 1].name if k else "background" for k in sample.labels[item.labels == label]} == {name}
    assert {words[k].name for k in ground_truth(models, sample, words)} == set(item.things) | (
        set(item.stuff) & set(LABELS[24 : 24 + stuff])
    )
    assert dataset.background == ("absent" if stuff == 8 else "scored")
    assert all_names(models, sample, words) == list(range(len(words)))
    assert PocketDataset("train").sample(0).name == "train-100000"  # not one that was trained on


def test_a_stopped_run_goes_on_where_it_was(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 4)
    whole = task.run(tmp_path / "whole")
    stages = []

    def stop_at_the_third(stage: str, share: float) -> None:
        stages.append(stage)
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task.run(tmp_path / "parts", stop_at_the_third)
    assert [stage.partition(", ")[0] for stage in stages[:2]] == ["pocket-val 1/4", "pocket-val 2/4"]
    assert len(list((tmp_path / "parts" / "images").glob("*.npz"))) == 2
    measured = []
    original = Benchmark._measure
    monkeypatch.setattr(Benchmark, "_measure", lambda self, sample: measured.append(sample.name) or original(self, sample))
    assert task.run(tmp_path / "parts") == whole
    assert measured == ["val-000002", "val-000003"]
    assert json.loads((tmp_path / "parts" / "table.json").read_text()) == whole
    assert "dataset mIoU" in (tmp_path / "parts" / "table.md").read_text()
    # Four pictures, each beside its truth and what the method says, once from the worst and once from the best.
    assert Image.open(tmp_path / "parts" / "sheet.png").width == 6 * 200 + 8


def test_a_benchmark_prepares_each_set_of_words_once_and_looks_at_no_evidence(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, looked = [], []
    prepare, get = DiffSegmenter.prepare, EvidenceOnDemand.get

    def counted(self: DiffSegmenter, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> object:
        prepared.append(tuple(word.name for word in classes))
        return prepare(self, models, classes, report)

    monkeypatch.setattr(DiffSegmenter, "prepare", counted)
    monkeypatch.setattr(EvidenceOnDemand, "get", lambda self: looked.append(1) or get(self))
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 6)
    task.run(tmp_path / "truth")
    truths = [ground_truth(models, task.dataset.sample(number), task.classes) for number in range(6)]
    assert set(prepared) == {tuple(task.classes[k].name for k in truth) for truth in truths}
    sent = pickle.loads(pickle.dumps(task))
    assert sent.method == task.method and "_prepared" in task.__dict__ and "_prepared" not in sent.__dict__
    prepared.clear()
    replace(task, labels="all", count=2).run(tmp_path / "all")
    assert len(prepared) == 1 and len(prepared[0]) == len(task.classes)
    assert not looked
    scene = from_image(models, task.dataset.sample(0).image)
    assert DiffSegmenter().segment(models, scene, task.classes[:1]).evidence and looked == [1]


@pytest.mark.slow  # starts two processes that load torch
def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from ovseg.evaluation.workers import pool_of\n"
        "if __name__ == '__main__':\n"
        "    with pool_of(1) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 600).result()\n"
    )
    (tmp_path / "run.py").write_text(code)
    paths = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "run.py"], stdout=subprocess.PIPE, text=True, env=os.environ | paths
    )
    worker = Path(f"/proc/{int(parent.stdout.readline())}/status")
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not worker.exists() or "State:\tZ" in worker.read_text():
            return
        time.sleep(0.1)
    pytest.fail("the worker went on")


@dataclass(frozen=True)
class Watched(PocketDataset):
    """Pocket scenes; says which sample was read by which thread."""

    read: dict[int, threading.Event] = field(default_factory=lambda: {k: threading.Event() for k in range(9)})
    threads: set[int] = field(default_factory=set)

    def sample(self, index: int) -> Sample:
        self.read[index].set()
        self.threads.add(threading.get_ident())
        return super().sample(index)


def test_the_next_samples_are_read_while_one_is_measured(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, waited, original = Watched("val"), [], Benchmark._measure
    task = Benchmark(models, DiffSegmenter(refinements=0), data, 4)

    def measure(self: Benchmark, sample: Sample) -> dict[str, np.ndarray]:
        following = int(sample.name[-1]) + 1
        waited.append(following == 4 or data.read[following].wait(60))
        return original(self, sample)

    monkeypatch.setattr(Benchmark, "_measure", measure)
    task.measure(tmp_path, range(4))
    assert waited == [True] * 4 and threading.get_ident() not in data.threads
    data.read[0].clear()
    task.measure(tmp_path, range(4))
    assert not data.read[0].is_set()  # what is there already is not read again


@pytest.fixture
def workers_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others would read torch and the networks again: `test_workers_end_when` starts such ones."""
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda method: FORK)


@pytest.mark.usefixtures("workers_forked")
def test_two_workers_give_the_table_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    task = Benchmark(Models(str(tiny_folder), "cpu"), DiffSegmenter(), PocketDataset("novel"), 5)
    told = []
    table = workers.run(task, tmp_path / "two", 2, lambda stage, share: told.append(share))
    assert table == workers.run(task, tmp_path / "one", 1)
    assert told == sorted(told) and 0 < told[-1] < 1


def test_two_processes_of_torchrun_give_the_table_of_one(network: list[str], tmp_path: Path) -> None:
    command = ["evaluate", "--dataset", "pocket-novel", "--count", "3", *network]
    assert torchrun(2, partial(main, [*command, "--out", str(tmp_path / "many")])) == {}
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    assert (tmp_path / "many" / "table.json").read_text() == (tmp_path / "one" / "table.json").read_text()


@pytest.mark.usefixtures("workers_forked")
def test_a_worker_that_fails_says_why(tiny_folder: Path, tmp_path: Path) -> None:
    task = Benchmark(Models(str(tiny_folder), "cpu"), DiffSegmenter(draws=0), PocketDataset("novel"), 2)
    with pytest.raises(ValueError, match="draws must be 1 or more"):
        workers.run(task, tmp_path, 2)
    with pytest.raises(ValueError, match="workers must be 1 or more, but got 0"):
        workers.run(task, tmp_path, 0)


def test_the_sweep_agrees_with_the_methods_own_threshold(models: Models, tmp_path: Path) -> None:
    table = Benchmark(models, DiffSegmenter(threshold=0.35), PocketDataset("val"), 2).run(tmp_path)
    assert table["miou_at_threshold"]["0.35"] == table["miou"]
    assert len(table["miou_at_threshold"]) == 20


def test_a_threshold_comes_from_a_split_that_is_not_reported(models: Models, tmp_path: Path) -> None:
    train, val = (Benchmark(models, DiffSegmenter(), PocketDataset(split), 2) for split in ("train", "val"))
    swept = train.run(tmp_path / "train")["miou_at_threshold"]
    chosen = with_best_threshold(val, tmp_path / "train")
    assert str(chosen.method.threshold) == max(swept, key=swept.get)
    assert chosen.settings()["threshold"] == "the best on pocket-train (2 pictures)"
    with pytest.raises(ValueError, match="another split than the one reported, pocket-train"):
        with_best_threshold(train, tmp_path / "train")
    with pytest.raises(ValueError, match="same settings of the method"):
        with_best_threshold(replace(val, method=DiffSegmenter(draws=2)), tmp_path / "train")
    with pytest.raises(ValueError, match="with labels 'all', but that one has 'ground-truth'"):
        with_best_threshold(replace(val, labels="all"), tmp_path / "train")
    with pytest.raises(ValueError, match=r"there is no .*nowhere"):
        with_best_threshold(val, tmp_path / "nowhere")


def test_a_folder_of_another_run_is_refused(models: Models, tmp_path: Path) -> None:
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 1)
    task.run(tmp_path)
    with pytest.raises(ValueError, match="holds something else"):
        replace(task, method=DiffSegmenter(draws=2)).run(tmp_path)
    path = tmp_path / "settings.json"
    path.write_text(path.read_text().replace(models.backbone.fingerprint, "another"))
    with pytest.raises(ValueError, match=r"holds something else: it differs in weights\."):
        task.run(tmp_path)
    with pytest.raises(ValueError, match="1 or more, but got 0"):
        replace(task, count=0)
    with pytest.raises(ValueError, match="their number must be given"):
        replace(task, count=None)
    with pytest.raises(ValueError, match=r"label source must be one of ground-truth, clip, .*released-filter, all"):
        replace(task, labels="guess")


def test_without_a_background_every_pixel_gets_a_class(models: Models) -> None:
    task = Benchmark(models, DiffSegmenter(threshold=0.99), PocketDataset("val", stuff=8), 1)
    sample = task.dataset.sample(0)
    (prediction,) = task._predict(sample)
    assert prediction.min() > 0 and not task.sweeps
    nothing = Sample("empty", sample.image, np.full_like(sample.labels, 255))
    assert [p.max() for p in task._predict(nothing)] == [0]


def test_trivial_answers(models: Models, tmp_path: Path) -> None:
    def of(method: object, name: str) -> dict:
        return Benchmark(models, method, PocketDataset("val"), 3).run(tmp_path / name)

    sample = PocketDataset("val").sample(0)
    background, one, centre = (of(kind(), kind.name) for kind in (AllBackground, OneClass, CentrePrior))
    shares = [float((PocketDataset("val").sample(k).labels == 0).mean()) for k in range(3)]
    assert background["pixel_accuracy"] == pytest.approx(np.mean(shares))
    assert one["iou"]["background"] == 0 and 0 < one["mean_image_miou"] < 0.5
    assert "miou_at_threshold" in centre and "miou_at_threshold" not in background
    result = CentrePrior(width=0.3).segment(models, from_image(models, sample.image), parse_classes("cat, dog"))
    assert result.label_map[64, 64] == 1 and result.label_map[0, 0] == 0 and result.label_map.max() == 1


def test_the_centre_prior_takes_clips_word_for_the_class(with_clip: Models) -> None:
    image, classes = PocketDataset("val").sample(0).image, parse_classes("cat, dog, bus")
    likely = with_clip.clip.probabilities([image], photo_prompts(classes))[0].numpy()
    result = ClipCentrePrior(threshold=0.0).segment(with_clip, from_image(with_clip, image), classes)
    assert result.scores()[1:, 64, 64] == pytest.approx(likely / likely.max(), abs=1e-2)
    assert result.label_map[64, 64] == likely.argmax() + 1


def test_windows_cover_the_picture_and_the_last_one_is_moved_back() -> None:
    assert [len(list(PROTOCOLS[name].boxes((448, 597)))) for name in ("native", "tcl", "ovdiff")] == [1, 2, 2 + 6 + 1]
    assert len(list(PROTOCOLS["sclip"].boxes((336, 448)))) == 6
    assert {name for name, protocol in PROTOCOLS.items() if protocol.squashed} == {"diffsegmenter", "freeseg"}
    assert PROTOCOLS["tcl"].working_hw((375, 500)) == (448, 597) and PROTOCOLS["freeseg"].working_hw((375, 500)) == (
        375,
        500,
    )
    assert PROTOCOLS["tcl"].working_hw((100, 1000)) == (205, 2048)


def test_scores_are_averaged_over_windows(models: Models) -> None:
    image, classes = scene("val", 1).image[:96], parse_classes("cat, dog")
    method = CentrePrior(width=0.4)
    plain = method.segment(models, from_image(models, image), classes)
    prepared = method.prepare(models, classes)
    assert np.array_equal(segment_under(PROTOCOLS["native"], prepared, image).scores(), plain.scores())
    windows = Protocol("test", "", windows=(96,), stride=32)
    result = segment_under(windows, prepared, image)
    assert result.scores().shape == (3, 96, 128) and result.threshold == method.threshold
    window = method.segment(models, from_image(models, np.ascontiguousarray(image[:, :96])), classes).scores()
    assert np.allclose(result.scores()[:, :, :32], window[:, :, :32])
    assert np.allclose(result.scores()[:, :, 32:96], (window[:, :, 32:] + window[:, :, :64]) / 2)
    assert segment_under(Protocol("test", "", squashed=True), prepared, image).scores().shape == (3, 96, 128)


def test_the_seed_reaches_the_method(models: Models, tmp_path: Path) -> None:
    seeds = []

    class Listening(AllBackground):
        """All background; notes the seed of every scene."""

        def class_weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> torch.Tensor:
            seeds.append(scene.seed)
            return super().class_weights(models, scene, classes)

    table = Benchmark(models, Listening(), PocketDataset("val"), 2, seed=11).run(tmp_path)
    assert seeds == [11, 11] and table["seed"] == 11


def test_label_sources_by_their_names(with_clip: Models) -> None:
    dataset = PocketDataset("val")
    sample, classes = dataset.sample(0), dataset.classes()
    present = {int(label) - 1 for label in np.unique(sample.labels) if label}
    assert set(LABEL_SOURCES["ground-truth"](with_clip, sample, classes)) == present
    assert LABEL_SOURCES["all"](with_clip, sample, classes) == list(range(24))
    by_clip = LABEL_SOURCES["clip"](with_clip, sample, classes)
    assert set(by_clip) <= set(LABEL_SOURCES["clip-caption"](with_clip, sample, classes))
    mute = with_traits(with_clip, captioner="/nowhere/captioner")
    assert LABEL_SOURCES["clip"](mute, sample, classes) == by_clip  # needs no captioner
    with pytest.raises(ValueError, match="captioner"):
        LABEL_SOURCES["clip-caption"](mute, sample, classes)


def test_evaluate_passes_its_options_on(network: list[str], tmp_path: Path) -> None:
    arguments = ["evaluate", "--dataset", "pocket-val", "--method", "centre-prior", *network, "--out"]
    options = ["--count", "1", "--seed", "4", "--labels", "all", "--protocol", "freeseg"]
    assert main([*arguments, str(tmp_path / "run"), *options]) == 0
    table = json.loads((tmp_path / "run" / "table.json").read_text())
    assert (table["count"], table["seed"], table["labels"]) == (1, 4, "all")
    assert table["protocol"].startswith("freeseg") and "squashed" in table["picture"]
    swept = json.loads((tmp_path / "run" / "table.json").read_text())["miou_at_threshold"]
    novel = [*arguments, str(tmp_path / "novel"), *options, "--threshold-from", str(tmp_path / "run"), "--dataset"]
    assert main([*novel, "pocket-novel"]) == 0
    chosen = json.loads((tmp_path / "novel" / "table.json").read_text())
    assert str(chosen["settings"]["threshold"]) == max(swept, key=swept.get)


def test_ablate_command_takes_some_rows(tiny_folder: Path, tmp_path: Path) -> None:
    arguments = ["ablate", "--count", "1", "--only", "stride 2 alone", "--backbone", str(tiny_folder), "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert [row["what"] for row in json.loads((tmp_path / "ablation.json").read_text())] == ["stride 2 alone"]


def test_evaluate_command(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["evaluate", "--dataset", "pocket-novel", "--count", "2", "--backbone", str(tiny_folder), "--device", "cpu"]
    assert main([*arguments, "--set", "draws=2", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "on pocket-novel, 2 pictures" in out and "draws 2" in out and "protocol native" in out
    assert main([*arguments, "--method", "one-class", "--out", str(tmp_path / "one")]) == 0
    assert "one-class (no settings) on pocket-novel" in capsys.readouterr().out


def test_words_that_a_method_finds_by_itself_are_background(with_clip: Models, picture: np.ndarray) -> None:
    class Talkative(PreparedTrivial):
        """Finds a word that nobody asked for over the left half."""

        def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
            scores = torch.zeros(len(self.classes) + 2, 1, 2)
            scores[1, 0, 1], scores[-1, 0, 0] = 1, 1
            return Segmentation.from_scores(scene.image, (*self.names, "extra"), scores)

    prepared = Talkative(with_clip, parse_classes("cat, dog"), AllBackground())
    found = segment_under(PROTOCOLS["native"], prepared, picture)
    assert found.labels == ("background", "cat", "dog")
    assert (found.label_map[:, 0] == 0).all() and (found.label_map[:, -1] == 1).all()


def test_iou_worked_out_by_hand() -> None:
    one, other = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    one[1:3, 1:5] = True  # 8 pixels
    other[2:4, 2:5] = True  # 6 pixels, 3 of them shared
    assert iou(one, other) == iou(other, one) == 3 / 11
    assert iou(one, one) == 1 and iou(one, ~one) == 0
    assert iou(np.zeros((2, 3), bool), np.zeros((2, 3), bool)) == 0


def test_rows_of_a_confusion_matrix_are_the_truth_and_255_is_not_counted() -> None:
    truth = np.array([[0, 1, 1], [2, 255, 255]], np.uint8)
    predicted = np.array([[0, 2, 1], [2, 0, 2]], np.uint8)
    assert confusion(truth, predicted, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="Labels must be below 2, but got 2"):
        confusion(truth, predicted, 2)
    with pytest.raises(ValueError, match=r"must have the truth's shape \(2, 3\), but got \(3, 2\)"):
        confusion(truth, predicted.T, 3)


def test_a_box_is_rows_then_columns() -> None:
    inside = np.zeros((5, 9), bool)
    inside[1, 7] = inside[3, 2] = True
    assert box_of(inside) == (slice(1, 4), slice(2, 8))
    assert inside[box_of(np.zeros((5, 9), bool))].size == 0
