"""A folder of pictures: what is written, going on after a stop, several processes, damaged pictures."""

import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ovseg.__main__ import main
from ovseg.methods import DiffSegmenter
from ovseg.methods.fa_seg.method import FASeg
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.models import Models
from ovseg.output import folder
from ovseg.output.coco import coco_file, merged
from ovseg.output.folder import FolderTask, PictureOutcome
from ovseg.pocket.world import scene
from ovseg.progress import Report, silent
from ovseg.types import Scene
from ovseg.words.classes import ClassWord
from tests.forked import FORK, torchrun
from tests.networks import with_traits

WORDS = "cat|kitten, traffic light, dog"
GOOD = ("b.png", "cats/a.png", "dogs/a.JPG", "dogs/a.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures, three of them of one stem; and files that are no pictures of the folder."""
    home = tmp_path / "pictures"
    for number, name in enumerate(GOOD):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene("val", number).image[: 70 + 8 * number]).save(path)
    (home / "notes.txt").write_text("no picture")
    (home / ".hidden.png").write_bytes((home / "b.png").read_bytes())
    return home


@pytest.fixture
def task(models: Models, pictures: Path, tmp_path: Path) -> FolderTask:
    return FolderTask(models, DiffSegmenter(threshold=0.3), pictures, tmp_path / "out", words=WORDS)


def arguments(pictures: Path, out: Path, network: Path) -> list[str]:
    given = ["segment", str(pictures), "--classes", WORDS, "--set", "threshold=0.3", "--out", str(out)]
    return [*given, "--backbone", str(network), "--device", "cpu"]


def mask(out: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(out / "pictures" / name / "mask.png"))


def test_every_picture_has_the_files_of_a_single_one(
    pictures: Path, tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments(pictures, tmp_path / "out", tiny_folder)) == 0
    printed = capsys.readouterr()
    assert "4 of 4 pictures segmented" in printed.out and "picture 4 of 4" in printed.err
    found = sorted(
        path.parent.relative_to(tmp_path / "out" / "pictures").as_posix() for path in tmp_path.rglob("record.json")
    )
    assert found == sorted(GOOD)  # no hidden picture, no text
    assert not list((tmp_path / "out").rglob("*.partial"))
    for name in GOOD:
        assert main(arguments(pictures / name, tmp_path / "one" / name, tiny_folder)) == 0
        alone = np.asarray(Image.open(tmp_path / "one" / name / "mask.png"))
        assert np.array_equal(mask(tmp_path / "out", name), alone) and alone.any()
        card = json.loads((tmp_path / "out" / "pictures" / name / "run.json").read_text())
        assert card["classes"] == ["cat|kitten", "traffic light", "dog"] and card["method"]["threshold"] == 0.3
        assert set(card["weights"]) == {"backbone"}
    assert json.loads((tmp_path / "out" / "skipped.json").read_text()) == []


def test_pycocotools_finds_the_masks_of_the_files(task: FolderTask) -> None:
    task.run()
    coco = COCO(task.out / "coco.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == sorted(GOOD)
    assert [image["id"] for image in coco.dataset["images"]] == [1, 2, 3, 4]
    assert [c["name"] for c in coco.dataset["categories"]] == ["cat", "traffic light", "dog"]
    assert [item["id"] for item in coco.dataset["annotations"]] == list(range(1, len(coco.anns) + 1))
    for image in coco.dataset["images"]:
        label_map = mask(task.out, image["file_name"])
        assert (image["height"], image["width"]) == label_map.shape
        items = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert [item["category_id"] for item in items] == [k for k in np.unique(label_map) if k]
        for item in items:
            inside = label_map == item["category_id"]
            assert item["area"] == inside.sum() and np.array_equal(coco.annToMask(item), inside)


def test_all_files_and_attention_maps_can_be_asked_for(task: FolderTask) -> None:
    replace(task, parts=("all",), attention=True).run()
    for name in GOOD:
        home = task.out / "pictures" / name
        names = {path.name for path in home.iterdir()}
        assert names >= {"coco.json", "scores.npz", "evidence.npz", "cutouts", "record.json"}
        assert len(list((home / "attention").glob("*.png"))) > 3
        with np.load(home / "scores.npz") as kept:
            assert np.array_equal(kept["scores"].argmax(0), mask(task.out, name))


def test_a_folder_has_the_options_of_a_single_picture(pictures: Path, tmp_path: Path, tiny_folder: Path) -> None:
    more = ["--caption", "a cat", "--square", "--seed", "7", "--files", "coco"]
    assert main([*arguments(pictures, tmp_path / "out", tiny_folder), *more]) == 0
    assert main([*arguments(pictures / "b.png", tmp_path / "one", tiny_folder), *more]) == 0
    cards = [json.loads(path.read_text()) for path in (tmp_path / "one" / "run.json", *tmp_path.glob("out/**/run.json"))]
    for name in ("caption", "seed", "latent_hw"):
        assert len({str(card[name]) for card in cards}) == 1
    assert cards[0]["caption"] == "a cat" and cards[0]["seed"] == 7 and len(set(cards[0]["latent_hw"])) == 1
    kept = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (kept["caption"], kept["square"], kept["seed"], kept["files"]) == ("a cat", True, 7, ["coco"])
    assert not list((tmp_path / "out").rglob("mask.png")) and list((tmp_path / "out").rglob("coco-polygons.json"))


def test_tiles_and_thresholds_of_classes_are_those_of_a_single_picture(
    pictures: Path, tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in GOOD[2:]:  # two pictures of 7 tiles each
        (pictures / name).unlink()
    more = ["--set", "tile_side=64", "--class-threshold", "dog=1.5", "cat=0.2", "--files", "masks,score-pictures"]
    assert main([*arguments(pictures, tmp_path / "out", tiny_folder), *more]) == 0
    for number, name in enumerate(GOOD[:2]):
        one = tmp_path / "one" / name
        assert main([*arguments(pictures / name, one, tiny_folder), *more]) == 0
        assert np.array_equal(mask(tmp_path / "out", name), np.asarray(Image.open(one / "mask.png")))
        assert not (mask(tmp_path / "out", name) == 3).any()  # no dog is that sure
        card = json.loads((one / "run.json").read_text())
        assert (card["method"]["tile_side"], card["class_thresholds"]) == (64, {"dog": 1.5, "cat": 0.2})
        tiles = 1 + 3 * (2 + (70 + 8 * number > 64 + 48))  # the whole picture too, as scores are stretched
        assert card["cost"]["rows"] == tiles * 4 and (one / "scores" / "03-dog.png").exists()
    assert main([*arguments(pictures / name, tmp_path / "no", tiny_folder), "--class-threshold", "cow=0.2"]) == 2
    assert "must be one of cat, traffic light, dog, but got 'cow'" in capsys.readouterr().err
    assert main([*arguments(pictures, tmp_path / "no", tiny_folder), "--class-threshold", "cow=0.2"]) == 2
    assert "must be asked for, but 'cow' is not" in capsys.readouterr().err
    assert main([*arguments(pictures / name, tmp_path / "no", tiny_folder), *more, "--square"]) == 2
    assert "only one of them can be asked for" in capsys.readouterr().err


def test_the_method_is_prepared_once(task: FolderTask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, prepare = [], DiffSegmenter.prepare

    def counted(self: DiffSegmenter, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> object:
        asked.append(tuple(word.name for word in classes))
        return prepare(self, models, classes, report)

    monkeypatch.setattr(DiffSegmenter, "prepare", counted)
    task.run()
    assert asked == [("cat", "traffic light", "dog")]


def test_a_stopped_run_goes_on_where_it_was(task: FolderTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replace(task, out=tmp_path / "whole")
    whole.run()
    shares = []

    def stop_at_the_third(stage: str, share: float) -> None:
        shares.append(share)
        if stage.startswith("picture 3 of 4, ") and share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task.run(stop_at_the_third)
    assert shares == sorted(shares) and not (task.out / "coco.json").exists()
    assert len(list(task.out.rglob("record.json"))) == 2
    read, read_image = [], folder.read_image
    monkeypatch.setattr(folder, "read_image", lambda path: read.append(path.name) or read_image(path))
    stages = []
    outcomes = task.run(lambda stage, share: stages.append((stage, share)))
    assert list(outcomes) == sorted(GOOD) and read == ["a.JPG", "a.png"]
    assert stages[0][1] == 0.5  # what was done before counts as done
    assert (task.out / "coco.json").read_bytes() == (whole.out / "coco.json").read_bytes()
    read.clear()
    task.run()
    assert not read
    (task.folder / "b.png").write_bytes((task.folder / "cats" / "a.png").read_bytes())  # another picture of this name
    task.run()
    assert read == ["b.png"] and np.array_equal(mask(task.out, "b.png"), mask(task.out, "cats/a.png"))


def test_a_killed_process_leaves_whole_files(pictures: Path, tmp_path: Path, tiny_folder: Path) -> None:
    asked, rename = arguments(pictures, tmp_path / "out", tiny_folder), os.replace

    def dying(source: Path, target: Path) -> None:
        """Rename a file; the process is killed where the fourth record would get its name."""
        if Path(target).name == "record.json" and len(list(tmp_path.rglob("record.json"))) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    def segment() -> None:
        os.replace = dying
        main(asked)

    process = FORK.Process(target=segment)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}
    assert len(made) == 3 and not (tmp_path / "out" / "coco.json").exists()
    assert main(asked) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(COCO(tmp_path / "out" / "coco.json").imgs) == 4 == len(list(tmp_path.rglob("record.json")))


def test_two_processes_write_the_same_coco_file(
    pictures: Path, tmp_path: Path, tiny_folder: Path, capfd: pytest.CaptureFixture
) -> None:
    (pictures / "broken.png").write_bytes(b"no picture")
    assert torchrun(2, partial(main, arguments(pictures, tmp_path / "two", tiny_folder))) == {0: 3}
    assert capfd.readouterr().err.count("skipped broken.png") == 1
    assert main(arguments(pictures, tmp_path / "one", tiny_folder)) == 3
    for name in ("coco.json", "skipped.json", "settings.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert all(np.array_equal(mask(tmp_path / "two", name), mask(tmp_path / "one", name)) for name in GOOD)


def test_damaged_pictures_are_named_and_skipped(
    pictures: Path, tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = (pictures / "b.png").read_bytes()
    (pictures / "dogs" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "empty.jpg").write_bytes(b"")
    assert main(arguments(pictures, tmp_path / "out", tiny_folder)) == 3
    printed = capsys.readouterr()
    assert "4 of 6 pictures segmented" in printed.out
    assert "skipped dogs/cut.png: The picture must be an image file" in printed.err and "skipped empty.jpg: " in printed.err
    skipped = json.loads((tmp_path / "out" / "skipped.json").read_text())
    assert [item["picture"] for item in skipped] == ["dogs/cut.png", "empty.jpg"]
    assert [image["file_name"] for image in json.loads((tmp_path / "out" / "coco.json").read_text())["images"]] == list(GOOD)
    (pictures / "dogs" / "cut.png").write_bytes(whole)
    (pictures / "empty.jpg").unlink()
    assert main(arguments(pictures, tmp_path / "out", tiny_folder)) == 0
    assert json.loads((tmp_path / "out" / "skipped.json").read_text()) == []
    assert np.array_equal(mask(tmp_path / "out", "dogs/cut.png"), mask(tmp_path / "out", "b.png"))


def test_another_setting_or_other_weights_are_refused(task: FolderTask, tmp_path: Path) -> None:
    task.run()
    for other in (
        replace(task, method=DiffSegmenter(threshold=0.4)), replace(task, words="cat"), replace(task, seed=1),
        replace(task, square=True), replace(task, parts=("coco",)), replace(task, attention=True),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must be new or hold the same.*differs in \w+\."):
            other.run()
    path = task.out / "settings.json"
    assert task.models.backbone.fingerprint in path.read_text()
    path.write_text(path.read_text().replace(task.models.backbone.fingerprint, "another"))
    with pytest.raises(ValueError, match=r"holds something else: it differs in weights\."):
        task.run()


def test_folders_that_cannot_be_used_are_refused_in_a_sentence(task: FolderTask, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="must hold pictures"):
        replace(task, folder=tmp_path / "none").run()
    with pytest.raises(ValueError, match="to another folder than that of the pictures"):
        replace(task, out=pictures / ".." / "pictures")
    with pytest.raises(ValueError, match="must be in a folder, but"):
        replace(task, folder=pictures / "b.png")
    with pytest.raises(ValueError, match="draws must be 1 or more"):  # wrong for every picture, so none is skipped for it
        replace(task, method=DiffSegmenter(draws=0), out=tmp_path / "draws").run()
    inside = replace(task, out=pictures / "masks")
    inside.run()
    assert list(replace(inside).run()) == list(GOOD)  # what it wrote itself is no picture of the folder


def test_words_of_captions_become_categories_by_the_alphabet(
    with_clip: Models, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"b.png": "a tree and a car", "cats/a.png": "a cat", "dogs/a.JPG": "", "dogs/a.png": "a dog on a car"}
    shapes = {Image.open(pictures / name).size[::-1]: text for name, text in said.items()}
    monkeypatch.setattr(type(with_clip.captioner()), "caption", lambda self, image: shapes[image.shape[:2]])
    task = FolderTask(with_clip, DiffSegmenter(threshold=0.3), pictures, tmp_path / "out")
    shares = []
    outcomes = task.run(lambda stage, share: shares.append(share))
    assert shares == sorted(shares)
    assert "names nothing" in outcomes["dogs/a.JPG"].reason
    made = json.loads((task.out / "coco.json").read_text())
    assert [(c["id"], c["name"]) for c in made["categories"]] == [(1, "car"), (2, "cat"), (3, "dog"), (4, "tree")]
    names = {c["id"]: c["name"] for c in made["categories"]}
    for number, name in enumerate(("b.png", "cats/a.png", "dogs/a.png"), 1):
        legend = json.loads((task.out / "pictures" / name / "legend.json").read_text())
        seen = [legend[k]["label"] for k in np.unique(mask(task.out, name)) if k]
        assert [names[a["category_id"]] for a in made["annotations"] if a["image_id"] == number] == seen
    card = json.loads((task.out / "pictures" / "b.png" / "run.json").read_text())
    assert card["caption"] == said["b.png"] and card["weights"]["captioner"] == with_clip.captioner().fingerprint


def test_the_captioner_of_a_method_is_among_the_weights_before_it_was_asked(
    with_clip: Models, pictures: Path, tmp_path: Path
) -> None:
    given = {"words": "cat", "caption": "a cat"}
    weights = [
        FolderTask(with_traits(with_clip), method, pictures, tmp_path / "out", **given).settings()["weights"]
        for method in (FASeg(captioned=True), FreeSegDiff())  # which asks nothing where a caption is given
    ]
    assert weights[0]["captioner"] == with_clip.captioner().fingerprint and "captioner" not in weights[1]


def test_absent_classes_are_left_out_of_a_picture(with_clip: Models, pictures: Path, tmp_path: Path) -> None:
    models = with_traits(with_clip, clip_ratio=1.0)  # the best class alone
    task = FolderTask(models, DiffSegmenter(threshold=0.3), pictures, tmp_path / "out", words=WORDS, only_present=True)
    task.run()
    made = json.loads((task.out / "coco.json").read_text())
    assert [c["name"] for c in made["categories"]] == ["cat", "traffic light", "dog"]
    cards = [json.loads((task.out / "pictures" / name / "run.json").read_text()) for name in GOOD]
    assert all(len(card["classes"]) == 1 for card in cards)
    for item in made["annotations"]:
        label = cards[item["image_id"] - 1]["labels"][1]
        assert made["categories"][item["category_id"] - 1]["name"] == label


def test_what_is_wrong_with_one_picture_stops_no_other(task: FolderTask, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = type(task.method.prepare(task.models, task.classes))
    segment = prepared.segment

    def refusing(self: object, scene: Scene, report: Report = silent) -> object:
        if scene.image.shape[0] == 70:
            raise ValueError("The picture must be higher, but is not.")
        return segment(self, scene, report)

    monkeypatch.setattr(prepared, "segment", refusing)
    outcomes = task.run()
    assert outcomes["b.png"] == PictureOutcome(None, "The picture must be higher, but is not.")
    assert [name for name, outcome in outcomes.items() if outcome.coco] == list(GOOD[1:])


def test_merged_files_have_one_numbering() -> None:
    first = coco_file([("a.png", np.array([[0, 1, 2]], np.uint8))], ("background", "cat", "dog"))
    second = coco_file(
        [("b.png", np.array([[1, 2]], np.uint8)), ("c.png", np.array([[2]], np.uint8))], ("background", "dog", "ant")
    )
    made = merged([first, second], ("dog",))
    assert [(c["id"], c["name"]) for c in made["categories"]] == [(1, "dog"), (2, "ant"), (3, "cat")]
    assert [(i["id"], i["file_name"]) for i in made["images"]] == [(1, "a.png"), (2, "b.png"), (3, "c.png")]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in made["annotations"]] == [
        (1, 1, 3), (2, 1, 1), (3, 2, 1), (4, 2, 2), (5, 3, 2),
    ]  # fmt: skip
    assert first["images"][0]["id"] == 1 and first["annotations"][0]["category_id"] == 1  # these stay as they were
