"""Running several methods on one picture, one after the other."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch

from ovseg.compare.comparison import Comparison, Entry, Failure
from ovseg.compare.truth import Truth
from ovseg.limits import quoted
from ovseg.methods import Method, find_method
from ovseg.methods.grammar import Configuration, read_settings, split_method
from ovseg.models import Models
from ovseg.output.cost import measuring
from ovseg.progress import Report, silent
from ovseg.types import Scene
from ovseg.words.classes import ClassWord

_EARLIER_SETTING = re.compile(r"^\s*([\w-]+)\.")  # METHOD.FIELD=VALUE


@dataclass(frozen=True)
class Variant:
    """A method with its settings, under the title that it has beside others."""

    title: str
    method: Method


def variant_of(models: Models, method: Method) -> Variant:
    """A method under the title that says what is unusual: its mode, and the settings that differ from the mode's."""
    return Variant(Configuration.of(models, method).title, method)


def read_variants(models: Models, entries: Sequence[str], settings: Sequence[str] = ()) -> tuple[Variant, ...]:
    """The variants that are asked for, in their order; blank entries are left out.

    Args:
        entries: methods with settings, as `ovseg.methods.grammar` writes them.
        settings: what holds for every variant of a method, written alike: "diffsegmenter:timesteps=300". Of a variant's own
            setting and one of these, its own holds.

    Raises:
        ValueError: there is no such method, mode or setting, or a value cannot be read.
    """
    common: dict[str, list[str]] = {}
    for text in settings:
        name, *items = split_method(_EARLIER_SETTING.sub(r"\1:", text))
        if not items:
            raise ValueError(f"A setting must be METHOD:FIELD=VALUE, but got {quoted(text)}.")
        common.setdefault(find_method(name.strip()).name, []).extend(items)
    variants = []
    for entry in filter(str.strip, entries):
        name, *own = split_method(entry)
        kind = find_method(name.strip())
        variants.append(variant_of(models, read_settings(kind, [*common.get(kind.name, ()), *own]).build(models)))
    return tuple(variants)


def compare(
    models: Models,
    scene: Scene,
    classes: tuple[ClassWord, ...],
    variants: Sequence[Variant],
    report: Report = silent,
    *,
    truth: Truth | None = None,
    on_entry: Callable[[Entry | Failure], None] = lambda entry: None,
) -> Comparison:
    """Run the variants one after the other. One that fails is kept as a `Failure`, and the others stand.

    Args:
        on_entry: called with each variant's outcome as soon as it is there. What it has been given is done, also when
            `report` raises to stop the work.

    Raises:
        ValueError: no variant is given, two have the same title, or the truth does not fit.
    """
    if not variants:
        raise ValueError("At least one method must be given, but got none.")
    names = tuple(word.name for word in classes)
    Comparison(scene.image, names, failures=tuple(Failure(v.title, "") for v in variants), truth=truth)
    outcomes = []
    for outcome in run_variants(models, scene, classes, variants, report):
        outcomes.append(outcome)
        on_entry(outcome)
    entries = tuple(item for item in outcomes if isinstance(item, Entry))
    failures = tuple(item for item in outcomes if isinstance(item, Failure))
    return Comparison(scene.image, names, entries, failures, truth, scene.seed)


def run_variants(
    models: Models, scene: Scene, classes: tuple[ClassWord, ...], variants: Sequence[Variant], report: Report = silent
) -> Iterator[Entry | Failure]:
    """The outcome of each variant, one after the other, as the work goes on."""
    for number, variant in enumerate(variants):

        def of_all(stage: str, share: float, variant: Variant = variant, number: int = number) -> None:
            report(f"{variant.title}: {stage}", (number + share) / len(variants))

        yield run_variant(models, scene, classes, variant, of_all)


def run_variant(
    models: Models, scene: Scene, classes: tuple[ClassWord, ...], variant: Variant, report: Report = silent
) -> Entry | Failure:
    """One variant's outcome: its segmentation with what it took, or why it could not be made.

    Encoding the picture is in nobody's seconds: it is done once for all methods that read the latent.
    """
    try:
        if variant.method.reads_latent:
            _ = scene.latent
        with measuring(models.device) as cost:
            segmentation = variant.method.segment(models, scene, classes, report)
    except ValueError as error:
        return Failure(variant.title, str(error))
    except torch.OutOfMemoryError:
        return Failure(variant.title, f"The memory of {models.device} must hold the method's work, but it is too small.")
    return Entry(
        variant.title,
        segmentation,
        cost.seconds,
        variant.method.name,
        asdict(variant.method),
        cost.passes,
        cost.peak_bytes,
        cost.rows,
    )
