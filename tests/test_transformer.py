"""The recipe of the transformer: its parts, that it learns, and that plain diffusers loads what it writes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import nn

from ovseg.backbones import load_backbone
from ovseg.backbones.base import Sampling
from ovseg.pocket.denoiser_data import LatentBatches
from ovseg.pocket.train_transformer import (
    START,
    JointPainter,
    PlainJointAttention,
    build_pipeline,
    logit_normal,
    new_optimizers,
    new_painter,
    null_rows,
    teacher_features,
    transformer_loss,
)
from ovseg.pocket.training import Training


@pytest.fixture(scope="module")
def teacher() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(START, dtype=torch.float32)


def ids_of(teacher: StableDiffusionPipeline, *prompts: str) -> torch.Tensor:
    return teacher.tokenizer(list(prompts), padding="max_length", return_tensors="pt").input_ids


@pytest.fixture
def painter(teacher: StableDiffusionPipeline) -> JointPainter:
    """A painter whose gates are open: as it begins, its blocks do nothing."""
    torch.manual_seed(0)
    made = new_painter(teacher, ids_of(teacher, "")[0])
    for name, weight in made.transformer.named_parameters():
        if name.endswith(
            ("norm1.linear.weight", "norm1_context.linear.weight", "proj_out.weight", "norm_out.linear.weight")
        ):
            nn.init.normal_(weight, std=0.05)
    return made


def test_a_new_network_predicts_nothing(teacher: StableDiffusionPipeline) -> None:
    made = new_painter(teacher, ids_of(teacher, "")[0])
    velocity, _ = made(torch.randn(1, 4, 16, 16), torch.tensor([0.5]), ids_of(teacher, "a cat"))
    assert velocity.abs().max() == 0


@torch.no_grad()
def test_one_row_that_counts_for_many_is_many_rows(teacher: StableDiffusionPipeline, painter: JointPainter) -> None:
    text = painter.text_states(ids_of(teacher, "a photo of a cat"), torch.zeros(1, dtype=torch.bool))
    assert text.shape == (1, 33, 256) and text[0, -1].abs().max() == 0
    given = {
        "hidden_states": torch.randn(1, 4, 16, 24), "timestep": torch.tensor([300.0]),
        "pooled_projections": torch.zeros(1, 256),
    }  # fmt: skip
    for nulls in (1, 7):
        attention = PlainJointAttention()
        attention.nulls = nulls
        painter.transformer.set_attn_processor(attention)
        ours = painter.transformer(encoder_hidden_states=text, **given).sample
        painter.transformer.set_attn_processor(JointAttnProcessor2_0())
        plain = painter.transformer(encoder_hidden_states=F.pad(text, (0, 0, 0, nulls - 1)), **given).sample
        assert torch.allclose(ours, plain, atol=1e-5) and ours.std() > 0.01


def test_the_pooled_state_says_nothing_and_in_some_rows_the_words_alone_speak(
    teacher: StableDiffusionPipeline, painter: JointPainter
) -> None:
    ids = ids_of(teacher, "a photo of a cat", "a photo of a dog")
    for encoder in (painter.text_encoder, painter.text_encoder_2):
        assert encoder(ids).text_embeds.abs().max() == 0
    words, all_of_it = painter.text_states(ids[:1].repeat(2, 1), torch.tensor([True, False]))
    other = painter.text_states(ids[1:], torch.tensor([True]))[0]
    assert torch.equal(words[:6], all_of_it[:6]) and not torch.allclose(words[6:-1], all_of_it[6:-1])
    assert torch.allclose(words[6:], other[6:]) and not torch.allclose(words[5], other[5])


def test_noise_levels_are_logit_normal() -> None:
    torch.manual_seed(0)
    levels = torch.cat([logit_normal(64, "cpu") for _ in range(40)])
    assert torch.logit(levels).mean().abs() < 0.02 and (torch.logit(levels).std() - 1).abs() < 0.03
    assert 0.2 < np.mean([null_rows(step) > 1 for step in range(400)]) < 0.3


def test_the_loss_is_of_the_velocity_and_of_the_features(teacher: StableDiffusionPipeline, painter: JointPainter) -> None:
    latents, ids = torch.randn(2, 4, 16, 16), ids_of(teacher, "a cat", "a dog")
    said: dict = {}

    class Knows(nn.Module):
        """Predicts what `said` holds, in place of a network."""

        def forward(self, noised: torch.Tensor, sigmas: torch.Tensor, _ids: torch.Tensor) -> tuple:
            noise = (noised - (1 - sigmas[:, None, None, None]) * latents) / sigmas[:, None, None, None]
            return noise - latents, said["places"]

    features = torch.randn(2, 64, 96)
    said["places"] = 3 * features
    assert transformer_loss(Knows(), latents, ids, features) < 1e-4
    said["places"] = -features
    assert abs(float(transformer_loss(Knows(), latents, ids, features)) - 1.0) < 1e-4  # half of the cosine's distance of 2


def test_it_learns_and_goes_on_with_both_optimisers(teacher: StableDiffusionPipeline, tmp_path: Path) -> None:
    latents, features = torch.randn(3, 4, 16, 16), torch.randn(3, 64, 96)
    ids = ids_of(teacher, *["a photo of a cat"] * 3)

    def begun() -> Training:
        torch.manual_seed(0)
        made = new_painter(teacher, ids[0])
        return Training(made, tmp_path, 10, 1e-3, optimizers=new_optimizers(made, 1e-3))

    def advance(training: Training, until: int) -> list[float]:
        losses = []
        for step in training:
            if step == until:
                return losses
            torch.manual_seed(0)
            loss = transformer_loss(training.module, latents, ids, features)
            losses.append(float(loss.detach()))
            training.update(loss, 3)
        return losses

    first = begun()
    losses = advance(first, 12)
    assert losses[-1] < losses[0] - 0.01
    first.save()
    second = begun()
    assert second.step == 12
    for part, moment in enumerate(("momentum_buffer", "exp_avg_sq")):
        kept, found = (training.optimizers[part].state_dict()["state"] for training in (first, second))
        assert kept and kept.keys() == found.keys()
        for mine, theirs in ((kept[index], found[index]) for index in kept):
            assert mine.keys() == theirs.keys() and moment in mine
            assert all(torch.equal(torch.as_tensor(mine[key]), torch.as_tensor(theirs[key])) for key in mine)
    advance(first, 15)
    advance(second, 15)
    for mine, theirs in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)  # the rate follows the clock


def test_features_are_the_teachers_own_with_the_captions_words(teacher: StableDiffusionPipeline, tmp_path: Path) -> None:
    latents = np.random.default_rng(0).standard_normal((3, 4, 16, 16)).astype(np.float16)
    captions = ["a photo of a cat", "a photo of a dog", "a photo of a bus"]
    features = {}
    for name, told in (("own", captions), ("other", ["a photo of a tree", *captions[1:]])):
        batches = LatentBatches(latents, told, captions, teacher.tokenizer, 2)
        (tmp_path / name).mkdir()
        features[name] = np.array(teacher_features(tmp_path / name, teacher, batches, "cpu"), np.float32)
        assert np.array_equal(features[name], teacher_features(tmp_path / name, teacher, batches, "cpu"))
    assert features["own"].shape == (3, 64, 96) and np.abs(features["own"].mean((0, 1))).max() < 0.01
    changed = np.abs(features["own"] - features["other"]).mean((1, 2))
    assert changed[0] > 3 * changed[1] > 0  # the others change by the common middle alone


def test_plain_diffusers_loads_it_and_draws_what_our_reader_draws(
    teacher: StableDiffusionPipeline, painter: JointPainter, tmp_path: Path
) -> None:
    build_pipeline(teacher.vae, painter, teacher.tokenizer).save_pretrained(tmp_path)
    plain = StableDiffusion3Pipeline.from_pretrained(tmp_path, text_encoder_3=None, tokenizer_3=None)
    (image,) = plain(
        "a cat", num_inference_steps=2, guidance_scale=5.0, generator=torch.Generator().manual_seed(0), output_type="np",
        max_sequence_length=1,
    ).images  # fmt: skip
    (ours,) = load_backbone(str(tmp_path), "cpu", torch.float32).generate("a cat", [0], Sampling(2, 5.0))
    assert image.std() > 0.02 and np.abs(ours.image / 255 - image).max() < 1.5 / 255
