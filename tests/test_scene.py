from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.models import Models
from ovseg.pictures import read_image, resized, shrunk
from ovseg.scene import from_image, from_prompt


def test_a_picture_keeps_its_shape_and_its_latent_the_aspect(models: Models, picture: np.ndarray) -> None:
    scene = from_image(models, picture, seed=7)
    assert np.array_equal(scene.image, picture) and (scene.seed, scene.caption) == (7, "")
    assert from_image(models, picture, caption="a cat").caption == "a cat"
    y, x = scene.latent.shape[-2:]
    assert y < x and y % 8 == 0 and x % 8 == 0


def test_sampling_depends_on_the_seed(models: Models, picture: np.ndarray) -> None:
    one, other = (from_image(models, picture, seed, sample_posterior=True).latent for seed in (1, 2))
    assert not torch.equal(one, other)
    assert torch.equal(from_image(models, picture, 1).latent, from_image(models, picture, 2).latent)  # the mean is no draw


def test_a_drawn_scene_keeps_its_prompt_and_seed(models: Models) -> None:
    one, again, other = (from_prompt(models, " a cat ", seed, steps=2) for seed in (3, 3, 4))
    assert (one.caption, one.seed) == ("a cat", 3)
    assert np.array_equal(one.image, again.image) and not np.array_equal(one.image, other.image)
    plain, guided = (from_prompt(models, "a cat", 3, steps=2, guidance=g).latent for g in (1.0, 9.0))
    assert not torch.equal(plain, guided)


def test_a_picture_is_resized_to_height_and_width() -> None:
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[:, 4:] = 200
    small = resized(picture, (2, 8))
    assert small.shape == (2, 8, 3) and (small[:, :3] == 0).all() and (small[:, 5:] == 200).all()


def test_large_pictures_are_shrunk_and_others_left_alone(picture: np.ndarray) -> None:
    assert shrunk(np.zeros((30, 400, 3), np.uint8), 100).shape == (8, 100, 3)
    assert shrunk(picture, 90) is picture


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (7, 5, 3)])
def test_tiny_pictures_work(models: Models, shape: tuple[int, int, int]) -> None:
    assert torch.isfinite(from_image(models, np.zeros(shape, np.uint8)).latent).all()


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(models: Models, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(H, W, 3\), but got uint8 of shape"):
        from_image(models, image)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_files_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    name = "p.tif" if mode == "CMYK" else "p.png"
    base = (
        Image.fromarray(np.full((3, 5), 200, np.uint16)) if mode == "I;16" else Image.new("RGB", (5, 3), "red").convert(mode)
    )
    base.save(tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert pixels.shape == (3, 5, 3) and pixels.dtype == np.uint8


def test_transparency_is_laid_on_white_and_cameras_are_obeyed(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (8, 4, 3)


def test_a_file_of_which_a_part_ends_too_early_is_one_sentence(tmp_path: Path) -> None:
    Image.effect_noise((40, 40), 90).save(tmp_path / "broken.png")
    content = bytearray((tmp_path / "broken.png").read_bytes())
    where = content.index(b"IDAT") - 4
    content[where : where + 4] = (int.from_bytes(content[where : where + 4]) // 2).to_bytes(4)
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match="is not: broken PNG file"):
        read_image(tmp_path / "broken.png")
