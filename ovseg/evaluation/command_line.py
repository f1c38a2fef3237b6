"""The command that measures a benchmark, as one types it."""

import shlex
from dataclasses import fields
from typing import TYPE_CHECKING

from ovseg.evaluation.datasets import FolderDataset
from ovseg.methods import suited_to
from ovseg.methods.settings import as_text

if TYPE_CHECKING:
    from ovseg.evaluation.benchmark import Benchmark


def command_of(task: "Benchmark") -> str:
    """The `evaluate` command of a benchmark; its folders stand there by their names alone.

    It says what differs from the defaults: settings from those that suit the backbone. Where the threshold was taken from
    another run, the command gives the threshold itself.
    """
    words = ["python", "-m", "ovseg", "evaluate", "--method", task.method.name]
    words += _data(task) + ["--count", str(task.total)]
    for option, value, usual in (
        ("labels", task.labels, task.protocol.labels), ("protocol", task.protocol.name, "native"),
        ("seed", task.seed, 0), ("backbone", task.models.name.rpartition("/")[2], "pocket"),
        ("dtype", task.models.dtype_name, "float32"),
    ):  # fmt: skip
        words += [f"--{option}", str(value)] if value != usual else []
    suited = suited_to(task.models, type(task.method))
    changed = [field.name for field in fields(suited) if getattr(task.method, field.name) != getattr(suited, field.name)]
    words += ["--set", *(f"{name}={as_text(getattr(task.method, name))}" for name in changed)] if changed else []
    return shlex.join([*words, "--out", "runs/" + task.method.name])


def _data(task: "Benchmark") -> list[str]:
    dataset = task.dataset
    if isinstance(dataset, FolderDataset):
        return ["--dataset", dataset.benchmark, "--data", dataset.root.name, "--split", dataset.split]
    return ["--dataset", dataset.name]
