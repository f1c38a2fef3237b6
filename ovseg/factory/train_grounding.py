"""Training the grounding module on triplets (Grounded Diffusion, section 3.4), whatever the backbone is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.backbones.base import query_states
from ovseg.factory.triplets import TripletSet, features_of
from ovseg.models import Models
from ovseg.pocket.training import Training, batch_size
from ovseg.pretrained.grounding import QUERY, SD1_FUSED, GroundingModule, GroundingSize, save_grounding

BATCH = 8
SMALL_CHANNELS = 2000  # a backbone with fewer at every stride is a small one, and gets a small module


@dataclass(frozen=True)
class GroundingRecipe:
    """How the module is trained. The released code: Adam at 1e-5, binary cross-entropy, single pictures, words together.

    Args:
        rate: of AdamW at the beginning; it falls to 0 in a straight line.
        loss: mean binary cross-entropy of the pixels, or that plus the dice loss.
        independent: words do not see each other.
    """

    rate: float = 5e-4
    loss: Literal["bce", "bce+dice"] = "bce"
    independent: bool = False

    def __post_init__(self) -> None:
        if self.loss not in ("bce", "bce+dice"):
            raise ValueError(f"The loss must be bce or bce+dice, but got {self.loss!r}.")


def size_for(channels: dict[int, int], text: int) -> GroundingSize:
    """Widths of the module for the channels that a backbone gives at each stride: the released ones, or small ones."""
    if max(channels.values()) >= SMALL_CHANNELS:
        return GroundingSize(channels, text, {s: SD1_FUSED[s] for s in channels})
    return GroundingSize(
        channels, text, {s: 64 if s == 1 else 32 for s in channels}, model=128, heads=4, feed_forward=256, layers=2
    )


def grounding_loss(module: nn.Module, features: dict[int, Tensor], words: Tensor, masks: Tensor, kind: str) -> Tensor:
    """The mean over words and pixels.

    Args:
        features: by stride (b, channels, y, x).
        words: states (b, n, d); the same number of words for every picture.
        masks: (b, n, h, w), 0 or 1.
    """
    logits = module(features, words, masks.shape[-2:]).float()
    loss = F.binary_cross_entropy_with_logits(logits, masks)
    if kind == "bce":
        return loss
    likely = logits.sigmoid()
    overlap = (likely * masks).sum((2, 3))
    return loss + (1 - (2 * overlap + 1) / (likely.sum((2, 3)) + masks.sum((2, 3)) + 1)).mean()


class TripletBatches:
    """Random batches of a set, in each as many words a picture; a function of the step alone."""

    def __init__(self, data: TripletSet, models: Models) -> None:
        self.data, self.models = data, models
        self.words = sorted({word for row in data.rows for word in row["found"]})
        self.states = query_states(models.backbone, self.words, QUERY).float()
        counts = np.array([len(row["found"]) for row in data.rows])
        self._by_count = {int(n): np.flatnonzero(counts == n) for n in np.unique(counts)}

    def draw(self, step: int, device: str) -> tuple[dict[int, Tensor], Tensor, Tensor]:
        """Features, states and masks as `grounding_loss` wants them."""
        rng = np.random.default_rng([9, step])
        rows = self._by_count[len(self.data.rows[int(rng.integers(len(self.data)))]["found"])]
        chosen = [int(k) for k in rng.choice(rows, batch_size(BATCH, device))]
        each = [self._features(k) for k in chosen]
        features = {s: torch.stack([one[s] for one in each]).to(device).float() for s in each[0]}
        states = torch.stack([self._states(self.data.rows[k]["found"]) for k in chosen])
        masks = torch.from_numpy(np.stack([self.data.masks(k) for k in chosen])).to(device).float()
        return features, states.to(device), masks

    def _states(self, words: Sequence[str]) -> Tensor:
        return self.states[[self.words.index(word) for word in words]]

    def _features(self, number: int) -> dict[int, Tensor]:
        if self.data.strides:
            return {s: torch.from_numpy(maps) for s, maps in self.data.features(number).items()}
        latent = torch.from_numpy(self.data.latent(number))[None].to(self.models.device, self.models.dtype)
        found = features_of(self.models, latent, self.data.order(number), self.data.settings["timestep"])
        return {stride: maps[0] for stride, maps in found.items()}


def train_grounding(
    models: Models, triplets: Path, out: Path, minutes: float, name: str, recipe: GroundingRecipe | None = None,
    piece: float | None = None,
) -> None:  # fmt: skip
    """Train (or go on training) a module on a finished set; leaves `out/module`, as `Models.grounding` loads it.

    Args:
        name: of the class split, told in the module's file with the words that it was shown.

    Raises:
        ValueError: there is no finished set, or it was made with another backbone.
    """
    torch.manual_seed(0)
    recipe, data, device = recipe or GroundingRecipe(), TripletSet(triplets), str(models.device)
    if data.settings["backbone"] != models.backbone.fingerprint:
        raise ValueError(f"The triplets must be made with this backbone, but {triplets} was made with another.")
    if not len(data):
        raise ValueError(f"The triplets must show something, but in {triplets} nothing was found.")
    batches = TripletBatches(data, models)
    first, _, _ = batches.draw(0, device)
    size = size_for({s: maps.shape[1] for s, maps in first.items()}, batches.states.shape[1])
    module = GroundingModule(size, recipe.independent).to(device).train()
    training = Training(module, out, minutes, learning_rate=recipe.rate, ema=0.995, piece=piece)
    for step in training:
        features, words, masks = batches.draw(step, device)
        loss = grounding_loss(training.module, features, words, masks, recipe.loss)
        training.update(loss, len(masks))
    if not training.finished:
        return
    told = {
        "split": name, "seen": batches.words, "triplets": len(data), "samples": training.samples,
        "minutes": round(training.spent / 60, 1), "backbone": data.settings["backbone"],
        "detector": data.settings["detector"], "timestep": data.settings["timestep"],
    }  # fmt: skip
    save_grounding(training.averaged.module.eval(), out / "module", told, torch.float16)
    print(f"{name}: trained on {len(data)} triplets of {len(batches.words)} classes, loss {training.smooth_loss:.4f}")
