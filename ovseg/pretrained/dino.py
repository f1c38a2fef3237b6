"""DINO (Caron et al. 2021, arXiv 2104.14294): a vision transformer trained without labels, whose keys follow objects."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from jaxtyping import Float, Num
from torch import Tensor

from ovseg.backbones.outputs import outputs_of
from ovseg.backbones.weights import check_finite, loading, read_whole
from ovseg.maths.maps import enlarged
from ovseg.pretrained.frozen import Frozen


class Dino(Frozen):
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
        with loading(f"DINO at {source}"):
            pixels = transformers.AutoImageProcessor.from_pretrained(source)
            model = read_whole(transformers.ViTModel, source, dtype, add_pooling_layer=False)
        self._model = model.to(self.device).eval().requires_grad_(False)
        self._mean, self._std = (torch.tensor(v, device=self.device) for v in (pixels.image_mean, pixels.image_std))

    @property
    def patch(self) -> int:
        """Pixels of a patch's side."""
        return self._model.config.patch_size

    @torch.inference_mode()
    def keys(self, images: Sequence[Num[np.ndarray, "h w 3"]], *, cut: bool = False) -> Float[Tensor, "n d y x"]:
        """The last layer's keys of every patch, heads one after the other, without the class token.

        Args:
            images: RGB pictures of one size, 0 to 255; sides that are no multiples of a patch are resized to the nearest
                multiple, so that no column is lost.
            cut: as DINO's own code: what is left beside whole patches is cut off, and see `enlarged`.
        """
        pixels = torch.from_numpy(np.stack(images)).to(self.device).float() / 255
        pixels = ((pixels - self._mean) / self._std).permute(0, 3, 1, 2)
        grid = tuple(max(1, side // self.patch if cut else round(side / self.patch)) for side in pixels.shape[2:])
        sides = tuple(self.patch * count for count in grid)
        if cut:
            pixels = pixels[:, :, : sides[0], : sides[1]]
        elif sides != tuple(pixels.shape[2:]):
            pixels = F.interpolate(pixels, sides, mode="bilinear", align_corners=False, antialias=True)
        with outputs_of(self._model.layers[-1].attention.k_proj) as keys, ExitStack() as undo:
            if cut:
                undo.enter_context(self._model.embeddings.register_forward_hook(partial(_replace_places, grid=grid)))
            self._model(pixels.to(self.dtype), interpolate_pos_encoding=True)
        check_finite("DINO's keys", self.dtype, keys[0])
        return keys[0][:, 1:].float().unflatten(1, grid).permute(0, 3, 1, 2)


def _replace_places(embeddings: torch.nn.Module, _inputs: tuple, output: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """The embedded patches with the embeddings of their places by `enlarged`; as they are on the network's own grid."""
    places = embeddings.position_embeddings[:, 1:]
    side = math.isqrt(places.shape[1])
    if grid == (side, side):
        return None
    given = embeddings.interpolate_pos_encoding(output, *(length * embeddings.patch_size for length in grid))[:, 1:]
    wanted = enlarged(places.mT.unflatten(2, (side, side)), grid).flatten(2).mT
    return torch.cat([output[:, :1], output[:, 1:] + (wanted - given)], 1)
