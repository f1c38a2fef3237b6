import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.__main__ import main
from ovseg.pretrained.captioner import CAPTIONERS, CaptionerSpec


@pytest.fixture
def network(tiny_folder: Path) -> list[str]:
    return ["--backbone", str(tiny_folder), "--device", "cpu"]


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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["segment", "none.png", "--classes", "cat"], "none.png does not exist"),
        (["segment", "{picture}", "--classes", ","], "none was given"),
        (["segment", "{picture}", "--classes", "cat", "--method", "magic"], "method must be one of"),
        (
            ["segment", "{picture}", "--classes", "cat", "--mode", "magic"],
            "mode of DiffSegmenter must be one of suited, released, but got 'magic'",
        ),
        (["segment", "{picture}", "--classes", "cat", "--set", "timesteps"], "must be FIELD=VALUE"),
        (
            ["segment", "{picture}", "--classes", "cat", "--set", "draws=many"],
            "draws must be a whole number, but got 'many'",
        ),
        (["segment", "{picture}", "--classes", "cat", "--set", "colour=1"], "must be one of threshold"),
        (["segment", "{picture}", "--classes", "cat", "--backbone", "sd99"], "backbone must be one of"),
        (["generate", ""], "it is empty"),
        (["generate", "a cat", "--steps", "0"], "1 step or more"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, network: list[str], capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    Image.new("RGB", (20, 30)).save(tmp_path / "p.png")
    filled = [argument.format(picture=tmp_path / "p.png") for argument in arguments]
    where = [] if "--backbone" in arguments else network
    assert main([*filled, "--out", str(tmp_path / "out.png"), *where]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ovseg: ") and message in error
    assert not (tmp_path / "out.png").exists()


def test_timings_say_what_was_measured(network: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["timings", "--runs", "1", *network]) == 0
    out = capsys.readouterr().out
    assert "float32" in out and "DiffSegmenter, 5 classes (median of 1)" in out
    assert main(["timings", "--runs", "0", *network]) == 2


def test_training_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "magic", "--out", str(tmp_path)]) == 2
    assert "codec, denoiser, clip, judge, captioner, dino, detector, grounding, bundle" in capsys.readouterr().err
    assert main(["train", "denoiser", "--out", str(tmp_path)]) == 2
    assert "run `train codec` first" in capsys.readouterr().err
    assert main(["train", "bundle", "--out", str(tmp_path), "--to", str(tmp_path)]) == 2
    assert "run `train denoiser` first" in capsys.readouterr().err


def test_caption_and_lavis_say_what_is_missing(
    tmp_path: Path, network: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "p.png")
    assert main(["caption", str(tmp_path / "p.png"), "--captioner", "nonsense", *network]) == 2
    error = capsys.readouterr().err
    assert "captioner must be one of blip2, blip-large, blip-base, lavis-blip, lavis-blip2, but got 'nonsense'" in error
    monkeypatch.setenv("OVSEG_LAVIS", str(tmp_path / "nowhere"))
    assert main(["lavis", "status"]) == 0
    assert "lavis install" in capsys.readouterr().out
    assert main(["caption", str(tmp_path / "p.png"), "--captioner", "lavis-blip", *network]) == 2
    assert "LAVIS must be installed first" in capsys.readouterr().err


def test_caption_prints_the_sentence_and_its_things(
    tmp_path: Path,
    network: list[str],
    captioner_folder: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "p.png")
    monkeypatch.setitem(CAPTIONERS, "tiny", CaptionerSpec(str(captioner_folder), "random weights"))
    arguments = ["caption", str(tmp_path / "p.png"), "--captioner", "tiny", "--prefix", "a photo of a brown dog and"]
    assert main([*arguments, *network]) == 0
    sentence, things = capsys.readouterr().out.splitlines()
    assert sentence.startswith("a photo of a brown dog and") and things.startswith("things: brown dog")
