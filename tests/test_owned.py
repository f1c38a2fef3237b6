"""What a protocol owns: labels, class names, the background and the windows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovseg.__main__ import main
from ovseg.evaluation.benchmark import Benchmark, as_markdown
from ovseg.evaluation.datasets import PocketDataset, Sample
from ovseg.evaluation.labels import LABEL_SOURCES
from ovseg.evaluation.names import class_words
from ovseg.evaluation.protocols import PROTOCOLS, Sureness, segment_under
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.ovdiff import matching
from ovseg.methods.ovdiff.method import OVDiff, PreparedOVDiff
from ovseg.models import Models
from ovseg.scene import latent_of
from ovseg.types import Scene, Segmentation
from ovseg.words.classes import parse_classes

SMALL = OVDiff(images=1, steps=1, parts=2, masks="otsu", sites="0", extractors=("dino",), prefilter=False)


@pytest.fixture
def models(with_store: Models) -> Models:
    return with_store


def test_labels_are_the_protocols_unless_others_are_asked_for(models: Models) -> None:
    asked = {
        name: Benchmark(models, DiffSegmenter(), PocketDataset("val"), 1, protocol=p).labels for name, p in PROTOCOLS.items()
    }
    assert asked == dict.fromkeys(PROTOCOLS, "all") | {"native": "ground-truth", "diffsegmenter": "released-filter"}
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 1, protocol=PROTOCOLS["tcl"], labels="ground-truth")
    assert task.labels == "ground-truth"


def test_ovdiffs_windows_are_cut_once(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, classes = PROTOCOLS["ovdiff"], parse_classes("cat, dog")
    method, picture = protocol.fitted(SMALL, "voc"), np.zeros((375, 500, 3), np.uint8)
    assert (method.short_side, method.windows, method.window_stride) == (448, (448, 336), 224)
    segmented: list[Scene] = []
    segment = PreparedOVDiff.segment
    monkeypatch.setattr(
        PreparedOVDiff, "segment", lambda self, scene, *more: segmented.append(scene) or segment(self, scene)
    )
    prepared = method.prepare(models, classes)
    boxes = list(matching.boxes_of(method, (448, 597)))
    assert len(boxes) == 8  # and the whole picture: nine
    result = segment_under(protocol, prepared, picture)
    assert len(segmented) == 1 and segmented[0].image.shape == (375, 500, 3) and result.scores().shape == (3, 375, 500)
    # Under another's windows the method cuts none of its own.
    other = PROTOCOLS["tcl"].fitted(SMALL, "voc")
    assert (other.windows, other.short_side) == ((), 0)
    assert PROTOCOLS["native"].fitted(SMALL, "voc") == SMALL == PROTOCOLS["freeseg"].fitted(SMALL, "voc")
    assert PROTOCOLS["ovdiff"].fitted(SMALL, "voc", ["windows"]).windows == SMALL.windows


def test_thresholds_are_the_protocols(models: Models, picture: np.ndarray) -> None:
    for name, benchmark, expected in (
        ("groupvit", "voc", 0.95), ("groupvit", "context", 0.35), ("groupvit", "ade20k", 0.5), ("tcl", "voc", 0.5),
        ("native", "voc", 0.5), ("tcl", "context", 0.5),
    ):  # fmt: skip
        assert PROTOCOLS[name].fitted(DiffSegmenter(), benchmark).threshold == expected
    assert PROTOCOLS["groupvit"].fitted(DiffSegmenter(threshold=0.2), "voc", ["threshold"]).threshold == 0.2
    assert PROTOCOLS["tcl"].fitted(FreeSegDiff(), "voc") == FreeSegDiff()  # it scores the background by itself
    # No picture is all background by a threshold above its highest score.
    protocol = replace(PROTOCOLS["groupvit"], windows=(), short_side=None)
    prepared = DiffSegmenter(threshold=2.0).prepare(models, parse_classes("cat, dog"))
    assert segment_under(protocol, prepared, picture).threshold == pytest.approx(1.0)
    assert segment_under(PROTOCOLS["native"], prepared, picture).threshold == 2.0


def test_the_square_is_the_diffusion_networks_alone(
    models: Models, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Scene] = []
    method = DiffSegmenter()
    prepared = method.prepare(models, parse_classes("cat"))
    segment = type(prepared).segment

    def kept(self: object, scene: Scene, *more: object) -> Segmentation:
        seen.append(scene)
        return segment(self, scene, *more)

    monkeypatch.setattr(type(prepared), "segment", kept)
    for name in ("freeseg", "diffsegmenter"):
        segment_under(PROTOCOLS[name], prepared, picture, seed=3)
        assert np.array_equal(seen[-1].image, picture)
        assert np.array_equal(seen[-1].latent.numpy(), latent_of(models, picture, 3, square=True).numpy())


def test_class_names_of_ovdiff_go_through_its_maps() -> None:
    names = {entry: [word.name for word in class_words(entry, "ovdiff")] for entry in PROTOCOLS["ovdiff"].names}
    assert {"airplane", "table", "potted plant", "monitor"} <= set(names["voc"])
    assert {"airplane", "computer keyboard", "potted plant", "monitor"} <= set(names["context"])
    assert {"liquid tank", "window blinds", "cooker hood", "wastebin", "shop case", "clothing"} <= set(names["ade20k"])
    assert all(len(words) == len(class_words(entry, "plain")) for entry, words in names.items())


def test_the_protocol_of_diffsegmenter_gives_its_words(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, mode = PROTOCOLS["diffsegmenter"], DiffSegmenter.as_released()
    prompts = {name: protocol.fitted(mode, name).prompt for name in ("voc", "context", "coco-object")}
    assert prompts == {
        "voc": "a photograph of {}", "context": "a photography of {}", "coco-object": "a photography of {}",
    }  # fmt: skip
    assert mode.filtered and not protocol.fitted(mode, "voc").filtered  # the labels went through the filter already
    asked: list[tuple] = []
    monkeypatch.setattr(
        "ovseg.methods.diffsegmenter.method.look_as_released",
        lambda models, image, classes, *names: asked.append(names) or (),
    )
    pocket = Models("pocket", device="cpu")
    sample = Sample("a", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    for networks in (pocket, models):
        LABEL_SOURCES["released-filter"](networks, sample, parse_classes("cat"))
    assert asked == [("", ""), ("blip-large", "ViT-L-14-quickgelu/openai")]


def test_void_counts_as_background_under_freeseg(models: Models) -> None:
    labels = np.array([[0, 255], [1, 2]], np.uint8)
    sample = Sample("a", np.zeros((2, 2, 3), np.uint8), labels)
    task = Benchmark(models, FreeSegDiff(), PocketDataset("val"), 1, protocol=PROTOCOLS["freeseg"])
    assert task._truth(sample).tolist() == [[0, 0], [1, 2]]
    assert replace(task, protocol=PROTOCOLS["tcl"])._truth(sample).tolist() == labels.tolist()


def test_the_table_says_which_refinement_ran(models: Models) -> None:
    for method, said in ((FreeSegDiff(), "crf"), (replace(SMALL, refinement="pamr"), "pamr"), (DiffSegmenter(), "none")):
        settings = Benchmark(models, method, PocketDataset("val"), 1).settings()
        assert settings["refinement"] == said
        table = settings | {"count": 1, "miou": 0.5, "mean_image_miou": 0.5, "pixel_accuracy": 0.5, "iou": {}}
        assert f"refinement {said};" in as_markdown(table)


def test_evaluate_takes_what_the_protocol_owns(tmp_path: Path) -> None:
    """Also where another threshold suits the backbone."""
    assert main(["evaluate", "--device", "cpu", "--count", "1", "--protocol", "tcl", "--out", str(tmp_path)]) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["labels"] == "all" and table["settings"]["threshold"] == 0.5 and "TCL" in table["protocol"]


def test_what_is_unsure_is_background_and_small_classes_are_left_out() -> None:
    scores = np.zeros((4, 2, 10), np.float32)  # background, cat, dog, and a word that counts as background
    scores[1], scores[2, 0, 0] = 0.5, 0.9  # dog wins one pixel of twenty
    scores[3, 1] = 0.6  # the word wins a row
    rule = Sureness(10, least=0.0, least_share=0.1)
    assert rule.applied(scores, words=1).argmax(0).tolist() == [[2] + [1] * 9, [3] * 10]  # one of ten is not below a tenth
    assert replace(rule, least_share=0.11).applied(scores, words=1).argmax(0).tolist() == [[1] * 10, [3] * 10]
    # As a class of its own the word would win ten of twenty, and dog fewer than a tenth.
    assert rule.applied(scores).argmax(0).tolist() == [[1] * 10, [3] * 10]
    # Scale 10 at scores 0, 0.5, 0: exp(5) / (2 + exp(5)) = 0.987; with 0.4 for dog: exp(5) / (1 + exp(5) + exp(4)) = 0.727.
    scores = np.array([[0, 0], [0.5, 0.5], [0, 0.4]], np.float32)[:, None]
    assert Sureness(10, least=0.72).applied(scores).argmax(0).tolist() == [[1, 1]]
    assert Sureness(10, least=0.74).applied(scores).argmax(0).tolist() == [[1, 0]]
    assert PROTOCOLS["sclip"].sure == {"voc": Sureness(65, 0.1, 0.1), "coco-object": Sureness(50, 0.1, 0.0)}


def test_the_protocol_of_sclip_applies_its_rule(models: Models, picture: np.ndarray) -> None:
    protocol = replace(PROTOCOLS["sclip"], windows=(), short_side=None, sure={"voc": Sureness(0.0, least=0.9)})
    prepared = DiffSegmenter(threshold=0.1).prepare(models, parse_classes("cat, dog"))
    assert segment_under(protocol, prepared, picture, benchmark="context").label_map.any()
    assert not segment_under(protocol, prepared, picture, benchmark="voc").label_map.any()


def test_the_protocol_of_groupvit_keeps_the_likeliest_classes(models: Models, picture: np.ndarray) -> None:
    classes = parse_classes("cat, dog, car, tree")
    protocol = replace(PROTOCOLS["groupvit"], windows=(), short_side=None)
    assert protocol.likeliest == 5
    prepared = DiffSegmenter(threshold=0.1).prepare(models, classes)
    order = np.argsort(-models.clip.similarity([picture], [f"A photo of a {word.name}" for word in classes])[0].numpy())
    whole = segment_under(protocol, prepared, picture)
    assert len(np.unique(whole.label_map)) > 3  # four classes are fewer than five
    for kept in (1, 2):
        result = segment_under(replace(protocol, likeliest=kept), prepared, picture)
        assert set(np.unique(result.label_map)) - {0} <= {k + 1 for k in order[:kept]}
        rows = [0, *(order[:kept] + 1)]
        assert np.array_equal(result.scores()[rows], whole.scores()[rows])


def test_thresholds_are_swept_as_the_protocol_says(models: Models, picture: np.ndarray) -> None:
    assert PROTOCOLS["diffsegmenter"].swept == tuple(k / 100 for k in range(30, 75))
    assert PROTOCOLS["native"].swept == tuple(k / 20 for k in range(20))
    protocol = replace(PROTOCOLS["native"], swept=(0.25, 0.7))
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 1, protocol=protocol)
    sample = task.dataset.sample(0)
    own, low, high = task._predict(sample)
    for threshold, expected in ((0.25, low), (0.7, high), (0.5, own)):
        other = replace(task, method=DiffSegmenter(threshold=threshold))
        assert np.array_equal(other._predict(sample)[0], expected)
    assert (low > 0).sum() > (own > 0).sum() > (high > 0).sum()
