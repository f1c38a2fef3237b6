"""Running several methods on one picture, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields

import torch

from ovseg.compare.comparison import Comparison, Entry, Failure
from ovseg.compare.truth import Truth
from ovseg.methods import Method, modes_of
from ovseg.models import Models
from ovseg.output.cost import measuring
from ovseg.progress import Report, silent
from ovseg.types import Scene, named
from ovseg.words.classes import ClassWord


@dataclass(frozen=True)
class Variant:
    """A method with its settings, under the title that it has beside others."""

    title: str
    method: Method


def variant_of(models: Models, method: Method, mode: str = "suited") -> Variant:
    """A method under its own title, followed by what is unusual: its mode, and the settings that differ from the mode's.

    Args:
        mode: one of `modes_of`; "suited" to the backbone is the usual one and is not named.

    Raises:
        ValueError: the method has no such mode.
    """
    usual = named(modes_of(models, type(method)), f"mode of {method.title}", mode)
    changed = [f.name for f in fields(method) if getattr(method, f.name) != getattr(usual, f.name)]
    unusual = [mode] * (mode != "suited")
    unusual += [f"{name.replace('_', ' ')} {_short(getattr(method, name))}" for name in changed]
    return Variant(", ".join([method.title, *unusual]), method)


def _short(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
