"""Several processes on one benchmark: with `--workers` on one machine, or with `torchrun` on one or several.

Process r of n measures the samples r, r + n, r + 2n, ... Every sample has a file of its own, so the figures do not depend on
the number of processes.
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from ovseg.evaluation.benchmark import Benchmark
from ovseg.files import write_whole
from ovseg.processes import end_with_parent, joined, launched, on_device
from ovseg.progress import Report, silent


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
    with pool_of(workers) as pool:
        jobs = [pool.submit(_work, task, out, rank, workers) for rank in range(workers)]
        while not all(job.done() for job in jobs):
            failed = next((job for job in jobs if job.done() and job.exception()), None)
            if failed:
                for process in list(pool._processes.values()):
                    process.terminate()
                pool.shutdown(wait=False, cancel_futures=True)
                raise failed.exception()
            time.sleep(0.5)
            done = sum(1 for _ in (out / "images").glob("*.npz"))
            report(f"{task.dataset.name} {min(done, task.total)}/{task.total}", min(done / task.total, 0.999))
        for job in jobs:
            job.result()
    return task.summarise(out)


def pool_of(workers: int) -> ProcessPoolExecutor:
    """Processes that end when this one does, also when it is killed."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent)


def _work(task: Benchmark, out: Path, rank: int, workers: int) -> None:
    replace(task, models=on_device(task.models, rank)).measure(out, range(rank, task.total, workers))


def _run_as_one_of_many(task: Benchmark, out: Path, report: Report) -> dict | None:
    """Measure this process's samples. Process 0 gathers all files, so that machines need no shared folder."""
    with joined() as share:
        local, mine = replace(task, models=on_device(task.models, share.local)), share.of(task.total)
        local.measure(out, mine, report if share.rank == 0 else silent)
        gathered = share.gather({index: task.path(out, index).read_bytes() for index in mine})
        if gathered is None:
            return None
        for index, content in gathered.items():
            if not task.path(out, index).exists():  # it was written elsewhere
                write_whole(task.path(out, index), content)
        return task.summarise(out)
