"""The ablation of parts: what it measures is what a reading by itself gives, and one picture shows it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovseg.__main__ import main
from ovseg.evaluation import parts
from ovseg.evaluation.datasets import POCKET
from ovseg.evaluation.parts import PLAIN, THRESHOLDS, PartsTable, Reading, parts_plot, readings
from ovseg.maths.overlap import confusion
from ovseg.methods import DiffSegmenter, suited_to
from ovseg.models import Models
from ovseg.pocket.world import LABELS, THINGS
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes

FEW = ("prompt: all words, and words that are no class", "twin: mirrored", "scale content, prompt others, background offset")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three readings beside the plain one."""
    monkeypatch.setattr(
        parts, "readings", lambda checkpoint: {k: v for k, v in ALL(checkpoint).items() if k in (PLAIN, *FEW)}
    )


ALL = readings


def test_the_plain_reading_counts_as_the_method_by_itself(few: None, tmp_path: Path) -> None:
    """At each threshold, of the shipped network: the plain reading is DiffSegmenter as it suits it."""
    pocket, dataset = Models("pocket", device="cpu"), POCKET["pocket-val"]
    table = PartsTable(pocket, dataset, 2, (3,))
    (row, *others) = table.run(tmp_path)
    sample = dataset.sample(0)
    words = [LABELS[k - 1] for k in np.unique(sample.labels) if k]
    method = suited_to(pocket, DiffSegmenter)
    result = method.segment(pocket, from_image(pocket, sample.image, seed=3), parse_classes(", ".join(words)))
    label_of = np.array([0, *(THINGS.index(word) + 1 for word in words)], np.uint8)
    with np.load(tmp_path / "seed-3" / "000000.npz") as file:
        counts = np.zeros((len(THRESHOLDS["threshold"]), 25, 25), np.int64)
        counts.reshape(-1)[file[f"{PLAIN} places"]] = file[f"{PLAIN} counts"]
    for threshold, found in zip(THRESHOLDS["threshold"], counts, strict=True):
        expected = confusion(sample.labels, label_of[result.with_threshold(threshold).label_map], 25)
        assert np.abs(found - expected).sum() <= 8  # of 16384 pixels; rounding at the threshold
    assert row["what"] == PLAIN and row["change"] == 0 and [other["what"] for other in others] == list(FEW)
    assert len(json.loads((tmp_path / "parts.json").read_text())) == 4
    # What is there is not measured again, and belongs to these readings alone.
    assert PartsTable(pocket, dataset, 2, (3,)).run(tmp_path) == [row, *others]


def test_every_reading_differs_from_the_plain_one_in_what_it_names() -> None:
    found = readings(Models("pocket").checkpoint)
    plain = found[PLAIN]
    assert plain == Reading("each", plain.recipe) and len(found) == 17 + 12 + 21
    for name, one in list(found.items())[1:17]:
        part, changed = name.partition(":")[0], one.recipe != plain.recipe
        assert changed == (part not in ("prompt", "twin")) and (one.sentences != "each") == (part in ("prompt", "twin"))
    assert all(replace(one.recipe, threshold=0.5).background in THRESHOLDS for one in found.values())


def test_one_picture_shows_what_changes(tmp_path: Path, few: None, tiny_folder: Path) -> None:
    asked = ["ablate", "--parts", "--backbone", str(tiny_folder), "--device", "cpu", "--count", "2", "--seeds", "2"]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    drawn, rows = (tmp_path / "parts.svg").read_text(), json.loads((tmp_path / "parts.json").read_text())
    assert drawn.count("<rect") == 1 + 2 and rows[0]["seeds"] == 2  # two stand alone; the third is of another table
    values = re.findall(r">([+-]\d+\.\d)<", drawn)
    assert values == [f"{100 * row['change']:+.1f}" for row in rows[1:3]]
    assert "| scale x prompt x background |" in (tmp_path / "parts.md").read_text()
    with pytest.raises(ValueError, match="background is scored, but in pocket-val-stuff it is not"):
        PartsTable(Models(str(tiny_folder), device="cpu"), POCKET["pocket-val-stuff"], 2).run(tmp_path)
    with pytest.raises(ValueError, match="half of the pictures, of which there must be 2, but got 1"):
        PartsTable(Models(str(tiny_folder), device="cpu"), POCKET["pocket-val"], 1).run(tmp_path)
    assert "+" in parts_plot("t", [*rows, {**rows[1], "change": 0.2}])
