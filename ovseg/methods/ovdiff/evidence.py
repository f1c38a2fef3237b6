"""What can be looked at of OVDiff: the support images, and which prototypes each place is nearest to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ovseg.methods.ovdiff.matching import PrototypeTable
from ovseg.methods.ovdiff.settings import Settings
from ovseg.methods.ovdiff.store import Trimap, store_of
from ovseg.methods.ovdiff.support import shaded
from ovseg.models import Models
from ovseg.types import Evidence, Neighbours

NEAREST = 5  # prototypes that are named for each place
SHEETS = 12  # phrases whose support images are shown


@dataclass(frozen=True, eq=False)
class Nearest:
    """The prototypes of one extractor that each place is nearest to, best first: rows of its table and their cosines."""

    table: PrototypeTable
    rows: Int[np.ndarray, "y x k"]
    cosines: Float[np.ndarray, "y x k"]

    @classmethod
    def of(cls, table: PrototypeTable, features: Float[Tensor, "d y x"]) -> "Nearest":
        """The nearest rows of a table to the features at each place."""
        return cls(table, *(part.permute(1, 2, 0).cpu().numpy() for part in table.nearest(features, NEAREST)))

    def times(self, phrases: int) -> Int[np.ndarray, " phrases"]:
        """How many times a prototype of each phrase, its background included, is among the nearest."""
        owner = np.array([source.number for source, _ in self.table.origin], int)
        return np.bincount(owner[self.rows.ravel()], minlength=phrases)

    def pictures(self) -> list[tuple[int, int]]:
        """The phrase and the picture, both counted from 0, that the nearest prototypes stand for; each once, in order."""
        origin = (self.table.origin[k] for k in np.unique(self.rows))
        return sorted({(source.number, int(source.side.pictures[row])) for source, row in origin})

    def neighbours(self, pictures: Mapping[tuple[int, int], UInt8[np.ndarray, "_h _w 3"]]) -> Neighbours:
        """What is nearest to each place, with the picture (of `self.pictures`) and region that each prototype stands for."""
        used, renumbered = np.unique(self.rows, return_inverse=True)
        origin = [self.table.origin[k] for k in used]
        order = {key: number for number, key in enumerate(pictures)}
        grounds = {"foreground": "", "background": " (background)"}
        return Neighbours(
            renumbered.reshape(self.rows.shape),
            self.cosines,
            tuple(f"{source.phrase}{grounds[source.ground]}, {source.side.kind_at(row)}" for source, row in origin),
            tuple(pictures.values()),
            tuple(order[source.number, int(source.side.pictures[row])] for source, row in origin),
            tuple(source.side.places_at(row) for source, row in origin),
        )


def evidence_of(
    models: Models,
    settings: Settings,
    phrases: Mapping[int, tuple[str, str]],
    tables: Mapping[str, PrototypeTable],
    features: Mapping[str, Float[Tensor, "_d _y _x"]],
) -> tuple[Evidence, ...]:
    """Support images and the nearest prototypes of each place, from the store; nothing is drawn for them.

    Of many phrases, the support images of those that are nearest most often; and only pictures that are nearest somewhere
    are kept. Nothing where neither the pictures nor a sheet of them are in the store, because they were deleted.

    Args:
        phrases: by number, each phrase that was compared and the name of its class.
        features: of the whole picture, by extractor.

    Raises:
        ValueError: a file of the store is damaged.
    """
    nearest = {extractor: Nearest.of(table, features[extractor]) for extractor, table in tables.items()}
    numbers = list(phrases)
    times = sum(item.times(max(numbers) + 1) for item in nearest.values())[numbers]
    most = [numbers[k] for k in np.argsort(-times, kind="stable")[:SHEETS]]
    wanted = {key for item in nearest.values() for key in item.pictures()}
    items, pictures = [], {}
    for number, (phrase, label) in phrases.items():
        needed = sorted(picture for owner, picture in wanted if owner == number)
        if number not in most and not needed:
            continue
        drawn = _support_of(models, settings, phrase)
        if not drawn:
            return ()
        pictures |= {(number, picture): drawn[picture][0] for picture in needed}
        if number in most:
            shown = tuple(shaded(picture, mask) if mask else picture for picture, mask in drawn)
            items.append(Evidence(f"{phrase}: support images", "images", images=shown, group="Support images", label=label))
    for extractor, item in nearest.items():
        neighbours = item.neighbours({key: pictures[key] for key in item.pictures()})
        items.append(
            Evidence(
                f"Nearest prototypes of each place, by {extractor}", "neighbours", neighbours=neighbours, group=extractor
            )
        )
    return tuple(items)


def _support_of(
    models: Models, settings: Settings, phrase: str
) -> tuple[tuple[UInt8[np.ndarray, "_h _w 3"], Trimap | None], ...]:
    """The support images of a phrase, with their masks: as they were drawn, or from the sheet that ships; or nothing.

    Where a store has no room and dropped the masks alone, the pictures come without them.
    """
    store = store_of(models)
    drawn = store.read_pictures(phrase, settings.made_by(models, "pictures"), settings.images)
    enough = drawn if len(drawn) == settings.images else ()
    masks = store.read_masks(phrase, settings.made_by(models, "masks"))
    if masks and enough:
        return tuple((item.image, mask) for item, mask in zip(enough, masks, strict=True))
    sheet = store.read_sheet(phrase, settings.made_by(models, "masks"))
    return sheet or tuple((item.image, None) for item in enough)
