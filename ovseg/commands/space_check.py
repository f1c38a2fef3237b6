"""`space-check`: would this checkout run as a Space? Looks at a clean folder as Hugging Face Spaces would get it.

The rules are those of the hub's documentation as of 2026-09 (its pages "Spaces configuration reference" and "ZeroGPU").
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from ovseg.assets import ASSETS
from ovseg.server.started import started

NEEDED = ("title", "sdk", "sdk_version", "python_version", "app_file", "license")
KNOWN = frozenset({
    *NEEDED, "emoji", "colorFrom", "colorTo", "suggested_hardware", "base_path", "fullWidth", "header", "short_description",
    "models", "datasets", "tags", "thumbnail", "pinned", "hf_oauth", "hf_oauth_scopes", "hf_oauth_expiration_minutes",
    "hf_oauth_authorized_org", "disable_embedding", "startup_duration_timeout", "custom_headers", "preload_from_hub",
})  # fmt: skip
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
LONGEST_DESCRIPTION = 60  # characters on a Space's card
ZERO_PYTHONS = ("3.12.12", "3.10.13")
ZERO_TORCHES = ("2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0")
FLOORS = ("huggingface-hub", "mcp", "pydantic", "spaces")
"""What a Space's builder installs in the same call as requirements.txt, with lower bounds of its own."""
LARGEST_FILE = 10 * 2**20  # larger ones must go through Git LFS, and come as pointers where it is not set up
LARGEST_FOLDER = 2**30  # cloned at every build
START_SECONDS = 180
LEAST_MINUTES = 60  # for a Space to start in
LEFT_OUT = frozenset({".git", ".venv", "__pycache__", "node_modules", "runs", ".pytest_cache", ".ruff_cache"})


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ASSETS.parent, help="the checkout to look at (default: the one that runs)"
    )
    parser.add_argument("--no-start", action="store_true", help="look at the files only; do not start the page")


def run(options: argparse.Namespace) -> int:
    """Print what is missing, one line each; returns 1 if anything is."""
    if not options.folder.is_dir():
        raise ValueError(f"The folder must be one with the files of a Space, but {options.folder} is none.")
    with tempfile.TemporaryDirectory(prefix="space-") as clean:
        count = copy_files(options.folder, Path(clean))
        print(f"{count} files, as a Space would get them")
        problems = [*missing(Path(clean)), *([] if options.no_start else not_starting(Path(clean)))]
    for problem in problems:
        print(f"missing: {problem}")
    print("nothing is missing" if not problems else f"{len(problems)} to be put right")
    return int(bool(problems))


def copy_files(source: Path, clean: Path) -> int:
    """Copy what a push to a Space would bring: the files that git knows, or all where there is no git; returns how many."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        names = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        files = (path.relative_to(source) for path in source.rglob("*") if path.is_file())
        names = [path for path in files if not LEFT_OUT & set(path.parts)]
    names = [name for name in names if (source / name).is_file()]
    for name in names:
        (clean / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, clean / name)
    return len(names)


@dataclass(frozen=True)
class Space:
    """A folder as a Space gets it: the front matter of its README.md, its requirements.txt and its constraints.txt."""

    folder: Path
    front: Mapping[str, Any]
    pins: Mapping[str, Requirement]
    exact: Mapping[str, Requirement]

    @property
    def on_zero(self) -> bool:
        """Whether it asks for ZeroGPU."""
        return str(self.front.get("suggested_hardware", "")).startswith("zero")

    def version(self, name: str) -> str:
        """The one version that a package is pinned to; empty if it is not."""
        (only,) = self.pins[name].specifier if name in self.pins and len(self.pins[name].specifier) == 1 else (None,)
        return only.version if only is not None and only.operator == "==" else ""


def missing(clean: Path) -> Iterator[str]:
    """What the files lack, a sentence each."""
    try:
        space = Space(clean, front_matter(clean), requirements(clean), requirements(clean, "constraints.txt"))
    except ValueError as error:
        yield str(error)
        return
    yield from in_front_matter(space)
    yield from in_pins(space)
    yield from in_app(space)
    yield from in_sizes(clean)


def front_matter(clean: Path) -> dict[str, Any]:
    """What stands between the lines of dashes at the top of README.md."""
    path = clean / "README.md"
    try:
        front = metadata_load(path) if path.is_file() else None
    except yaml.YAMLError as error:
        raise ValueError(f"The settings in README.md must be YAML, but are not: {' '.join(str(error).split())}.") from error
    except ValueError as error:
        raise ValueError("The settings in README.md must be names with values, but are not.") from error
    if front is None:
        raise ValueError("README.md must begin with a Space's settings between lines of three dashes, but it does not.")
    return front


def requirements(clean: Path, name: str = "requirements.txt") -> dict[str, Requirement]:
    """The lines of requirements.txt, or of constraints.txt, by the package's name."""
    path = clean / name
    if not path.is_file():
        raise ValueError(f"{name} must say which packages are installed, but it is not there.")
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        wanted = line.partition("#")[0].strip()
        if wanted:
            try:
                pins[Requirement(wanted).name.lower().replace("_", "-")] = Requirement(wanted)
            except InvalidRequirement as error:
                raise ValueError(f"Each line of {name} must name a package, but one is {wanted!r}.") from error
    return pins


def in_front_matter(space: Space) -> Iterator[str]:
    """What is wrong with the settings at the top of README.md."""
    front = space.front
    for name in NEEDED:
        if not front.get(name):
            yield f"README.md must set {name}, but does not."
    for name in sorted(set(map(str, front)) - KNOWN):
        yield f"README.md must set only what Spaces know, but sets {name}."
    if front.get("sdk", "gradio") != "gradio":
        yield f"sdk must be gradio, but is {front['sdk']}."
    for name in ("colorFrom", "colorTo"):
        if front.get(name, COLOURS[0]) not in COLOURS:
            yield f"{name} must be one of {', '.join(COLOURS)}, but is {front[name]}."
    count = len(str(front.get("short_description", "")))
    if count > LONGEST_DESCRIPTION:
        yield f"short_description must have {LONGEST_DESCRIPTION} characters at most, but has {count}."
    python = front.get("python_version", "")
    if not isinstance(python, str):
        yield f'python_version must be text in quotes, as YAML reads 3.10 as 3.1, but is {python}: write "{python}".'
    elif space.on_zero and python not in ZERO_PYTHONS:
        yield f"python_version must be one of ZeroGPU's, {', '.join(ZERO_PYTHONS)}, but is {python}."
    supported = re.search(r'^requires-python = "(.*)"', _text(space.folder / "pyproject.toml"), re.MULTILINE)
    if isinstance(python, str) and python and supported and python not in SpecifierSet(supported.group(1)):
        yield f"python_version must be one that pyproject.toml allows, {supported.group(1)}, but is {python}."
    yield from in_card(space)


def in_card(space: Space) -> Iterator[str]:
    """What is wrong with how the Space shows itself on the hub, and with the time that it may take to start."""
    front = space.front
    tags, models, picture = (front.get(name) or [] for name in ("tags", "models", "thumbnail"))
    if "mcp-server" not in tags or not all(isinstance(tag, str) and re.fullmatch(r"[a-z0-9-]+", tag) for tag in tags):
        yield f"tags must be words in small letters, mcp-server among them, but are {', '.join(map(str, tags)) or 'none'}."
    if not models or not all(re.fullmatch(r"[\w.-]+/[\w.-]+", str(model)) for model in models):
        yield f"models must name repositories, such as owner/name, but are {', '.join(map(str, models)) or 'none'}."
    if not picture or not (str(picture).startswith("https://") or (space.folder / str(picture)).is_file()):
        yield f"thumbnail must be a file of the Space or an https address, but is {picture or 'none'}."
    allowed = re.fullmatch(r"(\d+)(m|h)", str(front.get("startup_duration_timeout", "")))
    if not allowed or int(allowed[1]) * {"m": 1, "h": 60}[allowed[2]] < LEAST_MINUTES:
        yield (
            f"startup_duration_timeout must be {LEAST_MINUTES}m or more, as several gigabytes of weights are fetched, but is"
            f" {front.get('startup_duration_timeout', 'the usual 30m')}."
        )


def in_pins(space: Space) -> Iterator[str]:
    """What is wrong with the versions in requirements.txt."""
    for name in space.pins:
        exact = space.exact.get(name)
        if name in FLOORS:
            bounds = [bound.operator for bound in space.pins[name].specifier]
            version = next((bound.version for bound in exact.specifier if bound.operator == "=="), "") if exact else ""
            if bounds != [">="] or not version or version not in space.pins[name].specifier:
                yield (
                    f"requirements.txt must give {name} a lower bound alone (>=), as a Space's builder installs its own in"
                    " the same call, and constraints.txt pin it to a version that this allows, but they do not."
                )
        elif not space.version(name):
            yield f"requirements.txt must pin {name} to one version (==), so that a rebuild gives the same, but does not."
    asked, pinned = str(space.front.get("sdk_version", "")), space.version("gradio")
    if asked != pinned:
        yield f"sdk_version must be the version of gradio in requirements.txt, {pinned or 'which has none'}, but is {asked}."
    if "opencv-python" in space.pins:
        yield "requirements.txt must have opencv-python-headless, as a Space has no libGL, but has opencv-python."
    if space.on_zero:
        torch = space.version("torch")
        if torch not in ZERO_TORCHES:
            yield f"torch must be one of ZeroGPU's versions, {', '.join(ZERO_TORCHES)}, but is {torch or 'not pinned'}."
        if "spaces" not in space.pins:
            yield "requirements.txt must have spaces, which ZeroGPU needs, but does not."


def in_app(space: Space) -> Iterator[str]:
    """What is wrong with the file that a Space starts."""
    name = str(space.front.get("app_file", "app.py"))
    if not (space.folder / name).is_file():
        yield f"app_file must be a file of the Space, but {name} is not there."
        return
    try:
        tree = ast.parse(_text(space.folder / name))
    except SyntaxError as error:
        yield f"{name} must be Python, but line {error.lineno} is not."
        return
    modules = [
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names
    ]  # fmt: skip
    tops = [module.partition(".")[0] for module in modules]
    before = tops[: tops.index("spaces")] if "spaces" in tops else tops
    if space.on_zero and ("spaces" not in tops or not set(before) <= {*sys.stdlib_module_names, "ovseg"}):
        yield f"{name} must import spaces before any package that may bring torch, but does not."


def in_sizes(clean: Path) -> Iterator[str]:
    """Files that are too large for a Space's repository, and folders that are too large altogether."""
    sizes = {path.relative_to(clean): path.stat().st_size for path in sorted(clean.rglob("*")) if path.is_file()}
    by_lfs = re.findall(r"^(\S+)\s.*filter=lfs", _text(clean / ".gitattributes"), re.MULTILINE)
    for path, size in sizes.items():
        if size > LARGEST_FILE and not any(path.match(pattern) for pattern in by_lfs):
            limit, has = LARGEST_FILE / 2**20, size / 2**20
            yield f"{path} must be below {limit:.0f} MiB or go through Git LFS, but has {has:.1f} MiB."
    if sum(sizes.values()) > LARGEST_FOLDER:
        yield f"All files together must be below 1 GiB, but have {sum(sizes.values()) / 2**30:.1f} GiB."


def not_starting(clean: Path) -> Iterator[str]:
    """Why the page does not come up from the clean folder; nothing if it does."""
    try:
        front = front_matter(clean)
    except ValueError:
        return  # already said
    name = str(front.get("app_file", "app.py"))
    if not (clean / name).is_file():
        return
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        with started(clean, name, environment, START_SECONDS):
            return
    except ValueError as error:
        yield str(error)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
