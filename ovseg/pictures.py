"""Reading pictures and masks from files: the one place where a file becomes pixels."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from ovseg.limits import limits

BROKEN = (
    OSError, SyntaxError, ValueError, IndexError, KeyError, EOFError, OverflowError, MemoryError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for files that are cut off, damaged, or absurdly large."""
FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "ICO", "PPM", "TGA", "PCX", "JPEG2000", "AVIF", "SGI", "IM",
)  # fmt: skip
"""Pillow's names of the formats that are read: those of pictures alone, none that starts another program."""
UNREAD = frozenset({
    ".heic", ".heif", ".jxl", ".jxr", ".psd", ".psb", ".xcf", ".svg", ".eps", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw",
    ".orf", ".rw2", ".raf", ".exr", ".hdr", ".dds", ".fits", ".dcm",
})  # fmt: skip
"""Endings of pictures that are not read, so that they are named where a folder holds them."""
SIGNED = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF")
"""Formats whose files say by their first bytes what they are, whatever they are called."""
HEIF = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc")  # how pictures of telephones begin
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What makes a picture upright, by EXIF's number of its orientation."""
ORIENTATION, BITS, PLANES, NODATA = 0x0112, 258, 284, 42113  # tags of EXIF, TIFF (two) and GDAL
NEEDED = (b"tRNS", b"eXIf")  # parts of a PNG that its pixels do without, and a picture not
TURNING = (b"iTXtXML:com.adobe.xmp\0\0\0\0\0", b"zTXtRaw profile type exif\0")  # how its texts begin that may turn it
NUMBERS = {1: "B", 3: "H", 4: "I"}  # EXIF's kinds of whole numbers, as struct calls them
BAND = 256  # rows of a picture that are converted at a time
SAMPLE = 2**22  # pixels that tell how dark and how bright values of more than 8 bits are
FAR_BELOW, FAR_ABOVE = 0.5, 4.0  # spans of all others, from which on a value by itself stands for nothing

Rows = Callable[[int], np.ndarray]
"""Gives the values of the rows of a picture from a first one on, `BAND` of them at most."""


class NotTakenError(ValueError):
    """A file is whole, and yet it is not taken, such as a picture of too many pixels."""


def read_image(path: str | Path, longest: int | None = None, *, as_stored: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """A picture file as RGB: turned upright as its camera recorded, transparency laid on white.

    Args:
        longest: most pixels of the longer side; a larger picture is shrunk.
        as_stored: not turned, for a picture whose mask is on the pixels as they are stored.

    Raises:
        ValueError: there is no such file, it is no picture, or it is too large.
    """
    return decode_image(_content("The picture", path), str(path), longest, as_stored=as_stored)


def decode_image(
    content: bytes, name: str, longest: int | None = None, *, as_stored: bool = False
) -> UInt8[np.ndarray, "H W 3"]:
    """The bytes of a picture file as RGB, as `read_image` gives it.

    Args:
        name: how an error's sentence calls the file.
        longest: most pixels of the longer side: a larger picture is shrunk, and a JPEG is decoded at a smaller size then.

    Raises:
        ValueError: they are no picture, a broken one, or one that is too large.
    """
    with _explained("The picture", name), _opened(content) as picture:
        _check_size(picture.size, longest)
        if longest:
            picture.draft("RGB", (2 * longest, 2 * longest))
        image = _as_rgb(picture, content)
        turn = None if as_stored else TURNS.get(orientation_of(picture))
        image = image if turn is None else np.asarray(Image.fromarray(image).transpose(turn))
        return shrunk(image, longest) if longest else image


def is_turned(path: Path) -> bool:
    """Whether a picture file says that it must be turned, or mirrored, to be upright."""
    with _explained("The picture", str(path)), _opened(_content("The picture", path)) as picture:
        return orientation_of(picture) != 1


def read_values(
    path: str | Path, what: str = "The mask", image_hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "H W"]:
    """An indexed or grey picture as the numbers of its pixels, as they are stored.

    Args:
        what: what it is, to begin an error's sentence.
        image_hw: the size that it must have, in pixels; any if not given.

    Raises:
        ValueError: it cannot be read, has another size, or more than one number of 8 bits a pixel.
    """
    with _explained(what, "it"), _opened(_content(what, path)) as picture:
        if image_hw and picture.size != image_hw[::-1]:  # before any pixel is decoded
            wanted, got = (f"{w} x {h}" for w, h in (image_hw[::-1], picture.size))
            raise NotTakenError(f"{what} must have the picture's size, {wanted}, but it is {got}.")
        _check_size(picture.size, None)
        if picture.mode not in ("P", "L"):
            raise NotTakenError(
                f"{what} must be an indexed or grey PNG, one number of 8 bits a pixel, but its mode is {picture.mode}."
            )
        return np.asarray(picture)


@cache
def endings() -> frozenset[str]:
    """The endings of files of `FORMATS`, in lower case, with their dots."""
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in FORMATS)


def looks_like_picture(path: Path) -> bool:
    """Whether a file is a picture by its ending, or by its first bytes; also one that cannot be read."""
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        return False
    if path.suffix.lower() in endings() | UNREAD:
        return True
    with suppress(*BROKEN), path.open("rb") as file:
        head = file.read(2**16)
        return head[4:12] in HEIF or bool(Image.open(io.BytesIO(head), formats=SIGNED))
    return False


def _content(what: str, path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{what} must be a file, but {path} does not exist.") from None
    except IsADirectoryError:
        raise ValueError(f"{what} must be a file, but {path} is a folder.") from None
    except OSError as error:
        raise ValueError(f"{what} must be a file that can be read, but {path} is not: {error.strerror}.") from error


@contextmanager
def _explained(what: str, name: str) -> Iterator[None]:
    """In the block Pillow reads a file: what it raises is said in a sentence."""
    limits()  # of which a wrong one is no fault of the file
    try:
        yield
    except NotTakenError:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{what} must be an image file that Pillow reads, but {name} is not.") from None
    except BROKEN as error:
        why = str(error).rstrip(".")
        raise ValueError(f"{what} must be an image file that Pillow reads, but {name} is not: {why}.") from error


def _opened(content: bytes) -> Image.Image:
    """A picture of one of `FORMATS`; raises what Pillow raises."""
    Image.init()  # makes all of them known; a Pillow may be built without some
    return Image.open(io.BytesIO(_without_texts(content)), formats=[name for name in FORMATS if name in Image.OPEN])


def _without_texts(content: bytes) -> bytes:
    """A PNG without the parts that its picture does not need; other contents as they are.

    Pillow reads them all the same, and refuses a file for one that is long or damaged.
    """
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    kept, place = [content[:8]], 8
    while place + 8 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4])
        part = content[place:end]
        if part[4:5].isupper() or (_is_needed(part) and zlib.crc32(part[4:-4]) == int.from_bytes(part[-4:])):
            kept.append(part)
        place = end
    return b"".join(kept)


def _is_needed(part: bytes) -> bool:
    return part[4:8] in NEEDED or (part[4:].startswith(TURNING) and len(part) < 2**20)


def _check_size(size: tuple[int, int], longest: int | None) -> None:
    """Before any pixel is decoded."""
    most, (width, height) = limits(), size
    if width * height > most.pixels:
        raise NotTakenError(
            f"The picture must have {most.pixels / 1e6:.12g} megapixels at most, but has {width * height / 1e6:.12g}"
            f" ({width} x {height}); the variable OVSEG_MAX_PIXELS sets that."
        )
    if longest and max(size) > most.aspect * min(size):
        raise NotTakenError(
            f"A side of the picture must be {most.aspect} times the other at most, but it has {width} x {height} pixels."
        )


def orientation_of(picture: Image.Image) -> int:
    """How a picture lies, by EXIF's numbers from 1 to 8; 1, upright, where it does not say so, or says it wrongly."""
    with suppress(*BROKEN, TypeError, AttributeError):  # what describes a picture may be damaged, and its pixels whole
        return int(picture.getexif()[ORIENTATION])
    with suppress(struct.error, KeyError, TypeError, AttributeError):
        return _orientation_in(picture.info["exif"].removeprefix(b"Exif\0\0"))
    return 1


def _orientation_in(exif: bytes) -> int:
    """The orientation in raw EXIF, whatever its other tags say: Pillow reads none behind the first damaged one.

    Raises:
        struct.error, KeyError: it says none.
    """
    order = "<" if exif.startswith(b"II") else ">"
    (begin,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, begin)
    for place in range(begin + 2, begin + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", exif, place)
        if tag == ORIENTATION:
            return struct.unpack_from(order + NUMBERS[kind], exif, place + 8)[0]
    raise KeyError(ORIENTATION)


def _as_rgb(picture: Image.Image, content: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """A Pillow picture of any mode as RGB: transparency laid on white, more than 8 bits scaled to its brightest.

    It is converted some rows at a time, so that a large picture is in memory but twice.

    Args:
        content: its file, of which OpenCV reads colours of 16 bits: Pillow has no more than 8.
    """
    picture.load()  # a TIFF is upright from here on
    deep, scale = _deep_colours(picture, content), None
    rows: Rows = partial(_band, deep) if deep is not None else partial(_cropped, picture)
    if picture.mode.startswith("I;16"):
        picture = picture.convert("I")
        rows = partial(_cropped, picture)
    if deep is not None or picture.mode in ("I", "F"):
        scale = _scale_of(rows, picture.height, _nothing(picture), is_signed=deep is None)
    made = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, BAND):
        made[top : top + BAND] = _on_white(_in_8_bits(rows(top), scale) if scale else _cropped_picture(picture, top))
    return made


def _deep_colours(picture: Image.Image, content: bytes) -> np.ndarray | None:
    """The colours of a picture that has 16 bits of each, RGB or RGBA; None of another one.

    Raises:
        NotTakenError: a TIFF has each colour in a plane of its own, which neither Pillow nor OpenCV reads right.
    """
    if picture.mode not in ("RGB", "RGBA", "LA"):
        return None
    tags = getattr(picture, "tag_v2", {})
    bits = {"PNG": content[24:25] == b"\x10", "TIFF": max(tags.get(BITS, (8,))) > 8}
    if not bits.get(picture.format, picture.format in ("PPM", "JPEG2000", "SGI")):
        return None
    if tags.get(PLANES) == 2:
        raise NotTakenError("A TIFF of 16 bits must have its colours pixel by pixel, but this one has a plane for each.")
    values = cv2.imdecode(np.frombuffer(_without_texts(content), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.dtype != np.uint16:
        return None
    upright = values[..., [2, 1, 0, 3][: 3 if picture.mode == "RGB" else values.shape[2]]]  # a fourth may be infrared
    return upright if upright.shape[:2] == picture.size[::-1] else None


def _cropped_picture(picture: Image.Image, top: int) -> Image.Image:
    return picture.crop((0, top, picture.width, min(top + BAND, picture.height)))


def _cropped(picture: Image.Image, top: int) -> np.ndarray:
    return np.asarray(_cropped_picture(picture, top), np.float64)[..., None]


def _band(values: np.ndarray, top: int) -> np.ndarray:
    return values[top : top + BAND].astype(np.float64)


def _nothing(picture: Image.Image) -> float:
    """The value that stands for nothing by GDAL's tag of a TIFF; not a number where there is none."""
    with suppress(ValueError, TypeError):
        return float(str(getattr(picture, "tag_v2", {}).get(NODATA, "nan")).strip("\0 "))
    return float("nan")


def _scale_of(rows: Rows, height: int, nothing: float, *, is_signed: bool) -> tuple[float, float]:
    """The value that becomes black and the one that becomes white: 0, or the lowest where it is less, and the highest.

    Values that stand for nothing do not count: what is not finite, `nothing`, and of signed numbers and fractions a lowest
    or highest value that is far from all others.

    Raises:
        ValueError: no pixel holds a number.
    """
    step = 1 + height * rows(0).shape[1] // SAMPLE
    values = np.concatenate([rows(top)[..., :3].reshape(-1)[::step] for top in range(0, height, BAND)])
    known = np.unique(values[np.isfinite(values) & (values != nothing)])
    if not known.size:
        raise ValueError("none of its pixels holds a number")
    while is_signed and len(known) > 3:
        inner = known[1:-1]
        span = inner[-1] - inner[0]
        if known[0] < 0 and inner[0] - known[0] > FAR_BELOW * span:
            known = known[1:]
        elif known[-1] - inner[-1] > FAR_ABOVE * span:
            known = known[:-1]
        else:
            break
    low, high = float(known[0]), float(known[-1])
    return (0.0, max(high, 1.0)) if low >= 0 else (low, high if high > low else low + 1)


def _in_8_bits(values: np.ndarray, scale: tuple[float, float]) -> Image.Image:
    """Rows of values as a picture of 8 bits; what is no number is black. A fourth channel of 16 bits is transparency."""
    low, high = scale
    with np.errstate(all="ignore"):
        colours = np.nan_to_num((values[..., :3] - low) * (255 / (high - low)), nan=0.0).clip(0, 255).round()
    if values.shape[2] == 4:
        colours = np.dstack([colours, values[..., 3] / 257])
    return Image.fromarray(colours.astype(np.uint8).squeeze(2) if values.shape[2] == 1 else colours.astype(np.uint8))


def _on_white(rows: Image.Image) -> UInt8[np.ndarray, "h W 3"]:
    rgba = rows.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def resized(image: UInt8[np.ndarray, "H W 3"], hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB picture at another size, by Pillow's antialiased bilinear filter."""
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.BILINEAR))


def shrunk(image: UInt8[np.ndarray, "H W 3"], longest: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with its longer side at most `longest` pixels; a small picture is returned as it is."""
    scale = longest / max(image.shape[:2])
    return image if scale >= 1 else resized(image, tuple(max(1, round(side * scale)) for side in image.shape[:2]))
