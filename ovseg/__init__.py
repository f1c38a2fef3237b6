"""ovseg: see how a text-to-image diffusion model segments a picture.

The public names are imported when they are first used: torch takes seconds to import, and `ovseg --help` does not need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ovseg import _torchvision_compat

if TYPE_CHECKING:
    from ovseg.methods import METHODS, find_method, suited_to
    from ovseg.models import Models
    from ovseg.pictures import read_image
    from ovseg.scene import from_image, from_prompt
    from ovseg.types import Evidence, Scene, Segmentation
    from ovseg.words.classes import parse_classes

__version__ = "0.1.0"

__all__ = [
    "METHODS", "Evidence", "Models", "Scene", "Segmentation", "find_method", "from_image", "from_prompt",
    "parse_classes", "read_image", "suited_to",
]  # fmt: skip

_HOMES = {
    "ovseg.methods": ("METHODS", "find_method", "suited_to"),
    "ovseg.models": ("Models",),
    "ovseg.pictures": ("read_image",),
    "ovseg.scene": ("from_image", "from_prompt"),
    "ovseg.types": ("Evidence", "Scene", "Segmentation"),
    "ovseg.words.classes": ("parse_classes",),
}

_torchvision_compat.prepare_on_import()


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'ovseg' has no attribute {name!r}")
