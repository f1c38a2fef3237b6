"""The package as it is installed, and what importing it costs."""

import os
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import ovseg
from ovseg.pocket.world import scene

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `pip install .` would put beside the other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = folder.glob("ovseg-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_beside(site: Path, code: str, cwd: Path) -> str:
    """What a Python prints that has the installed package and not the checkout."""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_wheel_holds_every_file(installed: Path) -> None:
    for source, place in ((ROOT / "ovseg", installed / "ovseg"), (ROOT / "assets", installed / "ovseg" / "assets")):
        expected = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        held = {path.relative_to(place): path.stat().st_size for path in place.rglob("*") if path.is_file()}
        assert expected and expected <= held.keys()
        assert all(held[path] == (source / path).stat().st_size for path in expected)
    assert not (installed / "tests").exists()


def test_the_wheel_says_what_it_needs_and_which_command_it_brings(installed: Path) -> None:
    (information,) = installed.glob("ovseg-*.dist-info")
    metadata = message_from_string((information / "METADATA").read_text())
    wanted = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    needed = {
        (Requirement(text).name.lower(), str(Requirement(text).specifier)) for text in metadata.get_all("Requires-Dist")
    }
    assert needed == {(Requirement(t).name.lower().replace("_", "-"), str(Requirement(t).specifier)) for t in wanted}
    assert metadata["Version"] == ovseg.__version__
    assert "ovseg = ovseg.__main__:main" in (information / "entry_points.txt").read_text()


def test_the_installed_package_uses_its_own_assets(installed: Path, tmp_path: Path) -> None:
    code = (
        "from ovseg import assets; from ovseg.pretrained import lavis; from ovseg.pocket.world import scene\n"
        "print(assets.ASSETS, lavis.REQUIREMENTS, scene('val', 3).image.sum())"
    )
    assets, requirements, pixels = run_beside(installed, code, tmp_path).split()
    assert Path(assets) == installed / "ovseg" / "assets" and (Path(assets) / "pocket" / "card.json").is_file()
    assert Path(requirements).is_relative_to(installed) and Path(requirements).is_file()
    assert int(pixels) == scene("val", 3).image.sum()


def test_the_list_of_commands_needs_no_torch() -> None:
    code = (
        "import sys; from ovseg.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: print(end.code)\n"
        "print(sorted({'torch', 'numpy', 'diffusers', 'transformers', 'gradio'} & set(sys.modules)))"
    )
    *help_text, code, imported = run_beside(ROOT, code, ROOT).splitlines()
    assert code == "0" and imported == "[]"
    assert any("segment" in line for line in help_text)


def test_every_public_name_is_there() -> None:
    for name in ovseg.__all__:
        assert getattr(ovseg, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = ovseg.nonsense


def test_importing_ovseg_loads_little_and_torchvision_can_follow() -> None:
    code = (
        "import sys, ovseg; early = set(sys.modules)\n"
        "import torchvision; from transformers import CLIPTextModel; ovseg.Models()\n"
        "print(sorted({'torch', 'gradio'} & early), sorted({'gradio', 'spaces'} & set(sys.modules)))"
    )
    assert run_beside(ROOT, code, ROOT) == "[] []"
