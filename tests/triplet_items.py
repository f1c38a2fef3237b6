"""The items of a shard of triplets, those in which nothing was detected too, which a training never reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from ovseg.factory.orders import Order
from ovseg.factory.triplets import shard_orders


@dataclass(frozen=True)
class Triplet:
    """One item of a set; the words that were detected have a row of masks each, features are by stride."""

    order: Order
    detected: tuple[str, ...]
    image: np.ndarray
    latent: np.ndarray
    masks: np.ndarray
    features: dict[int, np.ndarray]


def read_shard(path: Path) -> Iterator[Triplet]:
    with safe_open(path, "np") as file:
        for place, item in enumerate(shard_orders(path)):
            parts = {name: file.get_slice(name)[place] for name in file.keys()}  # noqa: SIM118  no dictionary
            features = {int(name.partition(".")[2]): part for name, part in parts.items() if name.startswith("features.")}
            order = Order(item["number"], tuple(item["words"]), item["prompt"], item["seed"])
            masks = parts["masks"][: len(item["detected"])].astype(bool)
            yield Triplet(order, tuple(item["detected"]), parts["image"], parts["latent"], masks, features)
