"""A disk that is full: one sentence, and every file is whole or not there."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.__main__ import main


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may become larger than `size` bytes meanwhile: writing more fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 2000])
@pytest.mark.parametrize(
    "line",
    [
        "segment picture.png --classes cat --files all --out {out}",
        "segment pictures --classes cat --out {out}",
        "compare picture.png --classes cat --methods diffsegmenter --out {out}",
        "attention picture.png cat --noise 100 --out {out}",
        "generate cat --steps 1 --out {out}/g.png",
        "scenes --count 2 --out {out}",
        "scenes --examples --out {out}",
        "evaluate --method all-background --count 1 --out {out}",
    ],
)
def test_a_full_disk_is_one_sentence_and_no_file_is_cut(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, line: str, size: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save("picture.png")
    Path("pictures").mkdir()
    Path("pictures/a.png").write_bytes(Path("picture.png").read_bytes())
    words = line.format(out="out").split()
    words += [] if words[0] == "scenes" else ["--backbone", str(tiny_folder), "--device", "cpu"]
    with room_for(size):
        assert main(words) == 2
    assert "must be writable, but is not: File too large" in capsys.readouterr().err.splitlines()[-1]
    written = [path for path in Path("out").rglob("*") if path.is_file()]
    assert all(path.stat().st_size < size and path.suffix != ".partial" for path in written)
    for path in (path for path in written if path.suffix == ".png"):
        Image.open(path).load()
