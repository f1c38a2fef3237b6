"""What a method takes for inputs of some size, and how that grows: counted on tiny networks."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ovseg.__main__ import main
from ovseg.evaluation.growth import Sweep, exponent, growth_table, table_of
from ovseg.evaluation.sizes import Size, Taken, measure_making, measure_size, words_for
from ovseg.maths import flops
from ovseg.maths.flops import flop_counter, matmul_peak
from ovseg.methods import DiffSegmenter
from ovseg.methods.ovdiff.features import Extractor
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.ovdiff.random_prototypes import width_of
from ovseg.methods.ovdiff.store import store_of
from ovseg.models import Models
from ovseg.pocket.world import scene
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.plain_steps import plain_scores
from tests.self_attention import selves

OVDIFF = OVDiff(steps=1, parts=3, masks="otsu", sites="0, 3", short_side=0, windows=(), prefilter=False)


@pytest.fixture
def models(with_store: Models) -> Models:
    return with_store


def test_all_arithmetic_counts() -> None:
    query, key = torch.ones(2, 3, 5, 8), torch.ones(2, 3, 7, 8)
    with flop_counter() as count:
        F.scaled_dot_product_attention(query, key, key)
    assert count.get_total_flops() == 2 * (2 * 3 * 5 * 7 * 8) * 2  # two products, two operations for each multiply-add
    with flop_counter() as count:
        torch.ones(4, 6) @ torch.ones(6, 5)
    assert count.get_total_flops() == 2 * 4 * 6 * 5


def test_a_devices_speed_is_that_of_its_quickest_product_once_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e7 < matmul_peak(torch.device("cpu"), torch.float32) < 1e16
    seconds = iter((0.01, 4.0, 2.0, 8.0))  # the first warms up
    monkeypatch.setattr(flops, "seconds_of", lambda work, device: next(seconds))
    assert matmul_peak(torch.device("cpu"), torch.float32) == 2 * 2048**3 / 2.0


def test_diffsegmenter_takes_a_row_for_each_class(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # whatever else keeps the machine busy
    one, three = (measure_size(models, DiffSegmenter(), Size(k, 64, 32), peak=1e9) for k in (1, 3))
    assert (one.passes, one.rows, three.passes, three.rows) == (1, 1, 1, 3)
    assert one.floor == one.flops / 1e9 and 2 < three.flops / one.flops <= 3  # the picture is encoded once
    assert 1 < three.peak_bytes / one.peak_bytes <= 3
    assert list(one.stages) == ["encoding the picture", "reading the network's attention", "scoring"]
    assert 0.5 * one.seconds < sum(one.stages.values()) <= one.seconds
    less = measure_size(models, DiffSegmenter(refinements=0), Size(1, 64, 32), peak=1e9)
    places, width = 32 * 32, sum(models.backbone.width(site) for site in selves(models.backbone, 1))
    # The product with the self-attention: queries and keys made again, and two products of all places with all places.
    assert one.flops - less.flops == pytest.approx(2 * 2 * places**2 * width + 4 * places * width * 16, rel=0.01)


def test_ovdiff_compares_with_random_prototypes_of_the_right_number(models: Models) -> None:
    few, many = (measure_size(models, OVDIFF, Size(2, 64, n), peak=1e9) for n in (4, 20))
    assert few.passes == many.passes == 1 and few.size.images == 4
    image = scene("val", 0, 64).image
    found = {name: next(Extractor.of(models, OVDIFF, name).features([image], 0)) for name in OVDIFF.extractors}
    more = 2 * 2 * 16  # classes, foreground and background, pictures
    assert many.flops - few.flops == 2 * more * sum(features.numel() for features in found.values())
    (word, _), made_by = words_for(models, 2), replace(OVDIFF, images=20).made_by(models, "dino")
    kept = store_of(models).read_prototypes(word.name, "dino", made_by)
    assert kept.foreground.vectors.shape == (1 + 20 + 3, width_of(models, OVDIFF, "dino"))


def test_making_prototypes_counts_every_step(models: Models) -> None:
    made = measure_making(models, replace(OVDIFF, steps=2), Size(1, 64, 3), peak=1e9)
    assert (made.passes, made.rows) == (2 + 1, 2 * 2 * 3 + 3)  # two steps with guidance, then one look at each picture
    assert made.stages.keys() == {"image", "diffusion", "dino", "clip"}  # Otsu's thresholds take no time of their own
    assert sum(made.stages.values()) <= made.seconds


def test_words_are_different_and_enough(models: Models) -> None:
    words = words_for(models, 200)
    assert len({word.name for word in words}) == 200 and all(len(word.phrases) == 1 for word in words)
    with pytest.raises(ValueError, match="but got 1000"):
        words_for(models, 1000)


def taken(method: str, size: Size, seconds: float, peak_bytes: int) -> Taken:
    return Taken(method, size, seconds, 0.5, {"looking": seconds}, 1, size.classes, 2 * 10**9, 0.25, peak_bytes)


BASE = Size(5, 64, 32)


def test_growth_is_the_power_of_the_input() -> None:
    sweep = Sweep("pixels", BASE, (32, 64, 128))
    assert [size.side for size in sweep.sizes()] == [32, 64, 128] and {s.classes for s in sweep.sizes()} == {5}
    linear = [taken("a", size, size.side**2 / 1000, 5000) for size in sweep.sizes()]
    square = [taken("b", size, size.side**4 / 1000, size.side**3) for size in sweep.sizes()]
    assert exponent("pixels", linear, "seconds") == pytest.approx(1) and exponent("pixels", linear, "peak_bytes") == 0
    assert exponent("pixels", square, "seconds") == pytest.approx(2)
    assert exponent("pixels", square, "peak_bytes") == pytest.approx(1.5)
    rows = growth_table([("pixels", [*linear, *square])]).rows
    assert [row[0] for row in rows] == ["a", "b"] and [row[-1] for row in rows] == ["nothing", "seconds and memory"]
    assert rows[0][2] == "1024 to 16384"
    with pytest.raises(ValueError, match="needs two sizes"):
        exponent("pixels", linear[:1], "seconds")
    drawing_none = replace(linear[0], size=replace(linear[0].size, images=None))
    assert table_of(linear[:1]).rows[0][3] == 32
    (row,) = table_of([drawing_none]).rows
    assert row[:4] == ("a", 5, 32, None) and row[6:10] == (0.002, 0.25, 1.024, 4.096)


def test_the_command_measures_growth_and_writes_it(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    network = ["--backbone", str(tiny_folder), "--device", "cpu", "--methods", "diffsegmenter"]
    assert main(["timings", "--growth", *network, "--classes", "1,3", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "| diffsegmenter | classes | 1 to 3 |" in out and "| diffsegmenter | pixels |" in out and "GFLOP/s" in out
    items = json.loads((tmp_path / "out" / "sizes.json").read_text())
    assert [item["size"]["classes"] for item in items] == [1, 3, 5, 5, 5, 5]
    assert [item["size"]["side"] for item in items] == [64, 64, 32, 64, 128, 256]
    assert (tmp_path / "out" / "table.md").read_text().count("\n") > 8


@pytest.mark.slow
def test_small_networks_of_the_table_are_measured(capsys: pytest.CaptureFixture) -> None:
    options = ["--full-size", "--small", "--device", "cpu", "--methods", "diffsegmenter", "--classes", "1,2"]
    assert main(["timings", *options]) == 0
    out = capsys.readouterr().out
    assert "| diffsegmenter | 1 | 512 |" in out and "| diffsegmenter | 2 | 512 |" in out and "small" in out


def test_the_plain_steps_give_the_methods_scores(precise_models: Models) -> None:
    """What the method is compared with for its speed computes the same."""
    looked_at = from_image(precise_models, scene("val", 0, 64).image[:40], seed=3)
    prepared = DiffSegmenter().prepare(precise_models, parse_classes("cat, potted plant, sky"))
    plain = plain_scores(precise_models.backbone, looked_at, prepared.text)
    assert torch.allclose(plain.float(), torch.from_numpy(prepared.segment(looked_at).scores()[1:]), atol=1e-4)
    assert plain.std() > 0.05
