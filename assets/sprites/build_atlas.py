"""Build `assets/sprites/`: emoji of three permissively licensed sets, rasterised at two sizes.

At 128 px all sprites of a set lie on one PNG sheet. At 384 px, for pictures larger than 128 px, the sprites of one thing
and set lie side by side on a WebP strip, so that a picture decodes only what it shows.

A tool for maintainers; the shipped atlas was made by it. It needs `pip install resvg-py` and the npm packages

    npm install @iconify-json/fluent-emoji@1.2.7 @iconify-json/twemoji@1.2.5 @iconify-json/noto@1.2.9
    PYTHONPATH=. python assets/sprites/build_atlas.py node_modules/@iconify-json assets/sprites

A set that no network was trained on, and which does not ship, is for measuring (`evaluate --data FOLDER`):

    npm install @iconify-json/openmoji@1.2.29
    PYTHONPATH=. python assets/sprites/build_atlas.py node_modules/@iconify-json runs/openmoji --set openmoji
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from ovseg.pocket.sprites import FINER, strip_name

SETS = {
    "fluent": ("fluent-emoji", "Fluent Emoji, Microsoft Corporation, MIT"),
    "twemoji": ("twemoji", "Twemoji graphics, Twitter, Inc. and other contributors, CC-BY 4.0"),
    "noto": ("noto", "Noto Emoji, Google LLC, Apache-2.0"),
}
OTHERS = {"openmoji": ("openmoji", "OpenMoji, CC BY-SA 4.0")}

# Code points per thing, in Unicode's own notation. Left out after looking at every picture: emoji that show a second
# thing (a rider on a horse, a tree beside a house) and emoji whose outline is not the thing's (a dining table is a plate).
THINGS = {
    "airplane": "2708 1f6e9",
    "bicycle": "1f6b2",
    "bird": "1f426 1f985 1f99c 1f986 1f9a2 1f989 1f54a 1f427 1f413",
    "boat": "26f5 1f6a4 1f6f6 1f6a2 26f4 1f6e5",
    "bottle": "1f37e 1f37c 1f9f4",
    "bus": "1f68c 1f68d 1f68e 1f690",
    "car": "1f697 1f698 1f699 1f695 1f696 1f693",
    "cat": "1f408 1f431 1f408-200d-2b1b",
    "chair": "1fa91 1f4ba",
    "cow": "1f404 1f42e 1f402 1f403",
    "dog": "1f415 1f436 1f429 1f415-200d-1f9ba",
    "horse": "1f40e 1f434",
    "motorbike": "1f3cd 1f6f5",
    "person": "1f9cd 1f6b6 1f483 1f57a 1f3c3 1f9d1 1f468 1f469",
    "potted plant": "1fab4",
    "sheep": "1f411 1f40f",
    "sofa": "1f6cb",
    "train": "1f682 1f686 1f684 1f685 1f688 1f683 1f68a",
    "tv": "1f4fa 1f5a5",
    "tree": "1f333 1f332 1f334",
    "house": "1f3e0 1f3da 1f6d6",
    "flower": "1f33b 1f337 1f339 1f33c 1f33a 1f338",
    "fish": "1f41f 1f420 1f421",
    "apple": "1f34e 1f34f",
}

# What is not the thing is cut away, so that a sprite's alpha is an exact mask of the thing: boxes (left, top, right,
# bottom) in fractions of the icon: the water under boats, the lamp beside sofas, the cork and foam of bottles.
ERASED = {
    ("fluent", "26f5"): [(0, 0.74, 1, 1)],
    ("fluent", "1f6a4"): [(0, 0.71, 1, 1)],
    ("fluent", "1f6f6"): [(0, 0.70, 1, 1)],
    ("fluent", "1f6a2"): [(0, 0.85, 1, 1)],
    ("fluent", "26f4"): [(0, 0.82, 1, 1)],
    ("fluent", "1f6e5"): [(0, 0.71, 1, 1)],
    ("twemoji", "26f5"): [(0, 0.83, 1, 1)],
    ("twemoji", "1f6a4"): [(0, 0.66, 1, 1)],
    ("twemoji", "1f6f6"): [(0, 0.66, 1, 1)],
    ("twemoji", "1f6a2"): [(0, 0.83, 1, 1)],
    ("twemoji", "26f4"): [(0, 0.66, 1, 1)],
    ("twemoji", "1f6e5"): [(0, 0.66, 1, 1)],
    ("fluent", "1f6cb"): [(0, 0, 1, 0.53), (0.79, 0, 1, 1)],
    ("twemoji", "1f6cb"): [(0, 0, 1, 0.36), (0.775, 0.3, 1, 0.56), (0.9, 0.7, 1, 1)],
    ("noto", "1f6cb"): [(0, 0, 1, 0.47)],
    ("fluent", "1f37e"): [(0, 0, 1, 0.21), (0, 0, 0.22, 1)],
    ("noto", "1f37e"): [(0, 0, 1, 0.28), (0, 0, 0.26, 1)],
    ("twemoji", "1f37e"): [(0, 0, 1, 1)],  # its foam covers the neck: dropped whole
    ("openmoji", "26f5"): [(0, 0.68, 1, 1)],
    ("openmoji", "1f6a4"): [(0, 0.69, 1, 1)],
    ("openmoji", "1f6a2"): [(0, 0.68, 1, 1)],
    ("openmoji", "26f4"): [(0, 0.74, 0.58, 1)],
    ("openmoji", "1f6e5"): [(0, 0.68, 1, 1)],
    ("openmoji", "1f6cb"): [(0, 0, 1, 0.37), (0.76, 0, 1, 1)],
    ("openmoji", "1f37e"): [(0.74, 0, 1, 0.22)],
}

EDGE = 128  # pixels of a sprite on the PNG sheets; FINER times as many on the strips
COLUMNS = 12


def find_icon(chars: dict[str, str], icons: dict, code: str) -> str | None:
    """The set's icon name for a code point; sets differ in whether they write the emoji presentation selector."""
    name = chars.get(code) or chars.get(f"{code}-fe0f")
    return name if name in icons["icons"] or name in icons.get("aliases", {}) else None


def rasterise(icons: dict, name: str, edge: int) -> np.ndarray:
    """One icon as RGBA uint8 (edge, edge, 4)."""
    icon = icons["icons"].get(name) or icons["icons"][icons["aliases"][name]["parent"]]
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {names} viewBox="{box}">{icon["body"]}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=edge, height=edge)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def erase(rgba: np.ndarray, boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
    """The sprite without what lies in the boxes."""
    rgba, edge = rgba.copy(), rgba.shape[0]
    for left, top, right, bottom in boxes:
        rgba[round(top * edge) : round(bottom * edge), round(left * edge) : round(right * edge)] = 0
    return rgba


def build(packages: Path, out: Path, sets: dict[str, tuple[str, str]]) -> None:
    """Write a sheet for each set, a strip for each set and thing, and `atlas.json`, which says where each sprite lies."""
    out.mkdir(parents=True, exist_ok=True)
    sprites = []
    # Fluent's package maps no code points; its icons carry the same Unicode names as Noto's.
    names = json.loads((packages / "noto" / "chars.json").read_text(encoding="utf-8")) if "fluent" in sets else {}
    for key, (package, credit) in sets.items():
        chars = names | json.loads((packages / package / "chars.json").read_text(encoding="utf-8"))
        icons = json.loads((packages / package / "icons.json").read_text(encoding="utf-8"))
        cells = []
        for thing, codes in THINGS.items():
            strip = []
            for code in codes.split():
                name = find_icon(chars, icons, code)
                if name is None:
                    print(f"{key} has no {thing} {code}")
                    continue
                boxes = ERASED.get((key, code), [])
                sprite = erase(rasterise(icons, name, EDGE), boxes)
                if not sprite.any():
                    continue
                sprites.append({"thing": thing, "set": key, "code": code, "icon": name, "cell": len(cells)})
                cells.append(sprite)
                strip.append(erase(rasterise(icons, name, FINER * EDGE), boxes))
            save_strip(strip, out / strip_name(key, thing))
        save_sheet(cells, out / f"{key}.webp")
        print(f"{key}: {len(cells)} sprites ({credit})")
    atlas = {"edge": EDGE, "columns": COLUMNS, "sets": {k: c for k, (_, c) in sets.items()}, "sprites": sprites}
    (out / "atlas.json").write_text(json.dumps(atlas, indent=0) + "\n", encoding="utf-8")


def save_sheet(cells: list[np.ndarray], path: Path) -> None:
    """Write the sprites of a set in rows of COLUMNS, without loss, also of the colours of transparent pixels."""
    rows = -(-len(cells) // COLUMNS)
    sheet = np.zeros((rows * EDGE, COLUMNS * EDGE, 4), np.uint8)
    for index, cell in enumerate(cells):
        y, x = index // COLUMNS * EDGE, index % COLUMNS * EDGE
        sheet[y : y + EDGE, x : x + EDGE] = cell
    Image.fromarray(sheet).save(path, lossless=True, exact=True, quality=100, method=6)


def save_strip(cells: list[np.ndarray], path: Path) -> None:
    """Write fine sprites side by side; colours lose a little, alpha, which is the mask, loses nothing."""
    if cells:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.concatenate(cells, 1)).save(path, quality=90, alpha_quality=100, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the sprite atlas from the npm emoji packages.")
    parser.add_argument("packages", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", choices=OTHERS, help="a set that does not ship, in place of those that do")
    arguments = parser.parse_args()
    build(arguments.packages, arguments.out, {arguments.set: OTHERS[arguments.set]} if arguments.set else SETS)
