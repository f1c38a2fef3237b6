"""What a run takes: seconds, passes of the network, memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ovseg.backbones.counting import counting


@dataclass
class Cost:
    """What a run took; None where nobody counted."""

    seconds: float | None = None  # from the beginning to the end
    passes: int | None = None  # how many times the diffusion network was run
    rows: int | None = None  # how many prompts it was given in them; a pass takes several at once
    peak_bytes: int | None = None  # the highest memory of the device; CUDA alone can say


@contextmanager
def measuring(device: torch.device) -> Iterator[Cost]:
    """What the block takes, known when it has ended.

    with measuring(models.device) as cost:
        method.segment(models, scene, classes)
    print(cost.seconds)
    """
    on_cuda, cost = device.type == "cuda", Cost()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    with counting() as count:
        yield cost
    cost.seconds = time.perf_counter() - start
    cost.passes, cost.rows = count.passes, count.rows
    if on_cuda:
        cost.peak_bytes = torch.cuda.max_memory_allocated(device)
