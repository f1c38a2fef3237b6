"""Yardsticks on tiny networks of the real classes: their figures are the library's, and they stand apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    CLIPTokenizer,
    Sam3Config,
    Sam3ImageProcessor,
    Sam3Model,
    Sam3Processor,
    ViTImageProcessor,
)

from ovseg.__main__ import main
from ovseg.compare import Variant, compare
from ovseg.demo.method_panel import _about
from ovseg.evaluation.controls import run_controls
from ovseg.methods import METHODS, SAM3, CLIPSeg, Method, TrainedSegmenter, obstacle_to, suited_to
from ovseg.methods.trained_segmenter.method import rows_for
from ovseg.models import Models
from ovseg.pictures import resized
from ovseg.scene import from_image
from ovseg.words.classes import ClassWord, parse_classes

CLASSES = parse_classes("cat, dog|puppy")
PHRASES = ["cat", "dog", "puppy"]


def text_of(tokenizer: CLIPTokenizer) -> dict:
    """The configuration of a tiny text encoder for these words."""
    return {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 32, "projection_dim": 16,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip


@pytest.fixture(scope="module")
def clipseg_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPSeg of random weights, which looks at squares of 32 px."""
    torch.manual_seed(1)
    tokenizer, folder = CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer"), tmp_path_factory.mktemp("clipseg")
    vision = {
        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 24,
        "patch_size": 8,
    }  # fmt: skip
    config = CLIPSegConfig(
        text_config=text_of(tokenizer), vision_config=vision, projection_dim=16, extract_layers=[0, 1, 3], reduce_dim=8,
        decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    network = CLIPSegForImageSegmentation(config)
    for strong in (network.clip.text_projection, network.decoder.film_mul, network.decoder.transposed_convolution):
        torch.nn.init.normal_(strong.weight, std=0.5)  # so that words differ
    network.save_pretrained(folder)
    pixels = ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    CLIPSegProcessor(pixels, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sam3_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM 3 of random weights, which looks at squares of 56 px and finds up to six instances."""
    torch.manual_seed(1)
    tokenizer, folder = CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer"), tmp_path_factory.mktemp("sam3")
    small = {"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    eye = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }  # fmt: skip
    config = Sam3Config(
        vision_config={
            "backbone_config": eye, "fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config=text_of(tokenizer), geometry_encoder_config=small, detr_encoder_config=small,
        detr_decoder_config=small | {"num_queries": 6},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2}, initializer_range=0.5,
    )  # fmt: skip
    network = Sam3Model(config)
    for name, weight in network.mask_decoder.named_parameters():
        if name.startswith(("mask_embedder", "instance_projection")):
            weight.data *= 16  # else all masks are 0.5
    network.save_pretrained(folder)
    Sam3Processor(Sam3ImageProcessor(size={"height": 56, "width": 56}), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def networks(tiny_folder: Path, detector_folder: Path) -> Models:
    """The tiny pipeline with a segmenter of random weights."""
    models = Models(str(tiny_folder), device="cpu")
    models.checkpoint = replace(models.checkpoint, segmenter=str(detector_folder))
    return models


@pytest.fixture(params=[CLIPSeg, SAM3, TrainedSegmenter], ids=lambda kind: kind.name)
def method(request: pytest.FixtureRequest) -> Method:
    """Each yardstick on its tiny network."""
    if request.param is TrainedSegmenter:
        return TrainedSegmenter(side=32)
    folder = request.getfixturevalue(f"{request.param.name}_folder")
    return request.param(weights=str(folder))


def test_yardsticks_are_those_that_this_file_tests() -> None:
    assert [kind for kind in METHODS if kind.yardstick] == [TrainedSegmenter, CLIPSeg, SAM3]


def test_a_yardstick_keeps_the_contract(method: Method, networks: Models, picture: np.ndarray) -> None:
    classes = parse_classes("cat, dog")
    reports: list[float] = []
    scene = from_image(networks, picture, seed=3)
    result = method.segment(networks, scene, classes, lambda stage, share: reports.append(share))
    again = method.segment(networks, scene, classes)
    assert result.labels == ("background", "cat", "dog") and result.scores().shape == (3, 60, 90)
    assert np.isfinite(result.scores()).all() and np.array_equal(result.scores(), again.scores())
    assert result.scores()[1:].std(axis=(1, 2)).min() > 1e-6 or method.name == "sam3"  # maps, not constants
    assert reports == sorted(reports) and result.timings
    assert scene.latent_hw is None and method.rows(networks, PHRASES, (60, 90)) == 0
    assert {e.label for e in result.evidence} >= {"cat", "dog"}
    assert {e.group for e in result.evidence} == set(method.evidence_steps)
    assert all(load().fingerprint for load in method.helpers(networks).values())


def test_clipseg_is_what_the_library_gives(clipseg_folder: Path, networks: Models, picture: np.ndarray) -> None:
    """The library's own forward on its own inputs, a picture for each phrase; the best phrase of a class; stretched back."""
    processor = CLIPSegProcessor.from_pretrained(clipseg_folder)
    inputs = processor(
        text=PHRASES, images=[Image.fromarray(picture)] * 3, padding="max_length", max_length=32, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = CLIPSegForImageSegmentation.from_pretrained(clipseg_folder).eval()(**inputs).logits
    likely = logits.sigmoid()
    expected = F.interpolate(torch.stack([likely[0], likely[1:].amax(0)])[None], (60, 90), mode="bilinear")[0]
    method = CLIPSeg(weights=str(clipseg_folder), threshold=0.4)
    result = method.segment(networks, from_image(networks, picture), CLASSES)
    assert np.allclose(result.scores()[1:], expected.numpy(), atol=1e-4) and (result.scores()[0] == np.float32(0.4)).all()
    assert likely.std() > 0.01 and not np.allclose(likely[0], likely[1], atol=1e-2)


def test_sam3_is_what_the_library_gives(sam3_folder: Path, networks: Models, picture: np.ndarray) -> None:
    """The union of the masks of the library's post-processing, for each word."""
    processor, model = Sam3Processor.from_pretrained(sam3_folder), Sam3Model.from_pretrained(sam3_folder).eval()
    prepared = SAM3(weights=str(sam3_folder)).prepare(networks, parse_classes("cat"))
    found = []
    for word in ("cat", "dog"):
        inputs = processor(images=Image.fromarray(picture), text=word, return_tensors="pt")
        with torch.inference_mode():
            outputs = model(**{name: value for name, value in inputs.items() if name != "original_sizes"})
        scores = outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid()
        least = float(scores[0].sort().values[2:4].mean())  # so that three instances of six count
        (kept,) = processor.post_process_instance_segmentation(outputs, least, 0.5, target_sizes=[picture.shape[:2]])
        assert len(kept["masks"]) == 3
        method = SAM3(weights=str(sam3_folder), least_score=least)
        result = method.segment(networks, from_image(networks, picture), parse_classes(word))
        union = kept["masks"].amax(0).numpy()
        unsure = np.abs(result.scores()[1] - 0.5) < 1e-5  # where rounding decides
        assert np.array_equal(result.label_map[~unsure], union[~unsure]) and unsure.mean() < 0.02
        found.append(union)
    assert found[0].any() and not np.array_equal(*found) and prepared.words[0].states.shape[1] == 32
    nothing = replace(method, least_score=1.0).segment(networks, from_image(networks, picture), parse_classes("cat, dog"))
    assert not nothing.label_map.any()  # where no instance is sure enough


def test_the_trained_segmenter_works_out_as_it_says(networks: Models, picture: np.ndarray) -> None:
    """Probabilities of the picture at its own size; the best label of a class; the best of what is background."""
    scene, labels = from_image(networks, picture), networks.segmenter.labels
    likely = networks.segmenter.probabilities([resized(picture, (32, 48))])[0]
    expected = F.interpolate(likely[None], picture.shape[:2], mode="bilinear")[0].numpy()
    cat, dog = (labels.index(word) for word in ("cat", "dog"))
    rest = [k for k in range(len(labels)) if k not in (cat, dog)]
    for background, rows in (("stuff", [0]), ("all", rest)):  # of stuff this network knows "background" alone
        method = TrainedSegmenter(side=32, background=background)
        scores = method.segment(networks, scene, CLASSES).scores()  # "puppy" is none of its labels
        best = F.interpolate(likely[rows].amax(0)[None, None], picture.shape[:2], mode="bilinear")[0, 0].numpy()
        assert np.allclose(scores, np.stack([best, *expected[[cat, dog]]]), atol=1e-5)
    other = TrainedSegmenter(side=32).segment(networks, scene, parse_classes("aeroplane, couch|bench"))
    assert np.allclose(other.scores()[1:], expected[[labels.index("airplane"), labels.index("sofa")]], atol=1e-5)
    either = TrainedSegmenter(side=32).segment(networks, scene, parse_classes("cat|dog")).scores()[1]
    best = F.interpolate(likely[[cat, dog]].amax(0)[None, None], picture.shape[:2], mode="bilinear")[0, 0].numpy()
    least = F.interpolate(likely[[cat, dog]].amin(0)[None, None], picture.shape[:2], mode="bilinear")[0, 0].numpy()
    assert np.abs(either - best).max() < np.abs(best - least).max() / 10
    assert rows_for(labels, ClassWord(("background", "cat"))) == [cat]
    with pytest.raises(ValueError, match=r"knows the words of its training alone \(airplane, .*\), but got 'zebra'"):
        TrainedSegmenter().prepare(networks, parse_classes("cat, zebra"))


@pytest.mark.parametrize("kind", [CLIPSeg, SAM3])
def test_a_phrase_that_is_too_long_is_one_sentence(
    kind: type[Method], networks: Models, request: pytest.FixtureRequest
) -> None:
    method = kind(weights=str(request.getfixturevalue(f"{kind.name}_folder")))
    with pytest.raises(ValueError, match=f"tokens at most for {kind.title}, but one of .* has more"):
        method.prepare(networks, parse_classes(" ".join(["x z q"] * 30)))


def test_what_is_not_there_is_one_sentence(networks: Models, capsys: pytest.CaptureFixture) -> None:
    assert "not on this machine: `hf download CIDAS/clipseg-rd64-refined` fetches" in obstacle_to(networks, CLIPSeg)
    assert "terms must be agreed to on https://huggingface.co/facebook/sam3 first: `hf" in obstacle_to(networks, SAM3)
    assert obstacle_to(networks, TrainedSegmenter) == ""
    without = Models(networks.name, device="cpu")
    assert obstacle_to(without, TrainedSegmenter) == "This backbone has no segmenter trained with masks."
    with pytest.raises(ValueError, match="This backbone has no segmenter"):
        TrainedSegmenter().prepare(without, CLASSES)
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert listed.count(": no diffusion, trained with masks") == 3 and "clipseg (CLIPSeg): no diffusion" in listed
    (told,) = _about(networks, CLIPSeg)["networks"]
    assert told["note"] == CLIPSeg.yardstick and told["obstacle"]


def test_yardsticks_stand_apart(clipseg_folder: Path, networks: Models, picture: np.ndarray) -> None:
    methods = CLIPSeg(weights=str(clipseg_folder)), suited_to(networks, METHODS[0])
    scene, classes = from_image(networks, picture), parse_classes("cat, dog")
    made = compare(networks, scene, classes, [Variant(method.title, method) for method in methods])
    apart, plain = made.markdown().splitlines()[4:6]
    assert apart.startswith("| CLIPSeg (no diffusion, trained with masks) |") and "no diffusion" not in plain
    assert [entry["yardstick"] for entry in made.record()["entries"]] == [CLIPSeg.yardstick, ""]
    controls = {one.title: one for one in run_controls(networks, methods[0], scene, classes)}
    assert "reads no diffusion network" in controls["empty prompt"].sentence == controls["random weights"].sentence
    assert controls["words exchanged"].segmentation.labels == ("background", "cat", "dog")
