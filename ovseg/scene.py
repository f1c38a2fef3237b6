"""Making scenes: from a picture, or from a prompt."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8

from ovseg.backbones.base import OnStep
from ovseg.limits import visible
from ovseg.models import Models
from ovseg.pictures import resized
from ovseg.types import Scene

POSTERIOR = 2**31  # added to a scene's seed, so that the codec's sample and the noise on it are not the same numbers


def squashed(image: UInt8[np.ndarray, "H W 3"], hw: tuple[int, int]) -> Float32[np.ndarray, "h w 3"]:
    """An RGB picture at another size by plain bilinear resizing, without antialiasing or rounding; still of 0 to 255.

    So the codes of DiffSegmenter and OVDiff resize.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, hw, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()


def latent_of(
    models: Models, image: UInt8[np.ndarray, "H W 3"], seed: int, *, square: bool = False, sample_posterior: bool = False
) -> Float[torch.Tensor, "1 c y x"]:
    """A picture's latent: resized to the backbone's resolution and encoded; `from_image` says what the options do."""
    backbone = models.backbone
    pixels = squashed(image, backbone.square_hw()) if square else resized(image, backbone.working_hw(image.shape[:2]))
    return backbone.encode(pixels, sample_seed=seed + POSTERIOR if sample_posterior else None)


def from_image(
    models: Models,
    image: np.ndarray,
    seed: int = 0,
    *,
    caption: str = "",
    square: bool = False,
    sample_posterior: bool = False,
) -> Scene:
    """A picture as a scene. When its latent is first looked at, it is resized to the backbone's resolution and encoded.

    Args:
        image: RGB uint8 (H, W, 3) of any shape. Masks come back at this size.
        seed: of every random number that is drawn for this scene.
        square: squash to the training resolution by plain bilinear resizing, as DiffSegmenter's code does, instead of
            keeping the aspect.
        sample_posterior: sample the codec's posterior (seeded), as DiffSegmenter's code does, instead of its mean.

    Raises:
        ValueError: the array is not such a picture.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"The picture must be uint8 of shape (H, W, 3), but got {image.dtype} of shape {image.shape}.")
    encoded = partial(latent_of, models, image, seed, square=square, sample_posterior=sample_posterior)
    return Scene(image, encoded, caption, seed)


def on_network(models: Models, scene: Scene) -> Scene:
    """The same picture for another backbone, whose codec encodes it when it is first looked at."""
    return replace(scene, encoded=partial(latent_of, models, scene.image, scene.seed))


def from_prompt(
    models: Models,
    prompt: str,
    seed: int = 0,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    negative: str = "",
    on_step: OnStep | None = None,
) -> Scene:
    """A generated scene; its latent is the sampler's own. Steps and guidance default to what suits the backbone.

    Raises:
        ValueError: the prompt is empty or too long, or there are no steps.
    """
    prompt, negative = visible(prompt).strip(), visible(negative)
    if not prompt:
        raise ValueError('The prompt must say what to show, such as "a photo of a cat", but it is empty.')
    sampling = models.checkpoint.sampling(steps, guidance, negative)
    (made,) = models.backbone.generate(prompt, [seed], sampling, on_step=on_step)
    return Scene(made.image, made.latent, prompt, seed)
