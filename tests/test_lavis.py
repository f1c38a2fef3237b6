"""The LAVIS captioner for real: its environment is built, its process captions through `load_model_and_preprocess`."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ovseg.pretrained import lavis
from ovseg.pretrained.lavis import LavisCaptioner

SETUP = Path(__file__).parent / "lavis_tiny.py"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Built anew, unless `OVSEG_LAVIS` names one that is complete."""
    before = os.environ.get("OVSEG_LAVIS")
    if before is None or not lavis.is_installed():
        os.environ["OVSEG_LAVIS"] = str(tmp_path_factory.mktemp("lavis") / "environment")
        told: list[str] = []
        lavis.install(told.append)
        assert told[0].startswith("building the environment") and lavis.is_installed()
    os.environ["OVSEG_TINY_LAVIS"] = str(tmp_path_factory.mktemp("tiny-lavis"))
    yield lavis.environment()
    del os.environ["OVSEG_TINY_LAVIS"]
    if before is None:
        del os.environ["OVSEG_LAVIS"]


pytestmark = pytest.mark.timeout(900)


@pytest.mark.lavis
def test_blip_through_lavis(environment: Path, picture: np.ndarray) -> None:
    captioner = LavisCaptioner("blip_caption/tiny", setup=SETUP)
    try:
        assert set(captioner.caption(picture).split()) == {"cat"}  # what the checkpoint prefers
        begun = captioner.caption(picture, "a photo of a dog")
        assert begun.startswith("a photo of a dog cat")
    finally:
        captioner.close()


@pytest.mark.lavis
def test_blip2_through_lavis_dies_and_comes_back(environment: Path, picture: np.ndarray) -> None:
    captioner = LavisCaptioner("blip2_opt/tiny", setup=SETUP)
    try:
        first = captioner.caption(picture, "a photo of")
        assert first.startswith("a photo of") and captioner.caption(picture, "a photo of") == first
        os.kill(captioner._process.pid, signal.SIGKILL)
        captioner._process.wait()
        assert captioner.caption(picture, "a photo of") == first  # a process that died between pictures is started again
        os.kill(captioner._process.pid, signal.SIGSTOP)
        captioner.seconds = 1
        with pytest.raises(ValueError, match="must answer within 1 seconds, but did not"):
            captioner.caption(picture)
        captioner.seconds = 120
        assert captioner.caption(picture, "a photo of") == first
        process = captioner._process
    finally:
        captioner.close()
    assert process.returncode == 0  # it went when its input was closed


@pytest.mark.lavis
def test_a_model_that_lavis_does_not_have_is_one_sentence(environment: Path, picture: np.ndarray) -> None:
    captioner = LavisCaptioner("blip_caption/nonsense", setup=SETUP)
    with pytest.raises(ValueError, match="LAVIS could not caption with blip_caption/nonsense"):
        captioner.caption(picture)
    assert captioner._process is None  # the next picture loads again: a process without a model could not say this cause


@pytest.mark.lavis
def test_a_process_that_cannot_start_is_one_sentence(environment: Path, picture: np.ndarray, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)\n")
    with pytest.raises(ValueError, match="must stay alive, but ended with code 3"):
        LavisCaptioner("blip_caption/tiny", setup=broken).caption(picture)


def test_without_its_environment_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVSEG_LAVIS", str(tmp_path))
    if sys.version_info[:2] == (3, 11):
        with pytest.raises(ValueError, match="run `python -m ovseg lavis install`"):
            LavisCaptioner("lavis-blip")
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    assert lavis.obstacle().startswith("LAVIS needs Python 3.11, and this is 3.12")
    with pytest.raises(ValueError, match=r"LAVIS needs Python 3\.11"):
        lavis.install()
