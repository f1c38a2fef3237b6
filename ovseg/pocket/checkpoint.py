"""A training's state as safetensors files, small enough to be carried around one by one."""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

LARGEST_FILE = 15_500_000  # bytes of tensors; with its header a file stays under 16 MiB
COMPACT = {"averaged": torch.float16, "exp_avg": torch.bfloat16, "exp_avg_sq": torch.bfloat16}
"""Precision of what `compact` rounds: the average (whose values are of order 1) and Adam's moments (which span many)."""


def save(folder: Path, module: nn.Module, averaged: nn.Module, optimizer: Optimizer, counted: dict, compact: bool) -> None:
    """Write the state to `folder`; a stop while writing leaves the one before.

    Args:
        counted: numbers and words to keep beside the tensors.
        compact: round everything but the weights themselves, which takes 10 bytes per parameter in place of 16.
    """
    tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"averaged/{name}": tensor for name, tensor in averaged.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{key}/{index}": value for key, value in state.items()}
    if compact:
        tensors = {name: _rounded(name, tensor) for name, tensor in tensors.items()}
    new, old = folder.with_suffix(".new"), folder.with_suffix(".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for number, shard in enumerate(_shards(tensors)):
        save_file(shard, new / f"{number:02d}.safetensors", {"counted": json.dumps(counted)})
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, module: nn.Module, averaged: nn.Module, optimizer: Optimizer) -> dict:
    """Put a saved state back; returns what was counted."""
    groups: dict[str, dict[str, Tensor]] = {}
    for path in _files(folder):
        for name, tensor in load_file(path).items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = tensor
    module.load_state_dict(groups["module"])
    averaged.load_state_dict(groups["averaged"])
    states: dict[int, dict[str, Tensor]] = {}
    for key in ("step", "exp_avg", "exp_avg_sq"):
        for index, tensor in groups.get(key, {}).items():
            states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return counted(folder)


def counted(folder: Path) -> dict:
    """What was kept beside the tensors of a saved state."""
    with safe_open(_files(folder)[0], "pt") as file:
        return json.loads(file.metadata()["counted"])


def exists(folder: Path) -> bool:
    """Whether there is a saved state."""
    return bool(_files(folder))


def _files(folder: Path) -> list[Path]:
    # Between the two renames of `save` only the older state has its files where they can be found.
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
