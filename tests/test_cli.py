import json
import re
import sys
from argparse import Namespace
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.__main__ import main
from ovseg.backbones import BACKBONES
from ovseg.commands.common import configuration_of
from ovseg.methods import METHODS, FreeSegDiff, Method, modes_of, suited_to
from ovseg.methods.settings import as_text, read_setting
from ovseg.models import Models
from ovseg.pretrained.captioner import CAPTIONERS, CaptionerSpec
from ovseg.scene import from_prompt


def test_generate_then_segment(tmp_path: Path, network: list[str], capsys: pytest.CaptureFixture) -> None:
    picture, out = tmp_path / "new" / "g.png", tmp_path / "masks"
    assert main(["generate", "a photo of a cat", "--seed", "1", "--steps", "2", "--out", str(picture), *network]) == 0
    assert Image.open(picture).size == (64, 64)
    arguments = ["segment", str(picture), "--classes", "cat|kitten, traffic light", "--out", str(out), "--attention"]
    assert main([*arguments, "--set", "timesteps=50,100", "threshold=0.4", "last_token=yes", *network]) == 0

    mask = Image.open(out / "mask.png")
    legend = json.loads((out / "legend.json").read_text())
    card = json.loads((out / "run.json").read_text())
    assert mask.mode == "P" and mask.size == (64, 64)
    assert [entry["label"] for entry in legend] == ["background", "cat", "traffic light"]
    counts = np.bincount(np.asarray(mask).ravel(), minlength=3) / 64**2
    assert [entry["share"] for entry in legend] == pytest.approx(counts.tolist(), abs=1e-6)
    colour = bytes(mask.getpalette()[3:6]).hex()
    assert legend[1]["colour"] == f"#{colour}"
    assert card["method"]["timesteps"] == [50, 100] and card["method"]["threshold"] == 0.4
    assert card["classes"] == ["cat|kitten", "traffic light"] and card["seed"] == 0
    # Two phrases of "cat" and one of "traffic light" at two noise levels.
    assert card["cost"]["passes"] == 2 and card["cost"]["rows"] == 6 and set(card["weights"]) == {"backbone"}
    assert len(list((out / "attention").glob("*.png"))) == 3 * 6  # three phrases: refined, fused, four strides
    assert re.search(r"%\s+traffic light", capsys.readouterr().out)


def test_timings_say_what_was_measured(
    with_clip: Models, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", with_clip.checkpoint)  # which draws in one step
    assert main(["timings", "--runs", "1", "--backbone", "tiny", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "float32" in out and "DiffSegmenter, 5 classes (median of 1)" in out


def test_caption_and_lavis_say_what_is_missing(
    tmp_path: Path, network: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "p.png")
    monkeypatch.setenv("OVSEG_LAVIS", str(tmp_path / "nowhere"))
    assert main(["lavis", "status"]) == 0
    can_be_had, needs = sys.version_info[:2] == (3, 11), "LAVIS needs Python 3.11"
    assert ("lavis install" if can_be_had else needs) in capsys.readouterr().out
    assert main(["caption", str(tmp_path / "p.png"), "--captioner", "lavis-blip", *network]) == 2
    assert ("LAVIS must be installed first" if can_be_had else needs) in capsys.readouterr().err


def test_caption_prints_the_sentence_and_its_things(
    tmp_path: Path, network: list[str], captioner_folder: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "p.png")
    monkeypatch.setitem(CAPTIONERS, "tiny", CaptionerSpec(str(captioner_folder), "random weights"))
    arguments = ["caption", str(tmp_path / "p.png"), "--captioner", "tiny", "--prefix", "a photo of a brown dog and"]
    assert main([*arguments, *network]) == 0
    sentence, things = capsys.readouterr().out.splitlines()
    assert sentence.startswith("a photo of a brown dog and") and things.startswith("things: brown dog")


def card_of(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


def test_segment_passes_its_options_on(tmp_path: Path, network: list[str]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    plain = ["segment", str(tmp_path / "p.png"), "--classes", "cat", *network]
    assert main([*plain, "--seed", "7", "--caption", "a cat on a sofa", "--out", str(tmp_path / "seven")]) == 0
    assert main([*plain, "--square", "--out", str(tmp_path / "square")]) == 0
    seven, square = card_of(tmp_path / "seven"), card_of(tmp_path / "square")
    assert seven["seed"] == 7 and seven["caption"] == "a cat on a sofa" and square["seed"] == 0
    assert seven["latent_hw"][0] < seven["latent_hw"][1] and square["latent_hw"][0] == square["latent_hw"][1]


def test_generate_passes_its_options_on(tmp_path: Path, network: list[str], models: Models) -> None:
    given = ["--steps", "2", "--guidance", "3", "--negative", "a dog", "--seed", "5"]
    assert main(["generate", "a cat", *given, "--out", str(tmp_path / "g.png"), *network]) == 0
    expected = from_prompt(models, "a cat", 5, steps=2, guidance=3, negative="a dog").image
    assert np.array_equal(np.asarray(Image.open(tmp_path / "g.png")), expected)
    others = [
        from_prompt(models, "a cat", 5, steps=2, guidance=3).image,
        from_prompt(models, "a cat", 0, steps=2, guidance=3, negative="a dog").image,
        from_prompt(models, "a cat", 5, steps=2, negative="a dog").image,
    ]
    assert not any(np.array_equal(expected, other) for other in others)


def test_only_present_leaves_classes_out(
    tmp_path: Path, with_clip: Models, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", replace(with_clip.checkpoint, clip_ratio=1.0))  # the best class alone
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "p.png")
    arguments = ["segment", str(tmp_path / "p.png"), "--classes", "cat, dog, bus", "--backbone", "tiny", "--device", "cpu"]
    assert main([*arguments, "--only-present", "--caption", "nothing", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    present = [line.split()[1] for line in lines if line.strip().startswith("present")]
    assert len(present) == 1 and card_of(tmp_path / "out")["classes"] == present


def test_modes_and_settings(models: Models) -> None:
    options = Namespace(method="freeseg-diff", mode="best effort", settings=["clusters=3", "adaptive=yes"])
    expected = replace(modes_of(models, FreeSegDiff)["best effort"], clusters=3, adaptive=True)
    made = configuration_of(options, options.method).build(models)
    assert made == expected != replace(FreeSegDiff(), clusters=3, adaptive=True)


def test_methods_lists_papers_and_settings(capsys: pytest.CaptureFixture) -> None:
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    for kind in METHODS:
        assert kind.name in listed and kind.paper.arxiv in listed
        assert main(["methods", kind.name]) == 0
        described = capsys.readouterr().out
        assert all(f"\n  {field.name}" in described for field in fields(kind))
    assert main(["methods", "diffsegmenter"]) == 0
    described = capsys.readouterr().out
    assert re.search(r"threshold.*: number, 0 to 1; released: 0\.5; with pocket: 0\.45\n +\S", described)
    assert re.search(r"stride_weights.*: numbers with plus signs between.*; .* with pocket: 0\.0\+1\.0\+0\.0\n", described)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_every_setting_can_be_read_as_it_is_described(kind: type[Method]) -> None:
    for method in (kind.as_released(), suited_to(Models("pocket", device="cpu"), kind)):
        for name in (field.name for field in kind.settings()):
            assert read_setting(kind, name, as_text(getattr(method, name))) == getattr(method, name)


def test_scenes_begin_where_they_are_asked_to(tmp_path: Path) -> None:
    arguments = ["scenes", "--split", "novel", "--start", "3", "--count", "2", "--size", "64", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert Image.open(tmp_path / "novel-000004.png").size == (64, 64)
    assert not (tmp_path / "novel-000002.png").exists() and not (tmp_path / "novel-000005.png").exists()
