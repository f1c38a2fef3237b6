"""Triplets of picture, features and masks, which the grounding module is trained on (Grounded Diffusion, section 3.3).

A set is a folder with `settings.json`, with `shards/00000.safetensors` and so on, each of `SHARD` items, and with
`index.parquet`, which has a row for each item: its prompt, the words that were detected, the checksum of its shard.
`notes` has the checksum of each shard from when it was written. Until its shard is complete, an item has a file of its own,
so that a stop loses no more than the item that is being made.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float16, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ovseg.backbones.base import Generated, Sampling
from ovseg.factory.notes import checked, note_path, write_note
from ovseg.factory.orders import Order, order
from ovseg.factory.shards import joined
from ovseg.files import file_checksum, read_json, write_or_check_settings, write_whole, write_whole_parts
from ovseg.models import Models
from ovseg.pretrained.detector import Detector
from ovseg.pretrained.grounding import step_features
from ovseg.progress import Report, silent

FORMAT = "ovseg triplets 2"
SHARD = 32  # items
MOST_WORDS = 2  # of a prompt


@dataclass(frozen=True)
class Factory:
    """Makes a set of triplets."""

    models: Models  # the backbone that draws
    detector: Detector  # segments the pictures
    classes: tuple[str, ...]  # words that prompts are made of
    count: int  # items of the set, numbered from 0
    sampling: Sampling  # how pictures are drawn
    pairs: float = 0.5  # share of prompts with two classes
    seed: int = 0  # of the first item; the others follow
    timestep: int = 1  # noise level at which features are taken
    single: bool = False  # a word's surest instance is its mask, as in the released code, in place of all
    features: bool = True  # keep the features (for Stable Diffusion 1.x, 34 million numbers an item), not the latent alone

    def run(self, out: Path, report: Report = silent, rank: int = 0, world: int = 1) -> None:
        """Make the missing shards that belong to process `rank` of `world`; `index` then completes the set.

        Raises:
            ValueError: the folder holds another set, a file in it is damaged or cannot be written, or a class is
                unknown to the detector.
        """
        self._check(out)
        mine = [shard for shard in range(-(-self.count // SHARD)) if shard % world == rank]
        total = sum(len(self._numbers(shard)) for shard in mine)
        done = 0
        for shard in mine:
            numbers = self._numbers(shard)
            if not _is_bound(out, shard, numbers):
                for number in numbers:
                    report(f"triplet {done + 1} of {total}", done / max(total, 1))
                    self._item(out, number)
                    done += 1
                self._bind(out, shard, numbers)
            done = mine.index(shard) * SHARD + len(numbers)
            for number in numbers:  # also those of a run that was stopped after it wrote the shard
                _item_path(out, number).unlink(missing_ok=True)

    def _numbers(self, shard: int) -> range:
        return range(shard * SHARD, min((shard + 1) * SHARD, self.count))

    def settings(self) -> dict[str, Any]:
        """All that the items depend on, JSON-ready; without the count, which may grow."""
        settings = {name: getattr(self, name) for name in ("classes", "pairs", "seed", "timestep", "single", "features")}
        settings |= {"backbone": self.models.backbone.fingerprint, "dtype": self.models.dtype_name}
        settings |= {"detector": self.detector.fingerprint, "format": FORMAT, **self.sampling.described()}
        return json.loads(json.dumps(settings))

    def _check(self, out: Path) -> None:
        unknown = [word for word in self.classes if not self.detector.knows(word)]
        if unknown:
            raise ValueError(
                f"The classes must be ones that the detector finds ({', '.join(self.detector.labels)}),"
                f" but got {unknown[0]}."
            )
        order(0, self.classes, self.pairs, self.seed)
        self.models.backbone.timesteps(self.sampling)  # refuses too few steps, and too many
        write_or_check_settings(out, self.settings())

    def _item(self, out: Path, number: int) -> None:
        path = _item_path(out, number)
        if path.exists():
            return
        item = order(number, self.classes, self.pairs, self.seed)
        drawn = self.models.backbone.generate(item.prompt, [item.seed], self.sampling)[0]
        write_whole(path, self._packed(item, drawn), lasting=True)

    def _packed(self, item: Order, drawn: Generated) -> bytes:
        """An item as a safetensors file of one row, masks of the words that were detected padded to `MOST_WORDS`."""
        by_word, features = self.detector.masks(drawn.image, item.words, self.single), {}
        detected = [word for word in item.words if word in by_word]
        masks = np.zeros((1, MOST_WORDS, *drawn.image.shape[:2]), np.uint8)
        for place, word in enumerate(detected):
            masks[0, place] = by_word[word]
        if self.features:
            features = step_features(self.models.backbone, drawn.latent, item.prompt, self.timestep, item.seed)
        halves = {f"features.{stride}": maps.cpu().to(torch.float16).numpy() for stride, maps in features.items()}
        if not all(np.isfinite(maps).all() for maps in halves.values()):
            raise ValueError(
                f"The features must be finite in half precision, in which they are kept, but those of {item.prompt!r}, seed"
                f" {item.seed}, are not: use --latents."
            )
        latent = drawn.latent.cpu().to(torch.float16).numpy()
        arrays = {"image": drawn.image[None], "latent": latent, "masks": masks, **halves}
        return save(arrays, _content([{**asdict(item), "detected": detected}]))

    def _bind(self, out: Path, shard: int, numbers: range) -> None:
        """Write the items of a shard to one file."""
        paths = [_item_path(out, number) for number in numbers]
        orders, total = [order for path in paths for order in shard_orders(path)], hashlib.sha256()

        def parts() -> Iterator[bytes]:
            for part in joined(paths, _content(orders)):
                total.update(part)
                yield part

        try:
            write_whole_parts(shard_path(out, shard), parts(), lasting=True)
        except SafetensorError as error:
            raise ValueError(f"The items in {paths[0].parent} must be whole, but one is not: {error}") from error
        write_note(shard_path(out, shard), total.hexdigest())


def index(out: Path, count: int) -> dict[str, int]:
    """Check all shards of a finished set and write `index.parquet`; returns the numbers of items, words and missed words.

    A shard whose size and time are those of its note is not read again.

    Raises:
        ValueError: a shard is missing or damaged, or is not as it was written.
    """
    rows = []
    indexed = {row["shard"]: row["checksum"] for row in _rows(out)} if (out / "index.parquet").exists() else {}
    for shard in range(-(-count // SHARD)):
        path = shard_path(out, shard)
        if not path.exists():
            raise ValueError(f"The set {out} must be complete, but {path.name} is missing: run `triplets` again to go on.")
        orders, checksum = shard_orders(path), checked(path, indexed.get(shard))
        for place, item in enumerate(orders):
            missed = [word for word in item["words"] if word not in item["detected"]]
            rows.append(item | {"missed": missed, "shard": shard, "place": place, "checksum": checksum})
    text = pa.list_(pa.string())
    schema = pa.schema(
        [("number", pa.int64()), ("words", text), ("prompt", pa.string()), ("seed", pa.int64()), ("detected", text),
         ("missed", text), ("shard", pa.int32()), ("place", pa.int32()), ("checksum", pa.string())]
    )  # fmt: skip
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    write_whole(out / "index.parquet", buffer.getvalue().to_pybytes(), lasting=True)
    words, missed = sum(len(row["words"]) for row in rows), sum(len(row["missed"]) for row in rows)
    return {"items": len(rows), "words": words, "missed": missed}


class TripletSet:
    """The items of a finished set in which something was detected; each is read from its shard when it is asked for.

    Raises:
        ValueError: there is no finished set in the folder, or a shard is missing or not as it was indexed.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "index.parquet").is_file():
            raise ValueError(f"A finished set of triplets must be in {folder}, but it has no index.parquet.")
        self.folder, self.settings, rows = folder, read_json(folder / "settings.json"), _rows(folder)
        for shard, expected in {row["shard"]: row["checksum"] for row in rows}.items():
            path = shard_path(folder, shard)
            if not path.exists() or file_checksum(path) != expected:
                raise ValueError(f"The shard {path} must be as it was indexed, but it is missing or was changed.")
        self.rows = [row for row in rows if row["detected"]]
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are kept; none where there are latents alone."""
        names = self._shard(self.rows[0]["shard"]).keys()
        return tuple(sorted(int(name.partition(".")[2]) for name in names if name.startswith("features.")))

    def features(self, number: int) -> dict[int, Float16[np.ndarray, "_channels _y _x"]]:
        """The features of one item, by stride."""
        return {stride: self._part(number, f"features.{stride}") for stride in self.strides}

    def latent(self, number: int) -> Float16[np.ndarray, "c y x"]:
        """The latent of one item."""
        return self._part(number, "latent")

    def image(self, number: int) -> UInt8[np.ndarray, "h w 3"]:
        """The RGB picture of one item."""
        return self._part(number, "image")

    def masks(self, number: int) -> Bool[np.ndarray, "n h w"]:
        """The masks of one item, of each word that was detected."""
        return self._part(number, "masks")[: len(self.rows[number]["detected"])].astype(bool)

    def order(self, number: int) -> Order:
        """The order of one item."""
        row = self.rows[number]
        return Order(row["number"], tuple(row["words"]), row["prompt"], row["seed"])

    def _part(self, number: int, name: str) -> np.ndarray:
        row = self.rows[number]
        return self._shard(row["shard"]).get_slice(name)[row["place"]]

    def _shard(self, shard: int) -> Any:
        if shard not in self._open:
            self._open[shard] = safe_open(shard_path(self.folder, shard), "np")
        return self._open[shard]


def shard_path(out: Path, shard: int) -> Path:
    """The file of a shard."""
    return out / "shards" / f"{shard:05d}.safetensors"


def _is_bound(out: Path, shard: int, numbers: range) -> bool:
    """Whether a shard is complete. One without a note is, unless a stop came between: then its items are still there."""
    if not shard_path(out, shard).exists():
        return False
    return note_path(shard_path(out, shard)).exists() or not all(_item_path(out, number).exists() for number in numbers)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a set's index.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return pq.read_table(folder / "index.parquet").to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"The index of the triplets in {folder} must be whole, but it is not: {error}") from error


def _item_path(out: Path, number: int) -> Path:
    return out / "items" / f"{number:07d}.safetensors"


def _content(orders: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What a file says of its items. One entry alone, because the library writes several in any order, and the same items
    should give the same bytes."""
    return {"content": json.dumps({"format": FORMAT, "items": orders})}


def shard_orders(path: Path) -> list[dict[str, Any]]:
    """For each item of a shard the fields of its order, and the words that were `detected`; no array is read.

    Raises:
        ValueError: it is damaged or no shard.
    """
    try:
        with safe_open(path, "np") as file:
            content = json.loads((file.metadata() or {}).get("content", "{}"))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"The shard {path} must be a whole safetensors file, but is not: {error}") from error
    if content.get("format") != FORMAT:
        raise ValueError(f"The shard {path} must be of the format {FORMAT!r}, but is of {content.get('format')!r}.")
    return content["items"]
