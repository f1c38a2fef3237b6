"""Python, the page's scripts and its styles are written as they must be."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import need

ROOT = Path(__file__).resolve().parents[1]


def passes(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_python(command: list[str]) -> None:
    passes([sys.executable, "-m", "ruff", *command, "."])


def test_scripts_and_styles() -> None:
    need(shutil.which("npm"), "Node", "apt-get install nodejs npm")
    need((ROOT / "node_modules" / ".bin" / "eslint").exists(), "eslint", "npm install")
    passes(["npm", "run", "--silent", "lint"])
