"""Training the grounding module on triplets (Grounded Diffusion, section 3.4), for any backbone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ovseg.backbones.base import query_states
from ovseg.factory.triplets import MOST_WORDS, TripletSet
from ovseg.files import write_or_check_settings
from ovseg.models import Models
from ovseg.pocket.training import Budget, Training, batch_size
from ovseg.pretrained.grounding import QUERY, SD1_FUSED, GroundingModule, GroundingSize, save_grounding, step_features

RATE = 5e-4
PUBLISHED = {"loss": "bce", "independent": False}  # of a run's settings: binary cross-entropy, words attend to each other
BATCH = 8
BATCH_BYTES = {"cpu": 2 * 2**30, "accelerator": 8 * 2**30}  # that the pictures of a batch may take, beside the networks
FUSED_COPIES = 8  # maps of all fused channels on the latent grid that one picture has at once on the way back
MASK_COPIES = 6  # maps at the picture's size for each word
SMALL_CHANNELS = 4000  # a backbone with fewer channels at every stride gets a small module


def size_for(channels: dict[int, int], text: int) -> GroundingSize:
    """Widths of the module for a backbone's channels at each stride: those of the released code, or small ones."""
    finest = min(channels)
    if max(channels.values()) >= SMALL_CHANNELS:
        return GroundingSize(channels, text, {s: SD1_FUSED[s // finest] for s in channels})
    fused = {s: 64 if s == finest else 32 for s in channels}
    return GroundingSize(channels, text, fused, model=128, heads=4, feed_forward=256, layers=2)


def grounding_loss(
    module: nn.Module,
    features: Mapping[int, Float[Tensor, "b _channels _y _x"]],
    words: Float[Tensor, "b n d"],
    masks: Float[Tensor, "b n h w"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy of a batch, mean over words and pixels, as in the released code.

    Args:
        features: by stride.
        words: the text encoder's state of each word; every picture of a batch has the same number of words.
        masks: 0 or 1.
    """
    return F.binary_cross_entropy_with_logits(module(features, words, masks.shape[-2:]).float(), masks)


Features = Mapping[int, Float[Tensor, "_channels _y _x"]]
"""Of one picture, by stride."""


def batch_of(size: GroundingSize, item: Features, picture_hw: tuple[int, int], device: str) -> int:
    """Pictures of a batch: as many as an accelerator or a CPU is kept busy by, but no more than fit `BATCH_BYTES`."""
    kind = "cpu" if device == "cpu" else "accelerator"
    return max(1, min(batch_size(BATCH, device), BATCH_BYTES[kind] // bytes_of_item(size, item, picture_hw)))


def bytes_of_item(size: GroundingSize, item: Features, picture_hw: tuple[int, int]) -> int:
    """What one picture of a batch takes while the module is trained: its features as they are, and float32 numbers behind
    the 1x1 convolutions and at the picture's size. An upper estimate.
    """
    features = sum(maps.numel() * maps.element_size() for maps in item.values())
    finest = min(item)
    places = math.prod(item[finest].shape[-2:]) * (1 if finest == 1 else 4)  # of the last of `GroundingModule.levels`
    fused = sum(size.fused.values()) * places
    return features + 4 * (FUSED_COPIES * fused + MASK_COPIES * MOST_WORDS * math.prod(picture_hw))


class TripletBatches:
    """Random batches of a set; the same for the same step. All pictures of a batch have the same number of words.

    Args:
        device: that trains.
    """

    def __init__(self, data: TripletSet, models: Models, device: str = "cpu") -> None:
        self.data, self.models = data, models
        self.words = sorted({word for row in data.rows for word in row["detected"]})
        self.states = query_states(models.backbone, self.words, QUERY).float()
        counts = np.array([len(row["detected"]) for row in data.rows])
        self._by_count = {int(n): np.flatnonzero(counts == n) for n in np.unique(counts)}
        first = self._features(0)
        self.size = size_for({s: maps.shape[0] for s, maps in first.items()}, self.states.shape[1])
        self.batch = batch_of(self.size, first, data.masks(0).shape[1:], device)

    def draw(
        self, step: int, device: str
    ) -> tuple[dict[int, Float[Tensor, "b _channels _y _x"]], Float[Tensor, "b n d"], Float[Tensor, "b n h w"]]:
        """Features, words and masks, as `grounding_loss` takes them; the features are in the precision of the set, or of
        the backbone where they are computed now."""
        rng = np.random.default_rng([9, step])
        rows = self._by_count[len(self.data.rows[int(rng.integers(len(self.data)))]["detected"])]
        chosen = [int(k) for k in rng.choice(rows, self.batch)]
        features: dict[int, Tensor] = {}
        for place, number in enumerate(chosen):  # into their places one by one, so that none is there twice
            for stride, maps in self._features(number).items():
                if stride not in features:
                    features[stride] = torch.empty((len(chosen), *maps.shape), dtype=maps.dtype, device=device)
                features[stride][place] = maps
        states = torch.stack([self._states(self.data.rows[k]["detected"]) for k in chosen])
        masks = torch.from_numpy(np.stack([self.data.masks(k) for k in chosen])).to(device).float()
        return features, states.to(device), masks

    def _states(self, words: Sequence[str]) -> Tensor:
        return self.states[[self.words.index(word) for word in words]]

    def _features(self, number: int) -> dict[int, Tensor]:
        if self.data.strides:
            return {s: torch.from_numpy(maps) for s, maps in self.data.features(number).items()}
        latent = torch.from_numpy(self.data.latent(number))[None].to(self.models.device, self.models.dtype)
        order, timestep = self.data.order(number), self.data.settings["timestep"]
        features = step_features(self.models.backbone, latent, order.prompt, timestep, order.seed)
        return {stride: maps[0] for stride, maps in features.items()}


def train_grounding(models: Models, triplets: Path, name: str, budget: Budget, rate: float = RATE) -> bool:
    """Train (or go on training) a module on a finished set; once finished, writes `root/grounding-NAME/module`.

    Args:
        triplets: folder of the set.
        name: of the class split; it is written to the module's file, with the words that the module was trained on.
        budget: the device is that of `models`.
        rate: learning rate of AdamW at the beginning; it falls linearly to 0. The released code has Adam at 1e-5.

    Returns:
        Whether the training is finished.

    Raises:
        ValueError: there is no finished set, it was made with another backbone, or another training was begun in the folder.
    """
    torch.manual_seed(0)
    data, device = TripletSet(triplets), str(models.device)
    out = budget.root / f"grounding-{name}"
    if data.settings["backbone"] != models.backbone.fingerprint:
        raise ValueError(f"The triplets must be made with this backbone, but {triplets} was made with another.")
    if not len(data):
        raise ValueError(f"The triplets must have masks, but in {triplets} nothing was detected.")
    batches = TripletBatches(data, models, device)
    write_or_check_settings(out, {"split": name, "rate": rate, "triplets": data.settings, **PUBLISHED})
    module = GroundingModule(batches.size).to(device).train()
    training = Training(module, out, budget.minutes, learning_rate=rate, ema=0.995, piece=budget.piece)
    for step in training:
        features, words, masks = batches.draw(step, device)
        loss = grounding_loss(training.module, features, words, masks)
        training.update(loss, len(masks))
    if not training.finished:
        return False
    about = {
        "split": name, "seen": batches.words, "triplets": len(data), "samples": training.samples,
        "minutes": round(training.spent / 60, 1), "backbone": data.settings["backbone"],
        "detector": data.settings["detector"], "timestep": data.settings["timestep"], "dtype": models.dtype_name,
    }  # fmt: skip
    save_grounding(training.averaged.module.eval(), out / "module", about, torch.float16)
    print(f"{name}: trained on {len(data)} triplets of {len(batches.words)} classes, loss {training.smooth_loss:.4f}")
    return True
