"""Several processes on one benchmark: with `--workers` on one machine, or with `torchrun` on one or several.

Process r of n measures the samples r, r + n, r + 2n, ... Every sample has a file of its own, so the figures do not depend on
the number of processes.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from ovseg.evaluation.benchmark import Benchmark
from ovseg.models import Models
from ovseg.progress import Report, silent


def launched() -> bool:
    """Whether this process was started by torchrun, or another launcher that sets the same variables."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def run(task: Benchmark, out: Path, workers: int = 1, report: Report = silent) -> dict | None:
    """Run a benchmark in `workers` processes, or as one of torchrun's. Returns the table, under torchrun in process 0 only.

    Raises:
        ValueError: `workers` is below 1, or above 1 under torchrun; and what `Benchmark.run` raises.
    """
    if workers < 1:
        raise ValueError(f"The number of workers must be 1 or more, but got {workers}.")
    if launched():
        if workers > 1:
            raise ValueError("torchrun starts the processes already: leave --workers out.")
        return _run_as_one_of_many(task, out, report)
    if workers == 1:
        return task.run(out, report)
    task.measure(out, range(0))  # refuses a folder of another run before any process starts
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_work, task, out, rank, workers) for rank in range(workers)]
        while not all(job.done() for job in jobs):
            failed = next((job for job in jobs if job.done() and job.exception()), None)
            if failed:
                _stop(pool)
                raise failed.exception()
            time.sleep(0.5)
            done = sum(1 for _ in (out / "images").glob("*.npz"))
            report(f"{task.dataset.name} {min(done, task.total)}/{task.total}", min(done / task.total, 0.999))
        for job in jobs:
            job.result()
    return task.summarise(out)


def _stop(pool: ProcessPoolExecutor) -> None:
    for process in list(pool._processes.values()):
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)


def _work(task: Benchmark, out: Path, rank: int, workers: int) -> None:
    on_device(task, rank).measure(out, range(rank, task.total, workers))


def on_device(task: Benchmark, rank: int) -> Benchmark:
    """The task on GPU `rank`, counted modulo their number, if it runs on CUDA and there are several GPUs."""
    if task.models.device.type != "cuda" or torch.cuda.device_count() < 2:
        return task
    device = f"cuda:{rank % torch.cuda.device_count()}"
    return replace(task, models=Models(task.models.name, device, task.models.dtype_name))


def _run_as_one_of_many(task: Benchmark, out: Path, report: Report) -> dict | None:
    """Measure this process's samples. Process 0 gathers all files, so that machines need no shared folder."""
    dist.init_process_group("gloo", timeout=timedelta(days=2))
    try:
        rank, world = dist.get_rank(), dist.get_world_size()
        mine = range(rank, task.total, world)
        local = on_device(task, int(os.environ.get("LOCAL_RANK", rank)))
        local.measure(out, mine, report if rank == 0 else silent)
        files = {index: task.path(out, index).read_bytes() for index in mine}
        gathered: list[dict[int, bytes] | None] | None = [None] * world if rank == 0 else None
        dist.gather_object(files, gathered)
        if gathered is None:
            return None
        for index, content in (item for part in gathered for item in part.items()):
            task.keep(out, index, content)
        return task.summarise(out)
    finally:
        dist.destroy_process_group()
