"""What every pocket recipe shares: its budget, and a loop with a schedule, an average of the weights, and resuming.

A recipe is a function that trains, or goes on training, and returns whether the training is finished.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel

from ovseg.pocket import checkpoint
from ovseg.pocket.data import ScenePictures, rendered
from ovseg.pocket.optimizers import AnyOptimizer

WARM_UP_STEPS = 200
PATCHES_KEPT = 0.5  # share of a picture's patches that `some_patches` shows
PATCHES_DROPPED_UNTIL = 0.75  # share of the training after which all patches are shown
COUNTERS = ("step", "spent", "samples", "smooth_loss", "started")  # what a checkpoint holds beside weights


@dataclass(frozen=True)
class Budget:
    """What a recipe may use, and where."""

    root: Path  # one folder for all networks and for the rendered scenes
    minutes: float  # of training, over all runs
    device: str = "cpu"  # that trains, such as "cpu" or "cuda"
    scenes: int = 24000  # number of training scenes that are rendered
    piece: float | None = None  # minutes after which a run stops, to be taken up again; it trains to its end if not given
    size: int = 128  # of a side of the pictures, in pixels
    tested: int = 256  # number of scenes on which the finished network is measured

    def pictures(self, times: int = 1) -> ScenePictures:
        """The training scenes, or so many times as many, rendered by the first recipe that asks for them."""
        return rendered(self.root / "scenes", "train", times * self.scenes, self.size)

    @property
    def autocast(self) -> torch.autocast:
        """A context in which networks compute in bfloat16 where that is safe and fast."""
        return autocast(self.device)


def autocast(device: str) -> torch.autocast:
    """A context in which networks compute in bfloat16 where that is safe; not on a CPU that only imitates it.

    There a step of the segmenter takes twice as long in bfloat16 as in float32, and one of the U-Net 1.8 times.
    """
    kind, can = torch.device(device).type, torch.cpu.get_capabilities()
    fast = kind != "cpu" or any(can.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one: of ARM
    return torch.autocast(kind, torch.bfloat16, enabled=fast)


def batch_size(on_cpu: int, device: str) -> int:
    """Samples of a step: on an accelerator eight times as many as on a CPU, to keep it busy."""
    return on_cpu if device == "cpu" else 8 * on_cpu


def trainable(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """A small transformer on its device, with the attention that trains fastest there.

    On a CPU, at 65 tokens, the backward pass of torch's fused attention takes three times as long as that of the plain one.
    """
    if device == "cpu":
        model.set_attn_implementation("eager")
    return model.to(device)


class Training:
    """Trains one module for `minutes` in total, over as many runs as it takes.

    Iterating yields step numbers until the time is spent, or until this run has taken `piece` minutes; `update(loss)`
    makes one step. The state is saved to `out/checkpoint` every two minutes and at the end of a run, and loaded by the next
    run on the same folder. With a `piece`, it is saved in lower precision, to be carried to another machine. The learning
    rate warms up, and then falls linearly with the time spent, to `last_rate`.

    Args:
        ema: decay of the average of the weights, `averaged`, which is what a recipe keeps.
        optimizer: of the module's parameters; AdamW if not given.
    """

    def __init__(
        self,
        module: nn.Module,
        out: Path,
        minutes: float,
        learning_rate: float,
        *,
        last_rate: float = 0.0,
        ema: float = 0.999,
        piece: float | None = None,
        optimizer: AnyOptimizer | None = None,
    ) -> None:
        self.module, self.out, self.seconds = module, out, minutes * 60
        self.piece = piece * 60 if piece else None
        self.learning_rate, self.last_rate = learning_rate, last_rate
        self.averaged = AveragedModel(module, multi_avg_fn=_warming_average(ema))
        # A parameter that is not trained gets no gradient, and AdamW leaves it as it is.
        self.optimizer = optimizer or torch.optim.AdamW(
            module.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self._on_cpu = next(module.parameters()).device.type == "cpu"
        self.step, self.spent, self.samples, self.smooth_loss = 0, 0.0, 0, 0.0
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        if checkpoint.exists(self.folder):
            self._load()

    @property
    def folder(self) -> Path:
        """Where the checkpoint is."""
        return self.out / "checkpoint"

    @property
    def finished(self) -> bool:
        """Whether all of the time is spent; `averaged` then holds the trained weights."""
        return self.progress >= 1

    @property
    def progress(self) -> float:
        """Share of the time budget that is spent, 0 to 1."""
        return min(self.spent / self.seconds, 1.0)

    def __iter__(self) -> Iterator[int]:
        self.out.mkdir(parents=True, exist_ok=True)
        begun = last_save = last_line = now = time.monotonic()
        last = self._clock()
        while not self.finished and (self.piece is None or now - begun < self.piece):
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate()
            yield self.step
            now, clock = time.monotonic(), self._clock()
            self.step, self.spent, last = self.step + 1, self.spent + clock - last, clock
            if now - last_line > 20:
                last_line = now
                print(self._line(), flush=True)
            if now - last_save > 120:
                last_save = now
                self.save()
        self.save()
        print(self._line() + ("" if self.finished else "; run again to go on"), flush=True)

    def _clock(self) -> float:
        """Seconds of work: on a CPU those that its threads computed, so that other work beside it takes no training away."""
        return time.process_time() / torch.get_num_threads() if self._on_cpu else time.monotonic()

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
        state = self.module, self.averaged, self.optimizer
        counters = {name: getattr(self, name) for name in COUNTERS}
        checkpoint.save(self.folder, state, counters, compact=self.piece is not None)

    def _load(self) -> None:
        state = self.module, self.averaged, self.optimizer
        for name, value in checkpoint.load(self.folder, state).items():
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
    """An exponential average with a smaller decay at first, so that the initial weights leave no trace."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return average


@contextmanager
def some_patches(embeddings: nn.Module, training: Training) -> Iterator[None]:
    """Show a vision transformer a random half of each picture's patches, until the last quarter of its training.

    It sees nearly twice as many pictures in the same time (Li et al. 2023, "FLIP"); the last quarter shows all patches.

    Args:
        embeddings: the module that gives the states of the class token and of the patches.
    """

    def drop(_module: nn.Module, _inputs: tuple, states: Tensor) -> Tensor:
        draw = torch.rand(len(states), states.shape[1] - 1, generator=torch.Generator().manual_seed(training.step))
        kept = draw.argsort(1)[:, : round(PATCHES_KEPT * draw.shape[1])].to(states.device)
        rows = torch.arange(len(states), device=states.device)[:, None]
        return torch.cat([states[:, :1], states[rows, kept + 1]], 1)

    hook = embeddings.register_forward_hook(drop) if training.progress < PATCHES_DROPPED_UNTIL else None
    try:
        yield
    finally:
        if hook:
            hook.remove()
