"""`grounding import`: a published checkpoint becomes a module that the method finds by its name, with the same answers."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ovseg.__main__ import main
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.models import Models
from ovseg.pretrained.published_grounding import BLOCKS, SD1_SIZE, published_shapes
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.published_grounding import ORACLES, published_features, published_weights, published_word


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "split1.pth"
    torch.save(published_weights(), path)
    return path


def imported(path: Path, *more: str) -> int:
    return main(["grounding", "import", str(path), *more])


@torch.no_grad()
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_imported_module_gives_the_published_logits(checkpoint: Path, groundings: Path, mode: str) -> None:
    assert imported(checkpoint) == 0
    with pytest.warns(UserWarning, match="published fits any backbone whose features and text have these widths"):
        loaded = Models("sd15", device="cpu").grounding("published")
    expected = load_file(ORACLES / "grounding_module.safetensors")[mode]
    own = mode == "train"  # the published code never leaves training mode
    logits = loaded.look(published_features(), published_word()[0], apart=False, own=own).logits
    large = torch.nn.functional.interpolate(logits[None], (512, 512), mode="bilinear", align_corners=False)[:, :, ::8, ::8]
    assert expected.std() > 0.1
    assert (large - expected).abs().max() < 1e-4 * expected.abs().max()


def test_it_lies_where_the_method_looks_and_says_what_it_is(
    checkpoint: Path, groundings: Path, capsys: pytest.CaptureFixture
) -> None:
    assert imported(checkpoint, "--name", "first") == 0
    folder = groundings / "sd15" / "first"
    out = capsys.readouterr().out
    assert str(folder) in out and "--set module=first" in out and "is not published" in out
    training = json.loads((folder / "config.json").read_text())["training"]
    assert training["backbone"] is None and training["source"]["file"] == "split1.pth" and "widths" in training["fits"]
    assert main(["grounding", "list", "--backbone", "sd15"]) == 0
    assert "first: backbone not known; trained on: not known\n1 modules in" in capsys.readouterr().out
    assert not Models("sd15", device="cpu").obstacle("grounding")
    assert Models("sd21", device="cpu").obstacle("grounding")  # each backbone has a folder of its own


def test_a_module_is_not_overwritten(
    checkpoint: Path, groundings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert imported(checkpoint) == 0 and imported(checkpoint) == 0
    assert "was imported before" in capsys.readouterr().out
    other = published_weights()
    other["mlp.layers.2.bias"] = other["mlp.layers.2.bias"] + 1
    torch.save(other, tmp_path / "split2.pth")
    before = (groundings / "sd15" / "published" / "model.safetensors").read_bytes()
    assert imported(tmp_path / "split2.pth") == 2
    assert "name must be new" in capsys.readouterr().err
    assert (groundings / "sd15" / "published" / "model.safetensors").read_bytes() == before
    assert imported(tmp_path / "split2.pth", "--name", "split2") == 0


def test_local_folders_of_one_name_have_folders_of_their_own(groundings: Path, tiny_folder: Path, tmp_path: Path) -> None:
    for parent in ("one", "two"):
        shutil.copytree(tiny_folder, tmp_path / parent / "my model")
    folders = {Models(str(tmp_path / parent / "my model"), device="cpu").groundings for parent in ("one", "two")}
    assert len(folders) == 2 and all(folder.parent == groundings and " " not in folder.name for folder in folders)
    for name in ("", "..", "a/b"):
        with pytest.raises(ValueError, match="must be that of a folder"):
            Models("sd15", device="cpu").new_grounding(name)


def test_the_pocket_backbone_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVSEG_GROUNDING", str(tmp_path / "modules"))  # else a wrong program writes to what ships
    assert imported(checkpoint, "--backbone", "pocket") == 2
    said = capsys.readouterr().err
    assert "must be a Stable Diffusion 1.x" in said and "got pocket" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "modules").exists()


@pytest.mark.filterwarnings("ignore:The grounding module:UserWarning")
def test_a_backbone_of_other_widths_is_refused(checkpoint: Path, groundings: Path, models: Models, picture: Tensor) -> None:
    assert imported(checkpoint) == 0
    method = GroundedDiffusion(module=str(groundings / "sd15" / "published"))
    for other in (models, Models("pocket", device="cpu")):
        with pytest.raises(ValueError, match=r"must have the channels that the module was made for.*, and the words 768"):
            method.segment(other, from_image(other, picture), parse_classes("cat"))
    # Stable Diffusion 2 has the features of 1, but another text encoder.
    loaded = models.grounding(method.module)
    with pytest.raises(ValueError, match=r"and the words 768, but the backbone gives .* and 1024"):
        loaded.look(published_features(), torch.zeros(1, 1024), apart=False)


def _without(weights: dict[str, Tensor]) -> object:
    del weights["to_q.weight"]
    return weights


def _with(weights: dict[str, Tensor]) -> object:
    return weights | {"extra": torch.zeros(1)}


def _of_another_shape(weights: dict[str, Tensor]) -> object:
    return weights | {"to_q.weight": torch.zeros(512, 1024)}


def _not_finite(weights: dict[str, Tensor]) -> object:
    return weights | {"mlp.layers.2.bias": torch.full((240,), torch.nan)}


@pytest.mark.parametrize(
    "change, message",
    [
        (_without, "lacks to_q.weight (1 are missing, 0 are unknown)"),
        (_with, "has extra (0 are missing, 1 are unknown)"),
        (_of_another_shape, "to_q.weight must have the shape (512, 768), but it has (512, 1024)"),
        (_not_finite, "mlp.layers.2.bias must be finite"),
        (lambda weights: list(weights.values()), "must be a plain table of names and tensors"),
        (lambda weights: {"state_dict": weights}, "must be a plain table of names and tensors"),
    ],
)
def test_what_is_no_published_checkpoint_is_refused(
    change: Callable[[dict[str, Tensor]], object],
    message: str,
    groundings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    torch.save(change(published_weights()), tmp_path / "x.pth")
    assert imported(tmp_path / "x.pth") == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert not groundings.exists()


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(groundings: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"to_q.weight": Harmful(tmp_path / "harm")}, tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    (tmp_path / "z.pth").write_bytes(b"no checkpoint")
    (tmp_path / "empty.pth").touch()
    for name in ("x.pth", "y.pth", "z.pth", "empty.pth"):
        assert imported(tmp_path / name) == 2
        said = capsys.readouterr().err
        assert f"{name} must be a file of tensors that torch.save wrote" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "harm").exists()
    assert imported(tmp_path / "none.pth") == 2 and "none.pth is none" in capsys.readouterr().err


def test_the_shapes_are_those_of_the_published_checkpoints() -> None:
    published = json.loads((ORACLES / "grounding_module_keys.json").read_text())
    assert published_shapes() == {name: tuple(shape) for name, shape in published.items()}
    assert {stride: 2 * sum(blocks) for stride, blocks in BLOCKS.items()} == dict(SD1_SIZE.channels)
