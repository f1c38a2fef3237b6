"""The requests of programs. Making one checks it and loads no network; `run` does the work on the networks.

A value that is not what it must be raises ValueError, and so does work that cannot be done. A request and its answer can be
pickled, so that the work may be done in another process.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.compare import Comparison, Failure, Variant, compare, read_variants, run_variant
from ovseg.doors import inputs
from ovseg.doors.answers import Captioned, Compared, Drawn, Segmented, compared, segmented
from ovseg.doors.visitor_networks import check_networks
from ovseg.limits import check_count, limits
from ovseg.methods import at_first
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.scene import from_image, from_prompt
from ovseg.words.class_filter import asked_for, look_for
from ovseg.words.classes import ClassWord
from ovseg.words.notes import notes_on
from ovseg.words.nouns import noun_phrases

MOST_GUIDANCE = 50.0


@dataclass(frozen=True, eq=False)
class About:
    """A picture, and what is asked about it: what `segment` and `compare` have in common."""

    image: UInt8[np.ndarray, "H W 3"]
    words: str  # class words as they were typed; blank where a caption shall give them
    caption: str = ""
    captioner: str = ""
    seed: int = 0

    @classmethod
    def of(
        cls, models: Models, image: np.ndarray, *, classes: Any = "", caption: Any = "", captioner: Any = "", seed: Any = 0
    ) -> "About":
        """What is asked about a picture, checked."""
        return cls(
            image, inputs.classes(classes), inputs.text("caption", caption), inputs.captioner(models, captioner),
            inputs.whole("seed", seed),
        )  # fmt: skip

    def asked_for(self, models: Models, finds_words: bool, report: Report) -> tuple[tuple[ClassWord, ...], str]:
        """The classes to ask for, and the caption."""
        return asked_for(
            models, self.image, self.words, finds_words=finds_words, caption=self.caption, captioner=self.captioner,
            report=report,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class SegmentRequest:
    """One method on one picture."""

    about: About
    variant: Variant
    only_present: bool = False  # whether classes are left out that neither CLIP nor the caption finds

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The one method, as `CompareRequest` has several."""
        return (self.variant,)

    def run(self, models: Models, report: Report = silent) -> Segmented:
        """Segment the picture."""
        classes, caption = self.about.asked_for(models, self.variant.method.finds_words, report)
        if self.only_present and classes:
            seen = look_for(models, self.about.image, classes, caption)
            classes = tuple(word for word, item in zip(classes, seen, strict=True) if item.present)
        own = models.beside(self.variant.backbone)
        scene = from_image(own, self.about.image, self.about.seed, caption=caption)
        outcome = run_variant(own, scene, classes, self.variant, report)
        if isinstance(outcome, Failure):
            raise ValueError(outcome.sentence)
        return segmented(outcome, caption, self.about.seed, own.short_name, notes_on(own.checkpoint, classes))


@dataclass(frozen=True, eq=False)
class CompareRequest:
    """Several methods, or variants of them, on one picture."""

    about: About
    variants: tuple[Variant, ...]

    @classmethod
    def of(cls, models: Models, about: About, methods: Any = None) -> "CompareRequest":
        """A request for methods by their names; for those that the page begins with if None."""
        usual = [kind.name for kind in at_first(models)]
        variants = read_variants(models, usual if methods is None else inputs.names(methods))
        check_count("methods", len(variants), limits().methods, "names")
        for variant in variants:
            check_networks(models.beside(variant.backbone), variant.method)
        Comparison(about.image, (), failures=tuple(Failure(variant.title, "") for variant in variants))
        return cls(about, variants)

    def run(self, models: Models, report: Report = silent) -> Compared:
        """Run the methods one after the other; one that fails says why, and the others stand."""
        classes, caption = self.about.asked_for(models, finds_words=False, report=report)
        scene = from_image(models, self.about.image, self.about.seed, caption=caption)
        made = compare(models, scene, classes, self.variants, report)
        return compared(made, caption, models.short_name, notes_on(models.checkpoint, classes))


@dataclass(frozen=True, eq=False)
class CaptionRequest:
    """A sentence about a picture."""

    image: UInt8[np.ndarray, "H W 3"]
    captioner: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, models: Models, image: np.ndarray, *, captioner: Any = "", prefix: Any = "") -> "CaptionRequest":
        """A request for a captioner by its name."""
        name = inputs.captioner(models, captioner)
        if obstacle := models.captioner_obstacle(name):
            raise ValueError(f"captioner must be one that can be used here. {obstacle}")
        return cls(image, name, inputs.text("prefix", prefix))

    def run(self, models: Models, report: Report = silent) -> Captioned:
        """Describe the picture."""
        report("captioning", 0.0)
        network, begun = models.captioner(self.captioner), time.perf_counter()
        sentence = network.caption(self.image, self.prefix)
        things = [phrase.described for phrase in noun_phrases(sentence)]
        return Captioned(caption=sentence, things=things, seconds=time.perf_counter() - begun)


@dataclass(frozen=True)
class GenerateRequest:
    """A picture to draw. Steps and guidance are those that suit the backbone where they are None."""

    prompt: str
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    negative: str = field(default="", kw_only=True)

    @classmethod
    def of(
        cls, prompt: Any, *, seed: Any = 0, steps: Any = None, guidance: Any = None, negative: Any = ""
    ) -> "GenerateRequest":
        """A request, checked."""
        return cls(
            inputs.text("prompt", prompt, needed=True), inputs.whole("seed", seed),
            None if steps is None else inputs.steps(steps),
            None if guidance is None else inputs.number("guidance", guidance, 0, MOST_GUIDANCE),
            negative=inputs.text("negative", negative),
        )  # fmt: skip

    def run(self, models: Models, report: Report = silent) -> tuple[UInt8[np.ndarray, "H W 3"], Drawn]:
        """Draw the picture."""
        report("loading the network", 0.0)
        _, begun = models.backbone, time.perf_counter()
        made = from_prompt(
            models, self.prompt, self.seed, steps=self.steps, guidance=self.guidance, negative=self.negative,
            on_step=lambda done, total: report("drawing", done / total),
        )  # fmt: skip
        sampling = models.checkpoint.sampling(self.steps, self.guidance, self.negative)
        return made.image, Drawn(
            prompt=made.caption, seed=self.seed, steps=sampling.steps, guidance=sampling.guidance,
            size=list(made.image.shape[:2]), seconds=time.perf_counter() - begun, backbone=models.short_name,
        )  # fmt: skip
