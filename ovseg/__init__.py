"""ovseg: see how a text-to-image diffusion model segments a picture."""

from ovseg import _torchvision_compat

_torchvision_compat.prepare()  # before anything imports torchvision

from ovseg.methods import METHODS, find_method, suited_to  # noqa: E402
from ovseg.models import Models  # noqa: E402
from ovseg.scene import from_image, from_prompt, read_image  # noqa: E402
from ovseg.types import Evidence, Scene, Segmentation  # noqa: E402
from ovseg.words.classes import parse_classes  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "METHODS", "Evidence", "Models", "Scene", "Segmentation", "find_method", "from_image", "from_prompt",
    "parse_classes", "read_image", "suited_to",
]  # fmt: skip
