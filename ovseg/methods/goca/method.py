"""Making Training-Free Diffusion Segmentors Scale with the Generative Power (GoCA).

Benyuan Meng, Qianqian Xu, Zitai Wang, Xiaochun Cao, Longtao Huang, Qingming Huang; CVPR 2026; arXiv 2603.06178.

The network looks once, with all words in one sentence. Heads count by what they contribute to their layer's output, layers
by how alike their self-attention is to that of a good feature layer; then each place is divided by what all content words
receive there. What words that are no class score is added to the background's threshold. One content word alone would be 1
everywhere: so a word that is no class is always told too.

The mode "released" has the settings of the released code on Stable Diffusion 1.5. It still differs from the code in this:

- The sentence names the classes that are asked for. The released prompts are nouns that a language model saw in each
  picture, and to them the classes of the truth that it missed were added.
- Maps are spread by all self-attention of the finest grid; the code takes three of its five layers.
- Maps are stretched to 0 ... 1 at the picture's size, after they are enlarged, and not before.
- The released evaluation takes the best of nine offsets on the pictures that it reports.

The mode "suited" renormalises what a place attends to when layers are compared (`renormalised`): without it coarse layers
count more by the square of how much coarser they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Backbone
from ovseg.methods.knobs import refining_stride
from ovseg.methods.reader import Reader
from ovseg.methods.records import Floor
from ovseg.reading.layers import middle_of_second_grid
from ovseg.reading.prompts import Sentence, all_in_one, as_few
from ovseg.reading.recipe import Recipe
from ovseg.types import Paper, knob


@dataclass(frozen=True)
class GoCA(Reader):
    """One pass for all words: heads and layers weigh themselves, and words share each place."""

    name: ClassVar[str] = "goca"
    title: ClassVar[str] = "GoCA"
    paper: ClassVar[Paper] = Paper(
        title="Making Training-Free Diffusion Segmentors Scale with the Generative Power",
        authors="Benyuan Meng, Qianqian Xu, Zitai Wang, Xiaochun Cao, Longtao Huang, Qingming Huang",
        venue="CVPR 2026",
        arxiv="2603.06178",
        code="https://github.com/Darkbblue/goca",
    )
    released: ClassVar[Mapping[str, object]] = {"renormalised": False}
    network_fields: ClassVar[tuple[str, ...]] = ("reference", "refine_stride")
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.81), Floor(0.73, backbone="pocket-sd3"))

    offset: float = knob(
        0.0,
        "Added to the map of the words that are no class: pixels where no class scores more are background. The released"
        " evaluation tries -0.4 to 0.4.",
        label="Background offset",
        group="main",
        low=-1,
    )
    heads: Literal["contribution", "mean", "entropy"] = knob(
        "contribution",
        "How the heads of a layer count: by what they contribute to its output, as in the paper, all alike, or surer ones"
        " more.",
        label="Weights of heads",
        group="main",
    )
    layers: Literal["likeness", "equal"] = knob(
        "likeness",
        "How layers count: by how alike their self-attention is to that of the reference layer, as in the paper, or all"
        " alike.",
        label="Weights of layers",
        group="main",
    )
    renormalised: bool = knob(
        True,
        "Whether what a place attends to sums to 1 again when layers of different grids are compared. The released code"
        " leaves it out, which favours coarse layers.",
        label="Grids compared alike",
    )
    reference: int = knob(
        11,
        "Number of the layer of cross-attention, counted from 0 in the order of computing, whose queries say which places"
        " belong together. The released code takes 11 of Stable Diffusion 1.5.",
        label="Reference layer",
        high=99,
    )
    scale: Literal["content", "min-max"] = knob(
        "content",
        "Whether each place is divided by what all content words receive there, as in the paper, or each word's map is only"
        " stretched.",
        label="Scale of words",
        group="main",
    )
    others: tuple[str, ...] = knob(
        ("background",),
        'Words that are no class and stand behind the classes in the sentence. The released prompts end with "background".',
        label="Words that are no class",
    )
    prompt: str = knob("{}", "The sentence; {} is replaced by the list of words.", label="Sentence")
    between: str = knob(", ", "What stands between two words of the list.", label="Between words")
    refinements: int = knob(
        2,
        "How often the maps are multiplied by the self-attention. The released code does it twice on Stable Diffusion; 0"
        " leaves it out.",
        label="Refinements by self-attention",
        high=5,
    )
    refine_stride: int = refining_stride(
        "At which grid of self-attention the maps are refined: 1 is the finest, as in the released code."
    )

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The reference is in the middle of the last layers at the second grid; a small world names its stuff."""
        small = {
            "prompt": checkpoint.template, "between": " and ", "offset": -0.2, "refinements": 1,
            "others": ("sky", "grass", "water", "sand", "snow", "road", "bricks", "wood"),
        }  # fmt: skip
        small |= {"timestep": 500} if checkpoint.joint else {}
        own = {"reference": middle_of_second_grid(checkpoint.cross_strides), "refine_stride": checkpoint.finest_stride}
        return own | (small if checkpoint.is_small_world else {})

    def recipe(self) -> Recipe:
        return Recipe(
            heads=self.heads, layers=self.layers, reference=self.reference, renormalised=self.renormalised,
            scale=self.scale, refine="powers" if self.refinements else "none", stride=self.refine_stride,
            times=self.refinements, background="offset", threshold=self.offset,
        )  # fmt: skip

    def sentences(self, backbone: Backbone, phrases: Sequence[str]) -> tuple[Sentence, ...]:
        return as_few(backbone, lambda some: all_in_one(self.prompt, some, self.others, between=self.between), phrases)
