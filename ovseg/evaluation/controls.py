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

NO_NETWORK = "This method reads no diffusion network, so nothing would change."

Words = tuple[ClassWord, ...]
Control = Callable[[Models, Method, Words], tuple[Models, Method, Words] | str]
"""What is run in place of a method on some networks with some words; or why nothing is, in a sentence."""


def with_empty_prompts(backbone: Backbone) -> Backbone:
    """The backbone, to which every prompt is the empty one: the words' tokens are read where they would stand."""

    def encode_text(prompts: Sequence[str], phrases: Phrases, *given: Any, **more: Any) -> Text:
        text, empty = backbone.encode_text(prompts, phrases, *given, **more), backbone.encode_text([""], [""])
        conditions = {name: values.expand_as(text.conditions[name]) for name, values in empty.conditions.items()}
        return replace(text, embeddings=empty.embeddings.expand_as(text.embeddings), conditions=conditions)

    other = copy(backbone)
    other.encode_text = encode_text
    return other


def _empty_prompt(models: Models, method: Method, classes: Words) -> tuple[Models, Method, Words] | str:
    return NO_NETWORK if method.yardstick else (models.with_backbone(with_empty_prompts(models.backbone)), method, classes)


def _words_exchanged(models: Models, method: Method, classes: Words) -> tuple[Models, Method, Words] | str:
    """Each class is looked for by the word of the next one."""
    if len(classes) < 2:
        return "Words can be exchanged where there are two classes or more."
    return models, method, (*classes[1:], classes[0])


def _random_weights(models: Models, method: Method, classes: Words) -> tuple[Models, Method, Words] | str:
    """The same network before any training. Nothing is drawn for it first: that would take minutes."""
    if method.yardstick:
        return NO_NETWORK
    untrained = models.with_backbone(models.backbone.untrained(SEED))
    if method.undrawn(untrained, rows_of(classes)[0]):
        return "This network would have to draw pictures of each class first."
    return untrained, method, classes


CONTROLS: Mapping[str, Control] = MappingProxyType({
    "empty prompt": _empty_prompt,
    "words exchanged": _words_exchanged,
    "random weights": _random_weights,
    "centre prior": lambda models, method, classes: (models, CentrePrior(), classes),
})  # fmt: skip
"""Each control by its title."""


def run_controls(
    models: Models, method: Method, scene: Scene, classes: Words, report: Report = silent
) -> Iterator[Entry | Failure]:
    """The outcome of each control of a method, as the work goes on; labels are the classes, by whatever words they go."""
    for number, (title, control) in enumerate(CONTROLS.items()):
        report(title, number / len(CONTROLS))
        asked = control(models, method, classes)
        if isinstance(asked, str):
            yield Failure(title, asked)
            continue
        made = run_variant(asked[0], scene, asked[2], Variant(title, asked[1]))
        if isinstance(made, Entry):
            known = made.segmentation.labels
            labels = (known[0], *(word.name for word in classes), *known[1 + len(classes) :])
            made = replace(made, segmentation=replace(made.segmentation, labels=labels))
        yield made
