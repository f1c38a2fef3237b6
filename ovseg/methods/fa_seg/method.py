"""FA-Seg: A Fast and Accurate Diffusion-Based Method for Open-Vocabulary Segmentation.

Quang-Huy Che, Vinh-Tiep Nguyen; Neurocomputing 660; arXiv 2506.23323.

The network looks once at the picture and once at its mirrored twin. What flows through it is a caption with the list of
words; what the places look at are the words of the list alone. Self-attention of all grids at once spreads the maps, each
grid's entries squared. A constant threshold is the background.

The mode "released" has the settings of the released code. It still differs from it in this:

- The code runs InstaFlow, a distilled Stable Diffusion 1.5, at its only step, without noise; here the network is Stable
  Diffusion 1.5 itself, at the least noise.
- The mean of the codec's posterior is taken; the code draws a sample.
- The code runs the network once more before, to invert the picture; with one step that gives the picture back.
- The caption is the captioner's; those of the code are not published.
- Maps are stretched to 0 ... 1 at the picture's size.

In the mode "suited" the list of words is all that the network is told (`captioned`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Backbone
from ovseg.maths.maps import of_strides
from ovseg.methods.base import Network
from ovseg.methods.knobs import background_threshold, grid_weights, noise_level
from ovseg.methods.reader import Reader
from ovseg.methods.records import Floor
from ovseg.models import Models
from ovseg.reading.prompts import Sentence, all_in_one, as_few
from ovseg.reading.recipe import Recipe
from ovseg.types import Paper, knob


@dataclass(frozen=True)
class FASeg(Reader):
    """One pass for all words, the mirrored twin beside the picture, and self-attention of all grids."""

    name: ClassVar[str] = "fa-seg"
    title: ClassVar[str] = "FA-Seg"
    paper: ClassVar[Paper] = Paper(
        title="FA-Seg: A Fast and Accurate Diffusion-Based Method for Open-Vocabulary Segmentation",
        authors="Quang-Huy Che, Vinh-Tiep Nguyen",
        venue="Neurocomputing 660",
        arxiv="2506.23323",
        code="https://github.com/chequanghuy/FA-Seg",
    )
    released: ClassVar[Mapping[str, object]] = {"captioned": True}
    network_fields: ClassVar[tuple[str, ...]] = ("stride_weights", "self_weights")
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.83), Floor(0.81, backbone="pocket-sd3"))
    caption_use: ClassVar[str] = "as published tells it to the network before the words"

    threshold: float = background_threshold(
        0.55, "Constant score of the background. The released code uses 0.55 on VOC, 0.5 on Context, 0.6 on COCO."
    )
    timestep: int = noise_level(0, "The released code adds none.")
    twin: bool = knob(
        True, "Look at the mirrored picture too, and take the mean, as the released code does.", label="Mirrored twin",
        group="main",
    )  # fmt: skip
    captioned: bool = knob(
        False,
        "Tell the network a caption before the list of words, as the released code does; the places then look at the words"
        " of the list alone.",
        label="Caption before the words",
        group="main",
    )
    stride_weights: tuple[float, ...] = grid_weights((0.0, 0.15, 0.7, 0.15), ", as in the released code.")
    self_weights: tuple[float, ...] = grid_weights(
        (0.3, 0.5, 0.1, 0.1), ", as in the released code.", kind="self", of="self-attention"
    )
    power: float = knob(
        2.0,
        "What the entries of the self-attention are raised to, so that weak ones count less. The released code uses 2.",
        label="Power of the self-attention",
        low=0.5,
        high=4,
        step=0.1,
    )
    prompt: str = knob("{}", "The list of words in a sentence; {} is replaced by them.", label="Sentence")
    between: str = knob(", ", "What stands between two words of the list.", label="Between words")

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The grids by what they tell; a small world has its own sentence and noise, and needs what it attends to weakly."""
        if checkpoint.grid_weights == Checkpoint.grid_weights:
            return {}
        own = {"stride_weights": checkpoint.grid_weights, "self_weights": checkpoint.grid_weights}
        small = {"prompt": checkpoint.template, "between": " and ", "power": 1.0}
        small |= {"timestep": 500, "threshold": 0.5} if checkpoint.joint else {"timestep": 100, "threshold": 0.4}
        return own | (small if checkpoint.is_small_world else {})

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        return {"captioner": models.captioner} if self.captioned else {}

    @property
    def reads_caption(self) -> bool:
        return self.captioned

    def recipe(self) -> Recipe:
        weights, grids = of_strides(self.stride_weights), of_strides(self.self_weights)
        finest = min((stride for stride, weight in grids.items() if weight > 0), default=1)
        return Recipe(
            weights=weights, smooth=False, scale="none", refine="grids", grids=grids, stride=finest, power=self.power,
            threshold=self.threshold, twin=self.twin,
        )  # fmt: skip

    def sentences(self, backbone: Backbone, phrases: Sequence[str]) -> tuple[Sentence, ...]:
        return as_few(backbone, lambda some: all_in_one(self.prompt, some, between=self.between), phrases)
