"""`doctor` says what is there, loads and runs everything, and does not overlook what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.__main__ import main
from ovseg.commands import doctor
from ovseg.doctor import pipelines
from ovseg.doctor.checks import Finding, check_methods, check_networks, peak_memory, problem_of, summary, where
from ovseg.methods import METHODS
from ovseg.models import Models
from ovseg.types import Segmentation
from ovseg.words.classes import parse_classes
from tests.hub import COMMIT, fetched, use_cache
from tests.networks import with_traits


@pytest.mark.timeout(300)
def test_it_passes_on_random_weights_of_published_formats(
    picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(picture).save(tmp_path / "small.png")
    monkeypatch.setattr(doctor, "PICTURE", tmp_path / "small.png")
    monkeypatch.setattr(doctor, "CLASSES", "cat")  # each word takes its time, as each pixel does
    unet = pipelines._unet
    monkeypatch.setattr(pipelines, "_unet", lambda *asked: unet(*asked) | {"sample_size": 32})
    assert main(["doctor", "--backbone", "sd21", "--random", "--small", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    states = {line[10:32].strip(): line.split()[0] for line in lines if line.startswith(("ok ", "FAILED", "not there"))}
    names = ("backbone", "clip", "dino", "captioner", *(kind.title for kind in METHODS))
    absent = ("ConceptAttention", *(kind.title for kind in METHODS if kind.yardstick))
    assert states == dict.fromkeys(names, "ok") | dict.fromkeys(absent, "not")  # not there
    assert "(sd21, random, small)" in lines[-1] and f"{len(names) - 4} ok, 4 not there, 0 failed" in lines[-1]
    assert "GiB resident" in lines[-1] and f"torch {torch.__version__.partition('+')[0]}" in lines[-1]


def test_every_network_of_a_board_is_checked(
    tiny_folder: Path, joint_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    failing = {"pipeline": [Finding("clip", "FAILED", "no clip")], "joint": [Finding("clip", "ok", "there")]}
    monkeypatch.setattr(doctor, "check_networks", lambda own, *_: failing[own.short_name])
    monkeypatch.setattr(doctor, "check_methods", lambda *_: [])
    assert main(["doctor", "--device", "cpu", "--backbone", f"{tiny_folder},{joint_folder}"]) == 2
    said, error = capsys.readouterr()
    assert "1 ok, 0 not there, 0 failed" in said.splitlines()[-1] and "clip: no clip" in said
    assert error.splitlines()[-1].endswith("but these did not: clip.")


def test_what_is_wrong_is_found(with_clip: Models, picture: np.ndarray, tmp_path: Path) -> None:
    models = with_traits(with_clip, dino=str(tmp_path), grounding=str(tmp_path / "nothing"))
    models._backbone = with_clip.backbone
    networks = {finding.name: finding for finding in check_networks(models, picture)}
    assert [networks[name].state for name in ("backbone", "clip", "captioner")] == ["ok"] * 3
    assert networks["dino"].state == "FAILED" and "Unrecognized model" in networks["dino"].said
    methods = {finding.name: finding for finding in check_methods(models, picture, parse_classes("cat"))}
    assert methods["DiffSegmenter"].state == "ok" and "cat" in methods["DiffSegmenter"].said
    assert methods["Grounded Diffusion"].state == "not there" and methods["OVDiff"].state == "FAILED"
    line = summary(models, [*networks.values(), *methods.values()], 12.4)
    assert "2 failed" in line and "5 not there" in line and "OVDiff: " in line and "\n" not in line


def test_numbers_that_are_none_and_empty_masks_are_problems(picture: np.ndarray) -> None:
    def scored(value: float) -> Segmentation:
        return Segmentation.from_scores(picture, ("cat",), torch.full((1, 60, 90), value), 0.5)

    assert problem_of(scored(0.9)) == ""
    assert "every pixel is background" in problem_of(scored(0.1))
    assert "must be finite" in problem_of(scored(float("nan")))


def test_a_failed_check_is_the_commands_failure(
    with_clip: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    models = with_traits(with_clip, clip=f"local-dir:{tmp_path}")
    monkeypatch.setattr(doctor, "check_methods", lambda *_: iter([Finding("a method", "ok", "")]))
    with pytest.raises(ValueError, match="All checks must pass, but these did not: clip"):
        doctor.all_pass(doctor.examine(models, "", "", 0.0))
    out = capsys.readouterr().out
    assert "1 failed" in out.splitlines()[-1] and "clip: ValueError" in out.splitlines()[-1]
    assert main(["doctor", "--random", "--backbone", "pocket"]) == 2


def test_it_says_which_weights_lie_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dino_folder: Path) -> None:
    use_cache(tmp_path, monkeypatch)
    fetched(tmp_path, "facebook/dino-vitb8", dino_folder)
    assert where("facebook/dino-vitb8") == f"in the cache of the hub, revision {COMMIT[:12]}"
    assert where("someone/else") == "fetched when it is first used"
    assert where(f"local-dir:{dino_folder}") == "a folder on this machine"


def test_memory_is_in_gibibytes() -> None:
    used = float(peak_memory(torch.device("cpu")).split()[0])
    assert 0.1 < used < 64
