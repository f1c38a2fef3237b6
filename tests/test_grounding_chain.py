"""The training chain of a Stable Diffusion backbone, through the command line, and the memory that it takes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from ovseg.__main__ import main
from ovseg.factory.shards import joined
from ovseg.factory.splits import VOC, find_split
from ovseg.factory.train_grounding import TripletBatches, batch_of, bytes_of_item, grounding_loss
from ovseg.factory.triplets import Factory, TripletSet, index, shard_orders
from ovseg.files import write_whole_parts
from ovseg.maths.live_memory import LiveMemory
from ovseg.models import Models
from ovseg.pretrained.detector import load_detector
from ovseg.pretrained.grounding import COPY_BYTES, GroundingModule, GroundingSize
from ovseg.pretrained.published_grounding import SD1_SIZE
from tests.tiny_mask2former import save_mask2former
from tests.triplet_items import read_shard


@pytest.fixture(scope="module")
def coco_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mask2former")
    save_mask2former(folder, "dining table")
    return folder


def made(tiny_folder: Path, detector: Path, out: Path, *more: str) -> Path:
    network = ["--backbone", str(tiny_folder), "--device", "cpu", "--detector", str(detector)]
    command = ["triplets", *network, "--split", "voc-S1", "--count", "24", "--steps", "1", "--out", str(out), *more]
    assert main(command) == 0
    return out


@pytest.fixture(scope="module")
def triplets(tiny_folder: Path, coco_detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tiny_folder, coco_detector, tmp_path_factory.mktemp("triplets") / "set")


def test_the_chain_ends_in_a_module_that_the_method_finds(
    tiny_folder: Path, coco_detector: Path, triplets: Path, groundings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    network = ["--backbone", str(tiny_folder), "--device", "cpu", "--dtype", "float32"]
    data = TripletSet(triplets)
    assert {word for row in data.rows for word in row["words"]} <= set(find_split("voc-S1").seen)
    assert {word for row in data.rows for word in row["detected"]} == {"diningtable"}  # in VOC's spelling

    train = ["train", "grounding", *network, "--triplets", str(triplets), "--minutes", "0.02"]
    assert main([*train, "--split", "voc-S3"]) == 2
    assert "must show seen classes of voc-S3 alone, but 'bus' is none" in capsys.readouterr().err
    assert main([*train, "--split", "voc-S1"]) == 0
    place = groundings / Models(str(tiny_folder), "cpu").folder_name / "voc-S1"
    said = capsys.readouterr().out
    assert f"The module is in {place}." in said and "--set module=voc-S1" in said
    training = json.loads((place / "config.json").read_text())["training"]
    assert (training["split"], training["seen"], training["dtype"]) == ("voc-S1", ["diningtable"], "float32")
    assert not (tmp_path / "runs" / "pocket").exists()  # nothing that `train bundle` would take for the pocket world's

    picture = tmp_path / "picture.png"
    assert main(["generate", "a photograph of an aeroplane", "--steps", "1", "--out", str(picture), *network]) == 0
    asked = ["segment", str(picture), "--classes", "aeroplane, diningtable", "--method", "grounded-diffusion", *network]
    assert main([*asked, "--set", "module=voc-S1", "--out", str(tmp_path / "masks")]) == 0
    card = json.loads((tmp_path / "masks" / "run.json").read_text())
    assert card["weights"]["grounding"] == Models(str(tiny_folder), "cpu").grounding("voc-S1").fingerprint
    assert main([*asked, "--set", "module=voc-S2", "--out", str(tmp_path / "masks")]) == 2
    assert "which has voc-S1, but got 'voc-S2'" in capsys.readouterr().err

    test = ["grounded-generation", *network, "--split", "voc-S1", "--judge", str(coco_detector), "--count", "1"]
    assert main([*test, "--steps", "1", "--out", str(tmp_path / "test")]) == 0
    table = json.loads((tmp_path / "test" / "table.json").read_text())
    assert table["split"] == table["module"] == "voc-S1" and len(table["rows"]) == 5 * 2
    asked = ["synthesize", *network, "--split", "voc-S1", "--count", "3", "--steps", "1", "--out", str(tmp_path / "data")]
    assert main(asked) == 0
    assert (tmp_path / "data" / "labels.txt").read_text().split() == ["background", *VOC]


def trained(network: list[str], triplets: Path) -> list[str]:
    """A command that trains for a moment."""
    return ["train", "grounding", *network, "--triplets", str(triplets), "--split", "voc-S1", "--minutes", "0.01"]


def test_another_training_in_the_same_folder_is_refused(
    models: Models, network: list[str], triplets: Path, groundings: Path, capsys: pytest.CaptureFixture
) -> None:
    train = trained(network, triplets)
    assert main(train) == 0
    before = capsys.readouterr().out
    assert main([*train, "--rate", "1e-3"]) == 2 and "it differs in rate" in capsys.readouterr().err
    place = groundings / models.folder_name / "voc-S1" / "config.json"
    assert str(place.parent) in before
    config = json.loads(place.read_text())
    place.write_text(json.dumps(config | {"training": config["training"] | {"backbone": None}}))
    assert main(train) == 2 and "another backbone's module is in" in capsys.readouterr().err
    assert main(["train", "codec", "--dtype", "float16"]) == 2 and "--dtype is for grounding" in capsys.readouterr().err


def test_precision_is_the_same_through_the_chain(
    tiny_folder: Path, network: list[str], coco_detector: Path, groundings: Path, tmp_path: Path
) -> None:
    triplets = made(tiny_folder, coco_detector, tmp_path / "set", "--latents", "--dtype", "bfloat16")
    data = TripletSet(triplets)
    assert data.settings["dtype"] == "bfloat16" and data.strides == ()
    features, _, _ = TripletBatches(data, Models(str(tiny_folder), "cpu", "bfloat16")).draw(0, "cpu")
    assert {maps.dtype for maps in features.values()} == {torch.bfloat16}
    assert main(train := trained(network, triplets)) == 0
    place = groundings / Models(str(tiny_folder), "cpu").folder_name / "voc-S1"
    assert json.loads((place / "config.json").read_text())["training"]["dtype"] == "bfloat16"
    assert main([*train, "--dtype", "int8"]) == 2


def test_a_batch_holds_items_of_the_set(tiny_folder: Path, coco_detector: Path, tmp_path: Path) -> None:
    models, classes = Models(str(tiny_folder), "cpu"), ("diningtable", "cat")
    Factory(models, load_detector(str(coco_detector)), classes, 4, models.checkpoint.sampling(1)).run(tmp_path)
    index(tmp_path, 4)
    data = TripletSet(tmp_path)
    batches = TripletBatches(data, models)
    features, words, masks = batches.draw(0, "cpu")
    assert len(words) == len(masks) == batches.batch == 8 and len(data) > 1
    numbers = set()
    for row in range(8):
        same = [
            k
            for k in range(len(data))
            if all(np.array_equal(maps, features[s][row]) for s, maps in data.features(k).items())
        ]
        assert len(same) == 1 and np.array_equal(data.masks(same[0]), masks[row].bool())
        numbers |= set(same)
    assert len(numbers) > 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_features_give_what_float32_gives(dtype: str) -> None:
    size = GroundingSize({4: 40, 2: 24, 1: 16}, text=8, fused={4: 8, 2: 8, 1: 8}, model=16, heads=2, feed_forward=16)
    torch.manual_seed(0)
    module = GroundingModule(size).train()
    features = {s: torch.randn(3, c, 16 // s, 24 // s).to(getattr(torch, dtype)) for s, c in size.channels.items()}
    words, masks = torch.randn(3, 2, 8), torch.rand(3, 2, 32, 48).round()
    gradients = []
    for given in (features, {stride: maps.float() for stride, maps in features.items()}):
        torch.manual_seed(0)
        for norm in (part for part in module.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.reset_running_stats()
        state = {name: value.clone() for name, value in module.state_dict().items()}
        module.zero_grad()
        grounding_loss(module, given, words, masks).backward()
        gradients.append({name: weight.grad.clone() for name, weight in module.named_parameters()})
        module.load_state_dict(state)
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name
    assert gradients[0]["reduce.1.weight"].abs().max() > 0


def test_a_step_on_stable_diffusions_features_takes_what_the_budget_says() -> None:
    """Two items of 68 MB in half precision: nothing of them exists twice, and no float32 copy is kept."""
    module = GroundingModule(SD1_SIZE).train()
    gradients = 4 * sum(weight.numel() for weight in module.parameters())
    with LiveMemory() as memory:
        features = {s: torch.zeros(2, c, 64 // s, 64 // s, dtype=torch.float16) for s, c in SD1_SIZE.channels.items()}
        grounding_loss(module, features, torch.zeros(2, 2, 768), torch.zeros(2, 2, 512, 512)).backward()
    kept = sum(maps.numel() * 2 for maps in features.values())
    assert kept == pytest.approx(2 * 68.16e6, rel=0.001)
    item = bytes_of_item(SD1_SIZE, {stride: maps[0] for stride, maps in features.items()}, (512, 512))
    assert kept + gradients < memory.peak <= 2 * item + COPY_BYTES + gradients, memory.peak


def test_the_batch_follows_the_bytes() -> None:
    def item(side: int, dtype: torch.dtype) -> dict[int, torch.Tensor]:
        shapes = {s: (c, side // s, side // s) for s, c in SD1_SIZE.channels.items()}
        return {s: torch.empty(shape, dtype=dtype, device="meta") for s, shape in shapes.items()}

    assert batch_of(SD1_SIZE, item(64, torch.float16), (512, 512), "cpu") == 8
    assert batch_of(SD1_SIZE, item(64, torch.float16), (512, 512), "cuda") == 64
    for side, dtype in ((64, torch.float32), (128, torch.float16), (512, torch.float32)):
        each = bytes_of_item(SD1_SIZE, item(side, dtype), (8 * side, 8 * side))
        for device, budget in (("cpu", 2 * 2**30), ("cuda", 8 * 2**30)):
            batch = batch_of(SD1_SIZE, item(side, dtype), (8 * side, 8 * side), device)
            assert batch >= 1 and (batch * each <= budget or batch == 1)
    assert batch_of(SD1_SIZE, item(128, torch.float16), (1024, 1024), "cpu") < 8


def test_a_shard_is_joined_without_holding_it(
    tiny_folder: Path, coco_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, detector = Models(str(tiny_folder), "cpu"), load_detector(str(coco_detector))
    factory = Factory(models, detector, ("aeroplane", "cat"), 3, models.checkpoint.sampling(1))
    monkeypatch.setattr(Factory, "_bind", lambda *_: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    factory.run(tmp_path)
    monkeypatch.undo()
    paths = sorted((tmp_path / "items").iterdir())
    parts = list(joined(paths, {"content": "x"}))
    largest = max(array.nbytes for array in load_file(paths[0]).values())
    assert max(map(len, parts)) == largest  # one array of one item at a time
    write_whole_parts(tmp_path / "whole.safetensors", iter(parts))
    whole, each = load_file(tmp_path / "whole.safetensors"), [load_file(path) for path in paths]
    assert set(whole) == set(each[0])
    for name, array in whole.items():
        assert np.array_equal(array, np.concatenate([one[name] for one in each]))
    factory.run(tmp_path)
    shard = tmp_path / "shards" / "00000.safetensors"
    assert [item["number"] for item in shard_orders(shard)] == [item.order.number for item in read_shard(shard)] == [0, 1, 2]
    assert index(tmp_path, 3)["items"] == 3


def test_features_that_overflow_are_not_kept(tiny_folder: Path, coco_detector: Path, tmp_path: Path) -> None:
    models, detector = Models(str(tiny_folder), "cpu"), load_detector(str(coco_detector))
    factory = Factory(models, detector, ("aeroplane", "cat"), 1, models.checkpoint.sampling(1))
    weight = next(weight for weight in models.backbone.network.conv_in.parameters())
    weight.data.mul_(1e7)
    with pytest.raises(ValueError, match=r"must be finite in half precision, .*use --latents"):
        factory.run(tmp_path)
    replace(factory, features=False).run(tmp_path / "latents")
