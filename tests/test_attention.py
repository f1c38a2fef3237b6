"""`Attention`: what is gathered is what traces give, and looking at it needs no network."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.attention import (
    Attention,
    Inspection,
    beside_a_pass,
    draw_inside,
    heads_of,
    look_inside,
    plan_drawing,
    plan_looking,
    word_later,
)  # fmt: skip
from ovseg.attention.plan import parse_levels, token_groups
from ovseg.backbones import BACKBONES, Capture, counting
from ovseg.backbones.base import Sampling, Site
from ovseg.maths.maps import normalise, resize
from ovseg.models import Models
from ovseg.progress import StoppedError
from ovseg.reading.shares import shares_of
from ovseg.scene import from_image
from ovseg.types import Scene
from tests.self_attention import self_attention, selves
from tests.test_other_backbones import ROW

PROMPT, LEVELS = "a photo of a potted plant", (20, 300, 800)
INSPECTION = Inspection(PROMPT)
HALF = {"atol": 5e-4, "rtol": 2e-3}  # what half precision may change


@pytest.fixture(scope="module")
def patches(patches_file: Path) -> Iterator[Models]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "patches", replace(ROW, source=str(patches_file)))
        yield Models("patches", device="cpu")


@pytest.fixture(scope="module")
def joint(joint_folder: Path) -> Models:
    return Models(str(joint_folder), device="cpu")


@pytest.fixture(scope="module", params=["unet", "patches", "joint"])
def network(request: pytest.FixtureRequest, models: Models, patches: Models, joint: Models) -> Models:
    return {"unet": models, "patches": patches, "joint": joint}[request.param]


@pytest.fixture(scope="module")
def scene(network: Models) -> Scene:
    return from_image(network, np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8), seed=3)


@pytest.fixture(scope="module")
def looked(network: Models, scene: Scene) -> Attention:
    return look_inside(network, scene, INSPECTION, LEVELS)


def columns_of(models: Models) -> tuple[tuple[int, ...], ...]:
    return token_groups(models.backbone.tokens(PROMPT))[1]


def test_a_tokens_map_at_a_layer_and_level_is_what_trace_gives(network: Models, scene: Scene, looked: Attention) -> None:
    backbone = network.backbone
    text, capture, seen = backbone.encode_text([PROMPT], [""]), Capture(cross=backbone.strides), 0
    assert tuple(looked.cross) == tuple(site for site in backbone.sites if site.kind == "cross")
    for level, timestep in enumerate(LEVELS):
        trace = backbone.trace(scene.latent, text, timestep, capture, scene.seed)
        for site, maps in trace.cross.items():
            assert looked.cross[site].dtype == np.float16
            for token, own in enumerate(columns_of(network)):
                expected = maps[0, ..., list(own)].sum(-1).to(torch.float16).float().numpy()
                rounding = 0 if len(own) == 1 else 1e-3  # a sum may be taken in another order
                assert np.allclose(looked.cross[site][level, token].astype(np.float32), expected, rtol=rounding, atol=0), (
                    site,
                    level,
                    token,
                )
                seen += 1
    assert seen == len(LEVELS) * len(looked.cross) * len(looked.tokens)


def test_tokens_are_named_and_all_padding_is_one(network: Models, looked: Attention) -> None:
    pieces = [looked.token_name(k) for k in looked.words]
    assert "".join(pieces).replace(" ", "") == PROMPT.replace(" ", "")
    assert [token.kind for token in looked.tokens].count("padding") == 1 and looked.tokens[-1].kind == "padding"
    every = [k for own in columns_of(network) for k in own]
    assert sorted(every) == list(range(len(network.backbone.tokens(PROMPT))))
    for maps in looked.cross.values():
        received = maps.astype(np.float32).sum(1)
        shares_softmax = network.backbone.keys(next(iter(looked.cross)), looked.latent_hw) > len(every)
        assert (received < 0.9).all() if shares_softmax else np.allclose(received, 1, atol=2e-3)


def test_one_pass_for_each_noise_level_and_none_to_look(network: Models, scene: Scene) -> None:
    with counting() as count:
        attention = look_inside(network, scene, INSPECTION, LEVELS)
    assert (count.passes, count.rows) == (3, 3)
    plan = plan_looking(network, scene.image.shape[:2], INSPECTION, LEVELS)
    assert (plan.passes, plan.rows, plan.timesteps) == (3, 3, LEVELS)
    with counting() as count:
        for stride in attention.strides:
            attention.fused(1, {stride: 1.0})
        attention.rows_from(0.3, 0.7)
        attention.stride_maps(1, [0])
    assert count.passes == 0


@pytest.mark.parametrize("keep", ["every", "middle", "none"])
def test_what_it_takes_in_memory_is_known_before(network: Models, scene: Scene, keep: str) -> None:
    inspection = replace(INSPECTION, keep=keep)
    attention = look_inside(network, scene, inspection, LEVELS)
    arrays = [attention.image, attention.noised, *attention.cross.values()]
    arrays += [array for states in attention.states.values() for array in (states.query.numpy(), states.key.numpy())]
    actual = sum(array.nbytes for array in arrays)
    assert actual == attention.nbytes == plan_looking(network, scene.image.shape[:2], inspection, LEVELS).memory
    sampling = Sampling(2, 3.0)
    _, drawn = draw_inside(network, inspection, sampling)
    assert drawn.nbytes == plan_drawing(network, inspection, sampling).memory
    # Not one array grows with the square of a grid's places.
    places = max(np.prod(maps.shape[-2:]) for maps in attention.cross.values())
    assert all(array.size < len(LEVELS) * places**2 for array in arrays[2:])


def test_too_much_memory_is_refused_before_the_network_runs(network: Models, scene: Scene) -> None:
    memory = plan_looking(network, scene.image.shape[:2], INSPECTION, LEVELS).memory
    look_inside(network, scene, replace(INSPECTION, most_bytes=memory), LEVELS)
    with counting() as count, pytest.raises(ValueError, match=r"at most, but would take .* self-attention at fewer of them"):
        look_inside(network, scene, replace(INSPECTION, most_bytes=memory - 1), LEVELS)
    with counting() as drawing, pytest.raises(ValueError, match=r"The result must take 0\.001 MB at most"):
        draw_inside(network, replace(INSPECTION, most_bytes=1000), Sampling(2, 3.0))
    with pytest.raises(ValueError, match="1 noise level or more"):
        look_inside(network, scene, INSPECTION, ())
    assert count.passes == drawing.passes == 0


def test_every_step_of_a_drawing_is_a_trace_of_that_step(network: Models) -> None:
    backbone, sampling = network.backbone, Sampling(3, 4.0, "blurry")
    with counting() as count:
        made, drawn = draw_inside(network, INSPECTION, sampling, seed=5)
    plan = plan_drawing(network, INSPECTION, sampling)
    assert (count.passes, count.rows) == (plan.passes, plan.rows) == (3, 6)
    (plain,) = backbone.generate(PROMPT, [5], sampling)
    assert np.abs(made.image.astype(int) - plain.image).max() <= 1 and np.array_equal(drawn.image, made.image)
    assert drawn.is_drawn and drawn.timesteps == backbone.timesteps(sampling) and drawn.timesteps[0] > drawn.timesteps[-1]
    text, selves = backbone.encode_text([PROMPT], [""]), tuple(s for s in backbone.sites if s.kind == "self")
    for level, timestep in enumerate(drawn.timesteps):
        noised = torch.from_numpy(drawn.noised[level : level + 1]).to(made.latent)
        trace = backbone.trace_noised(noised, text, timestep, Capture(cross=backbone.strides, states=selves))
        for site, maps in trace.cross.items():
            for token, own in enumerate(columns_of(network)):
                expected = maps[0, ..., list(own)].sum(-1).float().numpy()
                assert np.allclose(drawn.cross[site][level, token].astype(np.float32), expected, **HALF)
        for site, states in trace.states.items():
            assert np.allclose(drawn.states[site].query[level], states.query[0].float(), atol=0.01)
    # The steps differ: no level stands for another.
    site = next(iter(drawn.cross))
    assert not np.array_equal(drawn.cross[site][0], drawn.cross[site][1])
    assert drawn.level_name(1) == f"step 2 (t = {drawn.timesteps[1]:g})"


def test_a_place_attends_to_what_the_whole_self_attention_says(network: Models, scene: Scene, looked: Attention) -> None:
    backbone = network.backbone
    text, capture = backbone.encode_text([PROMPT], [""]), Capture(states=selves(backbone))
    x, y = 0.8, 0.3  # another place if the two are swapped, on every grid with more than a place
    for level, timestep in enumerate(LEVELS):
        trace = backbone.trace(scene.latent, text, timestep, capture, scene.seed)
        found, whole = looked.rows_from(x, y, [level]), self_attention(trace)
        assert found.keys() == whole.keys()
        for stride, row in found.items():
            rows, columns = looked.grid(stride)
            place = min(int(y * rows), rows - 1) * columns + min(int(x * columns), columns - 1)
            expected = whole[stride][0, place].reshape(rows, columns).float().numpy()
            assert np.allclose(row, expected, **HALF) and row.sum() == pytest.approx(expected.sum(), abs=1e-3)
    mean = looked.rows_from(x, y)
    for stride, row in mean.items():
        each = [looked.rows_from(x, y, [level])[stride] for level in range(3)]
        assert np.allclose(row, np.mean(each, axis=0), atol=1e-6)
    assert all(np.isfinite(row).all() for row in looked.rows_from(1.0, 1.0).values())


def test_self_attention_is_kept_where_it_was_asked_for(network: Models, scene: Scene) -> None:
    middle = look_inside(network, scene, replace(INSPECTION, keep="middle"), LEVELS)
    every = look_inside(network, scene, INSPECTION, LEVELS)
    assert middle.kept == (1,) and middle.kept_near(0) == middle.kept_near(2) == 1 and every.kept_near(2) == 2
    for stride, row in middle.rows_from(0.2, 0.9).items():
        assert np.array_equal(row, every.rows_from(0.2, 0.9, [1])[stride])
    with pytest.raises(ValueError, match="kept at noise level 300, but noise level 20 was asked for"):
        middle.rows_from(0.2, 0.9, [0])
    none = look_inside(network, scene, replace(INSPECTION, keep="none"), LEVELS)
    assert none.kept_near(1) is None and not none.states
    with pytest.raises(ValueError, match="kept at a level to be looked at, but it was kept at none"):
        none.rows_from(0.2, 0.9)
    with pytest.raises(ValueError, match="must lie within the picture, 0 to 1, but got x 1"):
        every.rows_from(1.2, 0.9)


def test_fusing_weighs_the_resolutions(models: Models, picture: np.ndarray) -> None:
    attention = look_inside(models, from_image(models, picture), INSPECTION, LEVELS)
    token, weights = attention.words[4], {1: 0.5, 4: 1.5}
    expected = 0.0
    for stride, weight in weights.items():
        maps = [m.astype(np.float32)[1:, token].mean(0) for s, m in attention.cross.items() if s.stride == stride]
        grown = normalise(resize(torch.from_numpy(np.mean(maps, axis=0))[None], attention.latent_hw))[0]
        expected = expected + weight / 2.0 * grown.numpy()
    fused = attention.fused(token, weights, [1, 2])
    assert fused.shape == attention.latent_hw and np.allclose(fused, expected, atol=1e-5)
    assert not np.allclose(fused, attention.fused(token, weights), atol=1e-3)
    with pytest.raises(ValueError, match="must have a weight above 0"):
        attention.fused(token, {1: 0.0})


def test_heads_count_where_the_word_is(models: Models, joint: Models) -> None:
    """Each head's output by a loop, times that of all heads; places by what the word receives there."""
    scene = from_image(models, np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8), seed=3)
    looked, weights = look_inside(models, scene, INSPECTION, LEVELS), {2: 1.0}
    shares = shares_of(models, looked, 1, 4, weights)
    assert shares.sites == tuple(looked.cross) and shares.layers.min() >= 0 and abs(shares.layers.sum() - 1) < 1e-5
    site = shares.sites[3]
    text, noised = models.backbone.encode_text([PROMPT], [""]), torch.from_numpy(looked.noised[1:2])
    layer = models.backbone.trace_noised(noised, text, LEVELS[1], Capture(states=(site,))).states[site]
    outputs = []
    for attended, value, out in zip(
        layer.probabilities()[0], layer.value()[0], layer.out.chunk(layer.query.shape[1], 1), strict=True
    ):
        outputs.append(attended @ value @ out.T)
    whole = sum(outputs)
    received = resize(torch.from_numpy(looked.fused(4, weights, [1]))[None], layer.grid).flatten()
    expected = [float(((one * whole).sum(1) / (whole**2).sum(1) * received).sum() / received.sum()) for one in outputs]
    assert np.allclose(shares.heads[3], expected, atol=1e-3) and np.ptp(shares.heads[3]) > 1e-3
    assert not np.allclose(shares.heads[3], shares_of(models, looked, 1, 0, weights).heads[3], atol=1e-5)
    with pytest.raises(ValueError, match="must be those of this backbone"):
        shares_of(joint, looked, 1, 4, weights)


def test_heads_apart_are_those_whose_mean_was_kept(network: Models) -> None:
    _, drawn = draw_inside(network, INSPECTION, Sampling(2, 3.0))
    apart = 0
    for site in drawn.cross:
        with counting() as count:
            heads = heads_of(network, drawn, site, 1)
        assert (count.passes, count.rows) == (1, 1)
        assert heads.maps.shape[1:] == drawn.cross[site].shape[1:]
        assert np.allclose(heads.maps.astype(np.float32).mean(0), drawn.cross[site][1].astype(np.float32), **HALF)
        apart += len(heads.maps) > 1
        assert len(heads.maps) == 1 or not np.array_equal(heads.maps[0], heads.maps[1])
    assert apart > 1
    with pytest.raises(ValueError, match=r"must be one of the .* that were looked at, but got 'elsewhere'"):
        heads_of(network, drawn, Site("elsewhere", 1, "cross"), 0)


def test_a_report_stops_it(models: Models, picture: np.ndarray) -> None:
    def stop(stage: str, share: float) -> None:
        if share > 0.3:
            raise StoppedError

    with counting() as count, pytest.raises(StoppedError):
        look_inside(models, from_image(models, picture), INSPECTION, LEVELS, stop)
    assert count.passes == 1
    with counting() as count, pytest.raises(StoppedError):
        draw_inside(models, INSPECTION, Sampling(6, 1.0), report=stop)
    assert count.passes == 3


def test_noise_levels_are_read() -> None:
    assert parse_levels(" 300,20 , 0") == (0, 20, 300)
    for text, sentence in (
        (" , ", "none was given"), ("20, x", "whole number, 0 or more, but got 'x'"), ("-1", "but got '-1'"),
        ("0, 0", "given once, but 0 is there twice"),
        (",".join(map(str, range(101))), "noise levels must be 100 at most, but got 101"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            parse_levels(text)


def test_a_word_is_answered_later_from_kept_queries(models: Models, picture: np.ndarray) -> None:
    """Of a pass with the same sentence the answer is that of the pass; of another it is near, and no pass is run."""
    scene, weights = from_image(models, picture, seed=3), {1: 0.2, 2: 0.5, 4: 0.3}
    inspection = Inspection("dog", words_later=True)
    looked = look_inside(models, scene, inspection, (50, 100))
    plan = plan_looking(models, picture.shape[:2], inspection, (50, 100))
    assert looked.nbytes == plan.memory > plan_looking(models, picture.shape[:2], Inspection("dog"), (50, 100)).memory
    with counting() as count:
        later = word_later(models, looked, "dog", weights, level=1)
    assert count.passes == 0
    own = looked.tokens.index(next(token for token in looked.tokens if token.kind == "word"))
    sharp = looked.fused(own, weights, levels=(1,))
    assert np.allclose(later, sharp, atol=0.05) and np.corrcoef(later.ravel(), sharp.ravel())[0, 1] > 0.99
    with counting() as count:
        both = beside_a_pass(models, looked, "dog", weights, level=1)
    assert count.passes == 1 and both.iou > 0.9 and np.allclose(both.by_pass, sharp, atol=0.05)
    other = beside_a_pass(models, looked, "potted plant", weights, level=1)
    assert np.array_equal(other.from_queries, word_later(models, looked, "potted plant", weights, level=1))
    assert not np.allclose(other.from_queries, later, atol=0.05) and 0 <= other.iou <= 1
    assert len(pickle.dumps(looked)) > looked.nbytes
    with pytest.raises(ValueError, match="where queries were kept"):
        word_later(models, look_inside(models, scene, Inspection("dog"), (100,)), "dog", weights)


def test_words_of_joint_attention_have_no_keys_of_their_own(joint: Models, picture: np.ndarray) -> None:
    looked = look_inside(joint, from_image(joint, picture), Inspection("dog", words_later=True), (100,))
    with pytest.raises(ValueError, match="Keys of words alone must be those of cross-attention"):
        word_later(joint, looked, "cat", {2: 1.0})
