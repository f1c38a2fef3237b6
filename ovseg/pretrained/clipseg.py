"""CLIPSeg (Lüddecke and Ecker 2022, arXiv 2112.10003): a decoder on a frozen CLIP that gives masks of phrases."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.weights import check_finite
from ovseg.pretrained.by_words import PhraseNetwork


class ClipSegNetwork(PhraseNetwork):
    """A frozen CLIPSeg."""

    title: ClassVar[str] = "CLIPSeg"
    gigabytes: ClassVar[float] = 0.6
    processor: ClassVar[str] = "CLIPSegProcessor"
    network: ClassVar[str] = "CLIPSegForImageSegmentation"

    @torch.inference_mode()
    def encode(self, phrases: Sequence[str]) -> Float[Tensor, "n d"]:
        """CLIP's embedding of each phrase."""
        tokens = self._processor.tokenizer(list(phrases), padding=True, return_tensors="pt").to(self.device)
        self.check_room(phrases, tokens.input_ids.shape[1])
        return self._model.clip.get_text_features(**tokens).pooler_output

    @torch.inference_mode()
    def masks(self, image: UInt8[np.ndarray, "H W 3"], words: Float[Tensor, "n d"]) -> Float[Tensor, "n h w"]:
        """The probability of each phrase at each place of an RGB picture, on a square grid that covers it.

        CLIP looks at the picture once for all phrases, which are as `encode` makes them.
        """
        pixels = self._processor.image_processor(image, return_tensors="pt")["pixel_values"]
        seen = self._model.clip.get_image_features(
            pixels.to(self.device, self.dtype), interpolate_pos_encoding=True, output_hidden_states=True
        )
        layers = [seen.hidden_states[number + 1].expand(len(words), -1, -1) for number in self._model.extract_layers]
        likely = self._model.decoder(tuple(layers), words).logits.float().sigmoid()
        check_finite("CLIPSeg's masks", self.dtype, likely)
        return likely
