"""Which part of reading cross-attention changes how many points: each alone, and some together, on the same passes.

The plain reading is that of `Recipe` by the backbone's traits: a sentence for each word, mean heads, layers by hand, spread
once. A scene is looked at once for each kind of sentence; all readings are made of what these passes recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from html import escape
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Capture, Site, Trace
from ovseg.evaluation.datasets import Dataset, Sample
from ovseg.evaluation.labels import ground_truth
from ovseg.evaluation.protocols import PROTOCOLS
from ovseg.files import as_json, as_npz, write_or_check_settings, write_whole
from ovseg.maths.maps import of_strides
from ovseg.maths.overlap import confusion, dataset_miou
from ovseg.models import Models
from ovseg.output.tables import Table
from ovseg.processes import one_thread
from ovseg.progress import Report, silent
from ovseg.reading.heads import token_maps
from ovseg.reading.layers import middle_of_second_grid
from ovseg.reading.prompts import Sentence, after_caption, all_in_one, as_few, one_each, owners_of
from ovseg.reading.recipe import Maps, Recipe, asked, crossing_of, layer_weights, phrase_maps, refined, scored, told
from ovseg.scene import from_image, latent_of
from ovseg.words.classes import rows_of

TIMESTEP = 100
MOST_OTHERS = 8  # words that are no class: they take room in every sentence
PLAIN = "the plain reading"
THRESHOLDS: Mapping[str, tuple[float, ...]] = {
    "threshold": tuple(round(0.2 + 0.05 * k, 2) for k in range(13)),
    "offset": tuple(round(-0.6 + 0.1 * k, 1) for k in range(11)),
    "left-over": (0.0,),
}
"""What is tried for each rule of the background; the best on one half of the scenes is used on the other."""


ROW, LEFT, WIDTH, TOP, COLOUR = 22, 330, 760, 56, ("#0072b2", "#d55e00")  # pixels; better and worse, for colour-blind too


@dataclass(frozen=True)
class Reading:
    """A recipe on a kind of sentence: "each", "together", "others" (words that are no class behind), "caption" or "twin".

    Args:
        table: which table it stands in.
    """

    sentences: str
    recipe: Recipe
    table: str = "alone"


def readings(checkpoint: Checkpoint) -> dict[str, Reading]:
    """All readings by what is changed; the first one is the plain one."""
    weights = of_strides(checkpoint.grid_weights)
    reference = middle_of_second_grid(checkpoint.cross_strides)
    plain = Recipe(weights=weights, stride=checkpoint.finest_stride, reference=reference)
    grids = replace(plain, weights=dict.fromkeys(weights, 1.0))
    found = {
        PLAIN: Reading("each", plain),
        "heads: by contribution": Reading("each", replace(plain, heads="contribution")),
        "heads: by entropy": Reading("each", replace(plain, heads="entropy")),
        "layers: equal": Reading("each", replace(plain, layers="equal")),
        "layers: by likeness, renormalised": Reading("each", replace(plain, layers="likeness")),
        "layers: by likeness, as published": Reading("each", replace(plain, layers="likeness", renormalised=False)),
        "scale: min-max of all grids": Reading("each", grids),
        "scale: sum over places of all grids": Reading("each", replace(grids, scale="places")),
        "refinement: none": Reading("each", replace(plain, refine="none")),
        "refinement: twice": Reading("each", replace(plain, times=2)),
        "refinement: restart, 8 rounds": Reading("each", replace(plain, refine="restart", times=8, strength=0.2)),
        "refinement: all grids, squared": Reading("each", replace(plain, refine="grids", grids=weights, power=2.0)),
        "prompt: all words in one": Reading("together", plain),
        "prompt: all words, and words that are no class": Reading("others", plain),
        "prompt: caption, then words": Reading("caption", plain),
        "twin: mirrored": Reading("twin", plain),
        "background: what is left over": Reading("each", replace(plain, background="left-over")),
    }
    return found | dict(_together(plain))


def _together(plain: Recipe) -> Iterator[tuple[str, Reading]]:
    """Heads with layers, and scale with prompt and background, in full."""
    layers = {"hand": {}, "equal": {"layers": "equal"}, "likeness": {"layers": "likeness"}}
    layers["likeness, as published"] = {"layers": "likeness", "renormalised": False}
    for heads in ("mean", "contribution", "entropy"):
        for name, change in layers.items():
            yield f"heads {heads}, layers {name}", Reading("each", replace(plain, heads=heads, **change), "heads x layers")
    for scale in ("min-max", "content"):
        # A word that is alone in its sentence takes all of the content: its map would be 1 everywhere.
        for sentences in ("each", "together", "others", "caption")[scale == "content" :]:
            for background in THRESHOLDS:
                recipe = replace(plain, scale=scale, background=background)
                name = f"scale {scale}, prompt {sentences}, background {background}"
                yield name, Reading(sentences, recipe, "scale x prompt x background")


@dataclass(frozen=True)
class PartsTable:
    """All readings on the first `count` scenes of a data set, whose classes are known, with each seed of the noise."""

    models: Models
    dataset: Dataset
    count: int
    seeds: tuple[int, ...] = (0,)

    @cached_property
    def readings(self) -> dict[str, Reading]:
        """What is measured."""
        return readings(self.models.checkpoint)

    @cached_property
    def others(self) -> tuple[str, ...]:
        """Words that are no class: of a small world all others that it knows, else those of a published harness."""
        own = {phrase for word in self.dataset.classes() for phrase in word.phrases}
        known = self.models.checkpoint.classes.split(", ") if self.models.checkpoint.is_small_world else ()
        words = (word for word in known or PROTOCOLS["sclip"].background_words if word not in own)
        return tuple(islice(words, MOST_OTHERS))

    def run(self, out: Path, report: Report = silent) -> list[dict[str, Any]]:
        """Measure what is not yet in `out`, write `parts.json`, and return its rows.

        Raises:
            ValueError: `out` holds a run with other settings, there is one picture, or the data set scores no background.
        """
        if self.count < 2:
            raise ValueError(
                f"Thresholds are chosen on half of the pictures, of which there must be 2, but got {self.count}."
            )
        if self.dataset.background != "scored":
            raise ValueError(f"The parts are compared where background is scored, but in {self.dataset.name} it is not.")
        write_or_check_settings(out, self._settings())
        jobs = [(seed, index) for seed in self.seeds for index in range(self.count)]
        with one_thread(self.models.device):
            for done, (seed, index) in enumerate(jobs):
                report(f"{self.dataset.name} {done + 1}/{len(jobs)}", done / len(jobs))
                if not (path := self._path(out, seed, index)).exists():
                    write_whole(path, as_npz(self._measure(self.dataset.sample(index), seed)), lasting=True)
        rows = self.rows(out)
        write_whole(out / "parts.json", as_json(rows))
        return rows

    def rows(self, out: Path) -> list[dict[str, Any]]:
        """Of each reading mIoU, its points above the plain one, and the standard deviation of both over the seeds."""
        each = {name: np.array([self._miou(out, name, seed) for seed in self.seeds]) for name in self.readings}
        about = {"dataset": self.dataset.name, "count": self.count, "backbone": self.models.name}
        return [
            {
                "what": name, "table": self.readings[name].table, "miou": float(values.mean()),
                "change": float((values - each[PLAIN]).mean()), "spread": float((values - each[PLAIN]).std()),
                "seeds": len(self.seeds), **about,
            }
            for name, values in each.items()
        ]  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        weights = {"backbone": self.models.name, "weights": self.models.backbone.fingerprint, "dataset": self.dataset.name}
        shown = {
            name: {"sentences": one.sentences, **{key: str(value) for key, value in asdict(one.recipe).items()}}
            for name, one in self.readings.items()
        }
        return weights | {"timestep": TIMESTEP, "others": list(self.others), "readings": shown}

    def _path(self, out: Path, seed: int, index: int) -> Path:
        return out / f"seed-{seed}" / f"{index:06d}.npz"

    def _measure(self, sample: Sample, seed: int) -> dict[str, np.ndarray]:
        """For each reading the confusion matrices at all of its thresholds: places and values of what is not 0."""
        passes, measured, found = {}, [], {}
        for name, reading in self.readings.items():
            same = next((counts for other, counts in measured if other == replace(reading, table=other.table)), None)
            counts = self._counted(sample, reading, passes, seed) if same is None else same
            measured.append((reading, counts))
            places = np.flatnonzero(counts)
            found |= {f"{name} places": places.astype(np.int32), f"{name} counts": counts.ravel()[places].astype(np.int32)}
        return found

    def _classes_of(self, sample: Sample) -> list[int]:
        return ground_truth(self.models, sample, self.dataset.classes())

    def _sentences(self, sample: Sample, kind: str) -> tuple[Sentence, ...]:
        classes = self.dataset.classes()
        phrases = rows_of(tuple(classes[k] for k in self._classes_of(sample)))[0]
        backbone, template = self.models.backbone, self.models.checkpoint.template or "a photograph of a {}"
        if kind == "each":
            return one_each(template, phrases)
        others = self.others if kind == "others" else ()
        return as_few(backbone, lambda some: all_in_one(template, some, others), phrases)

    def _pass(self, sample: Sample, kind: str, mirrored: bool, seed: int) -> "Pass":
        """One pass with everything that any reading wants."""
        backbone, sentences = self.models.backbone, self._sentences(sample, kind)
        text = flow = told(backbone, sentences)
        keys = None
        if kind == "caption":
            caption = self.models.captioner().caption(sample.image)
            prompts = [after_caption(caption, sentence, backbone) for sentence in sentences]
            flow = replace(text, embeddings=backbone.encode_text(prompts, [""] * len(prompts)).embeddings)
            keys = backbone.word_keys(text, crossing_of(backbone))
        image = sample.image[:, ::-1].copy() if mirrored else sample.image
        latent = latent_of(self.models, image, seed) if mirrored else from_image(self.models, image).latent
        reference = crossing_of(backbone)[self.readings[PLAIN].recipe.reference]
        trace = backbone.trace(latent, flow, TIMESTEP, Capture(queries=(reference,), states=backbone.sites), seed=seed)
        return Pass(trace, sentences, keys)

    def _counted(
        self, sample: Sample, reading: Reading, passes: dict[tuple[str, bool], "Pass"], seed: int
    ) -> Int64[np.ndarray, "t k k"]:
        """The confusion matrices of one reading; passes that it needs are added to those that were made."""
        twin = reading.sentences == "twin"
        kind, mapped = "each" if twin else reading.sentences, []
        for mirrored in (False, True)[: 1 + twin]:
            if (kind, mirrored) not in passes:
                passes[kind, mirrored] = self._pass(sample, kind, mirrored, seed)
            mapped.append(passes[kind, mirrored].read(reading.recipe))
        maps, owners = mapped[0].folded(mapped[1]) if twin else mapped[0], passes[kind, False].owners
        scores = scored(maps.refined, owners, sample.image.shape[:2], replace(reading.recipe, threshold=0.0)).numpy()
        words = self._classes_of(sample)
        label_of, others = np.array([0, *(k + 1 for k in words)], np.uint8), scores[: -len(words)]
        best, winners = scores[-len(words) :].max(0), label_of[scores[-len(words) :].argmax(0) + 1]
        below = others[0] if len(others) else np.zeros_like(best)  # the background's score at a threshold of 0
        size, tried = len(self.dataset.classes()) + 1, THRESHOLDS[reading.recipe.background]
        return np.stack(
            [confusion(sample.labels, np.where(best > below + t, winners, 0).astype(np.uint8), size) for t in tried]
        )

    def _miou(self, out: Path, name: str, seed: int) -> float:
        """Dataset mIoU, each half of the scenes at the threshold that is the best on the other half."""
        size = len(self.dataset.classes()) + 1
        halves = np.zeros((2, len(THRESHOLDS[self.readings[name].recipe.background]), size, size), np.int64)
        for index in range(self.count):
            with np.load(self._path(out, seed, index)) as file:
                halves[index % 2].reshape(-1)[file[f"{name} places"]] += file[f"{name} counts"]
        return dataset_miou(sum(halves[k][np.argmax(list(map(dataset_miou, halves[1 - k])))] for k in range(2)))


class Pass:
    """What a pass recorded, and the classes of its phrases (`owners`). What several readings want is made once.

    `keys` are as in `recipe.read`.
    """

    def __init__(self, trace: Trace, sentences: tuple[Sentence, ...], keys: Mapping[Site, Tensor] | None) -> None:
        states = dict(trace.states)
        if keys:
            states |= {site: asked(states[site], key) for site, key in keys.items()}
        self._trace, self.owners = replace(trace, states=states), owners_of(sentences, count())
        self._maps: dict[tuple[Site, str], Tensor] = {}
        self._weights: dict[tuple[str, bool], Tensor] = {}

    @torch.no_grad()
    def read(self, recipe: Recipe) -> Maps:
        """The maps by a recipe."""
        by_hand, states = recipe.layers == "hand", self._trace.states
        sites = [
            site for site in states if site.kind == "cross" and (not by_hand or recipe.weights.get(site.stride, 0.0) > 0)
        ]
        for site in sites:
            if (site, recipe.heads) not in self._maps:
                self._maps[site, recipe.heads] = token_maps(states[site], recipe.heads).float()
        key = recipe.layers, recipe.renormalised
        weights = None if by_hand else self._weights.get(key)
        if weights is None:
            weights = self._weights[key] = layer_weights(self._trace, sites, recipe)
        maps = [self._maps[site, recipe.heads] for site in sites]
        fused = phrase_maps(self._trace, (sites, maps, weights), recipe)
        return Maps(fused, refined(self._trace, fused, recipe), weights)


def parts_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables in Markdown, in percent; the spread is the standard deviation over the noises."""
    text = f"{rows[0]['count']} pictures of {rows[0]['dataset']}, {rows[0]['backbone']}; {rows[0]['seeds']} noise(s).\n"
    for table in dict.fromkeys(row["table"] for row in rows):
        cells = tuple(
            (row["what"], f"{row['miou']:.1%}", f"{100 * row['change']:+.1f}", f"{100 * row['spread']:.1f}")
            for row in rows
            if row["table"] == table
        )
        text += "\n" + Table((table, "mIoU", "change", "spread"), cells, {}).markdown()
    return text


def parts_plot(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Which part changes how many points, as an SVG: a bar for each part, with its spread over the noise.

    Args:
        rows: of a `PartsTable`; those that stand alone are shown, the plain reading left out.
    """
    shown = [row for row in rows if row["table"] == "alone"][1:]
    most = max([1.0, *(100 * (abs(row["change"]) + row["spread"]) for row in shown)])
    middle, each = (LEFT + WIDTH) / 2 + 20, (WIDTH - LEFT) / 2 / most * 0.8
    height = TOP + ROW * len(shown) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="20" font-size="14">{escape(title)}</text>',
        f'<text x="12" y="40">the plain reading: {100 * rows[0]["miou"]:.1f} mIoU; bars are points above or below it</text>',
        f'<path d="M{middle:.1f} {TOP - 6} V{height - 8}" stroke="#999"/>',
    ]
    for number, row in enumerate(shown):
        y, end = TOP + ROW * number, middle + 100 * row["change"] * each
        spread, worse = 100 * row["spread"] * each, row["change"] < 0
        parts += [
            f'<text x="{LEFT}" y="{y + 14}" text-anchor="end">{escape(row["what"])}</text>',
            f'<rect x="{min(middle, end):.1f}" y="{y + 3}" width="{abs(end - middle):.1f}" height="{ROW - 8}"'
            f' fill="{COLOUR[worse]}"/>',
            f'<path d="M{end - spread:.1f} {y + 10} H{end + spread:.1f}" stroke="#111" stroke-width="1.5"/>',
            f'<text x="{end + (-6 - spread if worse else 6 + spread):.1f}" y="{y + 14}"'
            f' text-anchor="{"end" if worse else "start"}">{100 * row["change"]:+.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
