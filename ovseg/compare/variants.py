"""Running several methods on one picture, one after the other."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ovseg.compare.comparison import Comparison, Entry, Failure, work_on
from ovseg.compare.truth import Truth
from ovseg.limits import quoted
from ovseg.methods import Method, find_method
from ovseg.methods.grammar import Configuration, read_settings, split_method
from ovseg.models import Models
from ovseg.output.cost import measuring
from ovseg.output.run_card import run_card
from ovseg.progress import Report, about, silent, within
from ovseg.scene import on_network
from ovseg.shared_networks import short_name
from ovseg.types import Scene
from ovseg.words.classes import ClassWord

_EARLIER_SETTING = re.compile(r"^\s*([\w-]+)\.")  # METHOD.FIELD=VALUE


@dataclass(frozen=True)
class Variant:
    """A method with its settings, under the title that it has beside others.

    Args:
        backbone: the short name of the network that it reads, where it is another than the usual one.
    """

    title: str
    method: Method
    backbone: str = ""

    @property
    def work(self) -> str:
        """What its seconds are learned under."""
        return work_on(self.method.name, self.backbone)


def board_of(
    names: str, device: str | None = None, dtype: str | None = None, *, offload: bool = False, words: Sequence[str] = ()
) -> Models:
    """The networks of several backbones, the first of which is the usual one and has the others beside it.

    Args:
        names: of backbones, with commas between them.
        words: files of saved words: "FILE" for the first backbone, "NAME=FILE" for the one of this short name.

    Raises:
        ValueError: a backbone, the device or the dtype is unknown, two backbones have one short name, or words are for none
            of them.
    """
    each = [name.strip() for name in names.split(",") if name.strip()] or [names]
    short = [short_name(name) for name in each]
    if twice := next((name for name in short if short.count(name) > 1), None):
        raise ValueError(
            f"Each backbone must have a name of its own, for folders the last part of their path, but {quoted(twice)} is"
            " there twice."
        )
    saved = saved_words_of(short, words)
    first, *rest = (
        Models(name, device, dtype, offload=offload, words=saved.get(own, "")) for name, own in zip(each, short, strict=True)
    )
    for other in rest:
        first.join(other)
    return first


def saved_words_of(backbones: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """The files of saved words by the short names of the backbones that they are for.

    Args:
        texts: "FILE" for the first backbone, "NAME=FILE" for another.

    Raises:
        ValueError: one is no file or for no backbone, or two are for the same one.
    """
    files: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if name not in backbones or not path:
            name, path = backbones[0], text
        if not Path(path).is_file():
            raise ValueError(
                f"Saved words must be a file that is there, as FILE or NAME=FILE with one of the backbones"
                f" {', '.join(backbones)}, but got {quoted(text)}."
            )
        if name in files:
            raise ValueError(f"A backbone must have one file of saved words, but {name} has {files[name]} and {path}.")
        files[name] = path
    return files


def variant_of(models: Models, method: Method) -> Variant:
    """A method under the title that says what is unusual: network, mode, and settings that differ from the mode's."""
    configuration = Configuration.of(models, method)
    return Variant(configuration.title, method, configuration.backbone)


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
        configuration = read_settings(kind, [*common.get(kind.name, ()), *own])
        networks = configuration.networks(models)
        variants.append(variant_of(networks, configuration.build(networks)))
    return tuple(variants)


def compare(
    models: Models,
    scene: Scene,
    classes: tuple[ClassWord, ...],
    variants: Sequence[Variant],
    report: Report = silent,
    *,
    truth: Truth | None = None,
) -> Comparison:
    """Run the variants one after the other. One that fails is kept as a `Failure`, and the others stand.

    Raises:
        ValueError: no variant is given, two have the same title, or the truth does not fit.
    """
    if not variants:
        raise ValueError("At least one method must be given, but got none.")
    names = tuple(word.name for word in classes)
    Comparison(scene.image, names, failures=tuple(Failure(v.title, "") for v in variants), truth=truth)
    order = [variant.title for variant in variants]
    outcomes = sorted(run_variants(models, scene, classes, variants, report), key=lambda one: order.index(one.title))
    entries = tuple(item for item in outcomes if isinstance(item, Entry))
    failures = tuple(item for item in outcomes if isinstance(item, Failure))
    return Comparison(scene.image, names, entries, failures, truth, scene.seed)


def by_network(models: Models, variants: Sequence[Variant]) -> list[Variant]:
    """Variants in the order in which they are run: network after network, beginning with those that are loaded."""
    return sorted(variants, key=lambda variant: (not models.beside(variant.backbone).is_loaded, variant.backbone))


def run_variants(
    models: Models, scene: Scene, classes: tuple[ClassWord, ...], variants: Sequence[Variant], report: Report = silent
) -> Iterator[Entry | Failure]:
    """The outcome of each variant, one after the other, as the work goes on, in the order of `by_network`."""
    ordered, scenes = by_network(models, variants), {models.short_name: scene}
    for number, variant in enumerate(ordered):
        of_all = about(within(report, number / len(ordered), (number + 1) / len(ordered)), variant.title)
        own = models.beside(variant.backbone)
        its_scene = scenes.setdefault(own.short_name, on_network(own, scene))
        yield _run_on(own, its_scene, classes, variant, of_all)


def _run_on(own: Models, scene: Scene, classes: tuple[ClassWord, ...], variant: Variant, report: Report) -> Entry | Failure:
    """A variant's outcome on a network, which is loaded first."""
    try:
        loading = _brought(own, report)
    except ValueError as error:
        return Failure(variant.title, str(error))
    outcome = run_variant(own, scene, classes, variant, report)
    if isinstance(outcome, Failure):
        return outcome
    if own.takes_turns:
        _ = outcome.segmentation.evidence  # which may need a pass, while the network is still there
    card = run_card(own, scene, classes, variant.method, outcome.segmentation, cost=outcome.cost)
    return replace(outcome, loading=loading, card=card)


def _brought(own: Models, report: Report) -> float:
    """The seconds in which a network beside others was loaded; 0 where it was there."""
    if own.is_loaded or len(own.board) == 1:
        return 0.0
    report(f"loading {own.checkpoint.title}", 0.0)
    begun = time.perf_counter()
    _ = own.backbone
    seconds = time.perf_counter() - begun
    report(f"{own.checkpoint.title} loaded in {seconds:.0f} s", 0.0)
    return seconds


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
        variant.title, segmentation, **asdict(cost), method=variant.method.name, settings=asdict(variant.method),
        backbone=variant.backbone, network=models.short_name, yardstick=variant.method.yardstick,
    )  # fmt: skip
