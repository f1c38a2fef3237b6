"""The pocket bundle's card and the tables of variants, on the tiny pipeline."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.__main__ import main
from ovseg.assets import ASSETS
from ovseg.evaluation import pocket_report
from ovseg.evaluation.ablations import AblationTable
from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.datasets import PocketDataset
from ovseg.evaluation.labels import by_clip
from ovseg.evaluation.pocket_report import PocketReport
from ovseg.files import as_json, write_whole
from ovseg.methods import DiffSegmenter
from ovseg.models import Models
from ovseg.pocket.train_dino import best_mask_iou
from ovseg.pocket.train_judge import build_judge
from ovseg.progress import silent
from tests.networks import with_traits


def test_the_clip_filter_keeps_what_comes_near_the_best(with_clip: Models) -> None:
    dataset = PocketDataset("val")
    sample, classes = dataset.sample(0), dataset.classes()
    cosines = with_clip.clip.similarity([sample.image], [f"A photo of a {word.name}" for word in classes])[0].numpy()
    kept = by_clip(with_clip, sample, classes)
    assert int(cosines.argmax()) in kept
    assert kept == [k for k, value in enumerate(cosines) if value >= 0.97 * cosines.max()]
    assert Benchmark(with_clip, DiffSegmenter(), dataset, 1, labels="clip").settings()["labels"] == "clip, ratio 0.97"


def test_the_card_holds_every_figure(with_clip: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket_report, "CODEC_SCENES", 4)
    monkeypatch.setattr(pocket_report, "MASKCUT_SCENES", 2)
    build_judge().save_pretrained(tmp_path / "judge")
    models = with_traits(with_clip, dino="/nowhere/dino", steps=1)  # OVDiff would draw 768 pictures first
    report = PocketReport(models, tmp_path / "card", per_thing=1, pairs=2, count=1, judge=tmp_path / "judge")
    rows = report.run()
    generated = sorted((tmp_path / "card" / "generated").glob("*.png"))
    assert len(generated) == 24 + 2 and np.asarray(Image.open(generated[0])).shape == (64, 64, 3)
    what = " ".join(row.what for row in rows)
    for part in ("PSNR", "real val scenes", "X found", "both found", "mean average precision", "F1", "All background"):
        assert part in what
    assert json.loads((tmp_path / "card" / "card.json").read_text())[0]["aim"] == "27 dB"
    assert (tmp_path / "card" / "card.md").read_text().count("\n") == len(rows) + 2
    assert Image.open(tmp_path / "card" / "samples.jpg").height > 4 * 128  # the last of four rows: two things each
    times = [path.stat().st_mtime_ns for path in generated]
    assert report.run() == rows and [path.stat().st_mtime_ns for path in generated] == times
    without = with_traits(models, clip="local-dir:/nowhere", captioner="/nowhere/captioner")
    told = {row.what: row.value for row in replace(report, models=without).run()}
    assert list(told.values()).count("not in this bundle") == 3 and not any("CLIP score" in what for what in told)
    *_, masks = replace(report, models=with_clip)._networks(silent)
    assert masks.value == f"{best_mask_iou(with_clip.dino, 'val', 2):.2f}" and "2 val scenes" in masks.what
    (tmp_path / "mine").symlink_to(ASSETS / "sprites")
    other = tmp_path / "other" / "card.json"
    write_whole(other, as_json([{"what": rows[0].what, "value": "1.0 dB", "aim": ""}]))
    both = replace(report, models=without, sprites=tmp_path / "mine", beside=other)
    assert "DiffSegmenter on pocket-val of mine, 1 scenes" in " ".join(row.what for row in both.run())
    lines = (tmp_path / "card" / "card.md").read_text().splitlines()
    assert lines[0] == f"| figure | {models.short_name} | other | aim |"
    assert lines[2] == f"| {rows[0].what} | {rows[0].value} | 1.0 dB | 27 dB |"
    with pytest.raises(ValueError, match="1 or more, but got 1, 0 and 1"):
        replace(report, pairs=0).run()


def test_every_variant_has_its_row_and_its_command(with_clip: Models, tmp_path: Path) -> None:
    task = Benchmark(with_clip, DiffSegmenter(), PocketDataset("val"), 1)
    told = []
    rows = AblationTable(task, DiffSegmenter).run(tmp_path, lambda stage, share: told.append(share))
    assert [row["what"] for row in rows] == [variant.what for variant in DiffSegmenter.ablations]
    assert told == sorted(told) and told[-1] < 1
    by_what = {row["what"]: row for row in rows}
    assert "diffsegmenter:timesteps=50 " in by_what["t = 50"]["command"]
    assert "--labels clip " in by_what["classes by the CLIP filter"]["command"]
    # The command gives the row: taken literally, with the tiny backbone in the place of the shipped one.
    command = by_what["stride 2 alone"]["command"].split()[3:-1]
    assert main([*command, str(tmp_path / "again"), "--backbone", with_clip.name, "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "again" / "table.json").read_text())["miou"] == by_what["stride 2 alone"]["miou"]
    assert "| t = 500 |" in (tmp_path / "ablation.md").read_text()


def test_a_variant_whose_network_is_missing_says_so(with_clip: Models, tmp_path: Path) -> None:
    models = with_traits(with_clip, captioner="/nowhere/captioner")
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 1)
    with pytest.raises(ValueError, match="rows must be some of the settings that suit"):
        AblationTable(task, DiffSegmenter, ("nothing",)).run(tmp_path)
    rows = AblationTable(task, DiffSegmenter, ("stride 2 alone", "t = 5")).run(tmp_path)
    assert [row["what"] for row in rows] == ["stride 2 alone", "t = 50", "t = 500"]
    rows = AblationTable(task, DiffSegmenter, ("caption", "t = 50")).run(tmp_path)
    missing = [row["what"] for row in rows if "obstacle" in row]
    assert missing == ["classes by the CLIP filter or the caption", "the prompt continued by the captioner, as in the paper"]
    assert "not run: This backbone has no captioner (nowhere/captioner)." in (tmp_path / "ablation.md").read_text()
