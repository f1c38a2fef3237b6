"""The steps of DiffSegmenter in pictures."""

import numpy as np

from ovseg.methods.base import Method
from ovseg.methods.strips import Painter, Step, Subject


def strip(method: Method, subject: Subject, paint: Painter) -> tuple[Step, ...]:
    """Picture, noised latent, cross-attention on each grid, self-attention from one place, masks."""
    result = method.segment(subject.models, subject.scene, subject.classes)
    mine = [item for item in result.evidence if item.label == subject.first]
    grids = [item.map for item in mine if item.group.endswith("grid")]
    (fused,) = (item.map for item in mine if "fused" in item.group)
    (affinity,) = (item for item in result.evidence if item.kind == "affinity")
    sides = ", ".join(str(len(grid)) for grid in grids)
    level = method.timesteps[0]
    if method.refinements:
        often = "once" if method.refinements == 1 else f"{method.refinements} times"
        refined = f"The map is spread along the self-attention, {often}"
    else:
        refined = "The paper spreads the map along this; the pocket settings leave it out"
    return (
        subject.picture_step(),
        Step(
            _noised_picture(subject, level), f"Encoded, and noised to level {level} of 999",
            "The same picture, a little noisy: its latent with noise, decoded again to be seen.",
        ),
        Step(
            paint.mosaic([paint.heat(grid) for grid in (*grids[:3], fused)]),
            f"Cross-attention of “{subject.first}” on grids of {sides} places a side; last: their weighted sum",
            f"Four heat maps: the grids from fine to coarse, and their weighted sum, brightest on the {subject.first}.",
        ),
        Step(
            paint.from_the_middle(subject.scene.image, affinity, result.label_map == 1),
            f"Self-attention from the ringed place. {refined}",
            f"A heat map over the picture: what one place of the {subject.first} looks at.",
        ),
        subject.mask_step(paint, result, f"Above the threshold of {method.threshold:g}, the strongest class wins"),
    )  # fmt: skip


def _noised_picture(subject: Subject, timestep: int) -> np.ndarray:
    """The latent with the noise of the scene's seed, decoded: what the network is given, as far as eyes can see it."""
    backbone = subject.models.backbone
    return backbone.decode(backbone.noised(subject.scene.latent, timestep, subject.scene.seed))
