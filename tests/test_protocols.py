"""The two protocols of Grounded Diffusion: masks of generated pictures, and students of synthetic data sets."""

import json
from pathlib import Path

import numpy as np
import pytest

from ovseg.factory.grounded_generation import FIRST_SEED, GROUPS, GroundedGeneration
from ovseg.factory.grounded_generation import as_markdown as generation_table
from ovseg.factory.splits import find_split
from ovseg.factory.synthesize import Synthesis, prompt_path
from ovseg.factory.zero_shot import STUDENTS, ZeroShot, numbers_of, synthetic_sets
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.models import Models
from ovseg.pocket.training import Budget
from ovseg.pocket.world import THINGS
from ovseg.pretrained.detector import Detector, Instance


class LeftHalves(Detector):
    """Finds these things in the left half of every picture, whatever it shows."""

    def __init__(self, *things: str) -> None:
        self.things = things

    labels = property(lambda self: self.things)

    def instances(self, image: np.ndarray) -> tuple[Instance, ...]:
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2] = True
        return tuple(Instance(thing, 0.9, left) for thing in self.things)


def test_prompts_have_so_many_seen_and_unseen_classes(with_clip: Models, tmp_path: Path) -> None:
    judges = {"all": LeftHalves(*THINGS), "seen": LeftHalves(*find_split("S1").seen)}
    task = GroundedGeneration(with_clip, GroundedDiffusion(), "S1", judges, with_clip.checkpoint.sampling(), count=2)
    table = task.run(tmp_path)
    assert len(table["rows"]) == len(GROUPS) * 2 * 2 and {row["group"] for row in table["rows"]} == set(GROUPS)
    for row in table["rows"]:
        known, hidden = GROUPS[row["group"]]
        found_hidden = hidden if row["judge"] == "all" else 0
        # A picture counts if the judge finds all objects of its prompt; objects are listed wherever they are found.
        assert row["counted"] == (0 if found_hidden < hidden else 2)
        assert (len(row["seen"]), len(row["unseen"])) == (2 * known, 2 * found_hidden)
        assert (row["miou"] is None) == (row["counted"] == 0)
        if row["counted"]:
            assert row["miou"] == pytest.approx(np.mean(row["seen"] + row["unseen"]))
    pictures = [path.stem.rpartition("-") for path in (tmp_path / "pictures").glob("*.npz")]
    assert len(pictures) == 2 * len(GROUPS) == len({seed for *_, seed in pictures})
    assert all(int(seed) >= FIRST_SEED for *_, seed in pictures)
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()}
    assert task.run(tmp_path) == table
    assert written == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "pictures").iterdir()}


def test_the_baseline_takes_what_is_near_the_highest_attention(with_clip: Models, tmp_path: Path) -> None:
    task = GroundedGeneration(
        with_clip, GroundedDiffusion(), "S1", {"judge": LeftHalves(*THINGS)}, with_clip.checkpoint.sampling(), 1
    )
    rows = [row for row in task.run(tmp_path)["rows"] if row["masks"] == "cross-attention"]
    for row in rows:
        own = [path for path in (tmp_path / "pictures").glob("*.npz") if row["group"] == group_of(path)]
        with np.load(own[0]) as kept:
            attention, width = kept["attribution"], kept["image"].shape[1]
        stretched = (attention - attention.min((1, 2), keepdims=True)) / np.ptp(attention, (1, 2), keepdims=True)
        left = np.arange(width) < width // 2
        expected = []
        for heat in stretched:
            # At the attention's own size: half the picture's columns are half of its own.
            likely = heat >= 0.4
            inside = np.repeat(left[None, :: width // heat.shape[1]], len(heat), 0)
            expected.append((likely & inside).sum() / (likely | inside).sum())
        assert row["miou"] == pytest.approx(np.mean(expected), abs=0.06)


def group_of(path: Path) -> str:
    """The group of prompts that a picture of the test belongs to, by its seed."""
    return list(GROUPS)[(int(path.stem.rpartition("-")[2]) - 1_000_000) // 1000]


def test_the_table_says_how_many_pictures_count() -> None:
    row = {"masks": "m", "judge": "j", "miou": 0.5, "counted": 3, "seen": [0.5, 0.7], "unseen": []}
    rows = [row | {"group": group} for group in GROUPS]
    rows[1] |= {"miou": None, "counted": 0, "seen": [], "unseen": [0.2]}
    text = generation_table({"split": "S1", "pictures": 4, "rows": rows})
    assert (
        text.splitlines()[-1]
        == "| m | j | 50.0% of 3 | - | 50.0% of 3 | 50.0% of 3 | 50.0% of 3 | 60.0% of 8 | 20.0% of 1 |"
    )


@pytest.fixture(scope="module")
def synthetic(with_clip: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic set of eight pictures whose masks cover everything."""
    out = tmp_path_factory.mktemp("synthetic")
    Synthesis(with_clip, GroundedDiffusion(threshold=0.0), ("dog", "cat"), 8, with_clip.checkpoint.sampling(), seed=2).run(
        out
    )
    return out


def test_labels_of_a_set_become_those_of_the_world(synthetic: Path) -> None:
    one, two = synthetic_sets(synthetic)
    words = [json.loads(prompt_path(synthetic, number).read_text())["words"] for number in range(8)]
    assert len(one) == sum(len(w) == 1 for w in words) and len(two) == sum(len(w) == 2 for w in words)
    for labels, (word,) in zip(one.labels, [w for w in words if len(w) == 1], strict=True):
        assert set(np.unique(labels)) == {THINGS.index(word) + 1}
    assert set(np.unique(two.labels)) <= {THINGS.index(word) + 1 for word in ("cat", "dog")}
    assert numbers_of(("tv", "airplane")).tolist() == [0, THINGS.index("tv") + 1, 1]


@pytest.mark.slow
def test_five_students_are_trained_and_tested(synthetic: Path, tmp_path: Path) -> None:
    task = ZeroShot("S1", synthetic, Budget(tmp_path / "root", 0.01, scenes=24, tested=6))
    table = task.run(tmp_path / "out")
    one, two = (len(part) for part in synthetic_sets(synthetic))
    counts = {row["student"]: row["pictures"] for row in table["rows"]}
    assert list(counts) == list(STUDENTS)
    real = counts["real seen alone"]
    assert 0 < real < 24 and list(counts.values()) == [one, two, one + two, one + two + real, real]
    parts = task._sets()["real"]
    assert {THINGS[k - 1] for k in np.unique(parts.labels) if k} <= set(find_split("S1").seen)
    assert not {THINGS[k - 1] for k in np.unique(parts.labels) if k} & set(find_split("S1").unseen)
    for row in table["rows"]:
        seen, unseen = row["seen"], row["unseen"]
        assert row["harmonic_mean"] == pytest.approx(2 * seen * unseen / (seen + unseen) if seen + unseen else 0)
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert task.run(tmp_path / "out") == table
    assert trained == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
