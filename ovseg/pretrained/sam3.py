"""SAM 3 (Carion et al. 2025, arXiv 2511.16719): all instances of a phrase in a picture, with masks and scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ovseg.backbones.weights import check_finite
from ovseg.pretrained.by_words import PhraseNetwork


@dataclass(frozen=True, eq=False)
class Concept:
    """A phrase as the network reads it: a state for each token, and which tokens there are."""

    states: Float[Tensor, "1 t d"]
    mask: Integer[Tensor, "1 t"]


class Sam3Network(PhraseNetwork):
    """A frozen SAM 3."""

    title: ClassVar[str] = "SAM 3"
    gigabytes: ClassVar[float] = 3.5
    processor: ClassVar[str] = "Sam3Processor"
    network: ClassVar[str] = "Sam3Model"

    @torch.inference_mode()
    def encode(self, phrases: Sequence[str]) -> tuple[Concept, ...]:
        tokens = self._processor(text=list(phrases), return_tensors="pt").to(self.device)
        self.check_room(phrases, tokens.input_ids.shape[1])
        states = self._model.get_text_features(**tokens, return_dict=True).pooler_output
        return tuple(map(Concept, states.split(1), tokens.attention_mask.split(1)))

    @torch.inference_mode()
    def instances(
        self, image: UInt8[np.ndarray, "H W 3"], words: Sequence[Concept]
    ) -> Iterator[tuple[Float[Tensor, " q"], Float[Tensor, "q h w"]]]:
        """For each phrase the scores of its instances in an RGB picture, 0 to 1, and the probabilities of their masks.

        The network looks at the picture once for all phrases. Masks are on a square grid that covers the picture.
        """
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"].to(self.device, self.dtype)
        seen = self._model.get_vision_features(pixel_values=pixels)
        for word in words:
            told = BaseModelOutputWithPooling(pooler_output=word.states)
            found = self._model(vision_embeds=seen, text_embeds=told, attention_mask=word.mask)
            scores = found.pred_logits.float().sigmoid() * found.presence_logits.float().sigmoid()
            masks = found.pred_masks.float().sigmoid()
            check_finite("SAM 3's masks", self.dtype, scores, masks)
            yield scores[0], masks[0]
