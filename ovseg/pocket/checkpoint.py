"""The state of a training as safetensors files, each small enough for places that take no large files."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg.files import write_whole
from ovseg.pocket.optimizers import AnyOptimizer

COUNTERS = "counted"  # the files' entry for the counters
LARGEST_FILE = 15_500_000  # bytes of tensors; with its header a file stays under 16 MiB
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")  # what AdamW and Muon keep of each parameter
COMPACT = {
    "averaged": torch.float16, "exp_avg": torch.bfloat16, "exp_avg_sq": torch.bfloat16, "momentum_buffer": torch.bfloat16,
}  # fmt: skip
"""Precisions of a compact checkpoint: the average's values are of order 1, moments span many orders of size."""


State = tuple[nn.Module, nn.Module, AnyOptimizer]
"""What a checkpoint holds: the weights in training, their average, and the optimiser with its moments."""


def save(folder: Path, state: State, counters: Mapping[str, Any], *, compact: bool) -> None:
    """Write the state to `folder`; a stop while writing leaves the previous one.

    Args:
        counters: JSON-ready values to keep beside the tensors.
        compact: keep the average and Adam's moments in half precision: 10 bytes per parameter in place of 16.
    """
    module, averaged, optimizer = state
    tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"averaged/{name}": tensor for name, tensor in averaged.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{key}/{index}": value for key, value in moments.items()}
    if compact:
        tensors = {name: _rounded(name, tensor) for name, tensor in tensors.items()}
    new, old = folder.with_suffix(".new"), folder.with_suffix(".old")
    shutil.rmtree(new, ignore_errors=True)
    for number, shard in enumerate(_shards(tensors)):
        content = safetensors.torch.save(shard, {COUNTERS: json.dumps(dict(counters))})
        write_whole(new / f"{number:02d}.safetensors", content, lasting=True)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, state: State) -> dict[str, Any]:
    """Load a saved state into the modules and the optimiser; returns the counters."""
    groups: dict[str, dict[str, Tensor]] = {}
    for path in _files(folder):
        for name, tensor in load_file(path).items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = tensor
    module, averaged, optimizer = state
    module.load_state_dict(groups["module"])
    averaged.load_state_dict(groups["averaged"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key in MOMENTS:
        for index, tensor in groups.get(key, {}).items():
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return counters_of(folder)


def counters_of(folder: Path) -> dict[str, Any]:
    """The counters of a saved state."""
    with safe_open(_files(folder)[0], "pt") as file:
        return json.loads(file.metadata()[COUNTERS])


def exists(folder: Path) -> bool:
    """Whether there is a saved state."""
    return bool(_files(folder))


def _files(folder: Path) -> list[Path]:
    # After a stop between the two renames of `save`, the previous state is the only one.
    return sorted(folder.glob("*.safetensors")) or sorted(folder.with_suffix(".old").glob("*.safetensors"))


def _rounded(name: str, tensor: Tensor) -> Tensor:
    dtype = COMPACT.get(name.partition("/")[0])
    return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    room = LARGEST_FILE
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room and shards[-1]:
            shards.append({})
            room = LARGEST_FILE
        # A copy, because a file must not hold two names of one tensor, as tied embeddings are.
        shards[-1][name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        room -= size
    return shards
