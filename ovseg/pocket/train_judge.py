"""The judge of generated pictures: a small network that says which things a picture shows, trained on real scenes only.

It has never seen a generated picture and knows nothing of the diffusion model: where it finds a cat in what was generated
as a cat, the picture looks like one. Its own accuracy on real scenes belongs beside every figure that it gives.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

from ovseg.pocket.data import rendered
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Training, batch_size
from ovseg.pocket.world import THINGS, scene

BATCH = 64
SURE = 0.5  # probability from which a thing counts as found


def build_judge() -> ResNetForImageClassification:
    """A ResNet (He et al. 2016) of four narrow stages with one independent output per thing."""
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
    def probabilities(self, images: np.ndarray) -> Float[np.ndarray, "n things"]:
        """How sure it is of each thing in RGB uint8 pictures (n, H, W, 3)."""
        parts = [self._model(to_tensor(images[k : k + 64], self.device)).logits for k in range(0, len(images), 64)]
        return torch.cat(parts).sigmoid().cpu().numpy()

    def found(self, images: np.ndarray) -> Bool[np.ndarray, "n things"]:
        """Which things it finds in each picture."""
        return self.probabilities(images) >= SURE


def truth_of(things: tuple[tuple[str, ...], ...]) -> Bool[np.ndarray, "n things"]:
    """Which things are in each picture, from their names."""
    return np.array([[name in held for name in THINGS] for held in things])


def judge_loss(judge: ResNetForImageClassification, pictures: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of every thing."""
    return F.binary_cross_entropy_with_logits(judge(pictures).logits.float(), truth.float())


def accuracy(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Precision and recall over all things and pictures together, and the share of pictures without a mistake."""
    hits = np.count_nonzero(found & truth)
    return {
        "precision": hits / max(np.count_nonzero(found), 1),
        "recall": hits / max(np.count_nonzero(truth), 1),
        "all right": float((found == truth).all(1).mean()),
    }


def accuracy_on(judge: Judge, split: str, count: int) -> dict[str, float]:
    """`accuracy` on the first `count` real scenes of a split."""
    scenes = [scene(split, index) for index in range(count)]
    return accuracy(judge.found(np.stack([s.image for s in scenes])), truth_of(tuple(s.things for s in scenes)))


def train_judge(
    root: Path, minutes: float, device: str = "cpu", scenes: int = 24000, size: int = 128, piece: float | None = None
) -> None:
    """Train (or go on training) the judge; leaves its checkpoint and the folder `judge` in `root/judge`."""
    torch.manual_seed(0)
    out = root / "judge"
    pictures = rendered(root / "scenes", "train", scenes, size)
    truth = truth_of(pictures.things)
    training = Training(build_judge().to(device), out, minutes, learning_rate=2e-3, ema=0.995, piece=piece)
    training.module.train()
    for step in training:
        rng = np.random.default_rng([5, step])
        rows = rng.integers(0, len(pictures.images), batch_size(BATCH, device))
        batch = to_tensor(pictures.images[rows], device)
        batch = batch.flip(-1) if rng.random() < 0.5 else batch
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = judge_loss(training.module, batch, torch.from_numpy(truth[rows]).to(device))
        training.update(loss, len(rows))
    if not training.finished:
        return
    best = training.averaged.module.eval()
    best.save_pretrained(out / "judge")
    figures = accuracy_on(Judge(out / "judge", device), "val", 256)
    print("on 256 real val scenes: " + ", ".join(f"{name} {value:.1%}" for name, value in figures.items()))
