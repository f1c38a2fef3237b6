"""What a method is: a frozen dataclass of hyper-parameters that prepares some classes, and then segments pictures.

Everything that is known of one method is said by its class and by the files of its folder; each has a default here.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from ovseg.backbones import Checkpoint
from ovseg.methods.protocol import Protocol as EvaluationProtocol
from ovseg.methods.records import AblationRow, Floor, PaperFigure, ShownRun, figures_in
from ovseg.methods.strips import Painter, Step, Subject
from ovseg.methods.tiles import in_tiles, looked_at_hw
from ovseg.models import Models
from ovseg.progress import Report, silent, within
from ovseg.types import Paper, Scene, Segmentation, knob
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
        """Segment a scene, in one piece, into the classes and background.

        Raises:
            ValueError: a setting does not fit the backbone.
        """

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(word.name for word in self.classes)


@runtime_checkable
class Network(Protocol):
    """A network whose weights have a short name."""

    fingerprint: str


@dataclass(frozen=True)
class Method(ABC):
    """One paper. Its dataclass fields are its hyper-parameters, made with `knob` where a visitor may change them.

    Files of its folder, each of which may be missing: `figures.json`, the figures of its paper; `names.json`, the class
    names of its released code by benchmark; `about/text.html` with `about/steps.json` and pictures, for the page.
    """

    _: KW_ONLY
    tile_side: int = knob(
        0, "Cut a large picture into overlapping square tiles of this side in pixels, and blend what is found in them: small"
        " things are seen better, what lies outside a tile is not. 0 leaves it in one piece. Not of the paper.",
        label="Side of tiles", high=2048,
    )  # fmt: skip

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[Paper]
    finds_words: ClassVar[bool] = False
    """Whether it can run without classes: it then takes words from a caption."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What it uses beside the backbone, such as "clip", "dino" or "segmenter", or of it: see `Models.obstacle`."""
    yardstick: ClassVar[str] = ""
    """Of a method that reads no diffusion network: what it is instead, in a few words, which stand wherever it is listed."""
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    """Settings under a name, on top of those that suit the backbone."""
    released: ClassVar[Mapping[str, object]] = {}
    """What of the released pipeline differs from the fields' defaults: its preprocessing and its helper networks."""
    released_on: ClassVar[str] = "sd15"
    """The backbone that the released code runs on; empty where it runs on none."""
    network_fields: ClassVar[tuple[str, ...]] = ()
    """What of the released pipeline belongs to its network, such as the numbers of layers: another one has what suits it."""
    withheld: ClassVar[Mapping[str, str]] = {}
    """For a field, what of the released pipeline cannot come with this project, and what to do about it, in a sentence."""
    preparing_share: ClassVar[float] = 0.05
    """Share of the progress of `segment` that is reported for the preparation, 0 to 1."""
    draws_first: ClassVar[bool] = False
    """Whether it draws pictures of each class before it can find it, which nobody should start unawares."""
    listed_first: ClassVar[bool] = True
    """Whether it is compared where nobody names a method; the page lists the others under "more methods"."""
    rows_alone: ClassVar[bool] = False
    """Whether its seconds are little else than rows of the network, so that they say how long a row takes."""
    caption_use: ClassVar[str] = ""
    """What it does with a caption, after its title: "takes it for the prompt"."""
    short: ClassVar[Mapping[str, object]] = {}
    """Settings that make a check of it short."""
    ablations: ClassVar[tuple[AblationRow, ...]] = ()
    runs: ClassVar[tuple[ShownRun, ...]] = ()
    """What the page shows beside the run of the suited settings."""
    protocols: ClassVar[tuple[EvaluationProtocol, ...]] = ()
    """How its released code evaluates."""
    evidence_steps: ClassVar[Mapping[str, str]] = {}
    """For groups of its evidence, by a part of their name, which step of the paper they are, in a line."""
    label_source: ClassVar[str] = ""
    """The name of its released label filter, which says what the released pipeline is `asked`; empty where it has none."""
    floors: ClassVar[tuple[Floor, ...]] = ()

    @classmethod
    def as_released(cls) -> "Method":
        """The whole pipeline of the released code, whatever the backbone is."""
        return cls(**cls.released)

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The fields that a backbone needs otherwise than their defaults, told from its traits."""
        return {}

    @classmethod
    def stand_ins(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The fields of the released pipeline that a backbone cannot have, with what stands in, told from its traits."""
        suited = cls.suited(checkpoint)
        helpers = [name for name in ("captioner", "clip") if name in cls.released and checkpoint.own_networks]
        return dict.fromkeys(helpers, "") | {name: suited[name] for name in cls.network_fields if name in suited}

    @classmethod
    def folder(cls) -> Path:
        """The folder of the method."""
        return Path(inspect.getfile(cls)).parent

    @classmethod
    def figures(cls) -> tuple[PaperFigure, ...]:
        """The figures of its paper."""
        return figures_in(cls.folder() / "figures.json")

    @classmethod
    def full_title(cls) -> str:
        """The title, and behind it what a yardstick is."""
        return f"{cls.title} ({cls.yardstick})" if cls.yardstick else cls.title

    @classmethod
    def lacks(cls, models: Models) -> str:
        """What it lacks on this machine beside `needs`, in a sentence; empty where it lacks nothing. Loads nothing."""
        return ""

    def unfit(self, models: Models) -> str:
        """Why these settings cannot be used with the backbone, which is loaded, in a sentence; empty where they can."""
        return ""

    @property
    def stretched(self) -> bool:
        """Whether each class's scores are stretched over the picture, whether the class is in it or not."""
        return False

    @property
    def reads_latent(self) -> bool:
        """Whether `Scene.latent` is read: the picture as the backbone's codec encodes it, which methods share."""
        return True

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        """The networks beside the backbone that these settings use, by what they are; each is loaded when it is called."""
        return {}

    def asked(self, models: Models, image: UInt8[np.ndarray, "H W 3"], classes: tuple[ClassWord, ...]) -> tuple[int, ...]:
        """The classes that are looked for in a picture, by their numbers."""
        return tuple(range(len(classes)))

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """Rows of the diffusion network that one picture of this size takes in one piece, with what must be drawn first."""
        return len(phrases)

    def rows_in_tiles(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """The same in tiles of `tile_side`."""
        return sum(self.rows(models, phrases, hw) for hw in looked_at_hw(image_hw, self.tile_side, self.stretched))

    def scored_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The size (H, W) at which a picture's scores are made."""
        return image_hw

    def crf_pixels(self, image_hw: tuple[int, int]) -> int:
        """Pixels among which a CRF moves the edges of a picture; 0 where none does."""
        return 0

    def undrawn(self, models: Models, phrases: Sequence[str]) -> tuple[str, ...]:
        """The phrases of which pictures must be drawn before a picture can be segmented."""
        return ()

    def drawing_seconds(self, models: Models, phrases: int) -> float:
        """How long it takes on this device to draw what so many phrases need."""
        return 0.0

    def drawing(self, images: int) -> "Method":
        """The same with so many pictures drawn of each class."""
        return self

    def draw(self, models: Models, phrase: str, report: Report = silent) -> None:
        """Draw what a phrase needs, and keep what is made of it; nothing where nothing is drawn."""
        return None

    def pretend_drawn(self, models: Models, phrases: Sequence[str]) -> None:
        """Keep random numbers as if these phrases were drawn: they take as long to compare."""
        return None

    def strip(self, subject: Subject, paint: Painter) -> tuple[Step, ...]:
        """Its steps in pictures, for the page; none where it shows none."""
        return ()

    @abstractmethod
    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> Prepared:
        """Do what depends on the words alone.

        Raises:
            ValueError: a setting is out of its range or does not fit the backbone, a network cannot be loaded, or a word
                cannot be used.
        """

    def segment(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent) -> Segmentation:
        """Segment one scene into the classes and background: `prepare` and `apply` in a row, with what they raise."""
        prepared = self.prepare(models, classes, within(report, 0.0, self.preparing_share))
        result = self.apply(prepared, scene, within(report, self.preparing_share, 1.0))
        return replace(result, timings=prepared.timings | result.timings)

    def apply(self, prepared: Prepared, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment one scene into prepared classes and background, in tiles of `tile_side` where it is not 0.

        Raises:
            ValueError: what `Prepared.segment` and `in_tiles` raise.
        """
        if not self.tile_side:
            return prepared.segment(scene, report)
        side, stretched = self.tile_side, self.stretched
        return in_tiles(prepared.models, prepared.segment, scene, report, side=side, stretched=stretched)

    @classmethod
    def settings(cls) -> list[Field]:
        """Its own fields, then those that every method has."""
        return sorted(fields(cls), key=lambda one: one.kw_only)
