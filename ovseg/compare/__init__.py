"""Several segmentations of one picture beside each other: where they agree, where each is wrong, what each costs.

    classes = parse_classes("cat, car")
    variants = [variant_of(models, kind()) for kind in (DiffSegmenter, OVDiff)]
    comparison = compare(models, scene, classes, variants, truth=read_truth("mask.png", scene.image.shape[:2], classes))
    print(comparison.figures().markdown())

Methods may return their labels in different orders, and labels that nobody asked for. Everything here goes by the names:
`Comparison.labels` is one list for all of them, and label k has one colour, `view.palette(...)[k]`, everywhere. Where
entries are set against each other or the truth, what nobody asked for is background.
"""

from ovseg.compare.comparison import CLAIMED, CONFUSED, MISSED, RIGHT, Comparison, Entry, Failure, work_on
from ovseg.compare.sheet import comparison_sheet
from ovseg.compare.truth import Truth, read_legend, read_truth
from ovseg.compare.variants import Variant, board_of, compare, read_variants, run_variant, run_variants, variant_of

__all__ = [
    "CLAIMED", "CONFUSED", "MISSED", "RIGHT", "Comparison", "Entry", "Failure", "Truth", "Variant", "board_of",
    "compare", "comparison_sheet", "read_legend", "read_truth", "read_variants",
    "run_variant", "run_variants", "variant_of", "work_on",
]  # fmt: skip
