"""The requests of programs. Making one checks it and loads no network; `run` does the work on the networks.

A request and its answer can be pickled, so that the work may be done in another process.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.compare import Comparison, Failure, Variant, compare, read_variants, run_variant, variant_of
from ovseg.doors import inputs
from ovseg.doors.answers import Captioned, Compared, Drawn, Segmented, compared, segmented
from ovseg.doors.visitor_networks import check_networks
from ovseg.limits import check_count, limits
from ovseg.methods import METHODS, Method, obstacle_to
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.scene import from_image, from_prompt
from ovseg.types import Scene
from ovseg.words.class_filter import asked_for, look_for
from ovseg.words.classes import ClassWord
from ovseg.words.nouns import noun_phrases

MOST_GUIDANCE = 50.0


@dataclass(frozen=True, eq=False)
class About:
    """A picture, and what is asked about it: what `segment` and `compare` have in common.

    Args:
        words: class words as they were typed; blank where a caption shall give them.
    """

    image: UInt8[np.ndarray, "H W 3"]
    words: str
    caption: str = ""
    captioner: str = ""
    seed: int = 0

    @classmethod
    def of(
        cls, models: Models, image: np.ndarray, *, classes: Any = "", caption: Any = "", captioner: Any = "", seed: Any = 0
    ) -> "About":
        """What is asked about a picture, checked.

        Raises:
            ValueError: a value is not what it must be.
        """
        return cls(
            image, inputs.classes(classes), inputs.text("caption", caption), inputs.captioner(models, captioner),
            inputs.whole("seed", seed, 0, inputs.LARGEST_SEED),
        )  # fmt: skip

    def asked_for(self, models: Models, finds_words: bool, report: Report) -> tuple[tuple[ClassWord, ...], str]:
        """The classes to ask for, and the caption.

        Raises:
            ValueError: neither words nor a caption name any.
        """
        return asked_for(
            models, self.image, self.words, finds_words=finds_words, caption=self.caption, captioner=self.captioner,
            report=report,
        )  # fmt: skip

    def scene(self, models: Models, caption: str) -> Scene:
        """The picture as methods take it."""
        return from_image(models, self.image, self.seed, caption=caption)


@dataclass(frozen=True, eq=False)
class SegmentRequest:
    """One method on one picture.

    Args:
        only_present: whether classes are left out that neither CLIP nor the caption finds.
    """

    about: About
    method: Method
    only_present: bool = False

    def run(self, models: Models, report: Report = silent) -> Segmented:
        """Segment the picture.

        Raises:
            ValueError: the method cannot be run, or nothing is asked for.
        """
        classes, caption = self.about.asked_for(models, self.method.finds_words, report)
        if self.only_present and classes:
            seen = look_for(models, self.about.image, classes, caption)
            classes = tuple(word for word, item in zip(classes, seen, strict=True) if item.present)
        scene = self.about.scene(models, caption)
        outcome = run_variant(models, scene, classes, variant_of(models, self.method), report)
        if isinstance(outcome, Failure):
            raise ValueError(outcome.sentence)
        return segmented(outcome, caption, self.about.seed, models.name)


@dataclass(frozen=True, eq=False)
class CompareRequest:
    """Several methods, or variants of them, on one picture."""

    about: About
    variants: tuple[Variant, ...]

    @classmethod
    def of(cls, models: Models, about: About, methods: Any = None) -> "CompareRequest":
        """A request for methods by their names; for those that need no drawing first if None.

        Raises:
            ValueError: there is no such method, a setting is wrong, a variant is there twice, or they are too many.
        """
        usual = [kind.name for kind in METHODS if not kind.draws_first and not obstacle_to(models, kind)]
        variants = read_variants(models, usual if methods is None else inputs.names(methods))
        check_count("methods", len(variants), limits().methods, "names")
        for variant in variants:
            check_networks(models, variant.method)
        Comparison(about.image, (), failures=tuple(Failure(variant.title, "") for variant in variants))
        return cls(about, variants)

    def run(self, models: Models, report: Report = silent) -> Compared:
        """Run the methods one after the other; one that fails says why, and the others stand.

        Raises:
            ValueError: neither words nor a caption name a class.
        """
        classes, caption = self.about.asked_for(models, finds_words=False, report=report)
        scene = self.about.scene(models, caption)
        return compared(compare(models, scene, classes, self.variants, report), caption, models.name)


@dataclass(frozen=True, eq=False)
class CaptionRequest:
    """A sentence about a picture."""

    image: UInt8[np.ndarray, "H W 3"]
    captioner: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, models: Models, image: np.ndarray, *, captioner: Any = "", prefix: Any = "") -> "CaptionRequest":
        """A request for a captioner by its name.

        Raises:
            ValueError: there is no such captioner, or it cannot be used here.
        """
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
        """A request, checked.

        Raises:
            ValueError: a value is not what it must be.
        """
        return cls(
            inputs.text("prompt", prompt, needed=True), inputs.whole("seed", seed, 0, inputs.LARGEST_SEED),
            None if steps is None else inputs.steps(steps),
            None if guidance is None else inputs.number("guidance", guidance, 0, MOST_GUIDANCE),
            negative=inputs.text("negative", negative),
        )  # fmt: skip

    def run(self, models: Models, report: Report = silent) -> tuple[UInt8[np.ndarray, "H W 3"], Drawn]:
        """Draw the picture.

        Raises:
            ValueError: the prompt is too long for the network.
        """
        report("loading the network", 0.0)
        _, begun = models.backbone, time.perf_counter()
        made = from_prompt(
            models, self.prompt, self.seed, steps=self.steps, guidance=self.guidance, negative=self.negative,
            on_step=lambda done, total: report("drawing", done / total),
        )  # fmt: skip
        sampling = models.checkpoint.sampling(self.steps, self.guidance, self.negative)
        return made.image, Drawn(
            prompt=made.caption, seed=self.seed, steps=sampling.steps, guidance=sampling.guidance,
            size=list(made.image.shape[:2]), seconds=time.perf_counter() - begun, backbone=models.name,
        )  # fmt: skip
