"""Controls of a method on one picture: what it says where it cannot know. Its masks must beat them on this very picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ovseg.backbones import Backbone
from ovseg.backbones.base import Phrases, Text
from ovseg.compare import Entry, Failure, Variant, run_variant
from ovseg.evaluation.baselines import CentrePrior
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.types import Scene
from ovseg.words.classes import ClassWord, rows_of

SEED = 0  # of random weights

Run = Callable[[Models, Method, Scene, tuple[ClassWord, ...]], Entry | Failure]


def with_empty_prompts(backbone: Backbone) -> Backbone:
    """The backbone, to which every prompt is the empty one: the words' tokens are read where they would stand."""

    def encode_text(prompts: Sequence[str], phrases: Phrases, *given: Any, **more: Any) -> Text:
        text, empty = backbone.encode_text(prompts, phrases, *given, **more), backbone.encode_text([""], [""])
        conditions = {name: values.expand_as(text.conditions[name]) for name, values in empty.conditions.items()}
        return replace(text, embeddings=empty.embeddings.expand_as(text.embeddings), conditions=conditions)

    other = copy(backbone)
    other.encode_text = encode_text
    return other


def _without_network(title: str) -> Failure:
    return Failure(title, "This method reads no diffusion network, so nothing would change.")


def _empty_prompt(models: Models, method: Method, scene: Scene, classes: tuple[ClassWord, ...]) -> Entry | Failure:
    title = "empty prompt"
    if method.yardstick:
        return _without_network(title)
    return run_variant(models.with_backbone(with_empty_prompts(models.backbone)), scene, classes, Variant(title, method))


def _words_exchanged(models: Models, method: Method, scene: Scene, classes: tuple[ClassWord, ...]) -> Entry | Failure:
    """Each class is looked for by the word of the next one."""
    title = "words exchanged"
    if len(classes) < 2:
        return Failure(title, "Words can be exchanged where there are two classes or more.")
    made = run_variant(models, scene, (*classes[1:], classes[0]), Variant(title, method))
    if isinstance(made, Failure):
        return made
    names = tuple(word.name for word in classes)
    labels = (made.segmentation.labels[0], *names, *made.segmentation.labels[1 + len(names) :])
    return replace(made, segmentation=replace(made.segmentation, labels=labels))


def _random_weights(models: Models, method: Method, scene: Scene, classes: tuple[ClassWord, ...]) -> Entry | Failure:
    """The same network before any training. Nothing is drawn for it first: that would take minutes."""
    title = "random weights"
    if method.yardstick:
        return _without_network(title)
    untrained = models.with_backbone(models.backbone.untrained(SEED))
    if method.undrawn(untrained, rows_of(classes)[0]):
        return Failure(title, "This network would have to draw pictures of each class first.")
    return run_variant(untrained, scene, classes, Variant(title, method))


def _centre_prior(models: Models, method: Method, scene: Scene, classes: tuple[ClassWord, ...]) -> Entry | Failure:
    return run_variant(models, scene, classes, Variant("centre prior", CentrePrior()))


CONTROLS: Mapping[str, Run] = MappingProxyType({
    "empty prompt": _empty_prompt,
    "words exchanged": _words_exchanged,
    "random weights": _random_weights,
    "centre prior": _centre_prior,
})  # fmt: skip
"""Each control by its title."""


def run_controls(
    models: Models, method: Method, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent
) -> Iterator[Entry | Failure]:
    """The outcome of each control of a method, as the work goes on."""
    for number, (title, run) in enumerate(CONTROLS.items()):
        report(title, number / len(CONTROLS))
        yield run(models, method, scene, classes)
