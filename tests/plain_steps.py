"""DiffSegmenter's published steps one by one, and how much longer they take than the method does here.

    python -m tests.plain_steps --backbone sd15 --classes 5
    python -m tests.plain_steps --small --classes 3

Each class is a pass of its own, with an unconditional row that nobody reads; all attention is made as matrices, heads
apart, the self-attention of all places by all places for each class anew; all of it in float32. Written from a description
of the released code's behaviour. One thing is kinder to memory than the released code: heads are averaged when a layer is
done, so that a class does not take 12 GB. Networks have random weights, which take as long as real ones.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from ovseg.backbones.base import Text
from ovseg.backbones.counting import counting
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.doctor.published import Scale
from ovseg.doctor.random_weights import random_models
from ovseg.methods import DiffSegmenter
from ovseg.scene import from_image
from ovseg.types import Scene
from ovseg.words.classes import parse_classes

WORDS = ("cat", "car", "grass", "sky", "tree", "dog", "bus", "house", "person", "boat")
WEIGHTS = {8: 0.3, 4: 0.5, 2: 0.1, 1: 0.1}  # of the strides


class Keeping:
    """Plain attention of a layer, which keeps the mean over heads of its last row's probabilities, as a matrix."""

    def __init__(self, kept: list[Tensor]) -> None:
        self.kept = kept

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *_, **__):
        """The layer's output; diffusers calls it."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        probabilities = (query @ key.mT * attn.scale).softmax(-1)
        self.kept.append(probabilities[-1].mean(0))
        return attn.to_out[0]((probabilities @ value).transpose(1, 2).flatten(2))


@torch.no_grad()
def plain_scores(backbone: StableDiffusion, scene: Scene, text: Text, timestep: int = 100) -> Tensor:
    """The score of each row of `text` (n, H, W), min-max over the picture: steps 3 to 16 of the released script."""
    empty, scores = backbone.encode_text([""], [""]).embeddings, []
    noised, grid = backbone.noised(scene.latent, timestep, scene.seed), tuple(scene.latent.shape[-2:])
    for row, span in enumerate(text.spans):
        kept: dict[tuple[int, str], list[Tensor]] = {}
        before = dict(backbone.network.attn_processors)
        chosen = {f"{s.name}.processor": Keeping(kept.setdefault((s.stride, s.kind), [])) for s in backbone.sites}
        backbone.network.set_attn_processor(chosen)
        both = torch.cat([empty, text.embeddings[row : row + 1]])
        backbone.network(noised.expand(2, -1, -1, -1), timestep, encoder_hidden_states=both)
        backbone.network.set_attn_processor(before)
        fused: Tensor | float = 0.0
        for stride, weight in WEIGHTS.items():
            cross = torch.stack(kept[stride, "cross"]).mean(0)[:, list(span)].mean(-1)
            rows = -(-grid[0] // stride)
            grown = F.interpolate(cross.reshape(1, 1, rows, -1), grid, mode="bilinear")[0, 0]
            fused = fused + weight * (grown - grown.min()) / (grown.max() - grown.min())
        refined = torch.stack(kept[1, "self"]).mean(0) @ fused.flatten()
        large = F.interpolate(refined.reshape(1, 1, *grid), scene.image.shape[:2], mode="bilinear")[0, 0]
        scores.append((large - large.min()) / (large.max() - large.min()))
    return torch.stack(scores)


def compared(backbone: str, scale: Scale, words: Sequence[str]) -> str:
    """Seconds of the plain steps and of the method on one picture of 512 px, in this order, in a sentence."""
    classes = parse_classes(", ".join(words))
    with tempfile.TemporaryDirectory() as folder:
        models = random_models(backbone, Path(folder), scale, "cpu", "float32", networks=())
        image = np.random.default_rng(0).integers(0, 256, (*models.backbone.square_hw(), 3), dtype=np.uint8)
        scene = from_image(models, image)
        prepared = DiffSegmenter().prepare(models, classes)
        _ = scene.latent
        DiffSegmenter().prepare(models, classes[:1]).segment(scene)  # warms up
        begun = time.perf_counter()
        plain = plain_scores(models.backbone, scene, prepared.text)
        seconds = time.perf_counter() - begun
        with counting() as count:
            begun = time.perf_counter()
            own = prepared.segment(scene).scores()[1:]
            ours = time.perf_counter() - begun
    apart = float(np.abs(plain.numpy() - own).max())
    return (
        f"{len(words)} classes at {image.shape[0]} px, {torch.get_num_threads()} threads: plain steps {seconds:.1f} s in"
        f" {len(words)} passes of 2 rows, DiffSegmenter {ours:.1f} s in {count.passes} of {count.rows} rows in all;"
        f" {seconds / ours:.2f} times as fast; scores differ by {apart:.1g} at most"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="sd15", help="sd15 or sd21 (default: sd15)")
    parser.add_argument("--classes", type=int, default=5, help=f"1 to {len(WORDS)} (default: 5)")
    parser.add_argument("--small", action="store_true", help="a narrow network, which takes seconds")
    options = parser.parse_args()
    scale = Scale(narrower=8, layers=2) if options.small else Scale()
    print(compared(options.backbone, scale, WORDS[: options.classes]))
