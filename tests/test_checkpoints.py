"""Rows of the table of backbones, what is said before anything is fetched, weights that are changed or kept apart."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import save_file

from ovseg.__main__ import main
from ovseg.assets import SHIPPED
from ovseg.backbones import BACKBONES, Capture, find_checkpoint
from ovseg.backbones.base import Sampling
from ovseg.backbones.families import family_of
from ovseg.backbones.weights import is_cached, loading, name_of_weights, say_download
from ovseg.doctor.counted import gigabytes_of
from ovseg.doctor.pipelines import PIPELINES
from ovseg.doctor.published import Scale
from ovseg.methods import METHODS, find_method, suited_to
from ovseg.models import Models
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.hub import COMMIT, fetched, use_cache
from tests.needs import need

LARGE = {"sdxl", "sdxl-turbo", "sd-turbo", "sd3m", "bk-base"}  # of the layouts of others, or of these with more layers


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in PIPELINES])
def test_a_row_says_what_its_published_configurations_do(name: str, tmp_path: Path) -> None:
    row, published = BACKBONES[name], PIPELINES[name](Scale())
    for part, config in published.parts.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    for trait, value in family_of(published.kind).traits(tmp_path).items():
        assert getattr(row, trait) == value, trait
    assert row.gigabytes == pytest.approx(gigabytes_of(published, torch.float16), abs=0.06)


def test_every_row_of_the_hub_states_its_terms_and_its_size() -> None:
    for name, row in BACKBONES.items():
        assert row.licence and row.gigabytes > 0, name
        assert f"{row.download(torch.float16):.2g} GB" in row.knows or name in SHIPPED.split(","), name
    assert BACKBONES["sdxl"].download(torch.float32) == 2 * BACKBONES["sdxl"].gigabytes
    assert BACKBONES["klein"].download(torch.float32) == BACKBONES["klein"].gigabytes  # there is no larger file


def test_the_command_lists_them(capsys: pytest.CaptureFixture) -> None:
    assert main(["backbones"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name} ({row.title}), {row.side} px" in said for name, row in BACKBONES.items())
    assert "16.0 GB in half precision; licence: Apache-2.0" in said and "to be agreed to on its page first" in said
    assert all(kind.title in said for kind in METHODS)


def test_before_a_download_its_size_and_the_free_disk_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "not" / "there"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.warns(UserWarning, match=r"About 7 GB of a/b are fetched into .*there, which has \d+ GB free"):
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 80e9}))
        say_download("a/b@1234", 7.0)
    with pytest.raises(ValueError, match=r"About 1e\+02 GB .* has 80\.0 GB free; HF_HOME"):
        say_download("a/b", 100.0)
    say_download(str(tmp_path), 100.0)  # a folder is there


def test_a_repository_behind_a_form_is_named_with_its_page() -> None:
    response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co/a/b"))

    def fetch() -> None:
        try:
            raise GatedRepoError("403", response=response)
        except GatedRepoError as error:
            raise OSError("You are trying to access a gated repo.") from error

    with (
        pytest.raises(ValueError, match=r"agreed to its terms on https://huggingface.co/a/b; .* HF_TOKEN"),
        loading("The backbone at a/b", "a/b@12"),
    ):
        fetch()


def test_a_pinned_revision_counts(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched(tmp_path, "someone/tiny", tiny_folder)
    use_cache(tmp_path, monkeypatch)
    assert is_cached(f"someone/tiny@{COMMIT}") and not is_cached(f"someone/tiny@{COMMIT[::-1]}")
    assert name_of_weights(f"someone/tiny@{COMMIT}") == f"someone/tiny@{COMMIT[:12]}"


def lora_of(models: Models, file: Path) -> tuple[str, torch.Tensor]:
    """A file of a LoRA for one layer: its path, and what it adds to the layer's weights."""
    path = next(site.name for site in models.backbone.sites if site.kind == "cross") + ".to_q"
    wide, high = models.backbone.network.get_submodule(path).weight.shape
    down, up = torch.randn(2, high), torch.randn(wide, 2)
    save_file({f"unet.{path}.lora_A.weight": down, f"unet.{path}.lora_B.weight": up}, file)
    return path, up @ down


def test_a_lora_changes_the_weights_and_their_name(models: Models, tmp_path: Path) -> None:
    file = tmp_path / "some-style.safetensors"
    path, change = lora_of(models, file)
    name = f"{models.name}+{file}"
    assert find_checkpoint(name).title.endswith("with some-style")
    if find_spec("peft") is None:
        with pytest.raises(ValueError, match="`pip install peft`"):
            _ = Models(name, "cpu").backbone
    need(find_spec("peft"), "peft", "pip install peft")
    changed = Models(name, "cpu")
    weights, before = (one.backbone.network.get_submodule(path).weight for one in (changed, models))
    assert torch.allclose(weights, before + change, atol=1e-5) and not torch.allclose(weights, before, atol=1e-2)
    assert changed.backbone.fingerprint.startswith(models.backbone.fingerprint + "-")
    assert set(changed.weight_files([])) == {"backbone", "lora"} and not changed.network_check.failed
    save_file({"unet.no.such.layer.lora_A.weight": torch.ones(2, 2)}, file)
    with pytest.raises(ValueError, match="LoRA"):
        _ = Models(name, "cpu").backbone


def test_parts_that_are_kept_apart_compute_the_same(tiny_folder: Path, models: Models) -> None:
    """On the CPU, which no user may ask for: the same hooks bring the parts to an accelerator."""
    apart = Models(str(tiny_folder), device="cpu").backbone
    apart.offload("cpu")
    for _ in range(2):
        text = apart.encode_text(["a cat"], ["cat"])
        assert torch.equal(text.embeddings, models.backbone.encode_text(["a cat"], ["cat"]).embeddings)
        latent = torch.ones(1, 4, 16, 16)
        traces = [one.trace(latent, text, 100, Capture(phrases=(1, 2)), 0) for one in (apart, models.backbone)]
        assert all(torch.equal(maps, traces[1].phrases[site]) for site, maps in traces[0].phrases.items())
    drawn = [one.generate("a cat", [1], Sampling(1, 3.0))[0] for one in (apart, models.backbone)]
    assert torch.equal(drawn[0].latent, drawn[1].latent)
    with pytest.raises(ValueError, match="needs an accelerator"):
        Models(str(tiny_folder), device="cpu", offload=True)


def test_saved_words_stand_in_for_the_text_encoder(
    tiny_folder: Path, models: Models, picture: np.ndarray, tmp_path: Path
) -> None:
    file, command = tmp_path / "words.safetensors", ["words", "save", "--classes", "cat, dog", "--methods", "diffsegmenter"]
    assert main([*command, "--backbone", str(tiny_folder), "--device", "cpu", "--out", str(file)]) == 0
    without = Models(str(tiny_folder), "cpu", words=str(file))
    assert without.backbone.pipeline.text_encoder is None and models.backbone.pipeline.text_encoder is not None
    classes, method = parse_classes("cat, dog"), suited_to(models, find_method("diffsegmenter"))
    own, given = (method.segment(each, from_image(each, picture), classes).scores() for each in (models, without))
    assert np.array_equal(own, given)
    with pytest.raises(ValueError, match="alone that were saved, but got 'a photograph of bird'"):
        method.segment(without, from_image(without, picture), parse_classes("bird"))
    with pytest.raises(ValueError, match="Drawing needs the text encoder"):
        without.backbone.generate("a cat", [0], Sampling(1, 1.0))
    with pytest.raises(ValueError, match="must be a file of"):
        _ = Models(str(tiny_folder), "cpu", words=str(tiny_folder / "unet" / "config.json")).backbone


def test_words_are_saved_of_all_methods_that_can_be_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["words", "save", "--classes", "cat, zebra", "--device", "cpu", "--out", str(tmp_path / "words.safetensors")]
    assert main(command) == 0
    assert int(re.search(r"(\d+) prompts", capsys.readouterr().out)[1]) > 5


def test_what_is_too_large_is_counted(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    command = ["doctor", "--random", "--device", "cpu", "--largest", "0.1", "--backbone"]
    assert main([*command, "bk-tiny"]) == 0
    said = capsys.readouterr().out
    assert "2.1 GB of weights in float32 are too much to be run here" in said and "unet: 323.4 M weights, 1.29 GB" in said
    assert "DiffSegmenter" in said.splitlines()[-1] and "TFLOP" in said
