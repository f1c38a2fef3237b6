"""Which weights are loaded, where, and in what precision; nothing before it is asked for."""

import pickle
import re
from pathlib import Path

import pytest
import torch

from ovseg.assets import ASSETS, VARIABLES, kept_in
from ovseg.backbones import BACKBONES
from ovseg.models import Models
from ovseg.pretrained import lavis


def test_nothing_is_loaded_before_it_is_asked_for(tiny_folder: Path) -> None:
    models = Models(str(tiny_folder), device="cpu")
    assert "_backbone" not in vars(models)
    assert models.backbone is models.backbone and models.backbone.name == str(tiny_folder)


def test_another_backbone_leaves_the_other_networks_loaded(with_clip: Models) -> None:
    untrained = with_clip.backbone.untrained(0)
    other, check = with_clip.with_backbone(untrained), with_clip.network_check
    assert other.backbone is untrained and other.clip is with_clip.clip and other.checkpoint is with_clip.checkpoint
    assert other.network_check is not check


@pytest.mark.parametrize("dtype, expected", [(None, torch.float32), ("float64", torch.float64)])
def test_precision_is_that_of_the_processor_unless_given(
    tiny_folder: Path, dtype: str | None, expected: torch.dtype
) -> None:
    models = pickle.loads(pickle.dumps(Models(str(tiny_folder), "cpu", dtype)))
    assert models.dtype == expected and models.device == torch.device("cpu")
    text = models.backbone.encode_text(["a cat"], ["cat"])
    assert text.embeddings.dtype == expected


def test_a_lora_that_is_no_file_is_named() -> None:
    with pytest.raises(ValueError, match="The LoRA behind the backbone pocket must be a file, but got 'nowhere'"):
        Models("pocket+nowhere")


def test_sampling_is_the_checkpoints_unless_given() -> None:
    checkpoint = BACKBONES["pocket"]
    assert checkpoint.sampling().guidance == checkpoint.guidance == 9.0 and checkpoint.sampling().steps == checkpoint.steps
    assert checkpoint.sampling(3, 0.0, "grey") == checkpoint.sampling(steps=3, guidance=0.0, negative="grey")
    assert (checkpoint.sampling(3, 0.0).steps, checkpoint.sampling(3, 0.0).guidance) == (3, 0.0)


def test_folders_are_where_the_variables_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OVSEG_PROTOTYPES", "OVSEG_GROUNDING", "OVSEG_CUTLER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_in("OVSEG_PROTOTYPES", "prototypes") == tmp_path / "ovseg" / "prototypes"
    models = Models("pocket", device="cpu")
    assert models.groundings == ASSETS / "pocket" / "grounding"
    assert models.prototype_folders == (tmp_path / "ovseg" / "prototypes", ASSETS / "pocket" / "prototypes")
    with pytest.raises(ValueError, match="CutLER needs its folder in the variable OVSEG_CUTLER"):
        models.proposals("cutler")
    monkeypatch.setenv("OVSEG_GROUNDING", str(tmp_path / "modules"))
    monkeypatch.setenv("OVSEG_PROTOTYPES", str(tmp_path / "kept"))
    assert models.groundings == tmp_path / "modules"
    assert Models("pocket", device="cpu").prototype_folders[0] == tmp_path / "kept"


def test_every_variable_of_the_package_is_in_the_table() -> None:
    root = ASSETS.parent
    code = {path: path.read_text() for path in [root / "app.py", *(root / "ovseg").rglob("*.py")]}
    named = {name for text in code.values() for name in re.findall(r"OVSEG_[A-Z_]+", text)}
    assert {name for name in named if not name.startswith("OVSEG_MAX_")} == set(VARIABLES)  # limits have their own
    direct = [str(path) for path, text in code.items() if re.search(r"environ\W+(get\W+)?OVSEG_", text)]
    assert not direct


def test_what_is_missing_is_said_before_it_is_loaded(with_clip: Models, tmp_path: Path) -> None:
    bare = Models(with_clip.name, device="cpu")
    assert bare.obstacle("clip") == ""  # a name of the hub's: it is fetched when asked for
    assert with_clip.obstacle("captioner") == "" and with_clip.captioner_obstacle() == ""
    missing = Models("pocket", device="cpu")
    missing.checkpoint = type(missing.checkpoint)("", "", "", clip=f"local-dir:{tmp_path / 'gone' / 'clip'}")
    assert missing.obstacle("clip") == "This backbone has no CLIP (gone/clip)."


def test_lavis_of_other_requirements_counts_as_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVSEG_LAVIS", str(tmp_path))
    assert not lavis.is_installed()
    (tmp_path / lavis.READY).write_text(lavis.REQUIREMENTS.read_text())
    assert lavis.is_installed() and lavis.missing() == ""
    (tmp_path / lavis.READY).write_text("salesforce-lavis==0.0.1\n")
    assert not lavis.is_installed() and "lavis install" in lavis.missing()
