"""The steps of FreeSeg-Diff in pictures."""

from ovseg.methods.base import Method
from ovseg.methods.strips import Painter, Step, Subject


def strip(method: Method, subject: Subject, paint: Painter) -> tuple[Step, ...]:
    """Caption, features, clusters, what CLIP sees of each cluster, masks."""
    result = method.segment(subject.models, subject.scene, subject.classes)
    (clusters,), (features,) = (
        [item for item in result.evidence if item.group == group] for group in ("Clusters", "Features")
    )
    seen = [item for item in result.evidence if item.group == "What CLIP sees"]
    named = [item for item in seen if item.label != "background"]
    others = [item for item in seen if item.label == "background"]
    caption = subject.models.captioner().caption(subject.scene.image)
    return (
        Step(subject.scene.image, f"A captioner says: “{caption}”", subject.alt),
        Step(
            features.images[0], "The network's features, three strongest components as colours",
            "A coarse picture in false colours, in which things and ground have different colours.",
        ),
        Step(
            paint.regions(clusters, subject.scene.image), f"The features in {len(seen)} clusters, without names",
            "The picture in flat colours, one for each cluster of features.",
        ),
        Step(
            paint.mosaic([item.images[0] for item in (*named, *others)][:4]),
            f"CLIP sees one cluster at a time. Named here: {', '.join(f'“{item.label}”' for item in named)}",
            "Four times the picture, black but for one cluster.",
        ),
        subject.mask_step(paint, result, "Edges moved to those of the picture: the masks"),
    )  # fmt: skip
