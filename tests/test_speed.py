"""What keeps methods fast on large pictures: counted, never timed."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ovseg.backbones import Capture
from ovseg.methods import DiffSegmenter
from ovseg.methods.diffsegmenter import finest_sites
from ovseg.models import Models
from ovseg.pocket.world import scene
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes

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
    with Largest() as largest:  # the reference that other tests compare with makes it
        text = models.backbone.encode_text(["a cat"], ["cat"])
        models.backbone.trace(looked_at.latent, text, 100, Capture(self_attention=(1,)), 0)
    assert largest.size >= places * places


def test_a_place_attends_to_what_the_whole_self_attention_says(models: Models) -> None:
    looked_at = from_image(models, scene("val", 0, 64).image[:40])
    result = DiffSegmenter(refinements=0).segment(models, looked_at, CLASSES)
    (item,) = (item for item in result.evidence if item.kind == "affinity")
    text = models.backbone.encode_text(["a photograph of cat"], ["cat"], 1.21)
    capture = Capture(self_attention=(1,), states=finest_sites(models.backbone))
    trace = models.backbone.trace(looked_at.latent, text, 100, capture, looked_at.seed)
    rows, columns = item.affinity.grid
    expected = trace.self_attention[1][0].reshape(rows, columns, rows, columns).numpy()
    assert rows != columns and np.allclose(item.affinity.at(3, 5), expected[3, 5], atol=2e-4)
    assert np.allclose(item.affinity.whole(), expected, atol=2e-4)
    maps = torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(0))
    spread = (torch.matrix_power(trace.self_attention[1][0], 2) @ maps.flatten()).reshape(1, rows, columns)
    assert torch.allclose(trace.spread(maps, 1, times=2), spread, atol=1e-5)
