"""Weights are known by their files or by their repository's revision, in every precision; and numbers are finite."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from ovseg.assets import ASSETS
from ovseg.backbones.weights import EARLIER_NAMES, name_of_weights, revision_of, weight_files
from ovseg.methods import suited_to
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.models import Models
from ovseg.pretrained.captioner import Captioner
from ovseg.pretrained.clip import Clip
from ovseg.pretrained.detector import load_detector
from ovseg.pretrained.dino import Dino
from tests.hub import COMMIT, fetched, use_cache

HALF = ("float32", "bfloat16", "float16")


def test_the_shipped_networks_have_the_names_that_kept_files_hold() -> None:
    models = Models("pocket", device="cpu")
    config = json.loads((ASSETS / "pocket" / "grounding" / "S1" / "config.json").read_text())
    assert models.backbone.fingerprint == config["training"]["backbone"] == "b3e63a0ca597-da58fbd40774-8a2526948a8a"
    assert (models.clip.fingerprint, models.dino.fingerprint) == ("cc88ddaf1950", "12f93e94b7f5")
    assert models.captioner().fingerprint == "59efd0f2d5a4"


def test_the_shipped_module_and_prototypes_serve_every_precision() -> None:
    made_by = []
    for dtype in HALF:
        models = Models("pocket", "cpu", dtype)
        assert models.grounding("S1").training["split"] == "S1"
        settings = suited_to(models, OVDiff)
        kinds = ("pictures", "masks", "diffusion", "dino", "clip")
        made_by.append([settings.made_by(models, kind) for kind in kinds])
    assert made_by[0] == made_by[1] == made_by[2]


def test_other_weights_have_another_name_however_little_they_differ(tmp_path: Path) -> None:
    folder = tmp_path / "dino"
    shutil.copytree(ASSETS / "pocket" / "dino", folder)
    path = folder / "model.safetensors"
    assert Dino(str(folder)).fingerprint == "12f93e94b7f5"
    tensors = load_file(path)
    name = max(tensors, key=lambda key: tensors[key].numel())
    tensors[name].view(-1)[0] += 1e-3  # nothing that a sum of three digits would show
    save_file(tensors, path, {"format": "pt"})
    changed = Dino(str(folder)).fingerprint
    assert changed not in EARLIER_NAMES.values() and changed == Dino(str(folder), dtype=torch.float16).fingerprint


def test_networks_read_from_folders_are_known_by_their_files(
    tiny_folder: Path, clip_folder: Path, captioner_folder: Path, dino_folder: Path, detector_folder: Path
) -> None:
    for kind, source in (
        (Clip, f"local-dir:{clip_folder}"), (Captioner, str(captioner_folder)), (Dino, str(dino_folder)),
    ):  # fmt: skip
        names = {kind(source, "cpu", dtype).fingerprint for dtype in (torch.float32, torch.bfloat16, torch.float16)}
        assert names == {name_of_weights(source.removeprefix("local-dir:"))}
    assert load_detector(str(detector_folder)).fingerprint == name_of_weights(detector_folder)
    parts = [name_of_weights(tiny_folder / part) for part in ("unet", "vae", "text_encoder")]
    assert {Models(str(tiny_folder), "cpu", dtype).backbone.fingerprint for dtype in HALF} == {"-".join(parts)}


def test_of_two_kinds_of_files_full_precision_and_safetensors_count(tmp_path: Path) -> None:
    names = (
        "model.fp16.safetensors", "pytorch_model.bin",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "diffusion_pytorch_model.non_ema.safetensors", "optimizer.bin", "model.safetensors.index.json",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    assert [path.name for path in weight_files(tmp_path)] == list(names[2:4])
    whole = name_of_weights(tmp_path)
    (tmp_path / names[0]).unlink()
    assert name_of_weights(tmp_path) == whole
    (tmp_path / names[3]).write_bytes(b"another")
    assert name_of_weights(tmp_path) != whole
    for name in names[2:4]:
        (tmp_path / name).unlink()
    assert [path.name for path in weight_files(tmp_path)] == ["pytorch_model.bin"]
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="must hold weights"):
        name_of_weights(tmp_path)


def test_a_repository_is_known_by_its_revision_whichever_files_are_read(
    tiny_folder: Path, dino_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, cache = tmp_path / "both", tmp_path / "cache"
    shutil.copytree(tiny_folder, both)
    halves = StableDiffusionPipeline.from_pretrained(tiny_folder, dtype=torch.float16, safety_checker=None)
    halves.save_pretrained(both, variant="fp16")
    use_cache(cache, monkeypatch)
    fetched(cache, "someone/diffusion", both)
    fetched(cache, "someone/dino", dino_folder)
    names = set()
    for dtype in ("float32", "float16"):
        models = Models("sd15", "cpu", dtype)
        models.checkpoint = replace(models.checkpoint, source="someone/diffusion")
        backbone = models.checkpoint.load("someone/diffusion", "sd15", "cpu", models.dtype)
        assert backbone.network.dtype == models.dtype
        names.add(backbone.fingerprint)
    assert names == {f"someone/diffusion@{COMMIT[:12]}"}
    assert Dino("someone/dino", dtype=torch.float16).fingerprint == f"someone/dino@{COMMIT[:12]}"
    with pytest.raises(ValueError, match="someone/else must be in the cache"):
        revision_of("someone/else")
