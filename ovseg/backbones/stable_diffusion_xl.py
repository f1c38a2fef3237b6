"""Stable Diffusion XL, its distilled ones (SSD-1B, SDXL-Turbo) and small networks of their layout, as a `Backbone`.

Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis". Two CLIP text encoders
read a prompt; the U-Net is told the pooled state of the second, and sizes (section 2.2).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from diffusers import StableDiffusionXLPipeline

from ovseg.backbones.base import Sampling
from ovseg.backbones.saved_words import Encoded
from ovseg.backbones.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """A U-Net that is told the sizes of a picture besides words."""

    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    kind, title = StableDiffusionXLPipeline, "Stable Diffusion XL"
    conditions: ClassVar[Mapping[str, str]] = {"addition_embed_type": "text_time"}
    unread: ClassVar[Mapping[str, Any]] = {"add_watermarker": False}
    told_otherwise = "something else than sizes and words, as in Stable Diffusion 1.x or IP adapters"

    def _encoded(self, prompts: Sequence[str]) -> Encoded:
        states, pooled = self._pooled(prompts, {})
        # As for a picture of its training that was neither enlarged nor cut: original height and width, corner, target.
        sizes = states.new_tensor([*self.square_hw(), 0, 0, *self.square_hw()]).expand(len(prompts), -1)
        return Encoded(states, {"text_embeds": pooled, "time_ids": sizes})

    def _told(self, sampling: Sampling, pictures: int) -> dict[str, Any]:
        """Without a negative prompt where there is none: some checkpoints take zeros for it, not an empty prompt."""
        return super()._told(sampling, pictures) if sampling.negative else {}
