"""DINO (Caron et al. 2021, arXiv 2104.14294): a vision transformer trained without labels, whose keys follow objects."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.weights import check_complete, check_finite, loading, name_of_weights, say_if_pickled


class Dino:
    """A frozen vision transformer.

    Args:
        source: a repository of the hub, such as facebook/dino-vitb8, or a local folder.

    Raises:
        ValueError: it cannot be loaded, or is no vision transformer.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.source, self.device, self.dtype = source, torch.device(device), dtype
        with loading(f"DINO at {source}"):
            kind = transformers.AutoConfig.from_pretrained(source).model_type
            if kind != "vit":
                raise ValueError(f"The self-supervised network must be a vit, but {source} is a {kind}.")
            pixels = transformers.AutoImageProcessor.from_pretrained(source)
            model, info = transformers.ViTModel.from_pretrained(
                source, dtype=dtype, add_pooling_layer=False, weights_only=True, output_loading_info=True
            )
        self._model = model.to(self.device).eval().requires_grad_(False)
        check_complete(source, info["missing_keys"])
        say_if_pickled(source)
        self._mean, self._std = (torch.tensor(v, device=self.device) for v in (pixels.image_mean, pixels.image_std))

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights, the same in every precision."""
        return name_of_weights(self.source)

    @property
    def patch(self) -> int:
        """Pixels of a patch's side."""
        return self._model.config.patch_size

    @torch.inference_mode()
    def keys(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "n d y x"]:
        """The last layer's keys of every patch, heads one after the other, without the class token.

        Args:
            images: RGB pictures of one size; sides that are no multiples of a patch are resized to the nearest multiple,
                so that no column is lost.
        """
        pixels = torch.from_numpy(np.stack(images)).to(self.device).float() / 255
        pixels = ((pixels - self._mean) / self._std).permute(0, 3, 1, 2)
        grid = tuple(max(1, round(side / self.patch)) for side in pixels.shape[2:])
        sides = tuple(self.patch * count for count in grid)
        if sides != tuple(pixels.shape[2:]):
            pixels = F.interpolate(pixels, sides, mode="bilinear", align_corners=False, antialias=True)
        keys: list[Tensor] = []
        hook = self._model.layers[-1].attention.k_proj.register_forward_hook(lambda _m, _i, output: keys.append(output))
        try:
            self._model(pixels.to(self.dtype), interpolate_pos_encoding=True)
        finally:
            hook.remove()
        check_finite("DINO's keys", self.dtype, keys[0])
        return keys[0][:, 1:].float().unflatten(1, grid).permute(0, 3, 1, 2)
