"""A word that is asked for later: answered from the queries that a pass kept, without another pass (OVAM, arXiv 2403.14291).

What a place asks for depends on the sentence of the pass, so the answer is an approximation; how far it is from that of a
pass of its own can be looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from ovseg.attention.value import Attention
from ovseg.backbones.base import Capture, Site, Text
from ovseg.backbones.trace import mean_by_stride
from ovseg.layer_attention import LayerAttention
from ovseg.maths.maps import fuse_strides
from ovseg.maths.overlap import iou
from ovseg.models import Models

ABOVE = 0.5  # share of a map's range above which a word is taken to be, where two maps are compared


@dataclass(frozen=True)
class Later:
    """A word's map from kept queries, and that of a pass with the word alone as its sentence.

    Args:
        iou: of the two where they are above half of their range, 0 to 1.
    """

    word: str
    from_queries: Float32[np.ndarray, "y x"]
    by_pass: Float32[np.ndarray, "y x"]
    iou: float


def word_later(
    models: Models, attention: Attention, word: str, weights: Mapping[int, float], level: int = 0
) -> Float32[np.ndarray, "y x"]:
    """The fused map of a word from the queries that were kept at a level; no pass is run.

    The softmax is over the tokens of the new sentence, as in a pass; OVAM leaves it out.

    Raises:
        ValueError: no queries were kept at this level, the network's words have no keys of their own, or the word does not
            fit the text encoder.
    """
    if not attention.asked or level not in attention.kept:
        raise ValueError("Words can be asked for later where queries were kept, but at this level none were.")
    backbone = models.backbone
    text = backbone.encode_text([word], [word])
    keys = backbone.word_keys(text, tuple(attention.asked))
    row = attention.kept.index(level)
    layers = {
        site: replace(states, query=states.query[row : row + 1].float(), key=keys[site].cpu().float())
        for site, states in attention.asked.items()
    }
    return _fused(layers, text, attention.latent_hw, weights)


def beside_a_pass(models: Models, attention: Attention, word: str, weights: Mapping[int, float], level: int = 0) -> Later:
    """The same, with its errors, beside the map of a pass on what the network was given there, told the word."""
    quick, backbone = word_later(models, attention, word, weights, level), models.backbone
    text = backbone.encode_text([word], [word])
    trace = attention.passed_again(backbone, level, text, Capture(states=tuple(attention.asked)))
    slow = _fused({site: trace.states[site] for site in attention.asked}, text, attention.latent_hw, weights)
    return Later(word, quick, slow, iou(*(one > one.min() + ABOVE * np.ptp(one) for one in (quick, slow))))


def queries_of(states: LayerAttention) -> LayerAttention:
    """A layer's queries alone, of the first row in half precision on the CPU."""
    kept = states.kept()
    return replace(kept, key=kept.key[:, :, :0], column_of=None, mask=None)


def _fused(
    layers: Mapping[Site, LayerAttention], text: Text, latent_hw: tuple[int, int], weights: Mapping[int, float]
) -> Float32[np.ndarray, "y x"]:
    counts = text.indicators()[0].cpu().float()
    received = {site: layer.maps().float().cpu()[:1] @ (counts / counts.sum()) for site, layer in layers.items()}
    return fuse_strides(mean_by_stride(received), weights, latent_hw)[0].numpy()
