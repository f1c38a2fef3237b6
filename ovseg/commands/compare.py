"""`compare IMAGE --classes WORDS --methods NAMES --out DIR`: several methods on one picture, as a sheet and a table."""

import argparse
from pathlib import Path

from ovseg.commands.common import add_files, add_networks, add_words, models_of, parts_of, show_progress, words_of
from ovseg.commands.values import out_folder
from ovseg.compare import Truth, compare, comparison_sheet, read_legend, read_truth, read_variants
from ovseg.files import as_json, run_folder
from ovseg.methods import METHODS
from ovseg.methods.settings import split
from ovseg.output import view
from ovseg.output.files import Result, files_of, slug
from ovseg.pictures import read_image
from ovseg.scene import from_image
from ovseg.words.classes import ClassWord

METHODS_HELP = (
    f"methods between commas: {', '.join(kind.name for kind in METHODS)}. A method may come again with other settings:"
    ' "NAME, NAME:FIELD=VALUE:FIELD=VALUE+VALUE"; mode=released takes the settings of the paper\'s code;'
    ' a value with a comma or a colon stands in quotation marks: prompt="a photo: {}"'
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help="picture file")
    add_words(parser)
    parser.add_argument("--methods", default=",".join(kind.name for kind in METHODS if kind.listed_first), help=METHODS_HELP)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="METHOD:FIELD=VALUE", dest="settings",
        help="settings of every variant of a method",
    )  # fmt: skip
    parser.add_argument("--truth", type=Path, help="indexed PNG: 0 background, 1 the first class, ..., 255 not counted")
    parser.add_argument("--legend", type=Path, help="legend.json that names the truth's values, as `segment` writes it")
    parser.add_argument("--hatch", action="store_true", help="draw lines besides colours, for print without colours")
    add_files(parser)
    parser.add_argument("--out", type=out_folder, required=True, help="folder for sheet.png, comparison.md, .csv and .json")
    add_networks(parser, several=True)


def run(options: argparse.Namespace) -> None:
    """Run the methods, write the sheet, the tables and the files of each, and print the table."""
    with run_folder(options.out) as out:
        models, image, parts = models_of(options), read_image(options.image), parts_of(options.files)
        variants = read_variants(models, split(options.methods, ","), options.settings)
        classes, caption = words_of(options, models, image)
        truth = _truth(options, image.shape[:2], classes)
        scene = from_image(models, image, options.seed, caption=caption)
        comparison = compare(models, scene, classes, variants, show_progress, truth=truth)
        for number, entry in enumerate(comparison.entries, 1):
            result = Result(entry.segmentation, dict(entry.card), comparison.labels)
            out.write(files_of(result, parts), f"{number}-{slug(entry.title)}")
        out.write([
            ("sheet.png", view.png(comparison_sheet(comparison, hatched=options.hatch))),
            ("comparison.md", comparison.markdown().encode()),
            ("comparison.csv", comparison.figures().csv().encode()),
            ("comparison.json", as_json(comparison.record())),
        ])  # fmt: skip
        print(comparison.markdown())
        print(f"wrote {options.out / 'sheet.png'}, comparison.md, .csv, .json and a folder for each method")
        if not comparison.entries:
            raise ValueError("At least one method must run, but all failed; the table says why.")


def _truth(options: argparse.Namespace, image_hw: tuple[int, int], classes: tuple[ClassWord, ...]) -> Truth | None:
    if options.truth is None:
        if options.legend is not None:
            raise ValueError("--legend names the values of a truth, so --truth must be given too, but it is not.")
        return None
    return read_truth(options.truth, image_hw, classes, read_legend(options.legend) if options.legend else None)
