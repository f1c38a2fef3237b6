"""Command lines that cannot be done: each ends with one sentence that says why, exit code 2, and no file half written."""

import json
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.__main__ import main
from ovseg.backbones import BACKBONES
from ovseg.models import Models

VOC_OR_COCO = "must be one of voc-S1, voc-S2, voc-S3, voc-ZS3, coco-65-15, or a JSON file"
# Of each command, the lines and a part of the sentence. Names in braces are files and folders of `places`.
LINES = {
    "segment {picture} --classes cat --out {text}": "must be a folder, but",
    "segment {picture} --classes cat --out /proc/nothing": "must be writable",
    "segment {picture} --classes cat --out /dev/null/x": "must be a folder, but /dev/null is a file",
    "segment {picture} --classes cat --out {long}": "must be writable, but is not: File name too long",
    "segment {picture} --classes cat --out {new} --files nothing": "must be one of masks",
    "segment {picture} --classes cat --out {new} --seed -1": "must be from 0 to",
    "segment {picture} --classes cat --out {new} --seed 99999999999999999999999": "must be from 0 to",
    "segment {picture} --classes cat --out {new} --seed x": "must be a whole number",
    "segment {picture} --classes cat --out {new} --set timesteps=5000": "from 0 to 999",
    "segment {picture} --classes cat --out {new} --set threshold=nan": "threshold must be a number",
    "segment {picture} --classes cat --out {new} --set draws=0": "draws must be from 1 to 16",
    "segment {picture} --classes cat --out {new} --set timesteps=": "at least one noise level",
    "segment {picture} --classes cat --out {new} --dtype int8": "dtype must be one of",
    "segment {picture} --classes cat --out {new} --device tpu": "device must be one that",
    "segment {picture} --classes cat --out {new} --mode best": "must be one of suited, released, but got 'best'",
    "segment {picture} --classes cat --out {new} --method magic": "method must be one of",
    "segment {picture} --classes cat --out {new} --set timesteps": "must be FIELD=VALUE",
    "segment {picture} --classes cat --out {new} --set draws=many": "draws must be a whole number, but got 'many'",
    "segment {picture} --classes cat --out {new} --set colour=1": "must be one of threshold",
    "segment {picture} --classes , --out {new}": "none was given",
    "segment none.png --classes cat --out {new}": "none.png does not exist",
    "segment {picture} --out {new} --captioner magic": "captioner must be one of",
    "segment {text} --classes cat --out {new}": "must be an image file",
    "segment {zero} --classes cat --out {new}": "must be an image file",
    "segment {cut} --classes cat --out {new}": "image file is truncated",
    "segment {text}/p.png --classes cat --out {new}": "Not a directory",
    "segment {long} --classes cat --out {new}": "File name too long",
    "segment {empty} --classes cat --out {new}": "must hold pictures",
    "segment {pictures} --classes cat --out {text}": "must be a folder, but",
    "segment {pictures} --classes cat --out {pictures}": "must go to another folder",
    "segment {pictures} --classes cat --out {bad_settings}": "settings.json must be JSON, but is empty or damaged",
    "segment {pictures} --classes cat --out {empty_settings}": "settings.json must be JSON, but is empty or damaged",
    "segment {pictures} --classes cat --out {list_settings}": "settings.json must hold a JSON dict",
    "segment {pictures} --classes cat --out {folder_settings}": "settings.json must be one that can be read",
    "segment {picture} --classes cat": "required: --out",
    "segment": "required: image, --out",
    "segment {picture} --classes cat --out {new} --backbone {empty}": "no model_index.json",
    "segment {picture} --classes cat --out {new} --backbone {text}": "backbone must be one of",
    "segment {picture} --classes cat --out {new} --backbone nothing/there": "backbone must be one of",
    "compare {picture} --classes cat --out {text}": "must be a folder, but",
    "compare {picture} --classes cat --out {new} --methods magic": "method must be one of",
    "compare {picture} --classes cat --out {new} --methods ''": "At least one method",
    "compare {picture} --classes cat --out {new} --methods diffsegmenter,diffsegmenter": "is there twice",
    "compare {picture} --classes cat --out {new} --methods diffsegmenter:magic=1": "must be one of threshold",
    "compare {picture} --classes cat --out {new} --methods diffsegmenter:threshold": "FIELD=VALUE, but got 'threshold'",
    "compare {picture} --classes cat --out {new} --methods diffsegmenter:mode=magic": "mode of DiffSegmenter must be one of",
    "compare {picture} --classes cat --out {new} --methods 'diffsegmenter:prompt=\"a'": "Quotation marks must come in pairs",
    "compare {picture} --classes cat --out {new} --files magic": "files must be one of masks",
    "compare {picture} --classes cat --out {new} --set threshold=1": "must be METHOD:FIELD=VALUE, but got 'threshold=1'",
    "compare {picture} --classes cat --out {new} --truth {picture}": "its mode is RGB",
    "compare {picture} --classes cat --out {new} --truth {text}": "truth must be",
    "compare {picture} --classes cat --out {new} --truth nothing.png": "nothing.png does not exist",
    "compare {picture} --classes cat --out {new} --truth {mask} --legend nothing.json": "legend must be a file",
    "compare {picture} --classes cat --out {new} --truth {mask} --legend {list}": "legend must be a list such as",
    "compare {picture} --classes cat --out {new} --legend {list}": "--truth must be given too",
    "compare {empty} --classes cat --out {new}": "is a folder",
    'attention {picture} "a cat" --out {text}': "must be a folder, but",
    'attention {picture} "" --out {new}': "it is empty",
    'attention none.png "a cat" --out {new}': "none.png does not exist",
    "attention {picture} {words} --out {new}": "please shorten it",
    'attention {picture} "a cat" --out {new} --noise 5000': "from 0 to 999, but got 5000",
    'attention {picture} "a cat" --out {new} --noise x': "must be a whole number",
    'attention {picture} "a cat" --out {new} --weights 1': "must be 4 numbers",
    'attention {picture} "a cat" --out {new} --weights 0,0,0,0': "one of them more than 0",
    'attention {picture} "a cat" --out {new} --noise 20 --heads 17,1': "a layer from 1 to 16 and a level from 1 to 1",
    'attention {picture} "a cat" --out {new} --most-memory 0.0001': "must take 0.1 MB at most, but would take",
    'attention {picture} "a cat" --out {new} --at 2,2': "within the picture",
    'attention {picture} "a cat" --out {new} --at nan,0': "must be 2 numbers",
    'attention {picture} "a cat" --out {new} --most-memory 0': "must be more than 0",
    'attention {picture} "a cat" --out {new} --self-attention sometimes': "one of every, middle, none",
    'attention {picture} "a cat" --out {new} --steps 3': "must come with --generate",
    'attention "a cat" --out {new}': "there is neither",
    'attention {picture} "a cat" --generate --out {new}': "a picture was given too",
    'attention "a cat" --generate --noise 20 --out {new}': "--noise must not be given",
    'attention "a cat" --generate --steps 0 --out {new}': "1 step or more",
    'attention "a cat" --generate --steps 2000 --out {new}': "1000 at most",
    'attention "a cat" --generate --guidance nan --out {new}': "must be a number",
    'generate "a cat" --out {new}.txt': "must be a picture file",
    'generate "a cat" --out {new}.mpg': "must be a picture file",
    'generate "a cat" --out {text}/g.png': "must be a folder, but",
    'generate "a cat" --out {folder_png}': "is a folder",
    'generate "a cat" --out /proc/g.png': "must be writable",
    'generate "a cat" --out {new}.png --steps -1': "1 step or more",
    'generate "a cat" --out {new}.png --steps 2000': "1000 at most, but got 2000",
    'generate "a cat" --out {new}.png --guidance nan': "must be a number",
    'generate "a cat" --out {new}.png --seed 18446744073709551616': "must be from 0 to",
    'generate "   " --out {new}.png': "it is empty",
    "generate {words} --out {new}.png": "must fit 32 tokens",
    "caption {text}": "must be an image file",
    "caption {empty}": "is a folder",
    "caption {picture} --captioner magic": "captioner must be one of",
    "serve --port 99999": "must be from 0 to 65535",
    "serve --port 0.5": "must be a whole number",
    "serve --port {taken}": "Cannot find empty port",
    "space-check {text}": "must be one with the files of a Space",
    "methods magic": "method must be one of",
    "methods --backbone magic": "backbone must be one of",
    "prototypes build": "Classes must be named",
    "prototypes ship": "A folder must be given",
    "prototypes build cat --images 0": "must be 1 or more",
    "prototypes build cat --mode magic": "must be one of suited",
    "prototypes drop": "invalid choice",
    "grounding import": "needs the checkpoint's file",
    "grounding import nothing.pth": "must be a file",
    "grounding import {text}": "must be a file of tensors",
    "grounding import {text} --name ../x": "without a path",
    "grounding list --backbone magic": "backbone must be one of",
    'generate "a cat" --backbone pocket,pocket-sd3 --out {new}.png': "takes one backbone, but got 2: pocket,pocket-sd3",
    "doctor --small": "must come with --random",
    "doctor --device magic": "device must be one that",
    "lavis remove": "invalid choice",
    "evaluate --count 0 --out {new}": "must be 1 or more",
    "evaluate --count 1 --out {text}": "must be a folder, but",
    "evaluate --count 1 --out {bad_settings}": "settings.json must be JSON",
    "evaluate --count 1 --workers 0 --out {new}": "must be 1 or more",
    "evaluate --count 1 --dataset magic --out {new}": "data set must be one of",
    "evaluate --count 1 --data {empty} --out {new}": "must hold other sprites and their atlas.json",
    "evaluate --count 1 --split val --out {new}": "has its split in its name",
    "evaluate --count 1 --dataset voc-21 --out {new}": "needs the folder",
    "evaluate --count 1 --dataset voc-21 --data nothing --out {new}": "nothing",
    "evaluate --count 1 --labels magic --out {new}": "label source must be one of",
    "evaluate --count 1 --protocol magic --out {new}": "protocol must be one of",
    "evaluate --count 1 --threshold-from {empty} --out {new}": "there is no empty/table.json",
    "evaluate --count 1 --threshold-from {bad_table} --out {new}": "table.json must be JSON",
    "evaluate --count 1 --method magic --out {new}": "method must be one of",
    "ablate --count 0 --out {new}": "must be 1 or more",
    "ablate --only nothinglikethis --out {new}": "rows must be some of",
    "ablate --count 1 --out {text}": "must be a folder, but",
    "results --count 0 --out {new} --to {new}": "must be 1 or more",
    "results --only nothinglikethis --out {new} --to {new}": "runs must be some of",
    "results --out {new} --to {text}": "must be a folder, but",
    "timings --runs -1": "must be 1 or more",
    "timings --classes 2": "--classes must come with --full-size or --growth",
    "timings --small": "--small must come with --full-size",
    "timings --growth --classes 2,x": "Numbers must be 1 or more",
    "timings --full-size --backbone pocket": "must come with --backbone sd15 or sd21, but got pocket",
    "timings --methods magic": "method must be one of",
    "pocket-report --per-thing 0 --out {new}": "must be 1 or more",
    "pocket-report --out {text}": "must be a folder, but",
    "scenes --size 0 --out {new}": "must be from 16 to 4096",
    "scenes --size 100000 --out {new}": "must be from 16 to 4096",
    "scenes --count 0 --out {new}": "must be 1 or more",
    "scenes --start -1 --out {new}": "must be from 0 to",
    "scenes --split magic --out {new}": "split must be one of",
    "scenes --count 1 --out {text}": "must be a folder, but",
    "scenes --examples --out {text}": "must be a folder, but",
    "train magic": "one of codec, denoiser, clip, judge, captioner, dino, segmenter, transformer, detector, grounding, ",
    "train codec --out {text}": "must be a folder, but",
    "train codec --minutes 0 --out {new}": "must be more than 0",
    "train codec --scenes 0 --out {new}": "must be 1 or more",
    "train codec --piece 0 --out {new}": "must be more than 0",
    "train codec --start x --out {new}": "--start is for denoiser, clip, transformer or all, but the network is codec",
    "train denoiser --out {new}": "run `train codec` first",
    "train bundle --out {new} --to {new}": "run `train denoiser` first",
    "train grounding --out {new}": "needs --triplets",
    "train grounding --triplets {empty} --split S1 --out {new}": "no index.parquet",
    "train grounding --triplets {bad_set} --split S1 --out {new}": "settings.json must be JSON",
    "train grounding --triplets {bad_index} --split S1 --out {new}": "index of the triplets in",
    "train detector --split magic --out {new}": "split must be",
    "train all --minutes 20 --out {new}": "with `all` and a network's name, but got '20'",
    "train all --minutes cat=20 --out {new}": "with `all` and a network's name, but got 'cat=20'",
    "train all --minutes clip=soon --out {new}": "must be a number, but got 'soon'",
    "train clip --anew --out {new}": "--anew is for all, but the network is clip",
    "train all --split voc-S1 --out {new}": "must be one of S1, S2, S3, ZS3, but got 'voc-S1'",
    "train bundle --out {new} --to {text}": "must be a folder, but",
    "triplets --count 0 --out {new}": "must be 1 or more",
    "triplets --classes cat --split S1 --out {new}": "give one of them",
    "triplets --detector x --out {new}": "must be named by --split or --classes",
    "triplets --backbone sd15 --detector x --split S1 --out {new}": VOC_OR_COCO,
    "synthesize --backbone sd15 --split S1 --out {new}": VOC_OR_COCO,
    "grounded-generation --backbone sd15 --judge x --split S1 --out {new}": VOC_OR_COCO,
    "triplets --count 1 --classes cat,dog --detector nothing/there --out {new}": "nothing/there",
    "triplets --count 1 --classes cat,dog --detector {empty} --out {new}": "empty",
    "triplets --count 1 --classes unicorn --detector {detector} --out {new}": "that the detector finds",
    "triplets --count 1 --classes cat,dog --detector {detector} --pairs 2 --out {new}": "from 0 to 1",
    "triplets --count 1 --classes cat,dog --detector {detector} --seed -1 --out {new}": "from 0 to",
    "triplets --count 1 --classes cat,dog --detector {detector} --timestep 5000 --steps 1 --out {new}": "from 0 to 999",
    "triplets --count 1 --classes cat,dog --detector {detector} --steps 0 --out {new}": "1 step or more",
    "triplets --count 1 --classes cat,dog --detector {detector} --mode magic --out {new}": "must be one of suited",
    "triplets --count 1 --classes cat,dog --detector {detector} --out {text}": "must be a folder, but",
    "triplets --count 1 --classes cat,dog --detector {detector} --out {bad_settings}": "settings.json must be JSON",
    "synthesize --count 0 --classes cat,dog --out {new}": "1 picture or more",
    "synthesize --count 1 --classes cat,dog --threshold 2 --out {new}": "from 0 to 1",
    "synthesize --count 1 --classes cat,dog --split magic --out {new}": "split must be",
    "synthesize --count 1 --classes cat,dog --module magic --out {new}": "module",
    "synthesize --count 1 --classes cat,dog --out {text}": "must be a folder, but",
    "synthesize --count 1 --classes cat,dog --steps 1 --out {bad_settings}": "settings.json must be JSON",
    "grounded-generation --count 0 --split {split} --judge {detector} --out {new}": "1 picture or more",
    "grounded-generation --count 1 --judge {empty} --out {new}": "{empty}",
    "grounded-generation --split magic --judge {detector} --out {new}": "split must be",
    "grounded-generation --count 1 --judge {detector} --out {text}": "must be a folder, but",
    "zero-shot --data {bad_set} --out {new}": "run `synthesize` first",
    "zero-shot --split magic --data {empty} --out {new}": "split must be",
    "zero-shot --minutes 0 --data {empty} --out {new}": "must be more than 0",
    "zero-shot --count 0 --data {empty} --out {new}": "must be 1 or more",
    "zero-shot --data {empty} --out {text}": "must be a folder, but",
    "magic": "invalid choice",
    "": "required: COMMAND",
}
WITHOUT_NETWORKS = ("scenes", "train", "lavis", "space-check", "zero-shot", "grounding", "doctor", "magic")


@pytest.fixture(scope="module")
def places(with_clip: Models, detector_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A folder of what a command line may name, which is the current one meanwhile, and "tiny" for the networks."""
    root = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch, socket.socket() as taken:
        patch.setitem(BACKBONES, "tiny", with_clip.checkpoint)
        patch.chdir(root)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield {
            **_pictures(), **_folders(), "detector": str(detector_folder), "taken": str(taken.getsockname()[1]),
            "long": "x" * 300, "words": "'" + "cat " * 100 + "'",
        }  # fmt: skip


def _pictures() -> dict[str, str]:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save("picture.png")
    Image.fromarray(np.zeros((60, 90), np.uint8)).save("mask.png")
    Path("cut.png").write_bytes(Path("picture.png").read_bytes()[:200])
    Path("zero.png").touch()
    Path("folder.png").mkdir()
    return {name: f"{name}.png" for name in ("picture", "mask", "cut", "zero")} | {"folder_png": "folder.png"}


def _folders() -> dict[str, str]:
    Path("text.txt").write_text("no picture")
    Path("list.json").write_text("[1, 2]")
    Path("split.json").write_text(json.dumps({"seen": ["cat", "dog"], "unseen": ["car", "bus"]}))
    for name, file, text in (
        ("empty", "", ""), ("pictures", "", ""), ("bad_settings", "settings.json", "{oops"),
        ("empty_settings", "settings.json", ""), ("list_settings", "settings.json", "[]"),
        ("folder_settings", "settings.json/x", ""), ("bad_table", "table.json", "{"),
        ("bad_set", "settings.json", "{"), ("bad_set", "index.parquet", ""),
        ("bad_index", "settings.json", "{}"), ("bad_index", "index.parquet", "no index"),
    ):  # fmt: skip
        path = Path(name) / file
        (path.parent if file else path).mkdir(parents=True, exist_ok=True)
        if file:
            path.write_text(text)
    Path("pictures/a.png").write_bytes(Path("picture.png").read_bytes())
    made = {path.name: path.name for path in Path.cwd().iterdir() if path.is_dir()}
    return made | {"text": "text.txt", "list": "list.json", "split": "split.json"}


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_cannot_be_done_ends_with_one_sentence(
    line: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    filled = places | {"new": str(tmp_path / "new")}
    words = shlex.split(line.format(**filled))
    if words and words[0] not in WITHOUT_NETWORKS:
        words += [] if "--backbone" in words else ["--backbone", "tiny"]
        words += [] if "--device" in words else ["--device", "cpu"]
    try:
        code = main(words)
    except SystemExit as ended:  # argparse, which prints how the command is called before the sentence
        code = ended.code
    assert code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert LINES[line].format(**filled) in said and "ovseg" in said and len(said) < 1000
    assert not list(Path.cwd().rglob("*.partial")) and not list(tmp_path.rglob("*.p*g"))
