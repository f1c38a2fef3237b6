"""Several processes on one piece of work, as torchrun starts them on one machine or on several."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from ovseg.models import Models

Name, Part = TypeVar("Name"), TypeVar("Part")


@dataclass(frozen=True)
class Share:
    """This process among those that do the work: number `rank` of `count`, and number `local` on its machine."""

    rank: int = 0
    count: int = 1
    local: int = 0

    def of(self, total: int) -> range:
        """Which of `total` pieces this process does: rank, rank + count, rank + 2 count, ..."""
        return range(self.rank, total, self.count)

    def gather(self, mine: Mapping[Name, Part]) -> dict[Name, Part] | None:
        """In process 0 what all processes have, in the others None. Machines need no shared folder for it."""
        if self.count == 1:
            return dict(mine)
        parts: list[Mapping[Name, Part] | None] | None = [None] * self.count if self.rank == 0 else None
        dist.gather_object(mine, parts)
        return None if parts is None else {name: part for of_one in parts for name, part in of_one.items()}


def end_with_parent() -> None:
    """Let this process, which another one has started, end when that one does, even where that one was killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def launched() -> bool:
    """Whether this process was started by torchrun, or another launcher that sets the same variables."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def joined() -> Iterator[Share]:
    """Join the other processes of torchrun for a block of code; alone, where there was no torchrun."""
    if not launched():
        yield Share()
        return
    dist.init_process_group("gloo", timeout=timedelta(days=2))
    try:
        rank = dist.get_rank()
        yield Share(rank, dist.get_world_size(), int(os.environ.get("LOCAL_RANK", rank)))
    finally:
        dist.destroy_process_group()


def on_device(models: Models, local: int) -> Models:
    """The networks on GPU `local`, counted modulo their number, if they run on CUDA and there are several GPUs."""
    if models.device.type != "cuda" or torch.cuda.device_count() < 2:
        return models
    return models.on(f"cuda:{local % torch.cuda.device_count()}")


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, compute the block with one thread.

    More threads round sums in another order, so results would depend on how many processes share the threads. To use
    more cores, use more processes.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
