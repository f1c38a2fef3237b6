"""The figures of the pocket bundle's card: `python -m ovseg pocket-report`."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.assets import ASSETS
from ovseg.evaluation.baselines import BASELINES, ClipCentrePrior
from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.datasets import Dataset, find_dataset
from ovseg.files import as_json, read_json, write_whole
from ovseg.methods import METHODS, Method, obstacle_to, suited_to
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.tables import Table
from ovseg.pocket.train_captioner import f1_of_things
from ovseg.pocket.train_clip import average_precision, labels_held, name_prompts
from ovseg.pocket.train_codec import peak_signal_to_noise
from ovseg.pocket.train_dino import best_mask_iou
from ovseg.pocket.train_judge import Judge, accuracy, truth_of
from ovseg.pocket.world import THINGS, scene
from ovseg.progress import Report, silent
from ovseg.scene import from_prompt
from ovseg.words.classes import indefinite

CODEC_SCENES, MASKCUT_SCENES = 128, 64
PAIRS_SHOWN = 8  # on the sheet of samples, below one picture of each thing
SPLITS = ("pocket-val", "pocket-novel", "pocket-val-stuff")


@dataclass(frozen=True)
class Figure:
    """One row of the card. `aim` is the figure that was aimed at; empty where there was none."""

    what: str
    value: str
    aim: str = ""


@dataclass(frozen=True)
class PocketReport:
    """All figures of the bundle. Pictures and runs are kept in `out`, so that a stopped report can continue."""

    models: Models
    out: Path
    per_thing: int = 8  # pictures generated of each thing, seeds 0, 1, ...
    pairs: int = 128  # prompts of two things, drawn with seed 0; one picture each
    count: int = 256  # scenes of each split for the segmenters, and for CLIP
    judge: Path = ASSETS / "pocket" / "judge"
    sprites: Path | None = None  # folder of a set that no network was trained on: segmenters are measured on it, too
    beside: Path | None = None  # another network's `card.json`, whose figures stand beside these

    def run(self, report: Report = silent) -> list[Figure]:
        """Measure everything; write `card.md`, `card.json` and `samples.jpg`, and return the rows.

        Raises:
            ValueError: a number is below 1, or a network of the bundle is missing.
        """
        if min(self.per_thing, self.pairs, self.count) < 1:
            raise ValueError(
                "The numbers of pictures per thing, pairs and scenes must be 1 or more, but got"
                f" {self.per_thing}, {self.pairs} and {self.count}."
            )
        figures = [*self._codec(), *self._generator(report), *self._networks(report), *self._segmenters(report)]
        self._write(figures)
        return figures

    def _codec(self) -> list[Figure]:
        images = _val_images(CODEC_SCENES)
        value = peak_signal_to_noise(images, self._decoded(images))
        return [Figure(f"codec: PSNR on {CODEC_SCENES} val scenes", f"{value:.1f} dB", "27 dB")]

    def _generator(self, report: Report) -> list[Figure]:
        judge = Judge(self.judge, self.models.device)
        images, truth = _val_images(self.count), truth_of(tuple(scene("val", k).things for k in range(self.count)))
        real, through_codec = (accuracy(judge.things_in(pictures), truth) for pictures in (images, self._decoded(images)))
        rows = [
            Figure(f"the judge on {self.count} real val scenes: precision / recall", _precision_recall(real)),
            Figure("the judge on the same scenes through the codec", _precision_recall(through_codec)),
        ]
        single = [(thing,) for thing in THINGS for _ in range(self.per_thing)]
        found = judge.things_in(self._generated(single, report))
        hits = np.array([found[k, THINGS.index(thing)] for k, (thing,) in enumerate(single)]).reshape(len(THINGS), -1)
        rows.append(Figure(f'"a photo of a X": X found by the judge, {len(single)} pictures', f"{hits.mean():.0%}", "97 %"))
        each = ", ".join(f"{thing} {share:.0%}" for thing, share in zip(THINGS, hits.mean(1), strict=True))
        rows.append(Figure("the same for each thing", each))
        two = self._two_things()
        found = judge.things_in(self._generated(two, report))
        both = np.array([all(found[k, THINGS.index(thing)] for thing in pair) for k, pair in enumerate(two)])
        rows.append(Figure(f'"a photo of a X and a Y": both found, {self.pairs} pictures', f"{both.mean():.0%}", "70 %"))
        return rows

    def _two_things(self) -> list[tuple[str, ...]]:
        """The things of each picture of two; the first ones are the same for every number of pairs."""
        rng = np.random.default_rng(0)
        return [tuple(THINGS[k] for k in rng.permutation(len(THINGS))[:2]) for _ in range(self.pairs)]

    def _generated(self, wanted: list[tuple[str, ...]], report: Report) -> np.ndarray:
        """One picture (n, h, w, 3) for each tuple of things; the seed counts the pictures of one prompt."""
        pictures, seen = [], {}
        for done, things in enumerate(wanted):
            seed = seen[things] = seen.get(things, -1) + 1
            prompt = "a photo of " + " and ".join(indefinite(thing) for thing in things)
            path = self._picture_file(things, seed)
            if not path.exists():
                report(f"{prompt}, {done + 1}/{len(wanted)}", done / len(wanted))
                write_whole(path, view.png(from_prompt(self.models, prompt, seed).image), lasting=True)
            pictures.append(np.asarray(Image.open(path).convert("RGB")))
        return np.stack(pictures)

    def _picture_file(self, things: tuple[str, ...], seed: int = 0) -> Path:
        return self.out / "generated" / f"{'-'.join(things).replace(' ', '_')}-{seed}.png"

    def _decoded(self, images: np.ndarray) -> np.ndarray:
        """Real pictures through the codec: what a perfect denoiser could give."""
        backbone = self.models.backbone
        return np.stack([backbone.decode(backbone.encode(image)) for image in images])

    def _networks(self, report: Report) -> list[Figure]:
        """What CLIP, the captioner and DINO reach beside the diffusion network."""
        models, scenes = self.models, f"{self.count} val scenes"
        rows = (
            ("clip", f"CLIP: zero-shot mean average precision, {scenes}, 32 labels", self._average_precision, "0.92"),
            ("captioner", f"captioner: F1 of the things named, {scenes}",
             lambda: f1_of_things(models.captioner(), "val", self.count), "0.88"),
            ("dino",
             f"MaskCut on DINO's keys: mean IoU of a thing with the best of three masks, {MASKCUT_SCENES} val scenes",
             lambda: best_mask_iou(models.dino, "val", MASKCUT_SCENES), "0.45"),
        )  # fmt: skip
        figures = []
        for network, what, measured, aim in rows:
            report(what.partition(":")[0], 0.0)
            figures.append(Figure(what, "not in this bundle" if self.models.obstacle(network) else f"{measured():.2f}", aim))
        return figures

    def _average_precision(self) -> float:
        scores = self.models.clip.similarity(list(_val_images(self.count)), name_prompts()).cpu().numpy()
        return average_precision(scores, labels_held([scene("val", k) for k in range(self.count)]))

    def _segmenters(self, report: Report) -> list[Figure]:
        rows = []
        others = [find_dataset(SPLITS[0], self.sprites)] if self.sprites else []
        for dataset in [*map(find_dataset, SPLITS), *others]:
            for kind in METHODS:
                if obstacle_to(self.models, kind):
                    rows.append(Figure(f"{kind.full_title()} on {dataset.name}", "not with this bundle"))
                else:
                    rows.append(self._measured(suited_to(self.models, kind), dataset, report))
        trivial = [kind for kind in BASELINES if kind is not ClipCentrePrior or not self.models.obstacle("clip")]
        return rows + [self._measured(kind(), find_dataset(SPLITS[0]), report) for kind in trivial]

    def _measured(self, method: Method, dataset: Dataset, report: Report) -> Figure:
        task = Benchmark(self.models, method, dataset, self.count)
        table = task.run(self.out / "runs" / f"{method.name}-{dataset.name}", report)
        figures = " / ".join(f"{table[key]:.1%}" for key in ("miou", "mean_image_miou", "pixel_accuracy"))
        measures = "dataset mIoU / mean per-image mIoU / pixel accuracy"
        return Figure(f"{method.full_title()} on {dataset.name}, {self.count} scenes: {measures}", figures)

    def _write(self, figures: list[Figure]) -> None:
        other = {row["what"]: row["value"] for row in read_json(self.beside, list)} if self.beside else {}
        names = (self.models.short_name, self.beside.parent.name) if self.beside else ("value",)
        rows = ((f.what, f.value, *([other.get(f.what, "")] if self.beside else []), f.aim) for f in figures)
        write_whole(self.out / "card.md", Table(("figure", *names, "aim"), tuple(rows), {}).markdown().encode())
        write_whole(self.out / "card.json", as_json([asdict(figure) for figure in figures]))
        shown = [*((thing,) for thing in THINGS), *self._two_things()[:PAIRS_SHOWN]]
        pictures = [np.asarray(Image.open(self._picture_file(things))) for things in shown]
        titles = [", ".join(things) for things in shown]
        sheet = view.contact_sheet(pictures, titles, columns=8, cell=128)
        write_whole(self.out / "samples.jpg", view.jpeg(sheet, quality=92))


def _val_images(count: int) -> np.ndarray:
    return np.stack([scene("val", index).image for index in range(count)])


def _precision_recall(figures: dict[str, float]) -> str:
    return f"{figures['precision']:.1%} / {figures['recall']:.1%}"
