"""The recipes: the shared loop on a tiny module, the denoiser's parts, and all of them one after the other."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn
from transformers import CLIPModel

from ovseg.__main__ import main
from ovseg.pocket.captions import names_in
from ovseg.pocket.data import rendered
from ovseg.pocket.denoiser_data import LatentBatches, encoded
from ovseg.pocket.open_clip_export import export_open_clip, load_open_clip
from ovseg.pocket.tokenizer import CONTEXT_LENGTH, build_tokenizer, tokenize
from ovseg.pocket.train_clip import CaptionedBatches, average_precision, build_clip, clip_loss, name_prompts
from ovseg.pocket.train_codec import build_codec, codec_loss, crops, peak_signal_to_noise, reconstructed, to_tensor
from ovseg.pocket.train_denoiser import Painter, build_denoiser, build_text_encoder, hasten_attention, loss_weights
from ovseg.pocket.train_judge import Judge, accuracy, build_judge, judge_loss, truth_of
from ovseg.pocket.training import Training, autocast
from ovseg.pocket.world import THINGS, scene
from ovseg.pretrained.clip import Clip


def advance(training: Training, steps: int) -> list[int]:
    """Some steps of fitting a line, as a run that is killed afterwards."""
    seen = []
    for step in training:
        if len(seen) == steps:
            break
        seen.append(step)
        training.update((training.module(torch.ones(1, 2)) - 3).pow(2).mean(), samples=1)
    return seen


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first = Training(line(), tmp_path, minutes=10, learning_rate=0.1)
    assert advance(first, 5) == [0, 1, 2, 3, 4]
    first.save()
    second = Training(line(), tmp_path, minutes=10, learning_rate=0.1)
    assert second.step == 5 and second.samples == 5 and second.spent > 0
    for ours, theirs in zip(second.averaged.state_dict().values(), first.averaged.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert advance(second, 3) == [5, 6, 7]
    whole = Training(line(), tmp_path / "whole", minutes=10, learning_rate=0.1)
    advance(whole, 8)
    assert torch.allclose(whole.module.weight, second.module.weight, atol=1e-3)  # the rate follows the clock


def test_a_training_ends_with_its_time_and_its_rate_falls_to_nothing(tmp_path: Path) -> None:
    training = Training(line(), tmp_path, minutes=0.5 / 60, learning_rate=0.1)
    rates = []
    for _ in training:
        rates.append(training.optimizers[0].param_groups[0]["lr"])
        training.update((training.module(torch.ones(1, 2)) - 3).pow(2).mean(), samples=1)
    assert training.progress == 1 and rates[-1] < 0.05 * max(rates)
    assert list(Training(line(), tmp_path, minutes=0.5 / 60, learning_rate=0.1)) == []


def test_a_piece_stops_early_and_its_checkpoint_is_small(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(1500, 1500), nn.Linear(1500, 1500), nn.Linear(1500, 1))
    training = Training(wide, tmp_path, minutes=10, learning_rate=1e-3, piece=0.2 / 60)
    for _ in training:
        training.update(wide(torch.randn(2, 1500)).pow(2).mean(), samples=2)
    assert not training.finished and training.step > 0
    files = list((tmp_path / "checkpoint").iterdir())
    parameters = sum(p.numel() for p in wide.parameters())
    assert len(files) == 4 and max(f.stat().st_size for f in files) < 16 * 2**20
    assert sum(f.stat().st_size for f in files) < 10.1 * parameters
    torch.manual_seed(1)
    again = Training(deepcopy(wide), tmp_path, minutes=10, learning_rate=1e-3, piece=0.2 / 60)
    assert again.step == training.step and again.started == training.started
    for ours, theirs in zip(again.module.parameters(), wide.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        mine, other = again.optimizers[0].state[ours], training.optimizers[0].state[theirs]
        assert mine["step"] == other["step"] and torch.allclose(mine["exp_avg"], other["exp_avg"], rtol=0.01, atol=1e-12)


def test_tied_weights_are_saved_and_stay_tied(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        torch.manual_seed(0)
        pair = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
        pair[1].weight = pair[0].weight
        return pair

    first = Training(tied(), tmp_path, minutes=10, learning_rate=0.1)
    advance(first, 4)
    first.save()
    second = Training(tied(), tmp_path, minutes=10, learning_rate=0.1)
    assert torch.equal(second.module[0].weight, first.module[0].weight)
    assert second.module[1].weight is second.module[0].weight


def test_a_stop_between_the_renames_of_a_save_loses_nothing(tmp_path: Path) -> None:
    training = Training(line(), tmp_path, minutes=10, learning_rate=0.1)
    advance(training, 3)
    training.save()
    training.folder.rename(tmp_path / "checkpoint.old")
    assert Training(line(), tmp_path, minutes=10, learning_rate=0.1).step == 3


def test_the_average_forgets_where_it_began(tmp_path: Path) -> None:
    training = Training(line(), tmp_path, minutes=10, learning_rate=0.0, ema=0.999)
    training.update(training.module(torch.ones(1, 2)).sum(), samples=1)
    with torch.no_grad():
        training.module.weight.fill_(7.0)
    for _ in range(60):
        training.averaged.update_parameters(training.module)
    assert torch.allclose(training.averaged.module.weight, torch.tensor(7.0), atol=0.01)


def test_the_hastened_attention_computes_the_same_at_both_sizes() -> None:
    torch.manual_seed(0)
    unet = build_denoiser(16, 32).eval()
    x, text, t = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 32), torch.tensor([3, 700])
    with torch.no_grad():
        usual = unet(x, t, encoder_hidden_states=text).sample
        for edge, kinds in ((16, 1), (32, 2)):
            hasten_attention(unet, edge)
            assert torch.allclose(unet(x, t, encoder_hidden_states=text).sample, usual, atol=1e-5)
            assert len({type(processor) for processor in unet.attn_processors.values()}) == kinds


@pytest.mark.parametrize(
    ("can", "dtype"),
    [({}, "float32"), ({"avx512_bf16": False}, "float32"), ({"amx_bf16": True}, "bfloat16"), ({"bf16": True}, "bfloat16")],
)
def test_a_cpu_trains_in_half_precision_only_where_it_has_it(
    can: dict[str, bool], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    with autocast("cpu"):
        assert nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == getattr(torch, dtype)


def test_the_finest_attention_has_two_heads() -> None:
    unet = build_denoiser(16, 32)
    finest = [block.transformer_blocks[0] for block in unet.up_blocks[-1].attentions]
    assert [(block.attn1.heads, block.attn2.heads) for block in finest] == [(2, 2), (2, 2)]


def test_in_some_rows_the_words_alone_carry_information(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    words = build_text_encoder(tokenizer)
    painter = Painter(build_denoiser(16), words, tokenize(tokenizer, [""])[0], tokenizer.eos_token_id)
    ids = tokenize(tokenizer, ["a photo of a cat", "a photo of a potted plant on grass"])
    words_only, full = (painter.text_states(ids, torch.full((2,), flag)) for flag in (True, False))
    nothing = painter.text_states(painter.empty[None], torch.tensor([False]))[0]
    for row, words in enumerate((5, 8)):
        assert torch.equal(words_only[row, : words + 1], full[row, : words + 1])
        assert torch.allclose(words_only[row, words + 1 :], nothing[words + 1 :], atol=1e-6)
        assert not torch.allclose(full[row, words + 1 :], nothing[words + 1 :], atol=1e-3)
    mixed = painter.text_states(ids, torch.tensor([True, False]))
    assert torch.equal(mixed[0], words_only[0]) and torch.equal(mixed[1], full[1])


def test_batches_depend_on_the_step_alone_and_drop_some_captions(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    latents = np.arange(40, dtype=np.float16).reshape(40, 1, 1, 1) * np.ones((1, 4, 2, 2), np.float16)
    captions = [f"a photo of two {k % 2 * 'cats' or 'dogs'}" for k in range(40)]
    batches = LatentBatches(latents, captions, ["a photo of sky and grass"] * 40, tokenizer, 32)
    first, again, other = (batches.draw(step, "cpu") for step in (3, 3, 4))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) and not torch.equal(first[0], other[0])
    assert np.array_equal(first[0][:, 0, 0, 0], first[2])  # each latent is its number
    ids = torch.cat([batches.draw(step, "cpu")[1] for step in range(40)])
    for caption, low, high in ((batches.empty[0], 0.05, 0.15), (batches.ground_ids[0], 0.07, 0.17)):
        assert low < float((ids == caption).all(1).float().mean()) < high


def test_losses_fall_when_the_answer_is_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(tmp_path)
    items = [scene("train", k, 32) for k in range(8)]
    pictures = torch.stack([torch.from_numpy(s.image).permute(2, 0, 1) for s in items]).float() / 127.5 - 1
    clip, ids = build_clip(build_text_encoder(tokenizer), 32), tokenize(tokenizer, [s.caption for s in items])
    judge, truth = build_judge(), torch.from_numpy(truth_of(tuple(s.things for s in items)))
    words = {name: weight.clone() for name, weight in clip.text_model.state_dict().items()}
    codec = build_codec()
    for module, loss in (
        (clip, lambda: clip_loss(clip, pictures, ids, torch.eye(8, dtype=torch.bool))),
        (codec, lambda: codec_loss(codec, pictures)),
        (judge, lambda: judge_loss(judge, pictures, truth)),
    ):
        optimizer, before = torch.optim.AdamW(module.parameters(), 2e-3), None
        for _ in range(12):
            value = loss()
            before = before or value.item()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        assert loss().item() < 0.8 * before
    assert all(torch.equal(weight, words[name]) for name, weight in clip.text_model.state_dict().items())


def test_the_codec_learns_colours_and_not_edges_alone() -> None:
    codec, grey = build_codec(), torch.full((2, 3, 32, 32), 0.25)
    losses = []
    for value in (0.25, 0.75):
        with torch.no_grad():  # whatever the picture, the output is this value everywhere: no edge is wrong
            codec.decoder.conv_out.weight.zero_()
            codec.decoder.conv_out.bias.fill_(value)
            losses.append(float(codec_loss(codec, grey)))
    assert losses[1] - losses[0] == pytest.approx(0.5, abs=1e-4)


def test_psnr_worked_out_by_hand() -> None:
    codec = build_codec().eval()
    with torch.no_grad():  # whatever the picture, the output is -0.8 everywhere
        codec.decoder.conv_out.weight.zero_()
        codec.decoder.conv_out.bias.fill_(-0.8)
    # Black is -1: an error of a tenth of the range is 20 dB. Pictures count together, not decibels.
    black = np.zeros((17, 8, 8, 3), np.uint8)
    assert peak_signal_to_noise(black, reconstructed(codec, black, "cpu")) == pytest.approx(20.0, abs=1e-3)
    half = np.zeros((2, 8, 8, 3), np.uint8)
    half[1] = 255  # an error of nine tenths
    assert peak_signal_to_noise(half, reconstructed(codec, half, "cpu")) == pytest.approx(
        -10 * np.log10((0.01 + 0.81) / 2), abs=1e-3
    )


def test_windows_of_the_codec_are_cut_inside_and_half_of_them_mirrored() -> None:
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None], (96, 96))  # brighter downwards
    images = np.stack([ramp, ramp.T, np.full((96, 96), 7, np.uint8)], -1)[None]
    windows = crops(images, np.random.default_rng(0), 64).astype(int)
    assert (np.diff(windows[..., 0], axis=1) == 1).all() and (windows[..., 2] == 7).all()
    steps = np.diff(windows[..., 1], axis=2)[:, 0, 0]
    assert set(steps) == {1, -1} and 16 < (steps == -1).sum() < 48
    assert len({int(window[0, 0, 0]) for window in windows}) > 8


def test_scenes_are_rendered_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = rendered(tmp_path, "val", 3, 32)
    assert "3/3" in capsys.readouterr().out
    again = rendered(tmp_path, "val", 3, 32)
    assert capsys.readouterr().out == ""
    assert np.array_equal(first.images, again.images) and first.captions == again.captions
    last = scene("val", 2, 32)
    assert np.array_equal(again.images[2], last.image) and (again.captions[2], again.stuff[2]) == (last.caption, last.stuff)


def test_latents_are_kept_for_the_codec_that_made_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pictures = rendered(tmp_path, "val", 2, 32).images
    first, second = build_codec().eval(), build_codec().eval()
    mine, other = (np.array(encoded(tmp_path, codec, pictures, "cpu")) for codec in (first, second))
    assert mine.shape == (2, 4, 8, 8) and not np.array_equal(mine, other)
    assert np.array_equal(encoded(tmp_path, first, pictures, "cpu"), mine) and len(list(tmp_path.glob("latents-*.npy"))) == 2


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_recipes_one_after_the_other(tmp_path: Path) -> None:
    for network in ("codec", "denoiser", "clip", "judge"):
        assert main(["train", network, "--minutes", "0.1", "--scenes", "64", "--out", str(tmp_path)]) == 0
    assert main(["train", "bundle", "--out", str(tmp_path), "--to", str(tmp_path / "bundle")]) == 0
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "bundle" / "stable-diffusion")
    assert pipeline("a cat", num_inference_steps=1, output_type="np").images.shape == (1, 128, 128, 3)
    trained = json.loads((tmp_path / "bundle" / "training.json").read_text())
    assert all(entry["steps"] > 0 for entry in trained) and len(trained) == 5
    assert pipeline.tokenizer.model_max_length == CONTEXT_LENGTH

    start = ["--start", str(tmp_path / "bundle" / "stable-diffusion")]
    more = ["train", "denoiser", "--minutes", "0.1", "--scenes", "64", "--out", str(tmp_path / "later"), *start]
    assert main(more) == 0
    words = [
        StableDiffusionPipeline.from_pretrained(folder).text_encoder.state_dict()
        for folder in (tmp_path / "bundle" / "stable-diffusion", tmp_path / "later" / "denoiser" / "pipeline")
    ]
    assert all(torch.equal(weight, words[1][name]) for name, weight in words[0].items())  # CLIP shares them
    for _ in range(2):  # packing again adds nothing
        assert main(["train", "bundle", "--out", str(tmp_path / "later"), "--to", str(tmp_path / "bundle")]) == 0
    grown = json.loads((tmp_path / "bundle" / "training.json").read_text())
    assert grown[:5] == trained and [entry["part"] for entry in grown[5:]] == [entry["part"] for entry in trained[1:3]]


def test_every_caption_that_fits_is_a_positive(tmp_path: Path) -> None:
    """With one caption for each picture it is plain InfoNCE; a second caption that fits shares the row and its column."""
    torch.manual_seed(0)
    model = build_clip(build_text_encoder(build_tokenizer(tmp_path)), 32).eval()
    pictures, ids = torch.rand(4, 3, 32, 32), torch.randint(5, 90, (4, CONTEXT_LENGTH))
    ids[:, -1] = model.config.text_config.eos_token_id
    with torch.no_grad():
        model.logit_scale.fill_(0.7)
        image = model.get_image_features(pixel_values=pictures).pooler_output
        text = model.get_text_features(input_ids=ids).pooler_output
        logits = nn.functional.normalize(image, dim=-1) @ nn.functional.normalize(text, dim=-1).T * np.exp(0.7)
        target = torch.arange(4)
        plain = (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2
        assert torch.allclose(clip_loss(model, pictures, ids, torch.eye(4, dtype=torch.bool)), plain, atol=1e-6)
        pair = torch.eye(4, dtype=torch.bool)
        pair[0, 1] = True
        expected = -(logits.log_softmax(1)[0, :2].mean() + logits.log_softmax(1)[[1, 2, 3], [1, 2, 3]].sum()) / 4
        backwards = -(logits.log_softmax(0)[:2, 1].mean() + logits.log_softmax(0)[[0, 2, 3], [0, 2, 3]].sum()) / 4
        assert torch.allclose(clip_loss(model, pictures, ids, pair), (expected + backwards) / 2, atol=1e-6)


def test_captions_of_a_batch_are_true_of_their_pictures(tmp_path: Path) -> None:
    pictures, tokenizer = rendered(tmp_path, "val", 12, 32), build_tokenizer(tmp_path)
    images, ids, fits = CaptionedBatches(pictures, tokenizer).draw(3, "cpu")
    again = CaptionedBatches(pictures, tokenizer).draw(3, "cpu")
    assert all(torch.equal(one, other) for one, other in zip((images, ids, fits), again, strict=True))
    assert not torch.equal(images, CaptionedBatches(pictures, tokenizer).draw(4, "cpu")[0])
    assert fits.diagonal().all() and not fits.all() and images.shape == (len(ids), 3, 32, 32)
    # What a caption names decides which of the pictures it fits.
    both_ways = {way: to_tensor(np.ascontiguousarray(pictures.images[:, :, ::way]), "cpu") for way in (1, -1)}
    found = {image.numpy().tobytes(): (row, way) for way in both_ways for row, image in enumerate(both_ways[way])}
    rows, ways = zip(*(found[image.numpy().tobytes()] for image in images), strict=True)
    assert 0.3 < ways.count(1) / len(ways) < 0.7  # the others are mirrored
    for column in range(0, len(ids), 8):
        named = names_in(tokenizer.decode(ids[column], skip_special_tokens=True).replace("!", ""), THINGS)
        shown = [named <= set(pictures.things[row]) for row in rows]
        assert not (fits[:, column] & ~torch.tensor(shown)).any()


def test_much_noise_counts_as_the_velocitys_error_would_and_little_noise_less() -> None:
    ratios = torch.tensor([1.0, 0.25, 0.001, 5.0, 100.0])
    assert loss_weights(ratios).tolist() == pytest.approx([2.0, 5.0, 20.0, 1.2, 1.01 * 0.05])
    # The velocity's squared error is that of the noise over the signal's share: alpha = ratio / (1 + ratio).
    alpha = ratios[:2] / (1 + ratios[:2])
    assert torch.allclose(loss_weights(ratios)[:2], 1 / alpha)


def test_average_precision_worked_out_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.1, 0.3, 0.0]])
    truth = np.array([[True, True, False], [False, False, False], [True, False, False]])
    assert average_precision(scores, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 3) / 2)
    assert name_prompts()[0] == "a photo of an airplane" and name_prompts()[-1] == "a photo of wood"


def test_open_clip_loads_the_same_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(tmp_path / "words")
    model = build_clip(build_text_encoder(tokenizer), 64).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    export_open_clip(model, tokenizer, tmp_path / "clip")
    another = build_clip(build_text_encoder(tokenizer), 64)
    load_open_clip(another, tmp_path / "clip")
    assert all(torch.equal(weight, another.state_dict()[name]) for name, weight in model.state_dict().items())
    clip = Clip(f"local-dir:{tmp_path / 'clip'}")
    picture, prompts = scene("val", 0, 64).image, ["a photo of a cat", "Two dogs, on grass"]
    with torch.no_grad():
        image = model.get_image_features(pixel_values=to_tensor(picture[None], "cpu")).pooler_output
        text = model.get_text_features(input_ids=tokenize(tokenizer, [p.lower() for p in prompts])).pooler_output
    expected = torch.nn.functional.normalize(image, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T
    assert torch.allclose(clip.similarity([picture], prompts), expected, atol=1e-5)
    assert clip.scale == pytest.approx(float(model.logit_scale.exp()))
    check_dense_features(clip, model, picture)


def check_dense_features(clip: Clip, model: CLIPModel, picture: np.ndarray) -> None:
    """Against the same weights in transformers, which has the projections apart."""
    vision = model.vision_model
    with torch.no_grad():
        states = vision(pixel_values=to_tensor(picture[None], "cpu"), output_hidden_states=True).hidden_states[-2]
        last = vision.encoder.layers[-1]
        normed = last.layer_norm1(states)[0, 1:]
        keys = last.self_attn.k_proj(normed)
        values = model.visual_projection(vision.post_layernorm(last.self_attn.out_proj(last.self_attn.v_proj(normed))))
    for kind, expected in (("keys", keys), ("values", values)):
        found = clip.dense([picture, picture], kind)
        assert found.shape[2:] == (4, 4) and torch.allclose(found[1].flatten(1).T, expected, atol=1e-5)


def test_the_judge_is_loaded_from_its_folder_and_counted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run `train judge` first"):
        Judge(tmp_path)
    build_judge().save_pretrained(tmp_path)
    judge = Judge(tmp_path)
    images = np.stack([scene("val", k, 64).image for k in range(3)])
    assert judge.probabilities(images).shape == (3, 24) and judge.things_in(images).dtype == bool
    found = np.array([[True, False], [True, True]])
    truth = np.array([[True, False], [False, True]])
    assert accuracy(found, truth) == {"precision": pytest.approx(2 / 3), "recall": 1.0, "all right": 0.5}
    assert accuracy(truth, found)["recall"] == pytest.approx(2 / 3)
    assert truth_of((("cat", "dog"), ("tv",))).nonzero()[1].tolist() == [THINGS.index(name) for name in ("cat", "dog", "tv")]
