"""The judge of generated pictures: a small network that says which things a picture shows, trained on real scenes only.

It has seen no generated picture: if it finds a cat in a picture that was generated as a cat, the picture looks like the cats
of real scenes. Figures that it gives should stand beside its own accuracy on real scenes.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget, Training, autocast, batch_size, save_whole
from ovseg.pocket.world import THINGS, scene

BATCH = 64
SURE = 0.5  # probability from which the judge says that a thing is there


def build_judge() -> ResNetForImageClassification:
    """A ResNet (He et al. 2016) of four narrow stages with an independent output for each thing."""
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        problem_type="multi_label_classification",
        id2label=dict(enumerate(THINGS)),
        label2id={name: k for k, name in enumerate(THINGS)},
    )
    return ResNetForImageClassification(config)


class Judge:
    """A trained judge from its folder.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        if not (folder / "config.json").is_file():
            raise ValueError(f"The judge must be in {folder}, but is not there: run `train judge` first.")
        self.device = torch.device(device)
        model = ResNetForImageClassification.from_pretrained(folder, dtype=torch.float32)
        self._model = model.to(self.device).eval()

    @torch.inference_mode()
    def probabilities(self, images: UInt8[np.ndarray, "n H W 3"]) -> Float[np.ndarray, "n things"]:
        """The probability of each thing in RGB pictures."""
        parts = [self._model(to_tensor(images[k : k + 64], self.device)).logits for k in range(0, len(images), 64)]
        return torch.cat(parts).sigmoid().cpu().numpy()

    def things_in(self, images: UInt8[np.ndarray, "n H W 3"]) -> Bool[np.ndarray, "n things"]:
        """Which things each picture shows, in the judge's opinion."""
        return self.probabilities(images) >= SURE


def truth_of(things: tuple[tuple[str, ...], ...]) -> Bool[np.ndarray, "n things"]:
    """Which of `THINGS` each picture shows, from the names of its things."""
    return np.array([[name in names for name in THINGS] for names in things])


def judge_loss(
    judge: ResNetForImageClassification, pictures: Float[Tensor, "b 3 h w"], truth: Bool[Tensor, "b things"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy, mean over things and pictures."""
    return F.binary_cross_entropy_with_logits(judge(pictures).logits.float(), truth.float())


def accuracy(found: Bool[np.ndarray, "n things"], truth: Bool[np.ndarray, "n things"]) -> dict[str, float]:
    """Precision and recall over all things and pictures together, and the share of pictures that are "all right"."""
    hits = np.count_nonzero(found & truth)
    return {
        "precision": hits / max(np.count_nonzero(found), 1),
        "recall": hits / max(np.count_nonzero(truth), 1),
        "all right": float((found == truth).all(1).mean()),
    }


def accuracy_on(judge: Judge, split: str, count: int) -> dict[str, float]:
    """`accuracy` on the first `count` real scenes of a split."""
    scenes = [scene(split, index) for index in range(count)]
    return accuracy(judge.things_in(np.stack([s.image for s in scenes])), truth_of(tuple(s.things for s in scenes)))


def train_judge(budget: Budget) -> bool:
    """Train (or go on training) the judge; once finished, writes the folder `judge` to `root/judge`."""
    torch.manual_seed(0)
    out, device, pictures = budget.root / "judge", budget.device, budget.pictures()
    truth = truth_of(pictures.things)
    training = Training(build_judge().to(device), out, budget.minutes, learning_rate=2e-3, ema=0.995, piece=budget.piece)
    training.module.train()
    for step in training:
        rng = np.random.default_rng([5, step])
        rows = rng.integers(0, len(pictures.images), batch_size(BATCH, device))
        batch = to_tensor(pictures.images[rows], device)
        batch = batch.flip(-1) if rng.random() < 0.5 else batch
        with autocast(device):
            loss = judge_loss(training.module, batch, torch.from_numpy(truth[rows]).to(device))
        training.update(loss, len(rows))
    if not training.finished:
        return False
    save_whole(out / "judge", training.averaged.module.eval())
    figures = accuracy_on(Judge(out / "judge", device), "val", budget.tested)
    print(f"on {budget.tested} real val scenes: " + ", ".join(f"{name} {value:.1%}" for name, value in figures.items()))
    return True
