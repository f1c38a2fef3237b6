import copy
import threading
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor

from ovseg.backbones.base import Ablation, Capture, Sampling, Site, Text, Trace, Watch, grid_at, query_states
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
        backbone.unet.get_submodule(site.name).register_forward_hook(lambda *_, site=site: ran.append(site))
        for site in backbone.sites
    ]
    backbone.trace(latents((1, 4, 16, 16)), text, 100, Capture(), seed=0)
    for hook in hooks:
        hook.remove()
    assert tuple(ran) == backbone.sites


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_traced_equals_untraced(backbone: StableDiffusion, dtype: torch.dtype) -> None:
    unet = copy.deepcopy(backbone.unet).to(dtype)
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
        backbone.unet.get_submodule(path).register_forward_hook(
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


def test_maps_are_diffusers_own_probabilities_on_diffusers_own_noised_latent(backbone: StableDiffusion) -> None:
    unet, latent_hw, inputs, expected = backbone.unet, (16, 24), {}, {}
    text, latent = backbone.encode_text(["a photo of a cat", ""], ["cat", ""]), latents((1, 4, *latent_hw), 7)
    noise = torch.randn(latent.shape, generator=generator(5))
    schedule = DDPMScheduler.from_config(backbone.pipeline.scheduler.config)
    noised = schedule.add_noise(latent, noise, torch.tensor([300]))
    before = dict(unet.attn_processors)
    unet.set_attn_processor({f"{site.name}.processor": Keeping(inputs, site) for site in backbone.sites})
    try:
        with torch.no_grad():
            unet(noised.expand(2, -1, -1, -1), 300, encoder_hidden_states=text.embeddings)
    finally:
        unet.set_attn_processor(before)
    for site, (query, key) in inputs.items():
        module = unet.get_submodule(site.name)
        scores = module.get_attention_scores(module.head_to_batch_dim(query), module.head_to_batch_dim(key))
        expected[site] = scores.unflatten(0, (2, module.heads)).mean(1)
    trace = backbone.trace(latent, text, 300, Capture(cross=STRIDES, states=selves(backbone)), seed=5)
    for site in (site for site in backbone.sites if site.kind == "cross"):
        assert torch.allclose(trace.cross[site].flatten(1, 2), expected[site], atol=1e-5)
    for stride in (1, 2, 4, 8):
        own = [maps for site, maps in expected.items() if site.kind == "self" and site.stride == stride]
        assert len(own) == {1: 5, 2: 5, 4: 5, 8: 1}[stride]
        assert torch.allclose(self_attention(trace)[stride], torch.stack(own).mean(0), atol=1e-5)


class Keeping(AttnProcessor):
    """diffusers' plain attention, which keeps the queries and keys of a site."""

    def __init__(self, kept: dict, site: Site) -> None:
        self.kept, self.site = kept, site

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        self.kept[self.site] = attn.to_q(hidden_states), attn.to_k(context)
        return super().__call__(attn, hidden_states, encoder_hidden_states)


def test_processors_and_hooks_are_as_before_after_an_exception(backbone: StableDiffusion) -> None:
    unet = backbone.unet
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


def test_a_phrase_is_a_whole_word(backbone: StableDiffusion) -> None:
    tokens = backbone.pipeline.tokenizer("a carpet and a car").input_ids
    text = backbone.encode_text(["a carpet and a car"], ["car"])
    assert text.spans == ((len(tokens) - 2,),)  # the last one before the end token, no part of "carpet"


def test_a_phrase_of_many_pieces_has_all_of_them(backbone: StableDiffusion) -> None:
    text = backbone.encode_text(["a photo of an aeroplane and a dog"], ["aeroplane"])
    assert len(text.spans[0]) == 2 and text.spans[0][1] == text.spans[0][0] + 1


def test_a_phrase_that_is_not_in_its_prompt_is_refused(backbone: StableDiffusion) -> None:
    with pytest.raises(ValueError, match="'dog' is not in 'a cat'"):
        backbone.encode_text(["a cat"], ["dog"])
    with pytest.raises(ValueError, match="must fit 32 tokens, but it has"):
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


def test_a_picture_is_the_one_that_plain_diffusers_draws(backbone: StableDiffusion) -> None:
    sampling = Sampling(3, 5.0, "a dog on grass")
    (made,) = backbone.generate("a photo of a cat", [9], sampling)
    plain = backbone.pipeline(
        "a photo of a cat", negative_prompt=sampling.negative, num_inference_steps=3, guidance_scale=5.0,
        generator=generator(9), output_type="np",
    ).images[0]  # fmt: skip
    assert plain.std() > 0.02
    assert np.abs(made.image / 255 - plain).max() < 1.5 / 255
    (other,) = backbone.generate("a photo of a cat", [9], Sampling(3, 5.0, "a bus"))
    assert not np.array_equal(other.image, made.image)


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
    network = copy.deepcopy(backbone.unet)
    name = fingerprint(network)
    in_memory = StableDiffusion(backbone.pipeline, "not from files", "cpu")
    assert name in in_memory.fingerprint and fingerprint(network.double()) == name
    with torch.no_grad():
        network.conv_in.weight.mul_(1.5)
    assert fingerprint(network) != name


def test_text_is_cut_into_parts_with_their_own_spans(backbone: StableDiffusion) -> None:
    words = ["cat", "potted plant", "dog"]
    text = backbone.encode_text([f"a photo of a {word}" for word in words], words)
    parts = list(text.split(2))
    assert [part.prompts for part in parts] == [text.prompts[:2], text.prompts[2:]]
    assert [part.spans for part in parts] == [text.spans[:2], text.spans[2:]]
    assert torch.equal(parts[1].embeddings, text.embeddings[2:])


def test_a_word_in_a_sentence_is_the_mean_of_its_own_tokens(backbone: StableDiffusion) -> None:
    (state,) = query_states(backbone, ["potted plant"], "a photo of a {} on grass")
    text = backbone.encode_text(["a photo of a potted plant on grass"], ["potted plant"])
    assert len(text.spans[0]) >= 2
    assert torch.allclose(state, text.embeddings[0, list(text.spans[0])].mean(0), atol=1e-6)


def test_attribution_is_the_mean_attention_of_the_phrase_on_conditional_rows(backbone: StableDiffusion) -> None:
    prompt, before = "a photo of a potted plant", dict(backbone.unet.attn_processors)
    made = backbone.generate(prompt, [1, 2], Sampling(1, 4.0, "blurry", dpm_solver=True), phrase="potted plant")
    assert dict(backbone.unet.attn_processors) == before
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


def test_a_watched_generation_hands_over_a_trace_of_every_pass(backbone: StableDiffusion) -> None:
    prompt, sampling, before = "a photo of a cat", Sampling(3, 4.0, "blurry"), dict(backbone.unet.attn_processors)
    capture, seen = Capture(cross=(1, 4), features=(2,), states=selves(backbone)), []
    with counting() as count:
        watched = backbone.generate(prompt, [1, 2], sampling, watch=Watch(capture, seen.append))
    plain = backbone.generate(prompt, [1, 2], sampling)
    assert all((a.latent - b.latent).abs().max() < 1e-4 for a, b in zip(watched, plain, strict=True))
    assert (count.passes, count.rows) == (3, 12) and dict(backbone.unet.attn_processors) == before
    assert tuple(trace.timestep for trace in seen) == backbone.timesteps(sampling)
    text = backbone.encode_text([prompt], [""])
    for trace in seen:
        assert trace.text.prompts == (prompt, prompt) and trace.noised.shape == (2, 4, 32, 32)
        for row in range(2):
            alone = backbone.trace_noised(trace.noised[row : row + 1], text, trace.timestep, capture)
            for name in ("cross", "features"):
                own, other = getattr(trace, name), getattr(alone, name)
                assert own.keys() == other.keys() and own
                assert all(torch.allclose(own[key][row], other[key][0], atol=1e-4) for key in own)
            assert all(torch.allclose(trace.states[s].query[row], alone.states[s].query[0], atol=1e-4) for s in alone.states)
            assert torch.allclose(self_attention(trace)[8][row], self_attention(alone)[8][0], atol=1e-4)
    with pytest.raises(ValueError, match="gather a phrase's attention or be watched, but both"):
        backbone.generate(prompt, [1], sampling, phrase="cat", watch=Watch(capture, seen.append))
    with pytest.raises(ValueError, match="1 step or more"):
        backbone.timesteps(Sampling(0, 4.0))


def test_a_watcher_stops_a_generation(backbone: StableDiffusion) -> None:
    seen, before = [], dict(backbone.unet.attn_processors)

    def stop_at_two(trace: Trace) -> None:
        seen.append(trace)
        if len(seen) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        backbone.generate("a cat", [1], Sampling(5, 2.0), watch=Watch(Capture(cross=(1,)), stop_at_two))
    assert len(seen) == 2 and dict(backbone.unet.attn_processors) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.unet.modules())


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
    together: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=lambda s=seed: together.__setitem__(s, picture(s))) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[seed], together[seed]) for seed in range(3))


def test_passes_are_counted_for_each_visitor_alone(backbone: StableDiffusion) -> None:
    text, latent = backbone.encode_text(["a cat", "a dog", ""], ["cat", "dog", ""]), latents((1, 4, 16, 16))
    counts = {}

    def work(steps: int) -> None:
        with counting() as both:
            backbone.generate("a cat", [1, 2], Sampling(steps, 2.0))
            with counting() as inner:
                backbone.trace(latent, text, 100, Capture(cross=(1,)), seed=0)
        backbone.trace(latent, text, 100, Capture(cross=(1,)), seed=0)  # behind the blocks: counted nowhere
        counts[steps] = (both.passes, both.rows, inner.passes, inner.rows)

    threads = [threading.Thread(target=work, args=(steps,)) for steps in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {1: (2, 7, 1, 3), 3: (4, 15, 1, 3)}


@pytest.mark.parametrize("timestep", [-1, 1000])
def test_a_timestep_outside_the_schedule_is_refused(backbone: StableDiffusion, timestep: int) -> None:
    text = backbone.encode_text(["a cat"], ["cat"])
    with pytest.raises(ValueError, match="from 0 to 999"):
        backbone.trace(latents((1, 4, 16, 16)), text, timestep, Capture(), seed=0)


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
