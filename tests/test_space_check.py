"""`space-check` on folders that are right, and on folders with one thing wrong."""

import subprocess
from pathlib import Path

import pytest

from ovseg.__main__ import main

FRONT = {
    "title": "t", "sdk": "gradio", "sdk_version": "6.31.0", "python_version": '"3.12.12"', "app_file": "app.py",
    "suggested_hardware": "zero-a10g", "license": "apache-2.0", "short_description": "short", "colorFrom": "indigo",
    "tags": "[mcp-server]", "models": "[owner/name]", "thumbnail": "https://example.org/p.png",
    "startup_duration_timeout": "1h",
}  # fmt: skip
PINS = "torch==2.13.0  # ours\ngradio[mcp]==6.31.0\nspaces>=0.51.3\n"
APP = """
import http.server, os
if "NEVER" in os.environ:
    import spaces, torch
address = os.environ["GRADIO_SERVER_NAME"], int(os.environ["GRADIO_SERVER_PORT"])
print(open("README.md").read())
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/config" else 404)
        self.end_headers()
http.server.HTTPServer(address, Page).serve_forever()
"""


def write(folder: Path, front: dict[str, str] | None = None, **files: str) -> Path:
    """A folder of a Space, whose files but README.md may be given as `app`, `requirements`, `pyproject`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = "".join(f"{name}: {value}\n" for name, value in (FRONT if front is None else front).items())
    (folder / "README.md").write_text(f"---\n{settings}---\n# t\n")
    (folder / "requirements.txt").write_text(files.get("requirements", PINS))
    (folder / "constraints.txt").write_text(files.get("constraints", "spaces==0.51.4\n"))
    (folder / "app.py").write_text(files.get("app", APP))
    (folder / "pyproject.toml").write_text(files.get("pyproject", 'requires-python = ">=3.11,<3.13"\n'))
    return folder


def outcome(capsys: pytest.CaptureFixture, folder: Path, *options: str) -> tuple[int, list[str]]:
    """The exit code, and what is said to be missing."""
    code = main(["space-check", str(folder), *options])
    lines = capsys.readouterr().out.splitlines()
    return code, [line.removeprefix("missing: ") for line in lines if line.startswith("missing: ")]


def test_a_folder_that_is_right_starts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert outcome(capsys, write(tmp_path / "space")) == (0, [])


WRONG = [
    ({"front": {name: value for name, value in FRONT.items() if name != "sdk"}}, "must set sdk, but does not"),
    ({"front": FRONT | {"license": ""}}, "must set license, but does not"),
    ({"front": FRONT | {"sdk": "docker"}}, "sdk must be gradio, but is docker"),
    ({"front": FRONT | {"sdk_version": "6.30.0"}}, "sdk_version must be the version of gradio in requirements.txt, 6.31.0"),
    ({"front": FRONT | {"python_version": '"3.11"'}}, "must be one of ZeroGPU's, 3.12.12, 3.10.13, but is 3.11"),
    ({"front": FRONT | {"python_version": "3.10"}}, "python_version must be text in quotes"),
    ({"front": FRONT | {"python_version": '"3.10.13"'}}, "one that pyproject.toml allows, >=3.11,<3.13, but is 3.10.13"),
    ({"front": FRONT | {"app_file": "main.py"}}, "main.py is not there"),
    ({"front": FRONT | {"colorFrom": "mauve"}}, "colorFrom must be one of red, yellow"),
    ({"front": FRONT | {"short_description": "a" * 61}}, "60 characters at most, but has 61"),
    ({"front": FRONT | {"sdk_versions": "1"}}, "must set only what Spaces know, but sets sdk_versions"),
    ({"requirements": PINS.replace(">=0.51.3", "==0.51.3")}, "must give spaces a lower bound alone"),
    ({"requirements": PINS.replace(">=0.51.3", ">=0.52")}, "pin it to a version that this allows"),
    ({"constraints": "spaces>=0.51\n"}, "constraints.txt pin it to a version"),
    ({"constraints": "mcp==1.30.0\n"}, "constraints.txt pin it to a version"),
    ({"front": FRONT | {"tags": "[segmentation]"}}, "mcp-server among them, but are segmentation"),
    ({"front": FRONT | {"models": "[pocket]"}}, "models must name repositories, such as owner/name, but are pocket"),
    ({"front": FRONT | {"thumbnail": "none.png"}}, "thumbnail must be a file of the Space or an https address"),
    ({"front": FRONT | {"startup_duration_timeout": "30m"}}, "must be 60m or more"),
    ({"requirements": PINS.replace("==2.13.0", "==2.15.0")}, "torch must be one of ZeroGPU's versions"),
    ({"requirements": PINS.replace("spaces>=0.51.3\n", "")}, "must have spaces, which ZeroGPU needs"),
    ({"requirements": PINS + "opencv-python==5.0.0.93\n"}, "must have opencv-python-headless"),
    ({"requirements": PINS + "three words here\n"}, "must name a package, but one is 'three words here'"),
    ({"app": "import torch\nimport spaces\n"}, "app.py must import spaces before any package"),
    ({"app": "import os\n"}, "app.py must import spaces before any package"),
    ({"app": "import spaces\nthis is no Python\n"}, "app.py must be Python, but line 2 is not"),
]  # fmt: skip


@pytest.mark.parametrize("changed, sentence", WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture, changed: dict[str, object], sentence: str
) -> None:
    code, missing = outcome(capsys, write(tmp_path / "space", **changed), "--no-start")
    assert code == 1 and len(missing) == 1 and sentence in missing[0], missing


@pytest.mark.parametrize(
    "readme, sentence",
    [
        ("# no settings\n", "must begin with a Space's settings"),
        ("---\na: [\n---\n", "must be YAML"),
        ("---\n- a\n---\n", "names with"),
    ],
)
def test_a_readme_without_settings(tmp_path: Path, capsys: pytest.CaptureFixture, readme: str, sentence: str) -> None:
    (write(tmp_path / "space") / "README.md").write_text(readme)
    code, (only,) = outcome(capsys, tmp_path / "space")
    assert code == 1 and sentence in only and "\n" not in only


def test_large_files_must_go_through_lfs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with (write(tmp_path / "space") / "weights.bin").open("wb") as file:
        file.truncate(11 * 2**20)
    code, (only,) = outcome(capsys, tmp_path / "space", "--no-start")
    assert code == 1 and "weights.bin must be below 10 MiB or go through Git LFS, but has 11.0 MiB" in only
    (tmp_path / "space" / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    assert outcome(capsys, tmp_path / "space", "--no-start") == (0, [])


def test_a_page_that_does_not_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, (only,) = outcome(capsys, write(tmp_path / "space", app="import spaces_\nimport spaces\n"), "--no-start")
    assert code == 1 and "import spaces before" in only
    app = 'import os\nif "NEVER" in os.environ:\n    import spaces\nimport sys\nsys.exit("no network")\n'
    code, (only,) = outcome(capsys, write(tmp_path / "other", app=app))
    assert code == 1 and only == "The page must start, but it ended with code 1: no network"


def test_only_what_git_knows_comes_along(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A module that was never added is not there on the Space, though it is here."""
    space = write(tmp_path / "space", app="import helper\n" + APP.replace("import spaces, torch", "import spaces"))
    (space / "helper.py").write_text("import os\nif 'NEVER' in os.environ:\n    import spaces\n")
    app = space / "app.py"
    app.write_text(app.read_text().replace("import helper\n", "") + "\n")
    app.write_text(app.read_text().replace("address =", "import sys; sys.path.append('.'); __import__('helper')\naddress ="))
    assert outcome(capsys, space) == (0, [])
    subprocess.run(["git", "init", "-q"], cwd=space, check=True)
    subprocess.run(
        ["git", "add", "README.md", "requirements.txt", "constraints.txt", "app.py", "pyproject.toml"], cwd=space, check=True
    )
    code, (only,) = outcome(capsys, space)
    assert code == 1 and "No module named 'helper'" in only


def test_this_checkout_is_a_space(capsys: pytest.CaptureFixture) -> None:
    root = Path(__file__).resolve().parents[1]
    assert outcome(capsys, root) == (0, [])
