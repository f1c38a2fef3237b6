"""What a method is: a frozen dataclass of hyper-parameters with one verb."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.types import Paper, Scene, Segmentation
from ovseg.words.classes import ClassWord


class Method(ABC):
    """One paper. Its dataclass fields are its hyper-parameters, made with `knob` where a visitor may turn them."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[Paper]
    names_itself: ClassVar[bool] = False
    """Whether it runs without classes, finding words by itself."""
    names_the_generated: ClassVar[bool] = False
    """Whether a picture that is generated gets its masks at once."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The networks that it uses beside the backbone: "clip", "captioner", "dino", "grounding"."""
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({})
    """Settings under a name, for modes other than the released code's."""

    @abstractmethod
    def segment(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background."""
