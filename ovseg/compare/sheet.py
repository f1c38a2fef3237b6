"""A comparison as one picture for a paper."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovseg.compare.comparison import Comparison, Entry
from ovseg.output import view
from ovseg.output.sheet import SWATCH, Key, Panel, Sheet, typeset

WIDTH = 400  # of a panel, in pixels
ERRORS = ("right", "missed", "false positive", "taken for another class")


def comparison_sheet(comparison: Comparison, *, hatched: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """The picture and every entry's masks, with their errors below if the truth is known, a key and the figures.

    Args:
        hatched: whether classes have lines besides colours, for print without colours.
    """
    drawing = _Drawing(comparison, hatched)
    first = [Panel(drawing.image, "Picture")]
    columns = [first, *(drawing.column(entry) for entry in comparison.entries)]
    keys = [("Classes", drawing.class_keys())]
    if comparison.truth is not None:
        first.append(Panel(drawing.masks(comparison.truth.label_map), subtitle="truth"))
        errors = zip(view.ERROR_COLOURS, ERRORS, strict=True)
        keys.append(("Errors", [Key(_swatch(colour), name) for colour, name in errors]))
    elif len(comparison.entries) > 1:
        columns.append([Panel(drawing.doubt(), "Agreement", note="dark: fewer say the same")])
    return typeset(Sheet(columns, keys, _sentences(comparison)))


def _sentences(comparison: Comparison) -> list[str]:
    sentences = [f"{failure.title} could not be run: {failure.sentence}" for failure in comparison.failures]
    if len(comparison.entries) < 2:
        return sentences
    said = f"All {len(comparison.entries)} say the same on {comparison.agreement:.1%} of the picture"
    if comparison.agreement_on_classes == comparison.agreement_on_classes:  # not NaN
        said += f", and on {comparison.agreement_on_classes:.1%} of the places where at least one sees a class"
    return [f"{said}.", *sentences]


class _Drawing:
    """Panels of one size of a comparison's label maps."""

    def __init__(self, comparison: Comparison, hatched: bool) -> None:
        self.comparison, self.hatched = comparison, hatched
        height, width = comparison.image.shape[:2]
        self.size = WIDTH, max(1, round(height * WIDTH / width))
        self.image = np.asarray(Image.fromarray(comparison.image).resize(self.size, Image.Resampling.LANCZOS))
        self.colours = view.palette_for(comparison.image, len(comparison.labels))

    def column(self, entry: Entry) -> list[Panel]:
        """An entry's masks, and its errors where there is a truth."""
        title, _, settings = entry.title.partition(", ")
        settings = settings or entry.yardstick
        masks, seconds = self.masks(self.comparison.label_maps[entry.title]), f"{entry.seconds:.2f} s"
        if self.comparison.truth is None:
            return [Panel(masks, title, settings, seconds)]
        errors = view.error_picture(self.image, self.at_size(self.comparison.error_map(entry)))
        figures = f"mean IoU {100 * self.comparison.mean_iou(entry):.1f} · {seconds}"
        return [Panel(masks, title, settings, figures), Panel(errors, subtitle="errors")]

    def at_size(self, label_map: np.ndarray) -> np.ndarray:
        """A label map at the panels' size."""
        return np.asarray(Image.fromarray(label_map).resize(self.size, Image.Resampling.NEAREST))

    def masks(self, label_map: np.ndarray) -> np.ndarray:
        """Colours, outlines and, if asked for, lines over the picture; 255 shows the picture."""
        grown = self.at_size(label_map)
        known = np.where(grown < len(self.colours), grown, 0)
        return view.masks_over(self.image, known, self.colours, np.arange(len(self.colours)) > 0, hatched=self.hatched)

    def doubt(self) -> np.ndarray:
        """The picture in pale grey, darker where fewer entries say the same."""
        count = len(self.comparison.entries)
        missing = count - self.at_size(self.comparison.votes)
        colours = np.linspace(255, 40, count).round().astype(np.uint8)[:, None].repeat(3, 1)
        pale = (self.image @ view.GREY * 0.4 + 255 * 0.6).astype(np.uint8)[..., None].repeat(3, 2)
        return view.paint(pale, missing, colours, 0.8 * (np.arange(count) > 0))

    def class_keys(self) -> list[Key]:
        """The colours of the classes that were asked for, and of those that are seen somewhere besides."""
        maps = self.comparison.label_maps.values()
        seen = set().union(*(np.unique(label_map).tolist() for label_map in maps))
        asked = len(self.comparison.classes)
        wanted = [k for k in range(1, len(self.colours)) if k <= asked or k in seen]
        lines = view.hatch_colours(self.colours)
        return [Key(_swatch(self.colours[k], k if self.hatched else 0, lines[k]), self.comparison.labels[k]) for k in wanted]


def _swatch(colour: np.ndarray, hatch: int = 0, line: np.ndarray | None = None) -> np.ndarray:
    plain = np.broadcast_to(colour, (*SWATCH, 3)).astype(np.uint8)
    return np.where(view.hatch(hatch, SWATCH)[..., None], line, plain).astype(np.uint8) if hatch else plain
