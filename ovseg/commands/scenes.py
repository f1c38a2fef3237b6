"""`scenes --split val --count 16 --out DIR`: scenes of the pocket world as files; or `scenes --examples --out DIR`."""

import argparse

from ovseg.commands.values import out_folder, whole
from ovseg.files import run_folder
from ovseg.pocket.examples import EXAMPLES, write_examples
from ovseg.pocket.export import files_of_scenes


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default="val", help="train, val or novel (default: val)")
    parser.add_argument("--count", type=whole(1), default=16, help="number of scenes (default: 16)")
    parser.add_argument("--start", type=whole(0, 2**62), default=0, help="number of the first scene (default: 0)")
    parser.add_argument(
        "--size", type=whole(16, 4096), default=128, help="width and height in pixels; more detail above 128 (default: 128)"
    )
    parser.add_argument(
        "--examples", action="store_true", help="write the example pictures of the page with their truth, and nothing else"
    )
    parser.add_argument("--out", type=out_folder, required=True, help="folder for the files")


def run(options: argparse.Namespace) -> None:
    """Write the scenes, or the examples."""
    if options.examples:
        write_examples(options.out)
        print(f"wrote {len(EXAMPLES)} example pictures with their truth to {options.out}")
        return
    with run_folder(options.out) as out:
        out.write(files_of_scenes(options.split, range(options.start, options.start + options.count), options.size))
    print(f"wrote {options.count} scenes and sheet.png to {options.out}")
