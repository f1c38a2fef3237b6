"""`evaluate --from`: masks of any program, counted as those of a method are."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.__main__ import main
from ovseg.evaluation.datasets import POCKET
from ovseg.maths.overlap import confusion, dataset_miou, image_miou


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
