"""Image Segmentation Using Text and Image Prompts (CLIPSeg): a yardstick.

Timo Lüddecke, Alexander S. Ecker; CVPR 2022; arXiv 2112.10003.

A small decoder on a frozen CLIP, trained with masks of phrases, gives the probability of any phrase at each place. It is run
by transformers: the picture is squashed to the network's square, and the masks are stretched back over the picture.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.methods.knobs import background_threshold
from ovseg.methods.yardstick import ByWords
from ovseg.pretrained.by_words import PhraseNetwork
from ovseg.pretrained.clipseg import ClipSegNetwork
from ovseg.types import Paper, knob


@dataclass(frozen=True)
class CLIPSeg(ByWords):
    """The probability of each phrase, in one look at the picture."""

    name: ClassVar[str] = "clipseg"
    title: ClassVar[str] = "CLIPSeg"
    source: ClassVar[str] = "CIDAS/clipseg-rd64-refined"
    network: ClassVar[type[PhraseNetwork]] = ClipSegNetwork
    paper: ClassVar[Paper] = Paper(
        title="Image Segmentation Using Text and Image Prompts",
        authors="Timo Lüddecke, Alexander S. Ecker",
        venue="CVPR 2022",
        arxiv="2112.10003",
        code="https://github.com/timojl/clipseg",
    )

    threshold: float = background_threshold(0.5, "Probability that a pixel needs to belong to a class.")
    weights: str = knob(
        source, "The repository of the hub, or the folder, that the network is read from.", label="Weights", kind="network"
    )

    def maps(
        self, network: ClipSegNetwork, image: UInt8[np.ndarray, "H W 3"], words: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n h w"]:
        return network.masks(image, words)
