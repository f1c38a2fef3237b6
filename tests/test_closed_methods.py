"""A method is closed: no code but its own names it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from ovseg.methods import METHODS, Method

PACKAGE = Path(__file__).resolve().parents[1] / "ovseg"
LIST = "methods/__init__.py"  # the one place that knows which methods there are
ITS_OWN = {
    "ovdiff": {"commands/prototypes.py"},
    "clipseg": {"pretrained/clipseg.py"},
    "sam3": {"pretrained/sam3.py"},
    "grounded-diffusion": {
        "factory/", "commands/grounded_generation.py", "commands/grounding.py", "commands/prompts.py",
        "commands/synthesize.py", "commands/train.py", "commands/triplets.py", "commands/zero_shot.py",
    },
}  # fmt: skip
"""The commands of a method, its data factory, and a network that it alone uses: folders end in a slash."""


def naming(kind: type[Method]) -> re.Pattern[str]:
    """The names of a method, with anything or nothing between their words."""
    names = (kind.name, kind.title, kind.__name__, kind.folder().name)
    return re.compile("|".join(r"[\W_]?".join(re.findall(r"[^\W_]+", name)) for name in names), re.IGNORECASE)


@cache
def words_of(path: Path) -> list[tuple[int, str]]:
    """What a file says, by its line: of Python names and texts, but no comments and docstrings; of other files all."""
    if path.suffix != ".py":
        return list(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    docstrings |= {  # a text below a constant or a field says what it is
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    read = [node for node in ast.walk(tree) if id(node) not in docstrings]
    return [(getattr(node, "lineno", 0), word) for node in read for word in said(node)]


def said(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.arg(arg=name) | ast.keyword(arg=str(name)):
            return [name]
        case ast.Import(names=names):
            return [part for alias in names for part in (alias.name, alias.asname or "")]
        case ast.ImportFrom(module=module, names=names):
            return [module or "", *(part for alias in names for part in (alias.name, alias.asname or ""))]
    return []


def places(kind: type[Method]) -> list[str]:
    """Where the package names a method outside of what is its own."""
    own = {LIST, f"methods/{kind.folder().name}/", *ITS_OWN.get(kind.name, ())}
    names, found = naming(kind), []
    for path in sorted(PACKAGE.rglob("*")):
        place = str(path.relative_to(PACKAGE))
        if path.suffix not in (".py", ".json", ".html", ".js", ".css") or place.startswith(tuple(own)):
            continue
        found += [f"{place}:{line}" for line, word in words_of(path) if names.search(word)]
    return found


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_nobody_else_names_a_method(kind: type[Method]) -> None:
    assert places(kind) == []


def test_what_names_a_method_is_found(tmp_path: Path) -> None:
    """The reader itself: names, texts and imports are read, comments and docstrings are not."""
    kind = next(kind for kind in METHODS if "-" in kind.name and kind.title != kind.title.replace(" ", ""))
    path, names = tmp_path / "code.py", naming(kind)
    same, title, folder = kind.__name__, kind.title, kind.folder().name
    path.write_text(
        f'"""Of {title}."""\nfrom ovseg.methods import {same} as O\nX = "a {title}"  # {title}\n"""{title}."""\n'
        f"{same}()\nimport ovseg.methods.{folder}\n"
    )
    assert sorted({line for line, word in words_of(path) if names.search(word)}) == [2, 3, 5, 6]
    page = tmp_path / "page.html"
    page.write_text(f"<p>\n{kind.name}</p>\n<p>{title.lower()}</p>")
    assert [line for line, word in words_of(page) if names.search(word)] == [2, 3]
