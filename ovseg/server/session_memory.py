"""What is kept of a visitor, in bytes. Its ceiling is `Limits.session_bytes`, for Compare and Look inside together."""

import gc
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from ovseg.limits import limits
from ovseg.models import Models

SHARED = (type, ModuleType, Models, torch.nn.Module)  # what all sessions share


def most_memory() -> int:
    """Bytes that the results of Compare may have, and as many what Look inside gathers."""
    return limits().session_bytes // 2


def memory_bytes(value: Any) -> int:
    """The bytes that would be free if this value, and nothing else, were gone: those of every array, tensor, text and bytes
    that can be reached from it, once.
    """
    total, seen, rest = 0, set(), [value]
    while rest:
        item = rest.pop()
        if id(item) in seen or isinstance(item, SHARED):
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            total += item.nbytes if item.base is None else 0
            rest += [] if item.base is None else [item.base]
        elif isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
        elif isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, FunctionType):
            rest += [cell.cell_contents for cell in item.__closure__ or ()] + list(item.__defaults__ or ())
        else:
            rest += gc.get_referents(item)
    return total
