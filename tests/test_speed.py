"""What keeps methods fast and small on large pictures, counted: never timed, and on tensors without numbers."""

import math
import pickle
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ovseg.attention.spreading import spreading_sites
from ovseg.backbones import Capture, counting
from ovseg.backbones.base import Text
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.backbones.unet_layout import layout_of
from ovseg.maths.live_memory import LiveMemory
from ovseg.methods import DiffSegmenter
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.ovdiff.features import Extractor
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.models import Models
from ovseg.pocket.world import scene
from ovseg.pretrained.clip import Clip
from ovseg.pretrained.dino import Dino
from ovseg.progress import Stages, silent
from ovseg.scene import from_image
from ovseg.types import Scene
from ovseg.words.classes import parse_classes
from tests.networks import ON_A_UNET
from tests.self_attention import self_attention, selves

CLASSES = parse_classes("cat, dog, bus")


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes while it is active, in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.by = 0, ""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            if tensor.untyped_storage().nbytes() // tensor.itemsize > self.size:
                self.size, self.by = tensor.untyped_storage().nbytes() // tensor.itemsize, str(function)
        return result


def test_no_matrix_of_all_places_by_all_places_is_made(models: Models) -> None:
    looked_at = from_image(models, scene("val", 0, 64).image)
    places = math.prod(looked_at.latent.shape[-2:])
    for method in (DiffSegmenter(refinements=2), DiffSegmenter(refinements=0)):
        with Largest() as largest:
            method.segment(models, looked_at, CLASSES)
        assert 0 < largest.size < places * places / 2, largest.by
    with Largest() as largest:  # the reference that tests compare with makes it
        text, finest = models.backbone.encode_text(["a cat"], ["cat"]), selves(models.backbone, 1)
        self_attention(models.backbone.trace(looked_at.latent, text, 100, Capture(states=finest), 0))
    assert largest.size >= places * places


def test_what_nobody_uses_is_not_recorded(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, backbone, captures = from_image(models, scene("val", 0, 64).image), models.backbone, []
    trace = type(backbone).trace

    def noted(self, latent, text, timestep, capture, seed):
        captures.append(capture)
        return trace(self, latent, text, timestep, capture, seed)

    monkeypatch.setattr(type(backbone), "trace", noted)
    for refinements in (0, 1):
        DiffSegmenter(refinements=refinements).segment(models, looked_at, CLASSES)
    without, refined = captures
    assert without == Capture(phrases=backbone.strides)
    assert refined == Capture(phrases=backbone.strides, states=spreading_sites(backbone, 1))


OVDIFF = OVDiff(images=2, steps=1, parts=2, masks="otsu", sites="0, 3", short_side=0, windows=())
SETTINGS = {"ovdiff": OVDIFF, "freeseg-diff": FreeSegDiff(words="classes", refinement="none")}


@pytest.fixture
def calls(with_store: Models, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every use of a network but for the U-Net, with how many texts or pictures it was given."""
    seen: list[tuple[str, int]] = []
    used = (
        (type(with_store.backbone), "encode_text"), (type(with_store.backbone), "encode"), (Clip, "_tokens"),
        (Clip, "dense"), (Dino, "keys"),
    )  # fmt: skip
    for kind, name in used:
        own = getattr(kind, name)

        def noted(self, first, *rest, _own=own, _name=name, **options):
            seen.append((_name, 1 if _name == "encode" else len(first)))
            return _own(self, first, *rest, **options)

        monkeypatch.setattr(kind, name, noted)
    return seen


@pytest.mark.parametrize("kind", ON_A_UNET, ids=lambda kind: kind.name)
def test_words_are_encoded_before_a_picture_is_seen(kind: type, with_store: Models, calls: list) -> None:
    prepared = SETTINGS.get(kind.name, kind()).prepare(with_store, parse_classes("cat|kitten, dog, bus, sky, asphalt"))
    calls.clear()
    result = prepared.segment(from_image(with_store, scene("val", 0, 64).image))
    assert len(result.labels) == 6 and not [name for name, _ in calls if name in ("encode_text", "_tokens")]


def test_of_a_caption_its_nouns_alone_are_encoded_for_each_picture(with_store: Models, calls: list) -> None:
    prepared = FreeSegDiff(refinement="none").prepare(with_store, CLASSES)
    calls.clear()
    prepared.segment(from_image(with_store, scene("val", 0, 64).image, caption="a cat beside a house"))
    assert [call for call in calls if call[0] != "encode"] == [("encode_text", 2)]


def test_a_picture_is_encoded_where_its_latent_is_looked_at(with_store: Models, calls: list) -> None:
    prepared = replace(OVDIFF, extractors=("dino", "clip")).prepare(with_store, CLASSES)
    calls.clear()
    looked_at = from_image(with_store, scene("val", 0, 64).image)
    prepared.segment(looked_at)
    assert looked_at.latent_hw is None and "encode" not in dict(calls)
    DiffSegmenter(refinements=0).segment(with_store, looked_at, CLASSES)
    assert looked_at.latent_hw == (32, 32) and [name for name, _ in calls].count("encode") == 1
    assert torch.equal(pickle.loads(pickle.dumps(looked_at)).latent, looked_at.latent)
    squashed = replace(DiffSegmenter(refinements=0), squashed=True)
    calls.clear()
    squashed.segment(with_store, from_image(with_store, scene("val", 0, 64).image), CLASSES)
    assert [name for name, _ in calls].count("encode") == 1  # the square, and not the picture with its aspect too


@pytest.mark.parametrize("name", ["diffusion", "dino", "clip"])
def test_windows_go_through_a_network_together(
    name: str, with_store: Models, calls: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, extractor = scene("val", 0, 64).image, Extractor.of(with_store, OVDIFF, name)
    crops = [np.ascontiguousarray(image[:48, k : k + 40]) for k in (0, 12, 24)]
    alone = [next(extractor.features([crop], 5)) for crop in crops]
    with counting() as count:
        together = list(extractor.features(crops, 5))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(alone, together, strict=True))
    assert not torch.allclose(together[0], together[1], atol=1e-2)
    assert (count.passes, count.rows) == ((1, 3) if name == "diffusion" else (0, 0))
    monkeypatch.setattr("ovseg.methods.ovdiff.features.TOGETHER", 2)
    monkeypatch.setattr(type(with_store.backbone), "rows_per_pass", lambda *_: 1)
    calls.clear()
    with counting() as count:
        parts = list(extractor.features(crops, 5))
    assert count.passes == (3 if name == "diffusion" else 0)
    assert name == "diffusion" or [given for _, given in calls] == [2, 1]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(alone, parts, strict=True))


def test_windows_of_one_size_are_compared_together(with_store: Models, calls: list) -> None:
    method = replace(OVDIFF, extractors=("dino",), prefilter=False)
    prepared = replace(method, windows=(48, 40), window_stride=16).prepare(with_store, CLASSES)
    image = scene("val", 0, 64).image
    calls.clear()
    prepared.segment(from_image(with_store, image))
    assert [given for name, given in calls if name == "keys"] == [4, 8, 1, 1]  # 2 x 2, 3 x 3 in parts of 8, the whole


def test_a_place_attends_to_what_the_whole_self_attention_says(models: Models) -> None:
    looked_at = from_image(models, scene("val", 0, 64).image[:40])
    result = DiffSegmenter(refinements=0).segment(models, looked_at, CLASSES)
    (item,) = (item for item in result.evidence if item.kind == "affinity")
    text = models.backbone.encode_text(["a photograph of cat"], ["cat"], 1.21)
    capture = Capture(states=spreading_sites(models.backbone, 1))
    trace = models.backbone.trace(looked_at.latent, text, 100, capture, looked_at.seed)
    rows, columns = item.affinity.grid
    expected = self_attention(trace)[1][0].reshape(rows, columns, rows, columns).numpy()
    assert rows != columns and np.allclose(item.affinity.at(3, 5), expected[3, 5], atol=2e-4)
    assert np.allclose(item.affinity.whole(), expected, atol=2e-4)
    maps = torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(0))
    spread = (torch.matrix_power(self_attention(trace)[1][0], 2) @ maps.flatten()).reshape(1, rows, columns)
    assert torch.allclose(trace.spread(maps, 1, times=2), spread, atol=1e-5)


def full_size_network() -> StableDiffusion:
    """Stable Diffusion 1.5's U-Net as a backbone that can trace; its codec and its text encoder are not needed here."""
    backbone = object.__new__(StableDiffusion)
    vars(backbone).update(name="full", fingerprint="no numbers", device=torch.device("cpu"), _there="")
    backbone.network = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    backbone.layout, backbone._lock = layout_of(backbone.network), threading.RLock()
    backbone.pipeline = SimpleNamespace(scheduler=DDIMScheduler())
    return backbone


@torch.no_grad()
def test_five_classes_take_70_mb_more_than_the_plain_pass_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """In half precision at 512 px; each row keeps 13 MB of what five layers were given, and its attention to the phrase."""
    for module in ("layer_input", "diffusers_backbone"):  # numbers that are not there are not looked at
        monkeypatch.setattr(f"ovseg.backbones.{module}.check_finite", lambda *_: None)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            models = Models("pocket", device="cpu")
            models._backbone = backbone = full_size_network()
            latent, states = torch.zeros(1, 4, 64, 64), torch.zeros(5, 77, 768)
            with LiveMemory() as plain:
                backbone.network(latent.expand(5, -1, -1, -1), 100, encoder_hidden_states=states)
            text = Text(("a cat",) * 5, states, ((2,),) * 5)
            scene = Scene(np.zeros((512, 512, 3), np.uint8), latent)
            with LiveMemory() as traced, counting() as count:
                DiffSegmenter(refinements=2).average(models, scene, text, Stages(silent))
    finally:
        torch.set_default_dtype(before)
    assert (count.passes, count.rows) == (1, 5)
    assert plain.peak > 200e6 and 5 * 13e6 - 30e6 < traced.peak - plain.peak <= 70e6


def test_live_memory_is_what_is_held_at_one_time() -> None:
    kept = torch.zeros(1000)
    with LiveMemory() as memory:
        one = kept.double()  # 8 kB
        view = one.reshape(10, 100), kept[:10]  # nothing new
        two = one + 1
        del one, view
        three = two * 2
        del two
        four = three + 1
    assert memory.peak == 16_000 and memory.now == 16_000
    del three, four
    assert memory.now == 0
