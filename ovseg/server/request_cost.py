"""How long work will need the accelerator, computed from what is asked for and before it is begun.

ZeroGPU lends an accelerator for a time that must be named beforehand: too short a time ends the work, too long a time costs
the visitor's daily quota and a better place in the line. Work is counted in rows of the diffusion network (one prompt in one
pass) and in calls (of a method, a captioner, CLIP). How fast this machine is at them is learned from its own runs.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ovseg.compare import Variant, work_on
from ovseg.limits import limits
from ovseg.methods.tiles import looked_at_hw
from ovseg.models import Models
from ovseg.server.durations import Durations
from ovseg.words.classes import ClassWord, parse_classes, rows_of

START_SECONDS = 5.0  # to take the weights to the accelerator
CALL_SECONDS = 2.0  # of a call beside the diffusion network, until runs here have shown better
ROW_SECONDS = 0.05  # of a row, likewise
MARGIN = 1.5  # between what is expected and what is asked for
USUAL_HW = (512, 512)  # of a picture, where it is not known yet
UNKNOWN_WORDS = 4  # classes, where a caption shall give them
SLOWEST, FASTEST = 20.0, 0.05  # how far what was learned may be from the seconds above

Event = TypeVar("Event")


@dataclass(frozen=True)
class Work:
    """One piece of work: `kind` is what its speed is learned under, such as a method's name."""

    kind: str
    rows: int = 0
    calls: int = 1

    @property
    def usual_seconds(self) -> float:
        """What it takes on a machine of which nothing is known."""
        return self.calls * CALL_SECONDS + self.rows * ROW_SECONDS


def seconds_for(durations: Durations, works: Sequence[Work]) -> int:
    """For how many seconds an accelerator is asked for, to do all of this one after the other."""
    expected = sum(work.usual_seconds * (durations.expected(_speed(work)) or 1.0) for work in works)
    return math.ceil(START_SECONDS + MARGIN * expected)


def learn_speed(durations: Durations, work: Work, seconds: float) -> None:
    """Learn how fast this machine is, from what a piece of work took."""
    durations.learn(_speed(work), min(max(seconds / work.usual_seconds, FASTEST), SLOWEST))


def learning(durations: Durations, work: Work, events: Iterator[Event]) -> Iterator[Event]:
    """Pass on what a piece of work yields, and learn from the first event to the last how long it took."""
    begun = None
    for event in events:
        begun = begun or time.perf_counter()
        yield event
    learn_speed(durations, work, time.perf_counter() - (begun or time.perf_counter()))


def _speed(work: Work) -> str:
    return f"speed of {work.kind}"


def to_segment(
    models: Models, variants: Sequence[Variant], words: str, caption: str = "", image_hw: tuple[int, int] = USUAL_HW
) -> tuple[Work, ...]:
    """The work of segmenting one picture by these methods, each on its network.

    Args:
        words: classes as they were typed; where they are blank, or cannot be read, a few are assumed.
        caption: the picture's; where it is blank and a method may ask for it, the captioner's work is counted.
    """
    phrases = rows_of(_classes_of(words))[0]
    captions = not caption.strip() and (not words.strip() or any(variant.method.finds_words for variant in variants))
    works = [Work(v.work, v.method.rows_in_tiles(models.beside(v.backbone), phrases, image_hw)) for v in variants]
    return (*([Work("caption")] if captions else []), *works)


def _classes_of(words: str) -> tuple[ClassWord, ...]:
    try:
        return parse_classes(words)
    except ValueError:
        return tuple(ClassWord((f"unknown {k}",)) for k in range(UNKNOWN_WORDS))


def check_work(
    models: Models, variants: Sequence[Variant], words: str, image_hw: tuple[int, int], caption: str = ""
) -> None:
    """Pass if visitors may ask for so much on one picture at once. Pictures that must be drawn first are counted.

    Raises:
        ValueError: it would take too many rows of the network, or too much memory for its masks or for their edges.
    """
    for method in (variant.method for variant in variants):
        if (pieces := len(looked_at_hw(image_hw, method.tile_side, method.stretched))) > limits().tiles:
            raise ValueError(
                f"A method must look at a picture in {limits().tiles} pieces at most, but would in {pieces}: take larger"
                " tiles or a smaller picture."
            )
    count = len(_classes_of(words)) + 1
    pixels = [math.prod(image_hw if v.method.tile_side else v.method.scored_hw(image_hw)) for v in variants]
    if (scores := count * sum(pixels)) > limits().scores:
        raise ValueError(
            f"The masks must be made of {limits().scores} numbers at most, but would be of {scores}: take fewer classes,"
            " fewer methods or a smaller picture."
        )
    for variant in variants:
        if (crf_pixels := variant.method.crf_pixels(image_hw)) > limits().crf_pixels:
            raise ValueError(
                f"The picture must have {limits().crf_pixels} pixels at most where a CRF moves its edges, but has"
                f" {crf_pixels}: take a smaller picture, a refine_side, or PAMR."
            )
    rows = sum(work.rows for work in to_segment(models, variants, words, caption, image_hw))
    if rows > limits().rows:
        raise ValueError(
            f"The work must be {limits().rows} rows of the network at most, but would be {rows}: take fewer classes, noise"
            " levels, noise samples, support images or windows."
        )


def to_draw(models: Models, steps: float | None, count: int = 1) -> tuple[Work, ...]:
    """The work of drawing so many pictures; `steps` are those of the backbone if None. A step takes two rows."""
    rows = int(2 * (models.checkpoint.steps if steps is None else steps) * count)
    return (Work(work_on("draw", models.board_name), rows, count),)


def to_synthesize(models: Models, count: int) -> tuple[Work, ...]:
    """The work of drawing so many pictures with masks."""
    (draw,) = to_draw(models, None, count)
    return (Work(work_on("data set", models.board_name), draw.rows + 2 * count, count),)
