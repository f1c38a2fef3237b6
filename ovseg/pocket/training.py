"""The loop that every pocket recipe shares: a time budget, a schedule, an average of the weights, and resuming."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

WARM_UP_STEPS = 200
COUNTED = ("step", "spent", "samples", "smooth_loss", "started")  # what a checkpoint holds beside weights


class Training:
    """Trains one module for `minutes` in total, over as many runs as it takes.

    Iterating yields step numbers until the time is spent; `update(loss)` makes one step. The state is saved to
    `out/checkpoint.pt` every two minutes and at the end, and taken up again when the same folder is used.
    The learning rate warms up and falls linearly with the time spent, to `last_rate` at its end.
    """

    def __init__(
        self, module: nn.Module, out: Path, minutes: float, learning_rate: float, last_rate: float = 0.0, ema: float = 0.999
    ) -> None:
        self.module, self.out, self.seconds = module, out, minutes * 60
        self.learning_rate, self.last_rate = learning_rate, last_rate
        self.averaged = AveragedModel(module, multi_avg_fn=_warming_average(ema))
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.step, self.spent, self.samples, self.smooth_loss = 0, 0.0, 0, 0.0
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self.checkpoint.exists():
            self._load()

    @property
    def checkpoint(self) -> Path:
        """Where the state is kept."""
        return self.out / "checkpoint.pt"

    @property
    def progress(self) -> float:
        """Share of the time budget that is spent, 0 to 1."""
        return min(self.spent / self.seconds, 1.0)

    def __iter__(self) -> Iterator[int]:
        self.out.mkdir(parents=True, exist_ok=True)
        last_save = last_line = last = time.monotonic()
        while self.progress < 1:
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
        print(self._line(), flush=True)

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
        state = {name: getattr(self, name) for name in COUNTED}
        for name in ("module", "averaged", "optimizer"):
            state[name] = getattr(self, name).state_dict()
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        for name in ("module", "averaged", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for name in COUNTED:
            setattr(self, name, state[name])
        print(f"resuming {self.checkpoint} at step {self.step}, {self.spent / 60:.1f} minutes in")

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
