"""The import rules of docs/architecture.md."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# From left to right: a folder or file may import what stands left of it, and a folder its own files, never its neighbours.
LAYERS = (
    {"limits", "layer_attention"},
    {"_torchvision_compat", "assets", "files", "pictures", "read_ahead", "types"},
    {"progress", "maths"},
    {"backbones"},
    {"shared_networks"},
    {"pretrained"},
    {"models"},
    {"processes", "scene", "words"},
    {"attention"},
    {"reading"},
    {"methods"},
    {"output"},
    {"compare"},
    {"doors"},
    {"pocket"},
    {"factory"},
    {"evaluation"},
    {"doctor"},
    {"server"},
    {"demo"},
    {"commands"},
    {"__main__"},
)
ONLY_IN = {
    "gradio": {"server", "demo", "app"},
    "spaces": {"demo", "app"},
    "diffusers": {"backbones", "pocket", "doctor"},
    "transformers": {"backbones", "pretrained", "pocket", "doctor"},
}
# Names of a Stable Diffusion network's parts: they are for `backbones`, which knows the network, and for the recipes that
# build one.
NETWORK_PARTS = re.compile(r"\.(unet|vae|pipeline|text_encoder)\b|attn[12]|(down|up)_blocks|mid_block|conv_(in|out)\b")
BUILDERS = {
    "doctor/pipelines.py", "doctor/published.py", "pocket/bundle.py", "pocket/denoiser_data.py", "pocket/train_codec.py",
    "pocket/train_denoiser.py", "pocket/train_transformer.py",
}  # fmt: skip
FILES = sorted([*(ROOT / "ovseg").rglob("*.py"), ROOT / "app.py"])


@cache
def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def part_of(path: Path) -> str:
    return "app" if path.name == "app.py" else path.relative_to(ROOT / "ovseg").parts[0].removesuffix(".py")


def rank(part: str) -> int:
    return next(k for k, layer in enumerate(LAYERS) if part in layer)


def may_import(part: str, name: str) -> bool:
    top, *rest = name.split(".")
    if top in ONLY_IN:
        return part in ONLY_IN[top]
    if top != "ovseg" or not rest or part in ("app", "__init__") or not any(rest[0] in layer for layer in LAYERS):
        return True
    return rest[0] == part or rank(rest[0]) < rank(part)


def test_imports_point_to_the_left() -> None:
    pairs = [(path, name) for path in FILES for name in imports_of(path)]
    assert [f"{path} imports {name}" for path, name in pairs if not may_import(part_of(path), name)] == []


def test_no_import_goes_round() -> None:
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    used = {name: imports_of(path) & files.keys() - {name} for name, path in files.items()}
    for names in used.values():  # a folder is not used by whoever uses a file of it
        names -= {name for name in names if any(other.startswith(f"{name}.") for other in names)}
    TopologicalSorter(used).prepare()  # raises CycleError, which names the files


def test_every_part_has_a_layer() -> None:
    parts = {part_of(path) for path in FILES} - {"app", "__init__"}
    assert parts <= set().union(*LAYERS)


def test_views_know_types_and_maths_alone() -> None:
    ours = {name for name in imports_of(ROOT / "ovseg" / "output" / "view.py") if name.startswith("ovseg")}
    assert all(name.startswith(("ovseg.types", "ovseg.maths", "ovseg.output.sheet")) for name in ours)


def test_methods_do_not_know_each_other_nor_the_network() -> None:
    room = ROOT / "ovseg" / "methods"
    owner = {path: path.relative_to(room).parts[0].removesuffix(".py") for path in room.rglob("*.py")}
    papers = {folder.name for folder in room.iterdir() if (folder / "__init__.py").exists()}
    for path in (path for path, paper in owner.items() if paper in papers):
        used = {name.split(".")[2] for name in imports_of(path) if name.startswith("ovseg.methods.")}
        assert not used & (papers - {owner[path]}), path


def test_only_backbones_name_the_parts_of_a_network() -> None:
    allowed = {ROOT / "ovseg" / name for name in BUILDERS}
    others = [path for path in FILES if part_of(path) != "backbones" and path not in allowed]
    # Strings, too: a module path in a string names a part all the same.
    assert [f"{path} names {named}" for path in others if (named := NETWORK_PARTS.search(path.read_text()))] == []


def test_files_are_short() -> None:
    long = {str(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 400}
    assert not long
