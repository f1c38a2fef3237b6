"""The steps of Grounded Diffusion in pictures."""

from ovseg.methods.base import Method
from ovseg.methods.strips import Painter, Step, Subject
from ovseg.scene import from_prompt
from ovseg.types import BACKGROUND
from ovseg.words.classes import indefinite

DRAWN_SEED = 2  # of the picture that is drawn
DRAWN_ON = "road"  # in that picture


def strip(method: Method, subject: Subject, paint: Painter) -> tuple[Step, ...]:
    """A picture drawn from a prompt, its features fused, what the word's query looked at, its mask; then the scene's."""
    models, word = subject.models, subject.classes[-1]
    prompt = f"a photo of {indefinite(word.name)} on {DRAWN_ON}"
    drawn = from_prompt(models, prompt, DRAWN_SEED)
    result = method.segment(models, drawn, (word,))
    finest = [item for item in result.evidence if item.group == "Features"][-1]
    order = (BACKGROUND, *(known.name for known in subject.classes))
    (looked,) = (item for item in result.evidence if item.group == "Queries")
    return (
        Step(drawn.image, f"Drawn from the prompt “{prompt}”", f"A generated picture of {indefinite(word.name)}."),
        Step(
            finest.images[0], "Features of all resolutions, fused; three strongest components as colours",
            f"A picture in false colours, in which the {word.name} stands out.",
        ),
        Step(
            paint.heat_over(drawn.image, looked.map), f"Where the query “{word.name}” looks, in squares of 4 x 4 places",
            f"A heat map over the picture, bright in a few places of the {word.name}.",
        ),
        Step(
            paint.masks(result, order=order), "The word's vector times the features: the mask",
            f"The {word.name} under one colour.",
        ),
        subject.mask_step(
            paint, method.segment(models, subject.scene, subject.classes), "The same module on a picture that is given"
        ),
    )  # fmt: skip
