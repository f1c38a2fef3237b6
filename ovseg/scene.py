"""Making scenes: from a picture, or from a prompt."""

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from ovseg.backbones.base import OnStep
from ovseg.limits import limits
from ovseg.models import Models
from ovseg.types import Scene

BROKEN = (
    OSError, SyntaxError, ValueError, IndexError, KeyError, EOFError, OverflowError, MemoryError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for files that are cut off, damaged, or absurdly large."""
FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "ICO", "PPM", "TGA", "PCX", "JPEG2000", "AVIF", "SGI", "IM",
)  # fmt: skip
"""Pillow's names of the formats that are read: those of pictures alone, none that starts another program."""
BAND = 256  # rows of a picture that are converted at a time
POSTERIOR = 2**31  # added to a scene's seed, so that the codec's sample and the noise on it are not the same numbers


def read_image(path: str | Path, longest: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """A picture file as RGB: turned upright as its camera recorded, transparency laid on white.

    Args:
        longest: most pixels of the longer side; a larger picture is shrunk.

    Raises:
        ValueError: there is no such file, it is no picture, or it is too large.
    """
    try:
        return decode_image(Path(path).read_bytes(), str(path), longest)
    except FileNotFoundError:
        raise ValueError(f"The picture must be a file, but {path} does not exist.") from None
    except IsADirectoryError:
        raise ValueError(f"The picture must be a file, but {path} is a folder.") from None
    except OSError as error:
        raise ValueError(f"The picture must be a file that can be read, but {path} is not: {error.strerror}.") from error


def decode_image(content: bytes, name: str, longest: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """The bytes of a picture file as RGB, as `read_image` gives it.

    Args:
        name: how an error's sentence calls the file.
        longest: most pixels of the longer side: a larger picture is shrunk, and a JPEG is decoded at a smaller size then.

    Raises:
        ValueError: they are no picture, a broken one, or one that is too large.
    """
    try:
        with open_picture(io.BytesIO(content)) as picture:
            _check_size(picture.size, longest)
            if longest:
                picture.draft("RGB", (2 * longest, 2 * longest))
            image = to_rgb(picture)
        return shrunk(image, longest) if longest else image
    except TooLargeError:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"The picture must be an image file that Pillow reads, but {name} is not.") from None
    except BROKEN as error:
        why = str(error).rstrip(".")
        raise ValueError(f"The picture must be an image file that Pillow reads, but {name} is not: {why}.") from error


def open_picture(file: str | Path | io.BytesIO) -> Image.Image:
    """Open a picture of one of `FORMATS`; raises what Pillow raises."""
    Image.init()  # makes all of them known; a Pillow may be built without some
    return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


class TooLargeError(ValueError):
    """A picture has too many pixels, or is too long for its width."""


def _check_size(size: tuple[int, int], longest: int | None) -> None:
    """Before any pixel is decoded."""
    most, (width, height) = limits(), size
    if width * height > most.pixels:
        raise TooLargeError(
            f"The picture must have {most.pixels / 1e6:g} megapixels at most, but has {width * height / 1e6:.0f}."
        )
    if longest and max(size) > most.aspect * min(size):
        raise TooLargeError(
            f"A side of the picture must be {most.aspect} times the other at most, but it has {width} x {height} pixels."
        )


def to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """A Pillow picture of any mode as RGB: upright, transparency laid on white, more than 8 bits scaled to its brightest.

    It is converted some rows at a time, so that a large picture is in memory but twice.

    Raises:
        ValueError: a pixel of a picture of numbers holds none.
    """
    upright, scale = ImageOps.exif_transpose(picture), None
    if upright.mode.startswith("I;16"):
        upright = upright.convert("I")
    if upright.mode in ("I", "F"):
        scale = 255 / max(float(upright.getextrema()[1]), 1.0)
    made = np.empty((upright.height, upright.width, 3), np.uint8)
    for top in range(0, upright.height, BAND):
        rows = upright.crop((0, top, upright.width, min(top + BAND, upright.height)))
        made[top : top + BAND] = _rows_as_rgb(rows, scale)
    return made


def _rows_as_rgb(rows: Image.Image, scale: float | None) -> UInt8[np.ndarray, "h W 3"]:
    """Some rows as RGB.

    Args:
        scale: what values of more than 8 bits are multiplied by; None where there are none.
    """
    if scale is not None:
        values = np.asarray(rows, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("a pixel is no finite number")
        rows = Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    rgba = rows.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def resized(image: UInt8[np.ndarray, "H W 3"], hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB picture at another size, by Pillow's antialiased bilinear filter."""
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.BILINEAR))


def squashed(image: UInt8[np.ndarray, "H W 3"], hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB picture at another size by plain bilinear resizing, without antialiasing, as DiffSegmenter's code does."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, hw, mode="bilinear", align_corners=False)[0]
    return small.round().byte().permute(1, 2, 0).numpy()


def latent_of(
    models: Models, image: UInt8[np.ndarray, "H W 3"], seed: int, *, square: bool = False, sample_posterior: bool = False
) -> Float[torch.Tensor, "1 c y x"]:
    """A picture's latent: resized to the backbone's resolution, with its aspect or squashed to a square, and encoded.

    Args:
        seed: of the sample of the codec's posterior.
        square: squash to the training resolution by plain bilinear resizing.
        sample_posterior: sample the codec's posterior instead of taking its mean.
    """
    backbone = models.backbone
    pixels = squashed(image, backbone.square_hw()) if square else resized(image, backbone.working_hw(image.shape[:2]))
    return backbone.encode(pixels, sample_seed=seed + POSTERIOR if sample_posterior else None)


def shrunk(image: UInt8[np.ndarray, "H W 3"], longest: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with its longer side at most `longest` pixels; a small picture is returned as it is."""
    scale = longest / max(image.shape[:2])
    return image if scale >= 1 else resized(image, tuple(max(1, round(side * scale)) for side in image.shape[:2]))


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
    if not prompt.strip():
        raise ValueError('The prompt must say what to show, such as "a photo of a cat", but it is empty.')
    sampling = models.checkpoint.sampling(steps, guidance, negative)
    (made,) = models.backbone.generate(prompt.strip(), [seed], sampling, on_step=on_step)
    return Scene(made.image, made.latent, prompt.strip(), seed)
