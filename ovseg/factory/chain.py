"""The whole bundle in one chain: every recipe in order, then its packing. It can be stopped and taken up at any point."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ovseg.assets import ASSETS
from ovseg.backbones import BACKBONES
from ovseg.factory.splits import find_split
from ovseg.factory.train_grounding import train_grounding
from ovseg.factory.triplets import Factory, index
from ovseg.files import as_json, write_or_check_settings, write_whole
from ovseg.models import Models
from ovseg.pocket.bundle import pack
from ovseg.pocket.recipes import MINUTES, RECIPES
from ovseg.pocket.train_clip import train_clip
from ovseg.pocket.train_denoiser import train_denoiser
from ovseg.pocket.train_segmenter import train_detector
from ovseg.pocket.train_transformer import train_transformer
from ovseg.pocket.training import Budget
from ovseg.pretrained.detector import load_detector
from ovseg.progress import Report, StoppedError, silent

NEXT = """All networks are trained and packed. What follows from new weights:
  python -m ovseg ablate --method NAME --out runs/ablate-NAME    settings that suit, for `suited` of the method
  python -m ovseg prototypes ship --to assets/pocket/prototypes  the prototypes of all words, which ship
  (and again with --backbone pocket-sd3, whose own go to assets/pocket/sd3/prototypes)
  python -m ovseg pocket-report --out runs/card                  the card: every figure, and a sheet of samples
The protocols of the data factory are in docs/factory.md."""

PAINTERS = {"pocket": ("stable-diffusion", ""), "pocket-sd3": ("stable-diffusion-3", "sd3")}
"""Networks that draw, by their rows: each one's folder in the bundle, and the one below for what belongs to it alone."""

Step = Callable[[], bool]
"""Does one step of the chain, and says whether it is finished."""


@dataclass(frozen=True)
class Chain:
    """All recipes of the pocket bundle. A finished step is noted in `root/chain` and not done again."""

    budget: Budget  # of every recipe, except for its minutes. With a piece, a run does one step at most.
    to: Path  # folder of the bundle that is written
    minutes: Mapping[str, float] = field(default_factory=lambda: MINUTES)  # of each network
    anew: bool = False  # train a new codec and a new denoiser, in place of going on from `start`
    # The pipeline that the denoiser goes on from, whose codec and text encoder are kept; CLIP goes on from the one beside it
    start: Path = ASSETS / "pocket" / "stable-diffusion"
    split: str = "S1"  # class split of the detector and of the grounding module
    triplets: int = 1280  # number of generated pictures that the grounding module is trained on
    steps: int = 12  # of sampling these pictures

    def __post_init__(self) -> None:
        if set(self.minutes) != set(MINUTES):
            raise ValueError(f"Minutes must be given for {', '.join(MINUTES)}, but got {', '.join(self.minutes)}.")

    def run(self, report: Report = silent) -> bool:
        """Do the steps that are not finished.

        Returns:
            Whether all of them are finished; otherwise the same call goes on.

        Raises:
            ValueError: the folder was begun with other settings, or a step cannot be done.
        """
        write_or_check_settings(self._notes, self.settings())
        steps = self.all_steps()
        for number, (name, step) in enumerate(steps.items()):
            note = self._notes / f"{name}.json"
            if note.exists():
                continue
            report(name, number / len(steps))
            if not step():
                return False
            write_whole(note, as_json({"finished": datetime.now(UTC).isoformat(timespec="seconds")}), lasting=True)
            if self.budget.piece and number + 1 < len(steps):
                return False
        return True

    def settings(self) -> dict[str, Any]:
        """All that the bundle depends on, JSON-ready."""
        begun = "anew" if self.anew else str(self.start)
        own = {"minutes": dict(self.minutes), "begun": begun, "split": self.split, "triplets": self.triplets}
        return own | {"steps": self.steps, "scenes": self.budget.scenes, "size": self.budget.size, "to": str(self.to)}

    def all_steps(self) -> dict[str, Step]:
        """The steps by name, in their order."""
        start = None if self.anew else self.start
        steps: dict[str, Step] = {"codec": lambda: RECIPES["codec"](self._of("codec"))} if self.anew else {}
        steps["denoiser"] = lambda: train_denoiser(self._of("denoiser"), start)
        steps["clip"] = lambda: train_clip(self._of("clip"), start)
        for name in ("judge", "captioner", "dino", "segmenter"):
            steps[name] = lambda name=name: RECIPES[name](self._of(name))
        steps["transformer"] = lambda: train_transformer(self._of("transformer"), self.budget.root / "denoiser" / "pipeline")
        steps["bundle"] = self._pack
        steps["detector"] = lambda: train_detector(self._of("detector"), find_split(self.split).seen, self.split)
        for name in PAINTERS:
            steps[f"triplets of {name}"] = lambda name=name: self._make_triplets(name)
            steps[f"grounding of {name}"] = lambda name=name: self._train_grounding(name)
        steps["bundle with grounding"] = self._pack
        return steps

    @property
    def _notes(self) -> Path:
        return self.budget.root / "chain"

    def _triplets(self, name: str) -> Path:
        return self.budget.root / PAINTERS[name][1] / f"triplets-{self.split}"

    def _of(self, name: str) -> Budget:
        return replace(self.budget, minutes=self.minutes[name])

    def _pack(self) -> bool:
        for _, own in PAINTERS.values():
            if (self.budget.root / own).is_dir():
                pack(self.budget.root / own, self.to / own)
        return True

    def _models(self, name: str) -> Models:
        """A packed pipeline, whose weights the module has to fit, sampled as the shipped one is."""
        source = str(self.to / PAINTERS[name][0])
        models = Models(source, self.budget.device)
        models.checkpoint = replace(BACKBONES[name], source=source)
        return models

    def _train_grounding(self, name: str) -> bool:
        budget = replace(self._of("grounding"), root=self.budget.root / PAINTERS[name][1])
        return train_grounding(self._models(name), self._triplets(name), self.split, budget)

    def _make_triplets(self, name: str) -> bool:
        models, triplets = self._models(name), self._triplets(name)
        detector = load_detector(str(self.budget.root / f"detector-{self.split}" / "segmenter"), models.device)
        sampling = models.checkpoint.sampling(self.steps)
        factory = Factory(models, detector, find_split(self.split).seen, self.triplets, sampling)
        try:
            factory.run(triplets, _stopping_after(self.budget.piece))
        except StoppedError:
            return False
        index(triplets, self.triplets)
        return True


def _stopping_after(minutes: float | None) -> Report:
    """A report that prints each stage, and stops the work after so many minutes; never if none are given."""
    begun = time.monotonic()

    def report(stage: str, share: float) -> None:
        print(f"\r{stage}", end="", flush=True)
        if minutes is not None and time.monotonic() - begun > 60 * minutes:
            raise StoppedError

    return report
