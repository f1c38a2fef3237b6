"""SAM 3: Segment Anything with Concepts, asked by words: a yardstick.

Nicolas Carion, Laura Gustafson, Yuan-Ting Hu and others; 2025; arXiv 2511.16719.

A large network that was trained with millions of masks finds all instances of a short phrase, and says how sure it is of
each. It is run by transformers. The instances that are sure enough count; a place has the probability of the mask that is
surest there, and the strongest class above a threshold wins. So a single class is the union of the masks of transformers'
own post-processing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.maths.maps import resize
from ovseg.methods.knobs import background_threshold
from ovseg.methods.yardstick import ByWords
from ovseg.pretrained.by_words import PhraseNetwork
from ovseg.pretrained.sam3 import Concept, Sam3Network
from ovseg.types import Paper, knob


@dataclass(frozen=True)
class SAM3(ByWords):
    """All instances of each phrase."""

    name: ClassVar[str] = "sam3"
    title: ClassVar[str] = "SAM 3"
    source: ClassVar[str] = "facebook/sam3"
    network: ClassVar[type[PhraseNetwork]] = Sam3Network
    terms: ClassVar[str] = ", and its terms must be agreed to on https://huggingface.co/facebook/sam3 first"
    paper: ClassVar[Paper] = Paper(
        title="SAM 3: Segment Anything with Concepts",
        authors="Nicolas Carion, Laura Gustafson, Yuan-Ting Hu and others",
        venue="arXiv 2025",
        arxiv="2511.16719",
        code="https://github.com/facebookresearch/sam3",
    )

    threshold: float = background_threshold(
        0.5, "Probability that a pixel of an instance's mask needs to belong to its class. transformers takes 0.5."
    )
    least_score: float = knob(
        0.3,
        "How sure the network must be of an instance for its mask to count. transformers takes 0.3.",
        label="Least score of an instance",
    )
    weights: str = knob(
        source, "The repository of the hub, or the folder, that the network is read from.", label="Weights", kind="network"
    )

    def maps(
        self, network: Sam3Network, image: UInt8[np.ndarray, "H W 3"], words: Sequence[Concept]
    ) -> Float[Tensor, "n H W"]:
        """At each place the highest probability of the masks of instances that are sure enough; 0 where there is none."""
        likely = []
        for scores, masks in network.instances(image, words):
            sure = resize(masks[scores > self.least_score], image.shape[:2])
            likely.append(torch.cat([sure, sure.new_zeros(1, *image.shape[:2])]).amax(0))
        return torch.stack(likely)
