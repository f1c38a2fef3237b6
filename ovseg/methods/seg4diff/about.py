"""The steps of Seg4Diff in pictures."""

from ovseg.methods.base import Method
from ovseg.methods.strips import Painter, Step, Subject

RECEIVED, WORDLESS = "What the words receive", "Segments without words"


def strip(method: Method, subject: Subject, paint: Painter) -> tuple[Step, ...]:
    """Words, what the first receives in one layer, what the padding of an empty prompt receives, masks."""
    result = method.segment(subject.models, subject.scene, subject.classes)
    received = next(item for item in result.evidence if item.group == RECEIVED)
    (wordless,) = (item for item in result.evidence if item.group == WORDLESS)
    return (
        subject.picture_step(),
        Step(
            paint.heat_over(subject.scene.image, received.map),
            f"The share of each place's attention that “{subject.first}” receives in one layer",
            f"A heat map over the picture, brightest on the {subject.first}.",
        ),
        Step(
            paint.regions(wordless, subject.scene.image), "Without words: an empty prompt's padding divides the picture",
            "The picture in flat colours, one for each segment.",
        ),
        subject.mask_step(paint, result, "The strongest word above a threshold wins: the masks"),
    )  # fmt: skip
