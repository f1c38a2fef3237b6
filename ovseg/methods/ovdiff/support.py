"""Support images of a class, and where it is in them (steps A to C of OVDiff's released code)."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_erosion

from ovseg.backbones.base import Sampling
from ovseg.backbones.phrases import filled
from ovseg.maths.maps import normalise
from ovseg.methods.ovdiff.settings import Settings
from ovseg.methods.ovdiff.store import SupportImage, Trimap, store_of
from ovseg.models import Models
from ovseg.progress import Report

BATCH = 8  # pictures drawn together; the code's
LIKELY, UNLIKELY = 0.5, 0.2  # a place above the first attribution is the class, one below the second its surroundings
BINS = 64  # of the histogram in which Otsu's thresholds are looked for
RELEASED_BINS = 256  # the same in the released code


def support_images(models: Models, settings: Settings, word: str, report: Report) -> tuple[SupportImage, ...]:
    """Pictures of a word, of which those that the store has are not drawn again; kept batch by batch.

    Raises:
        ValueError: a file of the store is damaged.
    """
    made_by, store = settings.made_by(models, "pictures"), store_of(models)
    pictures = list(store.read_pictures(word, made_by, settings.images))
    as_released = settings.drawn_released
    sampling = Sampling(
        settings.steps, settings.guidance, settings.negative, dpm_solver=True, least_noise=as_released,
        heads_apart=as_released,
    )  # fmt: skip
    while len(pictures) < settings.images:
        count = min(BATCH, settings.images - len(pictures))

        def on_step(step: int, steps: int, done: int = len(pictures), count: int = count) -> None:
            share = (done + count * step / steps) / settings.images
            report(f"image {done + 1} to {done + count} of {settings.images}", share)

        seeds = [settings.first_seed + len(pictures) + k for k in range(count)]
        prompt, start = filled(settings.prompt, word)
        drawn = models.backbone.generate(prompt, seeds, sampling, word, on_step, start=start)
        kept_as = np.float32 if as_released else np.float16
        fresh = [SupportImage(made.image, made.attribution.cpu().numpy().astype(kept_as)) for made in drawn]
        store.add_pictures(word, made_by, fresh)
        pictures += fresh
    return tuple(pictures)


def support_masks(
    models: Models, settings: Settings, word: str, pictures: Sequence[SupportImage], report: Report
) -> tuple[Trimap, ...]:
    """Foreground and background of each support image, from the store, or found and kept there.

    Raises:
        ValueError: a file of the store is damaged, or the network that proposes masks cannot be loaded.
    """
    made_by, store = settings.made_by(models, "masks"), store_of(models)
    masks = store.read_masks(word, made_by)
    if masks is not None:
        return masks
    maps = [stretched(item.attribution, item.image.shape[:2]) for item in pictures]
    if settings.masks == "otsu":
        masks = masks_by_otsu(maps)
    elif settings.masks == "otsu-256":
        masks = masks_by_otsu(maps, [item.attribution for item in pictures])
    else:
        propose, masks = models.proposals(settings.masks), ()
        for number, (item, attribution) in enumerate(zip(pictures, maps, strict=True)):
            report(f"masks of image {number + 1} of {len(pictures)}", number / len(pictures))
            masks += (masks_by_proposals(propose(item.image), attribution, as_released=settings.skip_empty),)
    store.write_masks(word, made_by, masks)
    return masks


def stretched(attribution: Float[np.ndarray, "y x"], hw: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """An attribution map at a picture's size in [0, 1], stretched before and after; zeros for a constant one."""
    values = normalise(torch.from_numpy(attribution.astype(np.float32))).numpy()
    grown = cv2.resize(values, hw[::-1], interpolation=cv2.INTER_LINEAR)
    return normalise(torch.from_numpy(grown)).numpy()


def masks_by_proposals(
    proposals: Sequence[Bool[np.ndarray, "h w"]], attribution: Float[np.ndarray, "h w"], *, as_released: bool = False
) -> Trimap:
    """Foreground and background from class-agnostic masks; by fixed thresholds where there are none.

    The masks and what they leave compete by their mean attribution: the best is foreground, and the worst that still has
    pixels of its own is background, where the attribution is low, without its edge. An empty mask never competes.

    Args:
        as_released: an empty one, which scores not-a-number in the code, there takes every pixel, for both.
    """
    if not proposals:
        return Trimap(attribution > LIKELY, attribution < UNLIKELY)
    rest = ~np.any(proposals, 0)
    if as_released and not all(mask.any() for mask in (rest, *proposals)):
        return Trimap(np.ones_like(rest), binary_erosion(attribution < UNLIKELY, border_value=1))
    candidates = [mask for mask in (rest, *proposals) if mask.any()]
    ranked = sorted(candidates, key=lambda mask: -float(attribution[mask].mean()))
    owned, free = [], np.ones_like(rest)
    for mask in ranked:
        owned.append(mask & free)
        free &= ~mask
    owned = [mask for mask in owned if mask.any()]
    background = owned[-1] if len(owned) > 1 else np.zeros_like(rest)
    # The picture's frame is no edge of the object's surroundings: nothing is taken off there.
    return Trimap(owned[0], binary_erosion(background & (attribution < UNLIKELY), border_value=1))


def masks_by_otsu(
    attributions: Sequence[Float[np.ndarray, "h w"]], small: Sequence[Float[np.ndarray, "_y _x"]] = ()
) -> tuple[Trimap, ...]:
    """Foreground and background by two thresholds on the attributions of all images of a class (multi-Otsu).

    Args:
        small: the attributions on the latent grid, where thresholds come of these, as in the released code.
    """
    chosen = [normalise(torch.from_numpy(a.astype(np.float32))).numpy() for a in small] or attributions
    low, high = two_thresholds(np.concatenate([a.ravel() for a in chosen]), as_released=bool(small))
    return tuple(Trimap(a > high, a < low) for a in attributions)


def two_thresholds(values: Float[np.ndarray, " n"], *, as_released: bool = False) -> tuple[float, float]:
    """The two thresholds that part values in [0, 1] into three classes of the least variance (Otsu 1979).

    Where the values are too few to part, the fixed ones.

    Args:
        as_released: of 256 bins; a threshold is the centre of the last bin below it, as in scikit-image, in place of that
            bin's end.
    """
    bins = RELEASED_BINS if as_released else BINS
    counts, edges = np.histogram(values, bins, (0, 1))
    if np.count_nonzero(counts) < 3:
        return UNLIKELY, LIKELY
    centres = (edges[:-1] + edges[1:]) / 2
    number, total = np.cumsum([0, *counts]), np.cumsum([0, *(counts * centres)])
    first, second = np.triu_indices(bins - 1, 1)  # the last bins of the lower two classes
    between = np.zeros(len(first))
    for start, stop in ((0 * first, first + 1), (first + 1, second + 1), (second + 1, 0 * first + bins)):
        held = number[stop] - number[start]
        between += np.where(held > 0, (total[stop] - total[start]) ** 2 / np.maximum(held, 1), -np.inf)
    best = int(between.argmax())
    if as_released:
        return float(centres[first[best]]), float(centres[second[best]])
    return float(edges[first[best] + 1]), float(edges[second[best] + 1])


def shaded(image: UInt8[np.ndarray, "h w 3"], mask: Trimap) -> UInt8[np.ndarray, "h w 3"]:
    """A support image for people: foreground as it is, background half as bright, what is neither nearly black."""
    bright = np.where(mask.foreground, 1.0, np.where(mask.background, 0.5, 0.12))
    return (image * bright[..., None]).astype(np.uint8)
