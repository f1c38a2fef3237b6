"""The benchmarks' official layouts, on tiny folders written here; and masks of any program (`evaluate --from`)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.__main__ import main
from ovseg.evaluation.baselines import OneClass
from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.datasets import LAYOUTS, POCKET, FolderDataset, find_dataset
from ovseg.evaluation.names import class_words, name_lists
from ovseg.evaluation.protocols import PROTOCOLS
from ovseg.maths.overlap import confusion, dataset_miou, image_miou
from ovseg.methods import DiffSegmenter
from ovseg.models import Models
from ovseg.types import Scene
from ovseg.words.classes import ClassWord

SIZES = {"voc-21": 20, "voc-20": 20, "context-60": 59, "context-59": 59, "coco-object": 80, "coco-stuff": 171, "ade20k": 150}
FOLDERS = {  # of pictures and masks, and the list, for the reported split
    "voc": ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/val.txt"),
    "context": ("JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt"),
    "coco": ("images/val2017", "annotations/val2017", None),
    "ade20k": ("images/validation", "annotations/validation", None),
}
# Mask values of a picture of 4 x 6 pixels by rows, and the labels that they mean.
VALUES = {
    "voc-21": ([0, 1, 20, 255], [0, 1, 20, 255]),
    "voc-20": ([0, 1, 20, 255], [0, 1, 20, 255]),
    "context-60": ([0, 1, 59, 59], [0, 1, 59, 59]),
    "context-59": ([0, 1, 59, 59], [0, 1, 59, 59]),
    "coco-object": ([0, 89, 100, 255], [1, 80, 0, 0]),  # person, toothbrush, some stuff
    "coco-stuff": ([0, 89, 91, 181], [1, 80, 81, 171]),  # person, toothbrush, banner, wood
    "ade20k": ([0, 1, 150, 150], [0, 1, 150, 150]),
}


def write(root: Path, benchmark: str, names: tuple[str, ...] = ("first", "second")) -> Path:
    images, masks, listing = FOLDERS[benchmark.split("-")[0]]
    for folder in (images, masks):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = np.array(VALUES[benchmark][0], np.uint8)[:, None] * np.ones((1, 6), np.uint8)
    for name in names:
        Image.new("RGB", (6, 4), "teal").save(root / images / f"{name}.jpg")
        mask = Image.fromarray(rows)
        if benchmark.startswith("voc"):
            mask = mask.convert("P")
            mask.putdata(rows.ravel().tolist())
        mask.save(root / masks / f"{name}.png")
    if listing:
        (root / listing).parent.mkdir(parents=True, exist_ok=True)
        (root / listing).write_text("".join(f"{name}\n" for name in names))
    return root


@pytest.mark.parametrize("benchmark", LAYOUTS)
def test_official_layouts(benchmark: str, tmp_path: Path) -> None:
    dataset = find_dataset(benchmark, write(tmp_path, benchmark))
    assert dataset.length == 2 and len(dataset.classes("plain")) == SIZES[benchmark]
    sample = dataset.sample(1)
    assert sample.name == "second" and sample.image.shape == (4, 6, 3)
    assert sample.labels.tolist() == [[label] * 6 for label in VALUES[benchmark][1]]


def test_coco_names_belong_to_their_numbers(tmp_path: Path) -> None:
    words = class_words("coco-stuff", "plain")
    assert [words[k - 1].name for k in VALUES["coco-stuff"][1]] == ["person", "toothbrush", "banner", "wood"]
    folder = write(tmp_path, "coco-stuff")
    Image.new("L", (6, 4)).save(folder / "annotations" / "val2017" / "first_labelTrainIds.png")
    assert find_dataset("coco-stuff", folder).samples == ("first", "second")


@pytest.mark.parametrize(
    ("dataset", "variants"), [("voc", 6), ("context", 4), ("coco-object", 4), ("coco-stuff", 2), ("ade20k", 3)]
)
def test_every_variant_names_every_class(dataset: str, variants: int) -> None:
    lists = name_lists()[dataset]
    sizes = {len(class_words(dataset, variant)) for variant in lists}
    assert len(lists) == variants and len(sizes) == 1
    with pytest.raises(ValueError, match=f"names for {dataset} must be one of plain"):
        class_words(dataset, "nonsense")
    for protocol in PROTOCOLS.values():
        assert (protocol.names or {}).get(dataset, "plain") in lists


def test_wrong_folders_are_one_sentence(tmp_path: Path) -> None:
    def say(benchmark: str, folder: Path, index: int = 0) -> str:
        with pytest.raises(ValueError) as caught:
            FolderDataset(benchmark, folder, LAYOUTS[benchmark].splits[0]).sample(index)
        return str(caught.value)

    folder = write(tmp_path / "voc", "voc-21", ("a", "b", "c", "d", "e"))
    masks = folder / "SegmentationClass"
    (masks / "a.png").unlink()
    Image.new("L", (6, 5)).save(masks / "b.png")
    Image.new("L", (6, 4), 21).save(masks / "c.png")
    Image.new("RGB", (6, 4)).save(masks / "d.png")
    (folder / "JPEGImages" / "e.jpg").unlink()
    assert say("voc-21", folder, 0) == f"The mask of a must be {masks / 'a.png'}, but there is no such file."
    assert say("voc-21", folder, 1) == f"The mask {masks / 'b.png'} must be 6 x 4 pixels like its picture, but is 6 x 5."
    assert say("voc-21", folder, 2) == f"The mask {masks / 'c.png'} must hold labels of voc-21 only, but holds 21."
    assert "one number of 8 bits a pixel, but its mode is RGB" in say("voc-21", folder, 3)
    assert say("voc-21", folder, 4).endswith("e.jpg, but there is no such file.")
    (masks / "a.png").write_text("no picture")
    assert "must be an image file that Pillow reads, but it is not" in say("voc-21", folder, 0)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    assert "must hold pictures, but" in say("voc-21", folder)
    assert "list of context-60 val must be" in say("context-60", folder)
    assert "ade20k validation must hold pictures" in say("ade20k", tmp_path)
    with pytest.raises(ValueError, match="split of ade20k must be one of validation, training, but got 'val'"):
        find_dataset("ade20k", tmp_path, "val")


def test_ignored_background_cannot_be_wrong(models: Models, tmp_path: Path) -> None:
    folder = write(tmp_path, "voc-20")
    scored, ignored = (
        Benchmark(models, DiffSegmenter(), find_dataset(name, folder)).run(tmp_path / name) for name in ("voc-21", "voc-20")
    )
    assert set(scored["iou"]) >= {"background", "aeroplane", "tvmonitor"} and "background" not in ignored["iou"]
    assert "miou_at_threshold" in scored and "miou_at_threshold" not in ignored
    assert ignored["count"] == scored["count"] == 2


def test_protocols_change_names_and_add_background_words(models: Models, tmp_path: Path) -> None:
    folder = write(tmp_path, "voc-21")
    small = replace(PROTOCOLS["sclip"], short_side=64, windows=())
    task = Benchmark(models, DiffSegmenter(), find_dataset("voc-21", folder), protocol=small)
    assert task.names == "sclip" and task.classes[3].name == "ship" and task.settings()["background_words"] == 26
    assert task._predict(task.dataset.sample(0))[0].max() <= 20
    ignored = Benchmark(models, DiffSegmenter(), find_dataset("voc-20", folder), protocol=PROTOCOLS["sclip"])
    assert ignored.settings()["background_words"] == 0


def test_pixels_that_are_ignored_are_not_counted(models: Models, tmp_path: Path) -> None:
    folder = write(tmp_path, "voc-20")  # a quarter each: background, aeroplane, tvmonitor, not counted
    accuracy = {
        name: Benchmark(models, OneClass(), find_dataset(name, folder)).run(tmp_path / name)["pixel_accuracy"]
        for name in ("voc-21", "voc-20")
    }
    assert accuracy == {"voc-21": pytest.approx(1 / 3), "voc-20": pytest.approx(1 / 2)}


def test_background_words_count_as_background(models: Models, tmp_path: Path) -> None:
    class LastWord(OneClass):
        """The last word is everywhere."""

        def class_weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> torch.Tensor:
            return torch.eye(len(classes))[-1]

    dataset = find_dataset("voc-21", write(tmp_path, "voc-21"))
    protocols = (replace(PROTOCOLS["sclip"], windows=(), short_side=None), PROTOCOLS["native"])
    labels = [Benchmark(models, LastWord(), dataset, protocol=p)._predict(dataset.sample(0))[0] for p in protocols]
    assert [np.unique(label_map).tolist() for label_map in labels] == [[0], [20]]


def test_evaluate_command_on_a_folder(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = write(tmp_path / "ade", "ade20k")
    arguments = ["evaluate", "--dataset", "ade20k", "--backbone", str(tiny_folder), "--device", "cpu"]
    assert main([*arguments, "--data", str(folder), "--out", str(tmp_path / "run")]) == 0
    assert "on ade20k validation, 2 pictures" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Masks of three scenes: one right, one a place to the right, one all background."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for index, change in enumerate((lambda m: m, lambda m: np.roll(m, 9, 1), np.zeros_like)):
        sample = POCKET["pocket-val"].sample(index)
        Image.fromarray(change(sample.labels)).save(masks / f"{sample.name}.png")
    return masks


def measured(folder: Path, dataset: str = "pocket-val", count: int = 3) -> int:
    out = str(folder.parent / f"out-{dataset}-{count}")
    return main(["evaluate", "--from", str(folder), "--dataset", dataset, "--count", str(count), "--out", out])


def test_masks_are_counted(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert measured(folder) == 0 and measured(folder, count=1) == 0
    table, one = (json.loads((folder.parent / f"out-pocket-val-{n}" / "table.json").read_text()) for n in (3, 1))
    truths = [POCKET["pocket-val"].sample(k).labels for k in range(3)]
    masks = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    each = [confusion(truth, mask, 25) for truth, mask in zip(truths, masks, strict=True)]
    assert table["miou"] == dataset_miou(sum(each)) < 1 == one["miou"] == one["pixel_accuracy"]
    assert table["mean_image_miou"] == pytest.approx(np.mean([image_miou(matrix) for matrix in each]))
    assert f"| {table['miou']:.1%} |" in capsys.readouterr().out


def test_bad_masks_are_one_sentence(folder: Path, capsys: pytest.CaptureFixture) -> None:
    first, second, third = sorted(folder.iterdir())
    Image.fromarray(np.full((128, 128), 25, np.uint8)).save(second)
    assert measured(folder) == 2
    assert "must hold labels of 0 to 24, but holds 25." in capsys.readouterr().err
    Image.fromarray(np.zeros((64, 128), np.uint8)).save(second)
    assert measured(folder) == 2
    assert "must have the picture's size, 128 x 128, but it is 128 x 64." in capsys.readouterr().err
    first.unlink()
    assert measured(folder, count=1) == 2 and f"must be {first}, but there is no such file" in capsys.readouterr().err
    assert third.exists()
