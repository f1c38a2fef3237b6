"""Prototypes of a class: means of the features of its support images (steps B and D of OVDiff's released code)."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ovseg.maths.cluster import kmeans, library_kmeans
from ovseg.maths.maps import resize
from ovseg.methods.ovdiff.features import TOGETHER, Extractor
from ovseg.methods.ovdiff.settings import Settings
from ovseg.methods.ovdiff.store import NOWHERE, Prototypes, Side, Store, SupportImage, Trimap, store_of
from ovseg.methods.ovdiff.support import support_images, support_masks
from ovseg.models import Models
from ovseg.progress import Report, silent, within

NOISE_SEED = 43  # of the noise on support images; the code's
DRAWN, MASKED = 0.7, 0.85  # shares of the progress of a word at which its pictures and its masks are done


def make_prototypes(models: Models, settings: Settings, word: str, report: Report = silent) -> dict[str, Prototypes]:
    """The prototypes of a word in every extractor: from the store, or made and kept there.

    Raises:
        ValueError: a file of the store is damaged, or no picture of the word shows it.
    """
    kept, store = _kept(models, settings, word), store_of(models)
    if None not in kept.values():
        return kept

    def waiting() -> None:
        report(f"another process makes {word}", 0.0)

    with store.being_made(word, settings.made_by(models, "pictures"), waiting):
        kept = _kept(models, settings, word)  # another process may have made some of them meanwhile
        missing = [extractor for extractor, prototypes in kept.items() if prototypes is None]
        return kept | _made(models, settings, word, missing, report) if missing else kept


def _kept(models: Models, settings: Settings, word: str) -> dict[str, Prototypes | None]:
    store = store_of(models)
    return {e: store.read_prototypes(word, e, settings.made_by(models, e)) for e in settings.extractors}


def _made(models: Models, settings: Settings, word: str, missing: Sequence[str], report: Report) -> dict[str, Prototypes]:
    """What the extractors of `missing` make of a word, which is put into the store."""
    if settings.masks == "cutler" and not store_of(models).holds(word, "masks", settings.made_by(models, "masks")):
        models.proposals("cutler")  # what it lacks is said before pictures are drawn
    pictures = support_images(models, settings, word, within(report, 0, DRAWN))
    masks = support_masks(models, settings, word, pictures, within(report, DRAWN, MASKED))
    if not any(mask.foreground.any() for mask in masks):
        raise ValueError(f"The pictures of a class must show it somewhere, but none of {len(pictures)} of {word!r} does.")
    step, store, made = (1 - MASKED) / len(missing), store_of(models), {}
    for number, extractor in enumerate(missing):
        part = within(report, MASKED + number * step, MASKED + (number + 1) * step)
        features = _features_of_each(models, settings, extractor, pictures, part)
        made[extractor] = prototypes_of(
            features, masks, settings.parts, skip_empty=settings.skip_empty, by_library=settings.by_library
        )
        store.write_prototypes(word, extractor, settings.made_by(models, extractor), made[extractor])
    return made


def ship(models: Models, settings: Settings, words: Sequence[str], folder: Path, report: Report = silent) -> None:
    """Put the prototypes of words and sheets of their pictures into a folder; what is missing is made first.

    Prototypes of other words or settings that the folder holds are deleted.

    Raises:
        ValueError: a file of the store is damaged, or no picture of a word shows it.
    """
    to, written = Store(folder), set()
    for number, word in enumerate(words):
        part = within(report, number / len(words), (number + 1) / len(words))
        for extractor, prototypes in make_prototypes(models, settings, word, part).items():
            written.add(to.write_prototypes(word, extractor, settings.made_by(models, extractor), prototypes))
        pictures = support_images(models, settings, word, part)
        masks = support_masks(models, settings, word, pictures, part)
        written.add(to.write_sheet(word, settings.made_by(models, "masks"), [item.image for item in pictures], masks))
    for path, _ in to.files():
        if path not in written:
            path.unlink()


def drop_damaged(models: Models, settings: Settings, word: str) -> tuple[str, ...]:
    """Delete what is damaged of a word's files, so that `make_prototypes` makes it again; what was deleted."""
    kinds = ("pictures", "masks", *settings.extractors)
    return tuple(kind for kind in kinds if store_of(models).drop_damaged(word, kind, settings.made_by(models, kind)))


def _features_of_each(
    models: Models, settings: Settings, extractor: str, pictures: Sequence[SupportImage], report: Report
) -> Iterator[Tensor]:
    network = Extractor.of(models, settings, extractor, is_support=True)
    for first in range(0, len(pictures), TOGETHER):
        part = [item.image for item in pictures[first : first + TOGETHER]]
        report(f"{extractor} features of image {first + 1} of {len(pictures)}", first / len(pictures))
        yield from network.features(part, NOISE_SEED)


def prototypes_of(
    features: Iterable[Float[Tensor, "d y x"]],
    masks: Sequence[Trimap],
    parts: int,
    *,
    skip_empty: bool = False,
    by_library: bool = False,
) -> Prototypes:
    """The prototypes of foreground and background from the features of each picture, which are taken one at a time.

    Masks go to the feature grid bilinearly and count wherever anything of them arrives.

    Args:
        skip_empty: a picture without foreground on the feature grid gives no background either.
        by_library: parts by scikit-learn's k-means, and all vectors in single precision.
    """
    rows_of: tuple[list[Tensor], list[Tensor]] = ([], [])
    places_of: tuple[list[Tensor], list[Tensor]] = ([], [])
    for maps, mask in zip(features, masks, strict=True):
        foreground, background = (_on_grid(pixels, tuple(maps.shape[1:])) for pixels in (mask.foreground, mask.background))
        background &= foreground.any() or not skip_empty
        for side, places in enumerate((foreground, background)):
            places_of[side].append(places)
            rows_of[side].append(maps[:, places.to(maps.device)].T.float())
    both = zip(rows_of, places_of, strict=True)
    return Prototypes(*(_side(rows, torch.stack(at), parts, by_library) for rows, at in both))


def _side(rows_of: list[Tensor], inside: Bool[Tensor, "k y x"], parts: int, by_library: bool) -> Side:
    """The mean of all places, the mean of each picture's, and the centres of their clusters."""
    regions, dtype = np.full(inside.shape, NOWHERE, np.uint8), np.float32 if by_library else np.float16
    shown = [k for k, rows in enumerate(rows_of) if len(rows)]
    rows = torch.cat(rows_of)
    if not shown:
        return Side(np.zeros((0, rows.shape[1]), dtype), np.zeros(0, np.int32), 0, regions)
    labels, centres = (library_kmeans if by_library else kmeans)(rows, parts, restarts=1)
    regions[inside.numpy()] = labels.cpu().numpy().astype(np.uint8)
    means = torch.stack([rows_of[k].mean(0) for k in shown])
    vectors = torch.cat([rows.mean(0, keepdim=True), means, centres])
    # The mean and each part are shown by the picture that is most like them; a part by one that holds any of it.
    near = F.normalize(vectors, dim=1) @ F.normalize(means, dim=1).T
    owner = torch.cat([torch.full((len(rows_of[k]),), n) for n, k in enumerate(shown)])
    held = torch.zeros(len(centres), len(shown)).index_put_((labels.cpu(), owner), torch.ones(()), accumulate=True)
    near[1 + len(shown) :].masked_fill_((held == 0).to(near.device), -2)
    pictures = np.array(shown, np.int32)[near.argmax(1).cpu().numpy()]
    pictures[1 : 1 + len(shown)] = shown
    return Side(vectors.cpu().numpy().astype(dtype), pictures, len(centres), regions)


def _on_grid(mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
    return resize(torch.from_numpy(mask.astype(np.float32))[None], grid)[0] > 0
