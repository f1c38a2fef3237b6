"""The command that measures a benchmark, as one types it."""

import shlex
from collections.abc import Mapping

from ovseg.evaluation.datasets import Dataset, FolderDataset
from ovseg.methods import Method
from ovseg.methods.grammar import Configuration
from ovseg.models import Models

USUAL = {"protocol": "native", "seed": 0, "backbone": "pocket", "dtype": "float32"}  # what need not be typed


def command_of(models: Models, method: Method, dataset: Dataset, options: Mapping[str, object]) -> str:
    """The `evaluate` command of a benchmark; its folders stand there by their names alone.

    It says what differs from the defaults: settings from those that suit the backbone. Where the threshold was taken from
    another run, the command gives the threshold itself.

    Args:
        options: more options of the command, by their names; the count and the folder of the run are always there.
    """
    words = ["python", "-m", "ovseg", "evaluate", "--method", Configuration.of(models, method).text]
    words += _data(dataset)
    network = {"backbone": models.name.rpartition("/")[2], "dtype": models.dtype_name}
    for option, value in {**network, **options}.items():
        words += [f"--{option}", str(value)] if value != USUAL.get(option) else []
    return shlex.join(words)


def _data(dataset: Dataset) -> list[str]:
    if isinstance(dataset, FolderDataset):
        return ["--dataset", dataset.benchmark, "--data", dataset.root.name, "--split", dataset.split]
    return ["--dataset", dataset.name]
