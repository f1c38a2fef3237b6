"""A method that reads cross-attention by a choice of parts: what such methods share. `ovseg.reading` has the parts."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ovseg.attention.spreading import affinity_evidence
from ovseg.backbones.base import Backbone, Site, Text
from ovseg.methods.base import Method, Prepared
from ovseg.methods.knobs import noise_level
from ovseg.methods.strips import Painter, Step, Subject
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent
from ovseg.reading.prompts import Sentence, after_caption, owners_of
from ovseg.reading.recipe import Maps, Recipe, read, scored, told
from ovseg.scene import latent_of
from ovseg.types import Evidence, Scene, Segmentation
from ovseg.words.classes import ClassWord, rows_of

RECEIVED, SPREAD, WEIGHTS = "What the words receive", "Spread by self-attention", "Weights of layers"


@dataclass(frozen=True)
class Reader(Method):
    """A method that is a recipe, with the sentences that the network is told."""

    listed_first: ClassVar[bool] = False
    evidence_steps: ClassVar[Mapping[str, str]] = {
        RECEIVED: "The word's cross-attention: heads and layers in one map, scaled as the method says.",
        SPREAD: "The map times the self-attention: each place takes what the places it looks at have.",
        WEIGHTS: "How much each layer of cross-attention counts, in the order of computing.",
        "Self-attention": "Self-attention of one place: a row of softmax(Q K^T / sqrt(d)).",
    }

    timestep: int = noise_level(100, "The released code uses 100.")

    @abstractmethod
    def recipe(self) -> Recipe:
        """The parts that the settings choose."""

    @abstractmethod
    def sentences(self, backbone: Backbone, phrases: Sequence[str]) -> tuple[Sentence, ...]:
        """What the network is told.

        Raises:
            ValueError: a phrase does not fit the text encoder.
        """

    @property
    def stretched(self) -> bool:
        return True

    @property
    def reads_caption(self) -> bool:
        """Whether the network is told a caption before the words, and the words' keys are those of the words alone."""
        return False

    def encode(self, backbone: Backbone, sentences: Sequence[Sentence]) -> Text:
        """The sentences as the network reads them."""
        return told(backbone, sentences)

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """A row for each sentence, and one for its mirrored twin; as if each phrase had a sentence, before it is loaded."""
        sentences = len(self.sentences(models.backbone, phrases)) if models.is_loaded else len(phrases)
        return sentences * (1 + self.recipe().twin)

    def strip(self, subject: Subject, paint: Painter) -> tuple[Step, ...]:
        result = self.segment(subject.models, subject.scene, subject.classes)
        of = {group: [item for item in result.evidence if item.group == group] for group in (RECEIVED, SPREAD, WEIGHTS)}
        told_words = self.sentences(subject.models.backbone, rows_of(subject.classes)[0])[0].text
        return (
            subject.picture_step(),
            Step(
                paint.mosaic([paint.heat(item.map) for item in of[RECEIVED][:4]]),
                f"What words receive when the network is told “{told_words}”",
                "Heat maps, one for each word, bright where the word's attention is.",
            ),
            subject.affinity_step(paint, result, "Self-attention from the ringed place, along which the maps are spread"),
            Step(
                paint.heat_over(subject.scene.image, of[SPREAD][0].map), f"The map of “{subject.first}” after that",
                f"A heat map over the picture, brightest on the {subject.first}.",
            ),
            subject.mask_step(paint, result, "The strongest of classes and background wins"),
        )  # fmt: skip

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedReader":
        recipe, stages = self.recipe(), Stages(report)
        if recipe.times < 1 and recipe.refine not in ("none", "grids"):
            raise ValueError(f"The maps must be spread once or more, but got {recipe.times} times.")
        with stages.stage("encoding the words"):
            sentences = self.sentences(models.backbone, rows_of(classes)[0])
            text = self.encode(models.backbone, sentences)
        return PreparedReader(models, classes, self, sentences, text, timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedReader(Prepared):
    """A reader with what the network is told."""

    method: Reader
    sentences: tuple[Sentence, ...]
    text: Text

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        method, stages, recipe = self.method, Stages(report), self.method.recipe()
        with stages.stage("encoding the picture"):
            latents = [scene.latent]
            if recipe.twin:
                latents.append(latent_of(self.models, scene.image[:, ::-1].copy(), scene.seed))
        flow, keys = self._told_of(scene, stages)
        straight, *mirrored = (
            self._looked(replace(scene, encoded=latent), (flow, keys), stages, number / len(latents))
            for number, latent in enumerate(latents)
        )
        maps = straight.folded(mirrored[0]) if mirrored else straight
        with stages.stage("scoring", 1.0):
            owners = owners_of(self.sentences, rows_of(self.classes)[1])
            scores = scored(maps.refined, owners, scene.image.shape[:2], recipe)
        return Segmentation.from_scores(
            scene.image, self.names, scores, recipe.threshold if len(scores) == len(self.classes) else None,
            evidence=lambda: (
                *self._evidence(maps, owners),
                *affinity_evidence(self.models, scene, flow, method.timestep, recipe.stride),
            ),
            timings=stages.timings,
        )  # fmt: skip

    def _told_of(self, scene: Scene, stages: Stages) -> tuple[Text, dict[Site, Tensor] | None]:
        """What the network is told about a picture, and the keys of the words where they are not in it."""
        if not self.method.reads_caption:
            return self.text, None
        backbone = self.models.backbone
        with stages.stage("captioning"):
            caption = scene.caption or self.models.captioner().caption(scene.image)
            prompts = [after_caption(caption, sentence, backbone) for sentence in self.sentences]
            states = backbone.encode_text(prompts, [""] * len(prompts))
        read_sites = self.method.recipe().capture(backbone).states
        keys = backbone.word_keys(self.text, tuple(site for site in read_sites if site.kind == "cross"))
        return replace(self.text, prompts=tuple(prompts), embeddings=states.embeddings), keys

    def _looked(self, scene: Scene, asked: tuple[Text, dict[Site, Tensor] | None], stages: Stages, share: float) -> Maps:
        """The maps of all phrases."""
        recipe, backbone, (flow, keys), done = self.method.recipe(), self.models.backbone, asked, []
        capture, first = recipe.capture(backbone), 0
        for text in flow.split(backbone.rows_per_pass(tuple(scene.latent.shape[-2:]), capture)):
            last = first + len(text.prompts)
            with stages.stage("reading the network's attention", share):
                trace = backbone.trace(scene.latent, text, self.method.timestep, capture, seed=scene.seed)
                done.append(read(trace, recipe, {site: key[first:last] for site, key in keys.items()} if keys else None))
            first = last
        return Maps.join(done)

    def _evidence(self, maps: Maps, owners: Sequence[int]) -> tuple[Evidence, ...]:
        """Maps of all phrases, and how much each layer counts."""
        phrases = [phrase for sentence in self.sentences for phrase in sentence.phrases]
        labels = [self.names[owner] if owner >= 0 else "background" for owner in owners]
        heats = [
            Evidence.heat(f"{phrase}: {group}", values[k], group, label)
            for group, values in ((RECEIVED, maps.fused), (SPREAD, maps.refined))
            for k, (phrase, label) in enumerate(zip(phrases, labels, strict=True))
        ]
        return *heats, Evidence.heat("Weights of layers", maps.weights[None], WEIGHTS, "")
