"""The pictures of the README: the page as it opens, and the sheet of a comparison.

    python -m ovseg.demo.screenshots --out docs/images

Starts the page on the pocket backbone, waits for its worked example and takes `page.png` (1400 x 900); `python -m ovseg
compare` makes `comparison.png` of an example picture with its truth. Needs Playwright, of requirements-dev.txt,
and Chromium.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ovseg.assets import ASSETS
from ovseg.server.started import started

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "cat-car"  # what is compared
WIDTH, HEIGHT = 1400, 900
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
MOST_BYTES = 400_000  # of one file
PATIENCE = 300  # seconds in which the page must open and its worked example be there
EXAMPLE_IS_THERE = """() => document.querySelectorAll('#board [data-state="done"]').length > 1
    && !document.querySelector('#board :is([data-state="running"], [data-state="waiting"])')"""


def take_page(address: str, browser: str, theme: str) -> bytes:
    """The page as a PNG once its worked example is on the board.

    Raises:
        ValueError: Playwright is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ValueError("Playwright must be installed to take pictures of the page (requirements-dev.txt).") from error
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, headless=True, args=list(FLAGS))
        page = window.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{address}?__theme={theme}")
        page.locator("#run").wait_for(timeout=PATIENCE * 1000)
        page.wait_for_function(EXAMPLE_IS_THERE, timeout=PATIENCE * 1000)
        page.wait_for_timeout(500)  # fonts and the last frame
        picture = page.screenshot()
        window.close()
    return picture


def take_comparison(folder: Path, example: str) -> bytes:
    """The sheet that `python -m ovseg compare` writes for an example picture, with all methods and its truth.

    Args:
        folder: where the command may write.
        example: name of the picture in `assets/examples`, which is its things with hyphens between them.

    Raises:
        ValueError: there is no such example, or the command failed.
    """
    start = ASSETS / "examples" / example
    command = [
        sys.executable, "-m", "ovseg", "compare", f"{start}.png", "--classes", ", ".join(sorted(example.split("-"))),
        "--truth", f"{start}-truth.png", "--legend", f"{start}-legend.json", "--out", str(folder / "compared"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"The comparison must run, but it failed: {done.stderr.strip()[-500:]}")
    return (folder / "compared" / "sheet.png").read_bytes()


def shrunk_png(content: bytes, widest: int = WIDTH) -> bytes:
    """A PNG with at most `widest` pixels across and as many of 256 colours as fit `MOST_BYTES`. Greys, of text, stay grey.

    Raises:
        ValueError: it does not fit with 64 colours.
    """
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    if picture.width > widest:
        picture = picture.resize((widest, round(picture.height * widest / picture.width)), Image.Resampling.LANCZOS)
    greys = [value for value in range(0, 256, 15) for _ in "RGB"]
    for colours in (256, 128, 64):
        chosen = picture.quantize(colours - len(greys) // 3, Image.Quantize.MEDIANCUT).getpalette()
        table = Image.new("P", (1, 1))
        table.putpalette(chosen + greys)
        few = picture.quantize(palette=table, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, "PNG", optimize=True)
        if len(buffer.getvalue()) <= MOST_BYTES:
            return buffer.getvalue()
    raise ValueError(f"A picture of the README must fit {MOST_BYTES} bytes, but has {len(buffer.getvalue())}.")


def find_browser() -> str:
    """The path of Chromium or Chrome.

    Raises:
        ValueError: there is none.
    """
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        raise ValueError(f"A browser must be installed, one of {', '.join(BROWSERS)}, but none was found.")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Take both pictures, or one; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ovseg.demo.screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--only", choices=("page", "comparison"), help="one of the pictures")
    parser.add_argument("--example", default=EXAMPLE, help="picture of assets/examples that is compared")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="of the page")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if options.only != "comparison":
                settings = {"OVSEG_BACKBONE": "pocket"}
                with started(ROOT, "app.py", os.environ | settings, PATIENCE) as address:
                    taken = take_page(address, find_browser(), options.theme)
                (options.out / "page.png").write_bytes(shrunk_png(taken))
            if options.only != "page":
                (options.out / "comparison.png").write_bytes(shrunk_png(take_comparison(Path(scratch), options.example)))
    except ValueError as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
