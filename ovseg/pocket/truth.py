"""The truth of a pocket scene, as comparisons take it."""

from collections.abc import Sequence

from ovseg.compare import Truth
from ovseg.pocket.world import LABELS, WorldScene
from ovseg.words.classes import ClassWord


def truth_of(scene: WorldScene, classes: Sequence[ClassWord]) -> Truth:
    """The truth of a scene about some classes. Things and stuff that none of them names are background."""
    return Truth.from_values(scene.labels, dict(enumerate(LABELS)), classes)
