"""The steps of DiffSegmenter in pictures."""

from ovseg.methods.base import Method
from ovseg.methods.strips import Painter, Step, Subject


def strip(method: Method, subject: Subject, paint: Painter) -> tuple[Step, ...]:
    """Picture, noised latent, cross-attention on each grid, self-attention from one place, masks."""
    result = method.segment(subject.models, subject.scene, subject.classes)
    mine = [item for item in result.evidence if item.label == subject.first]
    grids = [item.map for item in mine if item.group.endswith("grid")]
    (fused,) = (item.map for item in mine if "fused" in item.group)
    sides = ", ".join(str(len(grid)) for grid in grids)
    level, backbone = method.timesteps[0], subject.models.backbone
    noised = backbone.noised(subject.scene.latent, level, subject.scene.seed)
    if method.refinements:
        often = "once" if method.refinements == 1 else f"{method.refinements} times"
        refined = f"The map is spread along the self-attention, {often}"
    else:
        refined = "The paper spreads the map along this; the pocket settings leave it out"
    return (
        subject.picture_step(),
        Step(
            backbone.decode(noised), f"Encoded, and noised to level {level} of 999",
            "The same picture, a little noisy: its latent with noise, decoded again to be seen.",
        ),
        Step(
            paint.mosaic([paint.heat(grid) for grid in (*grids[:3], fused)]),
            f"Cross-attention of “{subject.first}” on grids of {sides} places a side; last: their weighted sum",
            f"Four heat maps: the grids from fine to coarse, and their weighted sum, brightest on the {subject.first}.",
        ),
        subject.affinity_step(paint, result, f"Self-attention from the ringed place. {refined}"),
        subject.mask_step(paint, result, f"Above the threshold of {method.threshold:g}, the strongest class wins"),
    )  # fmt: skip
