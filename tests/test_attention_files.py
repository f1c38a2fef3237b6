"""The files of `Attention`, and the command that writes them."""

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from ovseg.__main__ import main
from ovseg.attention import Attention, Inspection, heads_of, look_inside
from ovseg.files import RunFolder
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.attention_files import Inside, arrays_of, attention_card, files_of_attention, levels_sheet
from ovseg.output.cost import Cost
from ovseg.output.files import zipped
from ovseg.pictures import read_image
from ovseg.scene import from_image, from_prompt

PROMPT, WEIGHTS = "a photo of a cat", {1: 0.2, 2: 1.0, 4: 0.0, 8: 0.5}


@pytest.fixture(scope="module")
def attention(models: Models) -> Attention:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return look_inside(models, from_image(models, image, seed=2), Inspection(PROMPT, keep="middle"), (50, 100, 600))


@pytest.fixture(scope="module")
def inside(models: Models, attention: Attention) -> Inside:
    return Inside(attention, WEIGHTS, attention_card(models, attention, Cost(1.0, 3, 3), {"self-attention at": "middle"}))


def test_every_token_has_a_map_over_the_picture(inside: Inside, attention: Attention, tmp_path: Path) -> None:
    written = RunFolder(tmp_path).write(files_of_attention(inside))
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    names = sorted(path.stem for path in (tmp_path / "tokens").iterdir())
    assert names == ["00-start", "01-a", "02-photo", "03-of", "04-a", "05-cat", "06-end", "07-padding"]
    over = np.asarray(Image.open(tmp_path / "tokens" / "05-cat.png"))
    assert np.array_equal(over, view.heat_overlay(attention.image, attention.fused(5, WEIGHTS)))
    assert np.array_equal(read_image(tmp_path / "picture.png"), attention.image)
    card = json.loads((tmp_path / "run.json").read_text())
    assert card["prompt"] == PROMPT and card["timesteps"] == [50, 100, 600] and card["seed"] == 2
    assert [layer["grid"] for layer in card["layers"]] == [list(attention.grid(site.stride)) for site in attention.cross]
    assert [entry["token"] for entry in card["tokens"]][5] == "cat" and card["cost"]["passes"] == 3
    for line in re.findall(r"^(\S+)\s{2,}", (tmp_path / "README.txt").read_text(), re.MULTILINE):
        assert (tmp_path / line).exists(), line


@pytest.mark.parametrize(("levels", "said"), [((50,), "at noise level 50, res"), ((50, 100), "at 2 noise levels, res")])
def test_a_sheet_names_its_level_or_counts_them(models: Models, levels: tuple[int, ...], said: str) -> None:
    attention = look_inside(models, from_image(models, np.zeros((64, 64, 3), np.uint8)), Inspection(PROMPT), levels)
    sheet = levels_sheet(attention, WEIGHTS)
    assert said in sheet.sentences[0] and [column[0].title for column in sheet.columns] == [f"t = {t}" for t in levels]
    drawn = levels_sheet(replace(attention, is_drawn=True), WEIGHTS).columns
    assert [column[0].title for column in drawn] == ["step 1", "step 2"][: len(levels)]


def test_the_arrays_have_named_axes_and_hold_everything(models: Models, inside: Inside, attention: Attention) -> None:
    heads = heads_of(models, attention, list(attention.cross)[2], 1)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays_of(replace(inside, heads=heads)))
    arrays = np.load(io.BytesIO(buffer.getvalue()))  # no pickle is allowed
    assert len(attention.cross) == 16
    for number, (site, maps) in enumerate(attention.cross.items(), 1):
        assert np.array_equal(arrays[f"cross_{number:02d}"], maps) and arrays["layers"][number - 1] == site.name
        assert arrays["layer_strides"][number - 1] == site.stride
    for name in arrays.files:
        if f"axes_{name}" in arrays.files:
            assert len(arrays[f"axes_{name}"]) == arrays[name].ndim, name
    assert list(arrays["axes_cross_01"]) == ["level", "token", "y", "x"]
    assert list(arrays["tokens"])[5] == "cat" and list(arrays["timesteps"]) == [50, 100, 600]
    assert np.array_equal(arrays["heads_03"], heads.maps) and arrays["heads_level"] == 1
    assert np.array_equal(arrays["fused"][5], attention.fused(5, WEIGHTS))


def test_the_readmes_recipe_gives_what_a_place_attends_to(inside: Inside, attention: Attention) -> None:
    arrays = arrays_of(inside)
    assert list(arrays["kept_levels"]) == [1] and list(arrays["axes_self_query_01"]) == ["kept", "head", "place", "channel"]
    found: dict[int, list[np.ndarray]] = {}
    for number, stride in enumerate(arrays["self_layer_strides"], 1):
        rows, columns = attention.grid(int(stride))
        place = int(0.3 * rows) * columns + int(0.8 * columns)
        query, key = (arrays[f"self_{name}_{number:02d}"] for name in ("query", "key"))
        logits = np.einsum("hc,hnc->hn", query[0, :, place].astype("f4"), key[0].astype("f4"))
        found.setdefault(int(stride), []).append(softmax(logits, -1).mean(0).reshape(rows, columns))
    for stride, row in attention.rows_from(0.8, 0.3).items():
        assert np.allclose(np.mean(found[stride], axis=0), row, atol=1e-6)


def test_the_zip_holds_the_same_files(inside: Inside, tmp_path: Path) -> None:
    written = RunFolder(tmp_path).write(files_of_attention(inside))
    with zipfile.ZipFile(io.BytesIO(zipped(files_of_attention(inside)))) as archive:
        assert set(archive.namelist()) == {path.relative_to(tmp_path).as_posix() for path in written}
        for name in archive.namelist():
            if not name.endswith(".npz"):
                assert archive.read(name) == (tmp_path / name).read_bytes(), name


def test_the_command_looks_into_a_picture(
    tmp_path: Path, network: list[str], models: Models, capsys: pytest.CaptureFixture
) -> None:
    image, picture, out = (
        np.random.default_rng(1).integers(0, 256, (60, 90, 3), dtype=np.uint8),
        tmp_path / "p.png",
        tmp_path / "o",
    )
    Image.fromarray(image).save(picture)
    given = ["--noise", "300,20", "--seed", "4", "--weights", "0,1,0,0", "--at", "0.8,0.3", "--heads", "3,2"]
    assert main(["attention", str(picture), PROMPT, *given, "--out", str(out), *network]) == 0
    expected = look_inside(models, from_image(models, image, 4), Inspection(PROMPT), (20, 300))
    arrays = np.load(out / "attention.npz")
    site = list(expected.cross)[2]
    assert np.array_equal(arrays["cross_03"], expected.cross[site]) and list(arrays["timesteps"]) == [20, 300]
    assert np.array_equal(arrays["heads_03"], heads_of(models, expected, site, 1).maps)
    assert np.array_equal(arrays["fused"][5], expected.fused(5, {2: 1.0})) and "self_query_16" in arrays
    place = np.asarray(Image.open(out / "place" / "24x40.png"))
    assert np.array_equal(place, view.marked(view.heat_overlay(image, expected.rows_from(0.8, 0.3)[1]), 0.8, 0.3))
    assert re.match(r"2 passes of the network, \S.* s; the result takes \d+\.\d MB of memory\.\n", capsys.readouterr().out)
    assert json.loads((out / "run.json").read_text())["cost"]["passes"] == 2


def test_the_command_looks_while_it_draws(tmp_path: Path, network: list[str], models: Models) -> None:
    given = ["--generate", "--seed", "5", "--steps", "3", "--guidance", "2", "--negative", "a dog"]
    assert main(["attention", PROMPT, *given, "--self-attention", "none", "--out", str(tmp_path), *network]) == 0
    drawn = from_prompt(models, PROMPT, 5, steps=3, guidance=2, negative="a dog")
    assert np.abs(read_image(tmp_path / "picture.png").astype(int) - drawn.image).max() <= 1
    arrays, card = np.load(tmp_path / "attention.npz"), json.loads((tmp_path / "run.json").read_text())
    assert arrays["cross_01"].shape[0] == 3 and "self_query_01" not in arrays
    assert card["levels"] == "sampling steps" and card["settings"]["guidance"] == 2 and card["seed"] == 5
    assert "sampling steps of the drawn picture" in str(arrays["README"])
