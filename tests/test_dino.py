"""DINO: its loss and crops, its keys against the network's own projection, and what a short training leaves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ViTModel

from ovseg.pocket.train_dino import PATCH, Student, best_mask_iou, crops, dino_loss, train_dino
from ovseg.pocket.training import Budget
from ovseg.pretrained.dino import Dino


def test_keys_are_those_of_the_last_layer_on_any_shape(dino_folder: Path) -> None:
    dino, picture = Dino(str(dino_folder)), np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    keys = dino.keys([picture, picture[:, ::-1]])
    assert keys.shape == (2, 24, 4, 6) and dino.patch == 8
    model = ViTModel.from_pretrained(dino_folder, add_pooling_layer=False).eval()
    pixels = (torch.from_numpy(picture / 255).float() - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.3, 0.4])
    with torch.no_grad():
        states = model(
            pixels.permute(2, 0, 1)[None], interpolate_pos_encoding=True, output_hidden_states=True
        ).hidden_states[-2]
        expected = model.layers[-1].attention.k_proj(model.layers[-1].layernorm_before(states))[0, 1:]
    assert torch.allclose(keys[0].flatten(1).T, expected, atol=1e-5)
    assert dino.keys([picture[:30, :45]]).shape == (1, 24, 4, 6)


def test_what_is_no_vision_transformer_is_one_sentence(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="must be on disk or on the hub, but loading it failed"):
        Dino(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"must be a vit, but .* is a clip_text_model"):
        Dino(str(tiny_folder / "text_encoder"))


def test_crops_are_seeded_and_stay_inside_the_picture() -> None:
    ramp = torch.linspace(-1, 1, 64).expand(2, 3, 64, 64)
    one, again = (crops(ramp, torch.Generator().manual_seed(3), (0.2, 0.5), 24) for _ in range(2))
    assert one.shape == (2, 3, 24, 24) and torch.equal(one, again) and one.abs().max() <= 1
    steps = one[:, 0, 12].diff(dim=1)
    assert all((row >= -1e-6).all() or (row <= 1e-6).all() for row in steps)


def test_the_loss_is_lowest_where_the_student_says_what_the_teacher_says() -> None:
    torch.manual_seed(0)
    student, teacher = Student(32), Student(32)
    large, small = [torch.randn(4, 3, 24, 24) for _ in range(2)], [torch.randn(4, 3, 16, 16)]
    before = dino_loss(student, teacher, large, small)
    assert float(student.centre.abs().sum()) > 0
    optimizer = torch.optim.Adam(student.parameters(), 1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        loss = dino_loss(student, teacher, large, small)
        loss.backward()
        optimizer.step()
    assert loss.item() < before.item()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_short_training_leaves_a_folder_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert train_dino(Budget(tmp_path, 0.01, scenes=64, size=64, tested=4))
    assert "mean IoU" in capsys.readouterr().out
    dino = Dino(str(tmp_path / "dino" / "dino"))
    assert dino.patch == PATCH and 0 <= best_mask_iou(dino, "val", 2) <= 1
