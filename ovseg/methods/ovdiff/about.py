"""The steps of OVDiff in pictures."""

from dataclasses import replace

from ovseg.backbones.base import Sampling
from ovseg.methods.base import Method
from ovseg.methods.ovdiff.prototypes import make_prototypes
from ovseg.methods.ovdiff.store import NOWHERE
from ovseg.methods.strips import Painter, Step, Subject
from ovseg.words.classes import indefinite


def strip(method: Method, subject: Subject, paint: Painter) -> tuple[Step, ...]:
    """Support images of two classes, their masks, their parts, the nearest class of each place, masks."""
    blocks = replace(method, refinement="none").segment(subject.models, subject.scene, subject.classes)
    result = method.segment(subject.models, subject.scene, subject.classes)
    sheets = {item.label: item.images for item in result.evidence if item.group == "Support images"}
    words = [word.name for word in subject.classes[:2]]
    drawn, shaded, parted = [], [], []
    sampling = Sampling(method.steps, method.guidance, method.negative, dpm_solver=True)
    seeds, backbone = [method.first_seed, method.first_seed + 1], subject.models.backbone
    for word in words:
        drawn += [made.image for made in backbone.generate(method.prompt.replace("{}", word), seeds, sampling)]
        shaded += sheets[word][:2]
        regions = make_prototypes(subject.models, method, word)["diffusion"].foreground.regions
        parted += [
            paint.parts(image, region, region != NOWHERE) for image, region in zip(sheets[word][:2], regions, strict=False)
        ]
    above, below = words
    return (
        Step(
            paint.mosaic(drawn), f"The network draws “{above}” and “{below}”, {method.images} pictures each",
            f"Two generated pictures of {indefinite(above)} above two of {indefinite(below)}.",
        ),
        Step(
            paint.mosaic(shaded),
            "Its attention to the word parts the thing (bright) from what stands around it (half dark)",
            "The same four pictures, darkened but for the thing itself.",
        ),
        Step(
            paint.mosaic(parted), f"The features of each word's things in {method.parts} clusters: prototypes of its parts",
            f"The same four pictures; the parts of each {above} and {below} have a colour each.",
        ),
        Step(
            paint.masks(blocks), "In the given picture each place takes the class, or background, of its nearest prototype",
            f"The picture with blocky coloured regions where the {subject.names} are.",
        ),
        subject.mask_step(paint, result, "Edges moved to those of the picture: the masks"),
    )  # fmt: skip
