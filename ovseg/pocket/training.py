"""The loop that every pocket recipe shares: a time budget, a schedule, an average of the weights, and resuming."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel

from ovseg.pocket import checkpoint

WARM_UP_STEPS = 200
SEEN_PATCHES, PATCHES_DROPPED_UNTIL = 0.5, 0.75  # share of the patches that are shown, and of the training in which
COUNTED = ("step", "spent", "samples", "smooth_loss", "started")  # what a checkpoint holds beside weights


def batch_size(on_cpu: int, device: str) -> int:
    """Samples of a step: on an accelerator eight times those on a CPU, to keep it busy."""
    return on_cpu if device == "cpu" else 8 * on_cpu


def trainable(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """A small transformer on its device, ready to train fast there.

    On a CPU the backward pass of torch's fused attention takes three times that of the plain one at 65 tokens.
    """
    if device == "cpu":
        model.set_attn_implementation("eager")
    return model.to(device)


class Training:
    """Trains one module for `minutes` in total, over as many runs as it takes.

    Iterating yields step numbers until the time is spent, or until this run has taken `piece` minutes; `update(loss)`
    makes one step. The state is saved to `out/checkpoint` every two minutes and at the end, and taken up again when the
    same folder is used; a piece's is rounded so that it can be carried to another machine. The learning rate warms up
    and falls linearly with the time spent, to `last_rate` at its end.
    """

    def __init__(
        self, module: nn.Module, out: Path, minutes: float, learning_rate: float, last_rate: float = 0.0,
        ema: float = 0.999, piece: float | None = None,
    ) -> None:  # fmt: skip
        self.module, self.out, self.seconds = module, out, minutes * 60
        self.piece = piece * 60 if piece else None
        self.learning_rate, self.last_rate = learning_rate, last_rate
        self.averaged = AveragedModel(module, multi_avg_fn=_warming_average(ema))
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.step, self.spent, self.samples, self.smooth_loss = 0, 0.0, 0, 0.0
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        if checkpoint.exists(self.folder):
            self._load()

    @property
    def folder(self) -> Path:
        """Where the state is kept."""
        return self.out / "checkpoint"

    @property
    def finished(self) -> bool:
        """Whether all of the time is spent; what the training was for can be taken from `averaged` then."""
        return self.progress >= 1

    @property
    def progress(self) -> float:
        """Share of the time budget that is spent, 0 to 1."""
        return min(self.spent / self.seconds, 1.0)

    def __iter__(self) -> Iterator[int]:
        self.out.mkdir(parents=True, exist_ok=True)
        begun = last_save = last_line = last = time.monotonic()
        while not self.finished and (self.piece is None or last - begun < self.piece):
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate()
            yield self.step
            now = time.monotonic()
            self.step, self.spent, last = self.step + 1, self.spent + now - last, now
            if now - last_line > 20:
                last_line = now
                print(self._line(), flush=True)
            if now - last_save > 120:
                last_save = now
                self.save()
        self.save()
        print(self._line() + ("" if self.finished else "; run again to go on"), flush=True)

    def update(self, loss: Tensor, samples: int) -> None:
        """One optimiser step on `loss`, which `samples` pictures made."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.averaged.update_parameters(self.module)
        self.samples += samples
        self.smooth_loss += (loss.item() - self.smooth_loss) * max(0.01, 1 / (self.step + 1))

    def save(self) -> None:
        """Write the checkpoint; a stop while writing leaves the one before."""
        counted = {name: getattr(self, name) for name in COUNTED}
        compact = self.piece is not None
        checkpoint.save(self.folder, self.module, self.averaged, self.optimizer, counted, compact)

    def _load(self) -> None:
        for name, value in checkpoint.load(self.folder, self.module, self.averaged, self.optimizer).items():
            setattr(self, name, value)
        print(f"resuming {self.folder} at step {self.step}, {self.spent / 60:.1f} minutes in")

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        return warm * (self.learning_rate + (self.last_rate - self.learning_rate) * self.progress)

    def _line(self) -> str:
        left = max(self.seconds - self.spent, 0) / 60
        return (
            f"step {self.step}  samples {self.samples}  loss {self.smooth_loss:.4f}  "
            f"{self.samples / max(self.spent, 1e-9):.0f}/s  {left:.1f} min left"
        )


def _warming_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """An exponential average that forgets faster at first, so that the initial weights leave no trace."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return average


@contextmanager
def some_patches(embeddings: nn.Module, training: Training) -> Iterator[None]:
    """Show a vision transformer half of each picture's patches, at random, until its training comes to an end.

    It then sees nearly twice as many pictures in the time (Li et al. 2023, "FLIP"), and all patches in the last quarter.

    Args:
        embeddings: the module that gives the states of the class token and of the patches.
    """

    def drop(_module: nn.Module, _inputs: tuple, states: Tensor) -> Tensor:
        draw = torch.rand(len(states), states.shape[1] - 1, generator=torch.Generator().manual_seed(training.step))
        kept = draw.argsort(1)[:, : round(SEEN_PATCHES * draw.shape[1])].to(states.device)
        rows = torch.arange(len(states), device=states.device)[:, None]
        return torch.cat([states[:, :1], states[rows, kept + 1]], 1)

    hook = embeddings.register_forward_hook(drop) if training.progress < PATCHES_DROPPED_UNTIL else None
    try:
        yield
    finally:
        if hook:
            hook.remove()
