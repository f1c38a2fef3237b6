"""CLIP (Radford et al. 2021, arXiv 2103.00020) through open_clip: how well a text fits a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

LOCAL = "local-dir:"


class Clip:
    """A frozen CLIP.

    Args:
        source: "local-dir:FOLDER" with an open_clip checkpoint, or "NAME/TAG" of open_clip's table of pretrained models.

    Raises:
        ValueError: there is no such model, or its weights can be neither found nor fetched.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.source, self.device, self.dtype = source, torch.device(device), dtype
        name, tag = _name_and_tag(source)
        try:
            model, self._preprocess = open_clip.create_model_from_pretrained(name, tag)
            self._tokenizer = open_clip.get_tokenizer(name)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"The CLIP {source} must be on disk or on the hub, but cannot be loaded: {reason}") from error
        self._model = model.to(self.device, dtype).eval().requires_grad_(False)

    @property
    def scale(self) -> float:
        """What cosines are multiplied by to become logits."""
        return float(self._model.logit_scale.exp())

    @torch.inference_mode()
    def image_embeddings(self, images: Sequence[np.ndarray]) -> Float[Tensor, "n d"]:
        """Unit vectors of RGB uint8 pictures (H, W, 3); each is resized and cropped as the checkpoint's authors did."""
        batch = torch.stack([self._preprocess(Image.fromarray(image)) for image in images])
        return torch.nn.functional.normalize(self._model.encode_image(batch.to(self.device, self.dtype)).float(), dim=-1)

    @torch.inference_mode()
    def text_embeddings(self, prompts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of prompts; what does not fit the context is cut off."""
        tokens = self._tokenizer(list(prompts)).to(self.device)
        return torch.nn.functional.normalize(self._model.encode_text(tokens).float(), dim=-1)

    def similarity(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> Float[Tensor, "images prompts"]:
        """Cosines of every picture with every prompt."""
        return self.image_embeddings(images) @ self.text_embeddings(prompts).T


def _name_and_tag(source: str) -> tuple[str, str | None]:
    if source.startswith(LOCAL):
        if not (Path(source.removeprefix(LOCAL)) / "open_clip_config.json").is_file():
            raise ValueError(f"The CLIP {source} must be a folder with open_clip_config.json, but there is none.")
        return source, None
    name, _, tag = source.partition("/")
    if (name, tag) not in open_clip.list_pretrained():
        raise ValueError(f"The CLIP must be {LOCAL}FOLDER or NAME/TAG of open_clip's table, but got {source!r}.")
    return name, tag
