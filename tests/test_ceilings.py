"""Memory and disk have a ceiling: what a session keeps, which sessions are kept, files that are offered, prototypes."""

import datetime
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from gradio.state_holder import StateHolder

from ovseg.compare import Entry
from ovseg.demo.picture import Picture
from ovseg.demo.run import Results, RunRequest, run, titled
from ovseg.doors.answers import segmented
from ovseg.limits import limits
from ovseg.methods import METHODS, DiffSegmenter, FreeSegDiff, suited_to
from ovseg.methods.ovdiff.store import Store, Trimap, store_of
from ovseg.models import Models
from ovseg.progress import silent
from ovseg.server import download_folders, housekeeping
from ovseg.server.durations import Durations
from ovseg.server.listeners import Listeners
from ovseg.server.session_memory import memory_bytes
from ovseg.types import OwnScores, Segmentation

MADE_BY = {"images": 2}
MASKS = (Trimap(np.random.default_rng(0).random((64, 64)) > 0.5, np.zeros((64, 64), bool)),)


@pytest.mark.parametrize("threshold", [None, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_scores_at_their_own_resolution_give_the_same_masks(threshold: float | None, dtype: torch.dtype) -> None:
    rows = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    classes = ("a", "b", "c") if threshold is not None else ("b", "c")
    made = Segmentation.from_scores(np.zeros((400, 600, 3), np.uint8), classes, rows, threshold)
    wide = rows if dtype != torch.float16 else rows.float()
    grown = torch.nn.functional.interpolate(wide[None], (400, 600), mode="bilinear")[0].float().numpy()
    expected = grown if threshold is None else np.concatenate([np.full((1, 400, 600), threshold, np.float32), grown])
    for same in (made, made.packed(), pickle.loads(pickle.dumps(made.packed())), replace(made, timings={"x": 1.0})):
        assert np.array_equal(same.scores(), expected) and same.scores().dtype == np.float32
        assert np.array_equal(same.label_map, expected.argmax(0)) and same.threshold == threshold
        assert memory_bytes(same) < 730_000  # the picture alone has 720,000
    if threshold is not None:
        moved = made.packed().with_threshold(0.9)
        assert np.array_equal(moved.scores()[0], np.full((400, 600), 0.9, np.float32)) and memory_bytes(moved) < 730_000


def test_scores_as_fine_as_the_picture_are_packed_without_loss() -> None:
    rows = torch.zeros(2, 1200, 1600)
    rows[1, 200:300, 200:300] = torch.rand(100, 100, generator=torch.Generator().manual_seed(0))
    made = Segmentation.from_scores(np.zeros((1200, 1600, 3), np.uint8), ("a", "b"), rows, 0.5)
    packed = made.packed()
    assert np.array_equal(packed.scores(), made.scores()) and np.array_equal(packed.scores()[1:], rows.numpy())
    assert memory_bytes(packed) < 6_300_000 < 20_000_000 < memory_bytes(made)
    assert memory_bytes(packed.packed()) == pytest.approx(memory_bytes(packed), abs=1000)


def test_smooth_scores_are_packed_to_half_without_loss() -> None:
    small = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(small[None], (1024, 1024), mode="bilinear")[0]
    made = Segmentation.from_scores(np.zeros((1024, 1024, 3), np.uint8), ("b", "c", "d"), smooth)
    packed = made.packed()
    assert np.array_equal(packed.scores(), smooth.numpy())
    assert memory_bytes(packed) - made.image.nbytes < smooth.numel() * 4 * 0.65


def test_an_answer_expands_scores_as_often_for_many_classes_as_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    expand, looks = OwnScores.expanded, []
    monkeypatch.setattr(OwnScores, "expanded", lambda own: looks.append(own) or expand(own))
    for count in (2, 12):
        rows = torch.rand(count, 8, 8, generator=torch.Generator().manual_seed(count))
        made = Segmentation.from_scores(np.zeros((64, 64, 3), np.uint8), tuple(f"w{k}" for k in range(count)), rows, 0.3)
        segmented(Entry("x", made, 1.0), "", 0, "pocket")
        assert len(looks) == 3 and sum(share > 0 for share in made.shares.values()) > 2
        looks.clear()


def test_a_session_keeps_little_of_a_large_picture(with_clip: Models) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    quick = {FreeSegDiff: {"refine_side": 256}}  # its CRF takes longest; scores as fine as the picture are tested above
    methods = tuple(
        suited_to(with_clip, kind, quick.get(kind, {})) for kind in METHODS if kind.listed_first and not kind.draws_first
    )
    asked = RunRequest(Picture(image), "cat, dog, car, bus", "", "", titled(with_clip, methods), 0)
    kept: list[Results] = []
    run(with_clip, asked, Durations(), silent, kept.append)
    assert [entry.title for entry in kept[-1].comparison.entries] and not kept[-1].comparison.failures
    for entry in kept[-1].comparison.entries:
        assert memory_bytes(entry.segmentation.packed()) < 12_000_000
        assert np.array_equal(entry.segmentation.label_map, entry.segmentation.scores().argmax(0))
        assert all(max(image.shape) <= 512 for item in entry.segmentation.evidence for image in item.images)
    assert memory_bytes(kept[-1]) < 20_000_000


def test_a_result_beyond_the_ceiling_of_a_session_is_refused_and_the_others_stand(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 384, 3), dtype=np.uint8)
    first, second = (replace(suited_to(models, DiffSegmenter), timesteps=(level,)) for level in (100, 300))
    asked, parts = RunRequest(Picture(image), "cat, dog", "", "", titled(models, (first, second)), 0), []
    whole = run(models, asked, Durations(), silent, parts.append)
    one, both = (memory_bytes(part) for part in parts[1:])
    assert both == memory_bytes(whole) < 32_000_000
    monkeypatch.setenv("OVSEG_MAX_SESSION_BYTES", str(one + both))
    limits.cache_clear()
    try:
        kept = run(models, asked, Durations(), silent, parts.append)
    finally:
        monkeypatch.undo()
        limits.cache_clear()
    assert [entry.title for entry in kept.comparison.entries] == [whole.comparison.entries[0].title]
    (failure,) = kept.comparison.failures
    assert failure.title == whole.comparison.entries[1].title and "MB at most, but would be" in failure.sentence
    assert memory_bytes(kept) < (one + both) // 2 and not kept.waiting and len(kept.drawn) == 2


@pytest.fixture
def page() -> gr.Blocks:
    """A page that remembers sessions as one that is served does."""
    with gr.Blocks() as page:
        gr.State(None)
    page.state_session_capacity = 100
    StateHolder().set_blocks(page)
    return page


def test_sessions_that_are_gone_are_forgotten(page: gr.Blocks) -> None:
    now = [10_000.0]
    listeners = Listeners(lambda: now[0])
    listeners.begin()
    idle = {"asks": 5, "program": 90, "has a page open": 5000, "listens": 5000, "closed its page": 400, "long closed": 900}
    for session, seconds in idle.items():
        assert page.state_holder[session].state_data == {}
        page.state_holder.time_last_used[session] = datetime.datetime.now() - datetime.timedelta(seconds=seconds)
        page._queue.pending_messages_per_session[session] = "what it never read"
    listeners.opened("page has a page open")
    listeners.opened("listens")
    for session, seconds in (("closed its page", 300), ("long closed", 800)):
        now[0] = 10_000.0 - seconds
        listeners.opened(f"page {session}")
        listeners.closed(f"page {session}")
    now[0] = 10_000.0
    assert housekeeping.forget_the_gone(page, listeners) == 2
    left = ["asks", "has a page open", "listens", "closed its page"]
    assert list(page.state_holder.session_data) == left and all(s in page._queue.pending_messages_per_session for s in left)
    assert "program" not in page._queue.pending_messages_per_session
    assert list(page.state_holder.time_last_used) == left


def test_offered_files_are_deleted_after_their_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folders = [download_folders.new_folder() for _ in range(2)]
    for folder in folders:
        (folder / "dataset.zip").write_bytes(b"zip")
    other = tmp_path / "0123abc"
    other.mkdir()
    (other / "picture.png").write_bytes(b"another's")
    download_folders.delete_old(60)
    assert all((folder / "dataset.zip").is_file() for folder in folders)
    later = time.time() + 61
    monkeypatch.setattr(download_folders.time, "time", lambda: later)
    download_folders.delete_old(60)
    assert not any(folder.exists() for folder in folders) and (other / "picture.png").is_file()


def test_a_store_drops_what_was_read_longest_ago(tmp_path: Path) -> None:
    store = Store(tmp_path, most_bytes=4 * 4000)
    store.write_masks("word 0", MADE_BY, MASKS)
    (size,) = (path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    store = Store(tmp_path, most_bytes=3 * size + 10)
    for number in range(1, 3):
        store.write_masks(f"word {number}", MADE_BY, MASKS)
    for age, number in enumerate((2, 1, 0)):  # word 0 was written longest ago
        (path,) = tmp_path.glob(f"word_{number}-*")
        os.utime(path, (time.time() - 100 - age,) * 2)
    assert store.read_masks("word 0", MADE_BY) is not None  # and is now the one that was read last
    store.write_masks("word 3", MADE_BY, MASKS)
    left = {path.name.partition("-")[0] for path in tmp_path.glob("*.safetensors")}
    assert left == {"word_0", "word_2", "word_3"}


def test_a_store_deletes_what_stops_have_left(tmp_path: Path) -> None:
    for name in (".0123.partial", "cat-0123.lock", ".4567.partial"):
        (tmp_path / name).touch()
    for name in (".0123.partial", "cat-0123.lock"):
        os.utime(tmp_path / name, (0, 0))
    Store(tmp_path, most_bytes=10**9).write_masks("dog", MADE_BY, MASKS)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {".4567.partial", "dog"}


def test_a_closed_store_says_so_and_takes_nothing(
    with_clip: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVSEG_PROTOTYPES", str(tmp_path))
    monkeypatch.setenv("OVSEG_PROTOTYPES_CLOSED", "1")
    models = Models("pocket", "cpu")
    assert store_of(models).is_closed
    with (
        pytest.raises(ValueError, match="must be among those that this server keeps, but 'zebra' is not"),
        store_of(models).being_made("zebra", MADE_BY, lambda: None),
    ):
        pass
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv("OVSEG_PROTOTYPES_CLOSED")
    assert not store_of(models).is_closed


def test_copies_of_a_result_stay_small() -> None:
    rows = torch.rand(3, 8, 8)
    made = Segmentation.from_scores(np.zeros((512, 512, 3), np.uint8), ("b", "c"), rows)
    assert memory_bytes(replace(made, own=made.scores())) > 3_000_000
    assert memory_bytes(replace(made, timings={})) < 800_000
