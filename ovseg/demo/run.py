"""The Run button: every ticked method on the picture, each shown as it ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ovseg.compare import Comparison, Entry, Failure, Variant, run_variants, variant_of, work_on
from ovseg.compare.correction import BY_HAND, Mark, attention_in, corrected
from ovseg.compare.variants import by_network
from ovseg.demo import board
from ovseg.demo.picture import Picture
from ovseg.methods import Method, at_first, find_method, suited_to
from ovseg.models import Models
from ovseg.output.run_card import thresholds_of
from ovseg.progress import Report
from ovseg.scene import from_image
from ovseg.server.durations import NETWORK_ROW, Durations
from ovseg.server.request_cost import USUAL_HW, Work, learn_speed
from ovseg.server.session_memory import memory_bytes, most_memory
from ovseg.types import BACKGROUND
from ovseg.words.class_filter import asked_for
from ovseg.words.classes import ClassWord, rows_of
from ovseg.words.notes import note_on_photographs


@dataclass(frozen=True)
class RunRequest:
    """What a visitor asks for."""

    picture: Picture
    words: str
    caption: str
    captioner: str
    variants: tuple[Variant, ...]
    seed: int


@dataclass(frozen=True)
class Thresholds:
    """Where a visitor has moved the background thresholds of all methods that have one.

    Args:
        common: of every method; None where each keeps its own.
        offsets: for a class, by how much its own threshold is higher than that.
    """

    common: float | None = None
    offsets: Mapping[str, float] = field(default_factory=dict)

    def on(self, comparison: Comparison) -> Comparison:
        """A comparison at these thresholds; runs no network."""
        return replace(comparison, entries=tuple(map(self.moved, comparison.entries)))

    def moved(self, entry: Entry) -> Entry:
        """An entry at these thresholds, which its card names; the same where nothing of it is moved."""
        segmentation = entry.segmentation
        if segmentation.threshold is None:
            return entry
        if self.common is not None:
            segmentation = segmentation.with_threshold(self.common)
        known = segmentation.labels[1:]
        own = {label: segmentation.threshold + offset for label, offset in self.offsets.items() if label in known}
        if own:
            segmentation = segmentation.with_class_thresholds(own)
        if segmentation is entry.segmentation:
            return entry
        method = entry.card["method"] | {"threshold": segmentation.threshold}
        changed = {"shares": segmentation.shares, "method": method, **thresholds_of(segmentation)}
        return replace(entry, segmentation=segmentation, card={**entry.card, **changed})


@dataclass(frozen=True, eq=False)  # told apart by identity: a session asks whether its state is another
class Results:
    """What a visitor looks at: kept in the session, so that views answer without the network."""

    picture: Picture
    classes: tuple[ClassWord, ...]
    caption: str
    comparison: Comparison
    waiting: Mapping[str, float | None]  # titles of what is still to be run, with the seconds it will take, where known
    drawn: tuple[dict, ...] = ()  # what the board shows of each outcome, packed once
    note: str = ""  # stands on the board
    order: tuple[str, ...] = ()  # titles as they were asked for: work goes on in the order of networks

    def placed(self, items: Iterable[Any], title: Callable[[Any], str]) -> tuple[Any, ...]:
        """Items in the order in which their titles were asked for; others come behind."""
        numbers = {asked: number for number, asked in enumerate(self.order)}
        return tuple(sorted(items, key=lambda item: numbers.get(title(item), len(numbers))))

    def with_outcome(self, outcome: Entry | Failure) -> "Results":
        """These results with one more variant done; it has failed where it would be more than is kept of a visitor."""
        done, drawn = self.comparison, (*self.drawn, _drawn(outcome))
        if isinstance(outcome, Entry):
            outcome = replace(outcome, segmentation=outcome.segmentation.packed())
            done = replace(done, entries=self.placed((*done.entries, outcome), lambda entry: entry.title))
        else:
            done = replace(done, failures=(*done.failures, outcome))
        rest = {title: seconds for title, seconds in self.waiting.items() if title != outcome.title}
        grown = replace(self, comparison=done, waiting=rest, drawn=drawn)
        if isinstance(outcome, Entry) and (needed := memory_bytes(grown)) > most_memory():
            return self.with_outcome(Failure(outcome.title, too_much(needed)))
        return grown

    def without(self, title: str) -> "Results":
        """These results without what is there under a title."""
        done = replace(self.comparison, entries=tuple(entry for entry in self.comparison.entries if entry.title != title))
        drawn = tuple(entry for entry in self.drawn if entry["title"] != title)
        return replace(self, comparison=done, drawn=drawn)

    def with_marks(self, title: str, marks: Sequence[Mark]) -> "Results":
        """These results with an entry corrected by marks, beside what the method made; without it where there are none.

        Raises:
            ValueError: no entry has kept what places attend to, or a mark does not fit.
        """
        entry, kept = self.comparison.entry(title), self.without(title + BY_HAND)
        if not marks:
            return kept
        attention = attention_in((entry, *self.comparison.entries))
        if attention is None:
            raise ValueError("Correcting needs a method that keeps what places attend to, but none of these does.")
        made = corrected(entry, attention, marks)
        changed = {"corrected by hand": [asdict(mark) for mark in marks], "shares": made.segmentation.shares}
        return kept.with_outcome(replace(made, card={**entry.card, **changed}))

    def at(self, thresholds: Thresholds) -> "Results":
        """These results at other thresholds; runs no network."""
        comparison = thresholds.on(self.comparison)
        pairs = zip(self.comparison.entries, comparison.entries, strict=True)
        moved = {new.title: new for old, new in pairs if new is not old}
        drawn = tuple(_drawn(moved[one["title"]]) if one["title"] in moved else one for one in self.drawn)
        return replace(self, comparison=comparison, drawn=drawn)

    @property
    def cards(self) -> dict[str, Mapping[str, Any]]:
        """The run card of each entry, by its title."""
        return {entry.title: entry.card for entry in self.comparison.entries}


def _drawn(outcome: Entry | Failure) -> dict:
    if isinstance(outcome, Failure):
        return board.failed(outcome.title, outcome.title, outcome.sentence)
    return board.done(
        outcome.title, outcome.title, outcome.segmentation, seconds=outcome.seconds, passes=outcome.passes,
        apart=outcome.yardstick,
    )  # fmt: skip


def too_much(needed: int) -> str:
    """The sentence of a result that a visitor has no room for."""
    return (
        f"What is kept of your results must be {most_memory() / 1e6:.12g} MB at most, but would be {needed / 1e6:.12g} MB: "
        "run fewer methods at once, or take fewer classes or a smaller picture."
    )


def titled(models: Models, methods: Sequence[Method]) -> tuple[Variant, ...]:
    """Methods under titles that say what differs from the settings that suit the backbone."""
    return differing(tuple(variant_of(models, method) for method in methods))


def differing(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """The same variants.

    Raises:
        ValueError: two are the same.
    """
    titles = [variant.title for variant in variants]
    twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice:
        raise ValueError(f"Each method must differ from the others in a setting, but {twice} is there twice.")
    return variants


def run(
    models: Models, request: RunRequest, durations: Durations, report: Report, publish: Callable[[Results], None]
) -> Results:
    """Run every method of a request; what is there so far is published before the first and after each."""
    grown: list[Results] = []

    def hand_on(part: Results | Entry | Failure) -> None:
        grown.append(grow(grown[-1] if grown else None, part, durations))
        publish(grown[-1])

    run_parts(models, request, durations, report, hand_on)
    return grown[-1]


def run_at_first(models: Models, picture: Picture, durations: Durations, report: Report) -> Results:
    """The methods that the page begins with, as they suit the backbone, on a picture of its own."""
    variants = titled(models, [suited_to(models, kind) for kind in at_first(models)])
    return run(models, RunRequest(picture, picture.words, "", "", variants, 0), durations, report, lambda part: None)


def grow(results: Results | None, part: Results | Entry | Failure, durations: Durations) -> Results:
    """The results with one more part of `run_parts`; what it took is learned."""
    if isinstance(part, Results):
        return part
    if isinstance(part, Entry):
        kind = find_method(part.method)
        learn_speed(durations, Work(part.work, part.rows or 0), part.seconds)
        if not (kind.draws_first and _prepared_long(part)) and not part.settings["tile_side"]:
            durations.learn(part.work, part.seconds, part.rows or 0)
        if kind.rows_alone and part.rows:
            durations.learn(work_on(NETWORK_ROW, part.backbone), part.seconds / part.rows)
    return results.with_outcome(part)


def run_parts(
    models: Models,
    request: RunRequest,
    durations: Durations,
    report: Report,
    publish: Callable[[Results | Entry | Failure], None],
) -> None:
    """Run every method of a request: publishes results without any outcome, then each outcome by itself.

    So each is sent but once where this runs in another process.

    Raises:
        ValueError: a word, a truth or a setting is not as it must be; what one method alone cannot do is its `Failure`.
    """
    asked = differing(request.variants)
    report("loading the network", 0.0)
    picture = request.picture
    classes, caption = asked_for(
        models, picture.image, request.words, finds_words=all(variant.method.finds_words for variant in asked),
        caption=request.caption, captioner=request.captioner, report=report,
    )  # fmt: skip
    truth = picture.truth_of(classes) if classes else None
    scene = from_image(models, picture.image, request.seed, caption=caption)
    empty = Comparison(picture.image, tuple(word.name for word in classes), truth=truth, seed=request.seed)
    seconds = {v.title: expected_seconds(models, v, classes, durations, picture.image.shape[:2]) for v in asked}
    waiting = {variant.title: seconds[variant.title] for variant in by_network(models, asked)}
    publish(Results(picture, classes, caption, empty, waiting, note=_note(models, request), order=tuple(seconds)))
    for outcome in run_variants(models, scene, classes, asked, report):
        publish(outcome)


def _note(models: Models, request: RunRequest) -> str:
    """What stands on the board of a picture that is neither ours nor drawn, where a network means little on it."""
    if request.picture.origin or request.picture.caption:
        return ""
    networks = dict.fromkeys(models.beside(variant.backbone) for variant in request.variants)
    return " ".join(dict.fromkeys(note for own in networks if (note := note_on_photographs(own.checkpoint))))


def expected_seconds(
    models: Models,
    variant: Variant,
    classes: tuple[ClassWord, ...],
    durations: Durations,
    image_hw: tuple[int, int] = USUAL_HW,
) -> float | None:
    """How long a variant will take, from its earlier runs here; with what it must draw before its first run."""
    phrases, method, own = rows_of(classes)[0], variant.method, models.beside(variant.backbone)
    if missing := method.undrawn(own, phrases):
        return (durations.expected(variant.work) or 0.0) + method.drawing_seconds(own, len(missing))
    return durations.expected(variant.work, method.rows_in_tiles(own, phrases, image_hw))


def _prepared_long(entry: Entry) -> bool:
    """Whether a run went into preparing its classes, which says nothing of how long the next one takes."""
    return entry.segmentation.timings.get("preparing the classes", 0.0) > entry.seconds / 2


def drawn(results: Results, name: str) -> dict[str, Any]:
    """The board for results that may still be growing."""
    classes, truth = results.comparison.classes, results.comparison.truth
    picture = results.picture.on_board((BACKGROUND, *classes), truth and truth.label_map)
    return board.board_value(picture, entries_of(results), name) | {"note": results.note}


def entries_of(results: Results) -> list[dict]:
    """What the board shows of each method, done or still to be run."""
    entries = [*results.drawn]
    for number, (title, seconds) in enumerate(results.waiting.items()):
        if number:
            entries.append(board.waiting(title, title, seconds))
        else:
            entries.append(board.running(title, title, "starting", None, seconds))
    return list(results.placed(entries, lambda entry: entry["title"]))
