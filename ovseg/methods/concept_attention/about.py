"""The steps of ConceptAttention in pictures."""

from ovseg.methods.base import Method
from ovseg.methods.strips import Painter, Step, Subject

SHARE = "Share of the word"


def strip(method: Method, subject: Subject, paint: Painter) -> tuple[Step, ...]:
    """Words, the share of the first, the shares of words that are no class, masks."""
    result = method.segment(subject.models, subject.scene, subject.classes)
    shares = [item for item in result.evidence if item.group == SHARE]
    others = [item for item in shares if item.label == "background"][:4]
    words = ", ".join(f"“{item.title.partition(':')[0]}”" for item in others)
    return (
        subject.picture_step(),
        Step(
            paint.heat_over(subject.scene.image, shares[0].map),
            f"{subject.names} ride along: how much “{subject.first}” is what a place shows",
            f"A heat map over the picture, brightest on the {subject.first}.",
        ),
        Step(
            paint.mosaic([paint.heat(item.map) for item in others]), f"So do words that are no class: {words} and others",
            "Four heat maps of words that are no class.",
        ),
        subject.mask_step(paint, result, "The likeliest wins; where it is no class there is background: the masks"),
    )  # fmt: skip
