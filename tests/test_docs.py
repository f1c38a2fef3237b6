"""What the documentation says about commands and environment variables, against the code."""

import re
import shlex
from pathlib import Path

import pytest

from ovseg.__main__ import build_parser
from ovseg.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
READ = re.compile(r'(?:environ\.get\(|environ\[|kept_in\(|variable\(|(?=.{0,60} in os\.environ))"([A-Z][A-Z_]+)"')


def commands_of(page: Path) -> list[list[str]]:
    """The arguments of every `python -m ovseg` line in a page's blocks of code; lines with "..." are left out."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [
        shlex.split(line, comments=True)[3:] for line in lines if line.startswith("python -m ovseg ") and "..." not in line
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_have_these_options(page: Path) -> None:
    for arguments in commands_of(page):
        build_parser(arguments[0]).parse_args(arguments)  # exits where it does not understand


def test_the_docs_show_most_commands() -> None:
    shown = {arguments[0] for page in PAGES for arguments in commands_of(page)}
    assert {"segment", "generate", "evaluate", "ablate", "train", "triplets", "zero-shot"} <= shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_options(name: str) -> None:
    help_text = build_parser(name).format_help()
    assert "--help" in help_text
    (action,) = (action for action in build_parser(name)._actions if action.choices)
    options = action.choices[name]._actions
    assert len(options) > 1 and all(option.help for option in options), [
        option.dest for option in options if not option.help
    ]
    action.choices[name].format_help()  # fails where a help text holds a bare percent sign


def test_every_environment_variable_is_documented() -> None:
    table = (ROOT / "docs" / "configuration.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE))
    read = {name for path in [*(ROOT / "ovseg").rglob("*.py"), ROOT / "app.py"] for name in READ.findall(path.read_text())}
    assert {"OVSEG_LAVIS", "OVSEG_BACKBONE", "RANK", "XDG_CACHE_HOME", "SPACES_ZERO_GPU"} <= read  # the search itself works
    assert read <= documented, read - documented
    ours = {name for name in documented if name.startswith("OVSEG_")}
    tests = {name for path in (ROOT / "tests").glob("*.py") for name in re.findall(r"OVSEG_[A-Z_]+", path.read_text())}
    assert ours <= read | tests, ours - read - tests
