"""What a method takes for inputs of some size: seconds by stage, memory, passes, and the floor of the arithmetic."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from ovseg.evaluation.names import class_words
from ovseg.maths.flops import flop_counter, settle
from ovseg.maths.live_memory import LiveMemory
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.output.cost import Cost, measuring
from ovseg.pocket.world import LABELS, scene
from ovseg.scene import from_image
from ovseg.words.classes import ClassWord

LONG = 5.0  # seconds of the floor of a run that is timed while it is counted: counting takes little beside it
CAPTION = "a photo of a cat"  # of the picture, for methods that do not caption it


@dataclass(frozen=True)
class Size:
    """How much a method is asked for: classes, pixels of a square picture's side, pictures that are drawn of a class."""

    classes: int
    side: int
    images: int | None  # None for a method that draws none


@dataclass(frozen=True)
class Taken:
    """What a method took, without what it prepares once for many pictures (`preparing`)."""

    method: str
    size: Size
    seconds: float
    preparing: float
    stages: dict[str, float]  # seconds by name
    passes: int
    rows: int  # the prompts of all passes of the diffusion network
    flops: int
    floor: float  # the seconds that the arithmetic alone takes at the speed of a large matrix product
    peak_bytes: int  # what tensors took above the weights


def words_for(models: Models, count: int) -> tuple[ClassWord, ...]:
    """That many different classes of one word each: those of the pocket world, then those of the benchmarks.

    Raises:
        ValueError: there are not so many.
    """
    benchmarks = [word.name for name in ("coco-stuff", "ade20k", "context") for word in class_words(name, "plain")]
    words = [word for word in dict.fromkeys((*LABELS, *benchmarks)) if word.isalpha() and models.backbone.fits(word)]
    if not 1 <= count <= len(words):
        raise ValueError(f"The number of classes must be 1 to {len(words)}, but got {count}.")
    return tuple(ClassWord((word,)) for word in words[:count])


def measure_size(models: Models, method: Method, size: Size, peak: float, runs: int = 1) -> Taken:
    """Segment a picture of the pocket world, and count what it takes.

    A method that draws pictures first has random numbers in their place, which take as long; `measure_making` draws some.

    Args:
        models: with a folder for prototypes of their own.
        peak: floating-point operations a second that the device does at most.
        runs: the fastest of so many is told, as other programs can only slow one down; where a CPU's floor is above `LONG`
            seconds, the one that is counted.

    Raises:
        ValueError: a number is out of its range, or a class does not fit a network.
    """
    if runs < 1:
        raise ValueError(f"The number of runs must be 1 or more, but got {runs}.")
    words, _ = words_for(models, size.classes), [load() for load in method.helpers(models).values()]
    if method.draws_first:
        method = method.drawing(size.images)
        method.pretend_drawn(models, [word.name for word in words])
    else:
        size = replace(size, images=None)
    prepared, image = method.prepare(models, words), scene("val", 0, size.side).image

    def segment() -> tuple[float, dict[str, float]]:
        settle(models.device)
        begun = time.perf_counter()
        stages = prepared.segment(from_image(models, image, caption="" if method.finds_words else CAPTION)).timings
        settle(models.device)
        return time.perf_counter() - begun, stages

    with counted(models) as counts:
        seconds, stages = segment()
    if models.device.type == "cuda" or counts.flops / peak < LONG:
        seconds, stages = min((segment() for _ in range(runs)), key=lambda run: run[0])
    return _taken(method.name, size, seconds, sum(prepared.timings.values()), stages, counts, peak)


def measure_making(models: Models, method: Method, size: Size, peak: float) -> Taken:
    """Draw the pictures of one class, and make what is kept of them."""
    method, begun = method.drawing(size.images), time.perf_counter()
    stages: dict[str, float] = {}
    last = ["", begun]

    def note(stage: str, _share: float) -> None:
        """Seconds by what a stage's name begins with: "image", "masks", or an extractor."""
        settle(models.device)
        now = time.perf_counter()
        if last[0]:
            stages[last[0]] = stages.get(last[0], 0.0) + now - last[1]
        last[:] = stage.partition(" ")[0], now

    with counted(models) as counts:
        method.draw(models, "cat", note)
        note("", 1.0)
    seconds = time.perf_counter() - begun
    return _taken(f"{method.name}, making a class", size, seconds, 0.0, stages, counts, peak)


@dataclass
class Counts(Cost):
    """What a block of work took, known when it has ended: also its arithmetic, and memory on every device."""

    flops: int = 0


@contextmanager
def counted(models: Models) -> Iterator[Counts]:
    """Count passes, arithmetic, and the most memory that tensors take beside the weights."""
    before, counts = torch.cuda.memory_allocated(models.device) if models.device.type == "cuda" else 0, Counts()
    with measuring(models.device) as cost, LiveMemory() as memory, flop_counter() as arithmetic:
        yield counts
    vars(counts).update(vars(cost), flops=arithmetic.get_total_flops())
    counts.peak_bytes = memory.peak if cost.peak_bytes is None else cost.peak_bytes - before


def _taken(
    name: str, size: Size, seconds: float, preparing: float, stages: dict[str, float], counts: Counts, peak: float
) -> Taken:
    floor = counts.flops / peak
    return Taken(name, size, seconds, preparing, stages, counts.passes, counts.rows, counts.flops, floor, counts.peak_bytes)
