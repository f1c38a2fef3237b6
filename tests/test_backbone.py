import copy
import threading

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from ovseg.backbones.base import Capture, Sampling, Site, grid_at
from ovseg.backbones.recording import find_sites, recording
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.backbones.weights import generator
from ovseg.models import Models
from ovseg.progress import StoppedError

EVERYTHING = Capture(cross=(1, 2, 4, 8), self_attention=(1, 2, 4, 8))


def latents(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))


@pytest.fixture(scope="module")
def backbone(models: Models) -> StableDiffusion:
    return models.backbone


def test_the_sites_of_stable_diffusion_have_the_strides_of_their_blocks() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    cross = [site for site in find_sites(unet) if site.path.endswith("attn2")]
    assert len(cross) == 16
    per_stride = {stride: sum(site.stride == stride for site in cross) for stride in (1, 2, 4, 8)}
    assert per_stride == {1: 5, 2: 5, 4: 5, 8: 1}
    assert Site("mid_block.attentions.0.transformer_blocks.0.attn2", 8) in cross


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float16, 5e-3)])
def test_traced_equals_untraced(backbone: StableDiffusion, dtype: torch.dtype, tolerance: float) -> None:
    unet = copy.deepcopy(backbone.unet).to(dtype)
    x, text = latents((2, 4, 16, 24)).to(dtype), latents((2, 7, 16), 1).to(dtype)
    with torch.no_grad():
        plain = unet(x, 100, encoder_hidden_states=text).sample
        with recording(unet, backbone.sites, EVERYTHING, (16, 24)):
            traced = unet(x, 100, encoder_hidden_states=text).sample
    assert plain.std() > 0.01
    assert (traced - plain).abs().max() < tolerance


@pytest.mark.parametrize("latent_hw", [(16, 24), (32, 16), (24, 24)])
def test_recorded_maps_have_their_grids_and_sum_to_one(backbone: StableDiffusion, latent_hw: tuple[int, int]) -> None:
    text = backbone.encode_text(["a photo of a cat", "a photo of a potted plant"], ["cat", "potted plant"])
    trace = backbone.trace(latents((1, 4, *latent_hw)), text, 100, EVERYTHING, seed=0)
    assert len(trace.cross) == 16
    for site, probabilities in trace.cross.items():
        assert probabilities.shape == (2, *grid_at(latent_hw, site.stride), text.embeddings.shape[1])
        assert torch.allclose(probabilities.sum(-1), torch.ones(1), atol=1e-5)
    assert sorted(trace.self_attention) == [1, 2, 4, 8]
    for stride, probabilities in trace.self_attention.items():
        places = np.prod(grid_at(latent_hw, stride))
        assert probabilities.shape == (2, places, places)
        assert torch.allclose(probabilities.sum(-1), torch.ones(1), atol=1e-5)


def test_only_what_was_asked_for_is_recorded(backbone: StableDiffusion) -> None:
    site = next(s for s in backbone.sites if s.path.endswith("attn2") and s.stride == 2)
    capture = Capture(cross=(4,), queries=(site.path,), features=("mid_block", "up_blocks.1"))
    text = backbone.encode_text(["a cat"], ["cat"])
    trace = backbone.trace(latents((1, 4, 16, 24)), text, 50, capture, seed=0)
    assert {s.stride for s in trace.cross} == {4}
    assert trace.self_attention == {}
    assert trace.queries[site].shape == (1, 16, 8, 12)
    assert trace.features["mid_block"].shape == (1, 32, 2, 3)
    assert trace.features["up_blocks.1"].shape == (1, 32, 8, 12)


def test_batched_rows_equal_one_at_a_time(backbone: StableDiffusion) -> None:
    words = ["cat", "dog", "potted plant"]
    text = backbone.encode_text([f"a photo of a {word}" for word in words], words)
    latent = latents((1, 4, 16, 24))
    together = backbone.trace(latent, text, 100, EVERYTHING, seed=3)
    for row, part in enumerate(text.split(1)):
        alone = backbone.trace(latent, part, 100, EVERYTHING, seed=3)
        for site, maps in together.cross.items():
            assert torch.allclose(maps[row], alone.cross[site][0], atol=1e-5)
        for stride, maps in together.self_attention.items():
            assert torch.allclose(maps[row], alone.self_attention[stride][0], atol=1e-5)


def test_processors_and_hooks_are_as_before_after_an_exception(backbone: StableDiffusion) -> None:
    unet = backbone.unet
    before = dict(unet.attn_processors)
    capture = Capture(cross=(1,), features=("mid_block",))
    with pytest.raises(KeyError), recording(unet, backbone.sites, capture, (8, 8)):
        assert unet.attn_processors != before
        raise KeyError
    assert unet.attn_processors == before
    assert not unet.mid_block._forward_hooks


def test_an_unknown_path_is_named(backbone: StableDiffusion) -> None:
    text = backbone.encode_text(["a cat"], ["cat"])
    with pytest.raises(ValueError, match=r"no 'up_blocks\.9'"):
        backbone.trace(latents((1, 4, 16, 16)), text, 50, Capture(features=("up_blocks.9",)), seed=0)


@pytest.mark.parametrize(
    "prompt, phrase, words",
    [
        ("a photo of a cat", "cat", ["cat"]),
        ("a photo of a potted plant on grass", "potted plant", ["potted", "plant"]),
        ("a carpet and a car", "car", ["car"]),
        ("a photo of a CAT", "cat", ["cat"]),
        ("a photo", "", []),
    ],
)
def test_token_columns_come_from_character_offsets(
    backbone: StableDiffusion, prompt: str, phrase: str, words: list[str]
) -> None:
    text = backbone.encode_text([prompt], [phrase])
    tokens = backbone.pipeline.tokenizer(prompt).input_ids
    read = backbone.pipeline.tokenizer.decode([tokens[k] for k in text.spans[0]]) if text.spans[0] else ""
    assert read.split() == words


def test_a_phrase_of_many_pieces_has_all_of_them(backbone: StableDiffusion) -> None:
    text = backbone.encode_text(["a photo of an aeroplane and a dog"], ["aeroplane"])
    assert len(text.spans[0]) == 2 and text.spans[0][1] == text.spans[0][0] + 1


def test_a_phrase_that_is_not_in_its_prompt_is_refused(backbone: StableDiffusion) -> None:
    with pytest.raises(ValueError, match="'dog' is not in 'a cat'"):
        backbone.encode_text(["a cat"], ["dog"])
    with pytest.raises(ValueError, match="tokens that the encoder takes"):
        backbone.encode_text(["a photo of " * 20 + "a cat"], ["cat"])


def test_emphasis_moves_the_phrase_away_from_the_empty_prompt(backbone: StableDiffusion) -> None:
    plain = backbone.encode_text(["a photo of a potted plant"], ["potted plant"])
    strong = backbone.encode_text(["a photo of a potted plant"], ["potted plant"], 1.21, ["plant"])
    empty = backbone.encode_text([""], [""]).embeddings[0]
    column = plain.spans[0][-1]
    expected = empty[column] + 1.21 * (plain.embeddings[0, column] - empty[column])
    assert torch.allclose(strong.embeddings[0, column], expected, atol=1e-6)
    others = [k for k in range(plain.embeddings.shape[1]) if k != column]
    assert torch.equal(strong.embeddings[0, others], plain.embeddings[0, others])


def test_generation_is_seeded_and_can_be_stopped(backbone: StableDiffusion) -> None:
    (first,), (again,) = (backbone.generate("a cat", [5], Sampling(3, 2.0)) for _ in range(2))
    assert first.image.shape == (64, 64, 3) and first.latent.shape == (1, 4, 32, 32) and first.attribution is None
    assert np.array_equal(first.image, again.image)
    both = backbone.generate("a cat", [6, 5], Sampling(3, 2.0))
    assert torch.allclose(both[1].latent, first.latent, atol=1e-4) and not torch.allclose(both[0].latent, first.latent)
    steps = []

    def stop_at_two(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        backbone.generate("a cat", [5], Sampling(6, 2.0), on_step=stop_at_two)
    assert steps == [(1, 6), (2, 6)]


def test_attribution_is_the_mean_attention_of_the_phrase_on_conditional_rows(backbone: StableDiffusion) -> None:
    prompt, before = "a photo of a potted plant", dict(backbone.unet.attn_processors)
    made = backbone.generate(prompt, [1, 2], Sampling(1, 4.0, "blurry", dpm_solver=True), phrase="potted plant")
    assert dict(backbone.unet.attn_processors) == before
    text, scheduler = backbone.encode_text([prompt], ["potted plant"]), backbone.pipeline.scheduler
    scheduler.set_timesteps(1)
    assert len(text.spans[0]) >= 2
    for seed, one in zip((1, 2), made, strict=True):
        noise = torch.randn(1, 4, 32, 32, generator=generator(seed)) * scheduler.init_noise_sigma
        capture = Capture(cross=backbone.strides)
        with torch.no_grad(), recording(backbone.unet, backbone.sites, capture, (32, 32)) as recorder:
            backbone.unet(noise, scheduler.timesteps[0], encoder_hidden_states=text.embeddings)
        own = [cross[..., list(text.spans[0])].mean(-1) for cross in recorder.cross.values()]
        grown = [torch.nn.functional.interpolate(m[:, None], (32, 32), mode="bicubic")[0, 0].clamp(min=0) for m in own]
        assert len(grown) == sum(site.path.endswith("attn2") for site in backbone.sites)
        assert torch.allclose(one.attribution, torch.stack(grown).mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="'dog' is not in"):
        backbone.generate(prompt, [1], Sampling(1, 4.0), phrase="dog")


def test_visitors_at_once_get_what_each_would_get_alone(backbone: StableDiffusion) -> None:
    def picture(seed: int) -> np.ndarray:
        return backbone.generate("a cat", [seed], Sampling(3, 2.0))[0].image

    alone = [picture(seed) for seed in range(3)]
    together: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=lambda s=seed: together.__setitem__(s, picture(s))) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[seed], together[seed]) for seed in range(3))


@pytest.mark.parametrize("timestep", [-1, 1000])
def test_a_timestep_outside_the_schedule_is_refused(backbone: StableDiffusion, timestep: int) -> None:
    text = backbone.encode_text(["a cat"], ["cat"])
    with pytest.raises(ValueError, match="from 0 to 999"):
        backbone.trace(latents((1, 4, 16, 16)), text, timestep, EVERYTHING, seed=0)


@pytest.mark.parametrize("image_hw", [(60, 90), (1, 1), (500, 20), (3000, 4000)])
def test_working_size_keeps_the_aspect_on_the_coarsest_grid(backbone: StableDiffusion, image_hw: tuple[int, int]) -> None:
    height, width = backbone.working_hw(image_hw)
    assert height % 16 == 0 and width % 16 == 0
    assert 0.4 < height * width / 64**2 < 1.8
    if image_hw == (3000, 4000):
        assert height < width


def test_encoding_refuses_sides_off_the_grid(backbone: StableDiffusion) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        backbone.encode(np.zeros((50, 64, 3), np.uint8))
