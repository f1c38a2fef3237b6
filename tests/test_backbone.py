import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from ovseg.backbones.base import Ablation, Capture, Sampling, Site, Text, Trace, Watch, grid_at
from ovseg.backbones.counting import counting
from ovseg.backbones.recording import Recorder
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.backbones.unet_layout import find_blocks, find_sites
from ovseg.backbones.weights import fingerprint, generator
from ovseg.models import Models
from ovseg.progress import StoppedError
from tests.self_attention import self_attention, selves

STRIDES = (1, 2, 4, 8)
MIDDLE = "mid_block.attentions.0.transformer_blocks.0"


def latents(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))


@pytest.fixture(scope="module")
def backbone(models: Models) -> StableDiffusion:
    return models.backbone


def everything(backbone: StableDiffusion) -> Capture:
    return Capture(cross=STRIDES, phrases=STRIDES, states=selves(backbone))


def test_the_sites_of_stable_diffusion_have_the_strides_of_their_blocks() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    sites = find_sites(unet)
    assert [site.kind for site in sites] == ["self", "cross"] * 16
    cross = [site for site in sites if site.kind == "cross"]
    assert [site.stride for site in cross] == [1, 1, 2, 2, 4, 4, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1]
    assert cross[6] == Site(f"{MIDDLE}.attn2", 8, "cross", MIDDLE)


def test_the_blocks_of_stable_diffusion_are_those_of_its_first_code() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    blocks = find_blocks(unet)
    assert {stride: len(paths) for stride, paths in blocks.items()} == {1: 7, 2: 6, 4: 6, 8: 6}  # Grounded Diffusion, code
    assert blocks[1][0] == "conv_in" and blocks[1][-1] == "up_blocks.3.attentions.2"
    assert blocks[8] == (
        "down_blocks.2.downsamplers.0", "down_blocks.3.resnets.0", "down_blocks.3.resnets.1", "mid_block",
        "up_blocks.0.resnets.0", "up_blocks.0.resnets.1",
    )  # fmt: skip


def test_sites_come_in_the_order_of_computing(backbone: StableDiffusion) -> None:
    text, ran = backbone.encode_text([""], [""]), []
    hooks = [
        backbone.network.get_submodule(site.name).register_forward_hook(lambda *_, site=site: ran.append(site))
        for site in backbone.sites
    ]
    backbone.trace(latents((1, 4, 16, 16)), text, 100, Capture(), seed=0)
    for hook in hooks:
        hook.remove()
    assert tuple(ran) == backbone.sites


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_traced_equals_untraced(backbone: StableDiffusion, dtype: torch.dtype) -> None:
    unet = copy.deepcopy(backbone.network).to(dtype)
    x, text = latents((2, 4, 16, 24)).to(dtype), latents((2, 7, 16), 1).to(dtype)
    with torch.no_grad():
        plain = unet(x, 100, encoder_hidden_states=text).sample
        prompts = Text(("", ""), text, ((1,), (2, 3)))
        with Recorder(backbone.layout, everything(backbone), prompts, (16, 24)).attached(unet):
            traced = unet(x, 100, encoder_hidden_states=text).sample
    assert plain.std() > 0.01 and torch.equal(traced, plain)


@pytest.mark.parametrize("latent_hw", [(16, 24), (32, 16), (18, 10)])
def test_recorded_maps_have_their_grids_and_sum_to_one(backbone: StableDiffusion, latent_hw: tuple[int, int]) -> None:
    text = backbone.encode_text(["a photo of a cat", "a photo of a potted plant"], ["cat", "potted plant"])
    trace = backbone.trace(latents((1, 4, *latent_hw)), text, 100, everything(backbone), seed=0)
    assert len(trace.cross) == 16 and trace.phrases.keys() == trace.cross.keys()
    for site, probabilities in trace.cross.items():
        assert probabilities.shape == (2, *grid_at(latent_hw, site.stride), text.embeddings.shape[1])
        assert torch.allclose(probabilities.sum(-1), torch.ones(1), atol=1e-5)
        own = torch.stack([probabilities[row][..., list(span)].mean(-1) for row, span in enumerate(text.spans)])
        assert torch.allclose(trace.phrases[site], own, atol=1e-7)
    assert sorted(self_attention(trace)) == [1, 2, 4, 8]
    for stride, probabilities in self_attention(trace).items():
        places = np.prod(grid_at(latent_hw, stride))
        assert probabilities.shape == (2, places, places)
        assert torch.allclose(probabilities.sum(-1), torch.ones(1), atol=1e-5)


def test_only_what_was_asked_for_is_recorded(backbone: StableDiffusion) -> None:
    site = next(s for s in backbone.sites if s.kind == "cross" and s.stride == 2)
    capture = Capture(cross=(4,), queries=(site,), features=(2, 8))
    text = backbone.encode_text(["a cat"], ["cat"])
    trace = backbone.trace(latents((1, 4, 16, 24)), text, 50, capture, seed=0)
    assert {s.stride for s in trace.cross} == {4}
    assert not trace.states and not trace.phrases
    assert trace.queries[site].shape == (1, 16, 8, 12)
    assert {s: maps.shape for s, maps in trace.features.items()} == {2: (1, 112, 8, 12), 8: (1, 192, 2, 3)}


def test_features_are_the_blocks_outputs_in_the_order_of_computing(backbone: StableDiffusion) -> None:
    outputs: list[torch.Tensor] = []
    paths = (
        "down_blocks.0.downsamplers.0", "down_blocks.1.attentions.0", "down_blocks.1.attentions.1",
        "up_blocks.1.upsamplers.0", "up_blocks.2.attentions.0", "up_blocks.2.attentions.1",
    )  # fmt: skip
    hooks = [
        backbone.network.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output if torch.is_tensor(output) else output[0])
        )
        for path in paths
    ]
    text = backbone.encode_text(["a cat"], ["cat"])
    trace = backbone.trace(latents((1, 4, 16, 24)), text, 50, Capture(features=(2,)), seed=0)
    for hook in hooks:
        hook.remove()
    assert torch.equal(trace.features[2], torch.cat(outputs, 1))


def test_attention_to_phrases_needs_a_phrase_in_each_prompt(backbone: StableDiffusion) -> None:
    text = backbone.encode_text(["a cat", "a cat"], ["cat", ""])
    with pytest.raises(ValueError, match="needs a phrase in every prompt"):
        backbone.trace(latents((1, 4, 16, 16)), text, 100, Capture(phrases=(1,)), seed=0)


def test_processors_and_hooks_are_as_before_after_an_exception(backbone: StableDiffusion) -> None:
    unet = backbone.network
    before = dict(unet.attn_processors)
    capture = Capture(cross=(1,), features=(8,))
    off = Ablation(((backbone.sites[0], 0),), (backbone.sites[1],), (2,))
    recorder = Recorder(backbone.layout, capture, backbone.encode_text([""], [""]), (8, 8), off)
    with pytest.raises(KeyError), recorder.attached(unet):
        assert any(module._forward_pre_hooks for module in unet.modules()) and torch.overrides._len_torch_function_stack()
        raise KeyError
    assert unet.attn_processors == before and not torch.overrides._len_torch_function_stack()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize(
    "capture, sentence",
    [
        (Capture(features=(1, 3)), "of the strides 1, 2, 4, 8, but got 3"),
        (Capture(queries=(Site("elsewhere", 1, "cross"),)), "it has no 'elsewhere'"),
    ],
)
def test_what_the_network_does_not_have_is_refused(backbone: StableDiffusion, capture: Capture, sentence: str) -> None:
    text = backbone.encode_text(["a cat"], ["cat"])
    with pytest.raises(ValueError, match=sentence):
        backbone.trace(latents((1, 4, 16, 16)), text, 50, capture, seed=0)


@pytest.mark.parametrize(
    "prompt, phrase, words",
    [
        ("a photo of a cat", "cat", ["cat"]),
        ("a photo of a potted plant on grass", "potted plant", ["potted", "plant"]),
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


def test_a_phrase_is_a_whole_word(backbone: StableDiffusion) -> None:
    tokens = backbone.pipeline.tokenizer("a carpet and a car").input_ids
    text = backbone.encode_text(["a carpet and a car"], ["car"])
    assert text.spans == ((len(tokens) - 2,),)  # the last one before the end token, no part of "carpet"


def test_generation_can_be_stopped(backbone: StableDiffusion) -> None:
    steps = []

    def stop_at_two(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        backbone.generate("a cat", [5], Sampling(6, 2.0), on_step=stop_at_two)
    assert steps == [(1, 6), (2, 6)]


def test_latents_are_scaled_as_diffusers_scales_them(backbone: StableDiffusion) -> None:
    image = np.random.default_rng(3).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    pixels = backbone.pipeline.image_processor.preprocess(image[None] / np.float32(255))
    with torch.no_grad():
        posterior = backbone.vae.encode(pixels).latent_dist
    scaling = backbone.vae.config.scaling_factor
    assert scaling != 1 and torch.allclose(backbone.encode(image), posterior.mean * scaling, atol=1e-5)
    one, again, other = (backbone.encode(image, sample_seed=seed) for seed in (1, 1, 2))
    assert torch.allclose(one, posterior.sample(generator(1)) * scaling, atol=1e-5)
    assert torch.equal(one, again) and not torch.allclose(one, other)


def test_a_picture_takes_more_memory_where_self_attention_is_kept(backbone: StableDiffusion) -> None:
    plain, kept = (backbone.rows_per_pass((256, 256), Capture(states=sites)) for sites in ((), selves(backbone, 1)))
    assert 1 <= kept < plain


def test_weights_have_a_name_that_follows_them(backbone: StableDiffusion) -> None:
    network = copy.deepcopy(backbone.network)
    name = fingerprint(network)
    in_memory = StableDiffusion(backbone.pipeline, "not from files", "cpu")
    assert name in in_memory.fingerprint and fingerprint(network.double()) == name
    with torch.no_grad():
        network.conv_in.weight.mul_(1.5)
    assert fingerprint(network) != name


def test_attribution_is_the_mean_attention_of_the_phrase_on_conditional_rows(backbone: StableDiffusion) -> None:
    prompt, before = "a photo of a potted plant", dict(backbone.network.attn_processors)
    made = backbone.generate(prompt, [1, 2], Sampling(1, 4.0, "blurry", dpm_solver=True), phrase="potted plant")
    assert dict(backbone.network.attn_processors) == before
    text, scheduler = backbone.encode_text([prompt], ["potted plant"]), backbone.pipeline.scheduler
    scheduler.set_timesteps(1)
    assert len(text.spans[0]) >= 2
    for seed, one in zip((1, 2), made, strict=True):
        noise = torch.randn(1, 4, 32, 32, generator=generator(seed)) * scheduler.init_noise_sigma
        trace = backbone.trace_noised(noise, text, int(scheduler.timesteps[0]), Capture(cross=backbone.strides))
        own = [cross[..., list(text.spans[0])].mean(-1) for cross in trace.cross.values()]
        grown = [torch.nn.functional.interpolate(m[:, None], (32, 32), mode="bicubic")[0, 0].clamp(min=0) for m in own]
        assert len(grown) == sum(site.kind == "cross" for site in backbone.sites)
        assert torch.allclose(one.attribution, torch.stack(grown).mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="'dog' is not in"):
        backbone.generate(prompt, [1], Sampling(1, 4.0), phrase="dog")


def test_a_watcher_stops_a_generation(backbone: StableDiffusion) -> None:
    seen, before = [], dict(backbone.network.attn_processors)

    def stop_at_two(trace: Trace) -> None:
        seen.append(trace)
        if len(seen) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        backbone.generate("a cat", [1], Sampling(5, 2.0), watch=Watch(Capture(cross=(1,)), stop_at_two))
    assert len(seen) == 2 and dict(backbone.network.attn_processors) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.network.modules())


def test_tokens_say_what_each_column_reads(backbone: StableDiffusion) -> None:
    prompt = "A photo of a potted plant"
    tokens, text = backbone.tokens(prompt), backbone.encode_text([prompt], ["potted plant"])
    assert len(tokens) == text.embeddings.shape[1]
    words = [k for k, token in enumerate(tokens) if token.kind == "word"]
    assert [tokens[k].kind for k in (0, words[-1] + 1, words[-1] + 2)] == ["start", "end", "padding"]
    assert words == list(range(1, len(words) + 1)) and all(token.kind == "padding" for token in tokens[words[-1] + 2 :])
    assert "".join(tokens[k].text for k in words) == prompt.lower().replace(" ", "")
    assert all(prompt[tokens[k].begin : tokens[k].end].strip().lower() == tokens[k].text for k in words)
    assert tuple(k for k in words if tokens[k].begin >= prompt.index("potted")) == text.spans[0]
    with pytest.raises(ValueError, match="please shorten it"):
        backbone.tokens("a photo of " * 20)


def test_visitors_at_once_get_what_each_would_get_alone(backbone: StableDiffusion) -> None:
    def picture(seed: int) -> np.ndarray:
        return backbone.generate("a cat", [seed], Sampling(3, 2.0))[0].image

    alone = [picture(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(picture, range(3)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_passes_are_counted_for_each_visitor_alone(backbone: StableDiffusion) -> None:
    text, latent = backbone.encode_text(["a cat", "a dog", ""], ["cat", "dog", ""]), latents((1, 4, 16, 16))

    def work(steps: int) -> tuple[int, ...]:
        with counting() as both:
            backbone.generate("a cat", [1, 2], Sampling(steps, 2.0))
            with counting() as inner:
                backbone.trace(latent, text, 100, Capture(cross=(1,)), seed=0)
        backbone.trace(latent, text, 100, Capture(cross=(1,)), seed=0)  # behind the blocks: counted nowhere
        return both.passes, both.rows, inner.passes, inner.rows

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, (1, 3))) == [(2, 7, 1, 3), (4, 15, 1, 3)]


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
