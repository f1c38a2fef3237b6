"""Keeps `import torchvision` working where its compiled operators cannot load.

The package index serves torchvision for Linux as CUDA builds only. Beside a CPU build of torch its operator library does
not load, and then `import torchvision` fails while it registers shapes for two operators that were never declared; so
does everything that imports it: transformers, diffusers, open_clip, timm. Declaring the two schemas is all it takes.
Where the library loads, nothing is changed. `torchvision.ops.nms` itself stays unavailable in the first case.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from types import ModuleType

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _Before(MetaPathFinder):
    """Calls `prepare` when torchvision is first looked for, and leaves the search to the others."""

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> None:
        if name == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            prepare()


def prepare_on_import() -> None:
    """Call `prepare` as soon as anything imports torchvision, and not before: it imports torch."""
    if "torchvision" not in sys.modules:
        sys.meta_path.insert(0, _Before())


def prepare() -> str:
    """Make torchvision importable; says which case was met ("native", "schemas declared", "absent", ...)."""
    if "torchvision" in sys.modules:
        return "already imported"
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return "absent"
    library = os.path.join(next(iter(spec.submodule_search_locations)), "_C.so")
    if sys.platform != "linux" or not os.path.exists(library):
        return "not needed"
    import torch

    try:
        torch.ops.load_library(library)
    except (OSError, ImportError):
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", SCHEMA)
        return "schemas declared"
    return "native"
