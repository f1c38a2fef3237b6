"""The Run button: every ticked method on the picture, each shown as it ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ovseg.compare import Comparison, Entry, Failure, Variant, run_variants, variant_of
from ovseg.demo import board
from ovseg.demo.picture import Picture
from ovseg.methods import Method, find_method
from ovseg.models import Models
from ovseg.output.run_card import run_card
from ovseg.progress import Report
from ovseg.scene import from_image
from ovseg.server.durations import NETWORK_ROW, Durations
from ovseg.server.request_cost import Work, learn_speed
from ovseg.server.session_memory import memory_bytes, most_memory
from ovseg.types import Scene
from ovseg.words.class_filter import asked_for
from ovseg.words.classes import ClassWord, rows_of


@dataclass(frozen=True)
class RunRequest:
    """What a visitor asks for."""

    picture: Picture
    words: str
    caption: str
    captioner: str
    methods: tuple[Method, ...]
    seed: int


@dataclass(frozen=True, eq=False)  # told apart by identity: a session asks whether its state is another
class Results:
    """What a visitor looks at: kept in the session, so that views answer without the network."""

    picture: Picture
    classes: tuple[ClassWord, ...]
    caption: str
    comparison: Comparison
    waiting: Mapping[str, float | None]  # titles of what is still to be run, with the seconds it will take, where known
    cards: tuple[tuple[str, dict], ...] = ()  # the run card of each entry, by its title
    drawn: tuple[dict, ...] = ()  # what the board shows of each outcome, packed once

    def with_outcome(self, outcome: Entry | Failure, card: dict | None) -> "Results":
        """These results with one more variant done; it has failed where it would be more than is kept of a visitor."""
        done, drawn = self.comparison, (*self.drawn, _drawn(outcome))
        if isinstance(outcome, Entry):
            outcome = replace(outcome, segmentation=outcome.segmentation.packed())
            done = replace(done, entries=(*done.entries, outcome))
        else:
            done = replace(done, failures=(*done.failures, outcome))
        cards = (*self.cards, (outcome.title, card)) if card else self.cards
        rest = {title: seconds for title, seconds in self.waiting.items() if title != outcome.title}
        grown = replace(self, comparison=done, waiting=rest, cards=cards, drawn=drawn)
        if isinstance(outcome, Entry) and (needed := memory_bytes(grown)) > most_memory():
            return self.with_outcome(Failure(outcome.title, too_much(needed)), None)
        return grown

    @property
    def truth(self) -> np.ndarray | None:
        """The label map of the truth, if it is known."""
        return None if self.comparison.truth is None else self.comparison.truth.label_map


def _drawn(outcome: Entry | Failure) -> dict:
    if isinstance(outcome, Failure):
        return board.failed(outcome.title, outcome.title, outcome.sentence)
    return board.done(outcome.title, outcome.title, outcome.segmentation, seconds=outcome.seconds, passes=outcome.passes)


def too_much(needed: int) -> str:
    """The sentence of a result that a visitor has no room for."""
    return (
        f"What is kept of your results must be {most_memory() / 1e6:.0f} MB at most, but would be {needed / 1e6:.0f} MB: "
        "run fewer methods at once, or take fewer classes or a smaller picture."
    )


def titled(models: Models, methods: Sequence[Method]) -> tuple[Variant, ...]:
    """Methods under titles that say what differs from the settings that suit the backbone.

    Raises:
        ValueError: two are the same.
    """
    variants = tuple(variant_of(models, method) for method in methods)
    titles = [variant.title for variant in variants]
    twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice:
        raise ValueError(f"Each method must differ from the others in a setting, but {twice} is there twice.")
    return variants


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one variant made of the picture, or why it could not, with its run card."""

    made: Entry | Failure
    card: dict | None


def run(
    models: Models, request: RunRequest, durations: Durations, report: Report, publish: Callable[[Results], None]
) -> Results:
    """Run every method of a request; what is there so far is published before the first and after each.

    Raises:
        ValueError: a word, a truth or a setting is not as it must be; what one method alone cannot do is its `Failure`.
    """
    grown: list[Results] = []

    def hand_on(part: Results | Outcome) -> None:
        grown.append(grow(grown[-1] if grown else None, part, durations))
        publish(grown[-1])

    run_parts(models, request, durations, report, hand_on)
    return grown[-1]


def grow(results: Results | None, part: Results | Outcome, durations: Durations) -> Results:
    """The results with one more part of `run_parts`; what it took is learned."""
    if isinstance(part, Results):
        return part
    made = part.made
    if isinstance(made, Entry):
        kind = find_method(made.method)
        learn_speed(durations, Work(made.method, made.rows or 0), made.seconds)
        if not (kind.draws_first and _prepared_long(made)):
            durations.learn(made.method, made.seconds)
        if kind.rows_alone and made.rows:
            durations.learn(NETWORK_ROW, made.seconds / made.rows)
    return results.with_outcome(made, part.card)


def run_parts(
    models: Models, request: RunRequest, durations: Durations, report: Report, publish: Callable[[Results | Outcome], None]
) -> None:
    """Run every method of a request: publishes results without any outcome, then each `Outcome` by itself.

    So each is sent but once where this runs in another process.

    Raises:
        ValueError: a word, a truth or a setting is not as it must be; what one method alone cannot do is its `Failure`.
    """
    variants = titled(models, request.methods)
    report("loading the network", 0.0)
    picture = request.picture
    classes, caption = asked_for(
        models, picture.image, request.words, finds_words=all(method.finds_words for method in request.methods),
        caption=request.caption, captioner=request.captioner, report=report,
    )  # fmt: skip
    truth = picture.truth_of(classes) if classes else None
    scene = from_image(models, picture.image, request.seed, caption=caption)
    empty = Comparison(picture.image, tuple(word.name for word in classes), truth=truth, seed=request.seed)
    seconds = {variant.title: expected_seconds(models, variant.method, classes, durations) for variant in variants}
    publish(Results(picture, classes, caption, empty, seconds))
    for variant, outcome in zip(variants, run_variants(models, scene, classes, variants, report), strict=True):
        publish(Outcome(outcome, _card(models, scene, classes, variant, outcome)))


def expected_seconds(models: Models, method: Method, classes: tuple[ClassWord, ...], durations: Durations) -> float | None:
    """How long a method will take, from its earlier runs here; with what it must draw before its first run."""
    known, missing = durations.expected(method.name), method.undrawn(models, rows_of(classes)[0])
    return (known or 0.0) + method.drawing_seconds(models, len(missing)) if missing else known


def _prepared_long(entry: Entry) -> bool:
    """Whether a run went into preparing its classes, which says nothing of how long the next one takes."""
    return entry.segmentation.timings.get("preparing the classes", 0.0) > entry.seconds / 2


def _card(
    models: Models, scene: Scene, classes: tuple[ClassWord, ...], variant: Variant, outcome: Entry | Failure
) -> dict | None:
    if isinstance(outcome, Failure):
        return None
    return run_card(models, scene, classes, variant.method, outcome.segmentation, cost=outcome.cost)
