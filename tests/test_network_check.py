"""What is checked when a network is loaded: each check passes, and fails when the network is changed."""

from pathlib import Path

import pytest
import torch

from ovseg.backbones import counting
from ovseg.backbones.base import Backbone
from ovseg.backbones.network_check import CHECKS, NetworkCheck, check_network
from ovseg.methods import METHODS, what_runs
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.models import Models
from tests.networks import with_traits
from tests.patch_transformer import load_patches


@pytest.fixture(params=["unet", "joint", "patches"])
def backbone(request: pytest.FixtureRequest, models: Models, joint_folder: Path, patches_file: Path) -> Backbone:
    if request.param == "patches":
        return load_patches(str(patches_file), "patches", "cpu", torch.float32)
    return {"unet": models, "joint": Models(str(joint_folder), device="cpu")}[request.param].backbone


def test_every_kind_of_network_passes_in_two_passes(backbone: Backbone) -> None:
    with counting() as count:
        found = check_network(backbone)
    assert found.failed == () and count.passes == 2
    assert str(found) == f"{len(CHECKS)} checks of the network passed"


def broken(models: Models, path: str, change: object) -> tuple[str, ...]:
    """What fails where a module's output is changed."""
    hook = models.backbone.network.get_submodule(path).register_forward_hook(change)
    try:
        return check_network(models.backbone).failed
    finally:
        hook.remove()


def test_what_is_wrong_is_found(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2"
    rows, outputs, order, grids, _ = CHECKS
    assert broken(models, layer, lambda _module, _inputs, output: output.roll(1, 1) * 1.1) == (outputs,)
    # States that are moved by their place in the row are not the word's alone.
    places = torch.linspace(0, 4, models.backbone.encode_text([""], [""]).embeddings.shape[1])[:, None]
    assert order in broken(models, f"{layer}.to_k", lambda _module, _inputs, output: output * (1 + places))
    from ovseg.backbones import network_check

    spread = network_check.LayerAttention.spread
    with monkeypatch.context() as patch:
        patch.setattr(network_check.LayerAttention, "spread", lambda self, maps: spread(self, maps) * 1.01)
        assert check_network(models.backbone).failed == (rows,)
    with monkeypatch.context() as patch:
        patch.setattr(network_check, "grid_at", lambda hw, stride: (hw[1] // stride, hw[0] // stride))
        assert check_network(models.backbone).failed == (grids,)


def test_what_is_not_finite_is_said(models: Models) -> None:
    with pytest.raises(ValueError, match=r"must be finite|not finite|too large"):
        broken(models, "mid_block", lambda _module, _inputs, output: output * float("nan"))


def test_it_is_not_looked_at_before_it_is_asked_for(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, good = Models(models.name, device="cpu"), NetworkCheck(())
    calls: list[Backbone] = []
    monkeypatch.setattr("ovseg.models.check_network", lambda backbone: calls.append(backbone) or good)
    _ = fresh.backbone
    assert not calls and fresh.network_check is fresh.network_check is good and len(calls) == 1


def test_which_methods_run_and_why_not_the_others(
    with_clip: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_any = [kind.title for kind in METHODS if "joint attention" not in kind.needs and not kind.yardstick]
    assert what_runs(with_clip).startswith(f"{', '.join(on_any)} can be run; not ConceptAttention: In this backbone words")
    lacking = with_traits(with_clip, grounding=str(tmp_path / "nothing"))
    monkeypatch.setattr(FreeSegDiff, "suited", classmethod(lambda _kind, _checkpoint: {"query_stride": 3}))
    said = what_runs(lacking)
    assert said.startswith("DiffSegmenter, OVDiff") and "not FreeSeg-Diff: query_stride must be one of this backbone" in said
    assert "not Grounded Diffusion: This backbone has no grounding module" in said
