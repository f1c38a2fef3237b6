"""What a method is: a frozen dataclass of hyper-parameters that prepares some classes, and then segments pictures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar, Protocol, runtime_checkable

from ovseg.models import Models
from ovseg.progress import Report, silent, within
from ovseg.types import Paper, Scene, Segmentation
from ovseg.words.classes import ClassWord


@dataclass(frozen=True, eq=False)
class Prepared(ABC):
    """A method with the classes that it is asked for: what depends on the words alone is done.

    It can segment any number of pictures, and its results are those of `Method.segment`. `timings` are the seconds that
    the preparation took; those of a `segment` are not in them.
    """

    models: Models
    classes: tuple[ClassWord, ...]
    timings: dict[str, float] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(word.name for word in self.classes)


@runtime_checkable
class Network(Protocol):
    """A network whose weights have a short name."""

    @property
    def fingerprint(self) -> str:
        """The short name."""
        ...


class Method(ABC):
    """One paper. Its dataclass fields are its hyper-parameters, made with `knob` where a visitor may change them."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[Paper]
    finds_words: ClassVar[bool] = False
    """Whether it can run without classes: it then takes words from a caption."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The networks that it uses beside the backbone: "clip", "captioner", "dino", "grounding"."""
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({})
    """Settings under a name, on top of those that suit the backbone."""
    released: ClassVar[Mapping[str, object]] = MappingProxyType({})
    """What of the released pipeline differs from the fields' defaults: its preprocessing and its helper networks."""
    released_on: ClassVar[str] = "sd15"
    """The backbone that the released code runs on."""
    withheld: ClassVar[str] = ""
    """What of the released pipeline cannot come with this project, and what to do about it, in a sentence."""
    preparing_share: ClassVar[float] = 0.05
    """Share of the progress of `segment` that is reported for the preparation, 0 to 1."""

    @classmethod
    def as_released(cls) -> "Method":
        """The whole pipeline of the released code, whatever the backbone is."""
        return cls(**cls.released)

    @property
    def reads_latent(self) -> bool:
        """Whether `Scene.latent` is read: the picture as the backbone's codec encodes it, which methods share."""
        return True

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        """The networks beside the backbone that these settings use, by what they are; each is loaded when it is called."""
        return {}

    @abstractmethod
    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> Prepared:
        """Do what depends on the words alone.

        Raises:
            ValueError: a setting is out of its range, a network cannot be loaded, or a word cannot be used.
        """

    def segment(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent) -> Segmentation:
        """Segment one scene into the classes and background: `prepare` and `Prepared.segment` in a row.

        Raises:
            ValueError: what these two raise.
        """
        prepared = self.prepare(models, classes, within(report, 0.0, self.preparing_share))
        result = prepared.segment(scene, within(report, self.preparing_share, 1.0))
        return replace(result, timings=prepared.timings | result.timings)
