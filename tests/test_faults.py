"""Kinds of faults that people have met in tools of this field, each with the right answer wherever it comes up."""

import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image, PngImagePlugin
from pycocotools.coco import COCO
from safetensors.torch import load_file, save_file

from ovseg import __main__
from ovseg.__main__ import main
from ovseg.assets import ASSETS, homes_of_this_user
from ovseg.backbones.loading import pipeline_folder
from ovseg.backbones.stable_diffusion import StableDiffusion, StableDiffusionPipeline
from ovseg.commands.serve import PROXIES, check_host, prepare_environment
from ovseg.compare import read_legend
from ovseg.demo.picture import of_file
from ovseg.demo.static_files import static
from ovseg.doors import inputs
from ovseg.evaluation.datasets import find_dataset
from ovseg.files import LIST, LOCK, read_text
from ovseg.limits import visible
from ovseg.methods.ovdiff.matching import count_boxes, working_hw
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.models import Models
from ovseg.output.folder import FolderTask
from ovseg.pictures import TURNS, decode_image, looks_like_picture, read_image
from ovseg.pretrained.captioner import Captioner
from ovseg.pretrained.clip import Clip
from ovseg.pretrained.detector import load_detector
from ovseg.pretrained.dino import Dino
from ovseg.pretrained.grounding import Grounding
from ovseg.scene import from_prompt
from ovseg.words.classes import COMMAS, parse_classes
from ovseg.words.notes import notes_on
from tests.attack.requests import saved

ROOT = Path(__file__).resolve().parents[1]
FAULTS = Path(__file__).resolve().parent / "faults"
COLOURS = np.random.default_rng(3).integers(0, 4096, (9, 14, 3), dtype=np.uint16)  # 12 bits in 16
READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "command": read_image,
    "page": lambda path: of_file(path).image,
    "door": lambda path: inputs.picture(path.read_bytes(), 1024),
}


def png(image: np.ndarray) -> bytes:
    return saved(Image.fromarray(image), "PNG")


def with_part(content: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more part behind its header."""
    part = len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
    return content[:33] + part + content[33:]


def encoded(values: np.ndarray, ending: str) -> bytes:
    order = [2, 1, 0, 3][: values.shape[2]] if values.ndim == 3 else ...
    return cv2.imencode(ending, values[..., order] if values.ndim == 3 else values)[1].tobytes()


def floats(*of: float) -> bytes:
    """Twenty numbers from 1 to 100, and these before them, as a TIFF of 32-bit floats."""
    values = np.array([*of, *np.linspace(1, 100, 24 - len(of))], np.float32).reshape(4, 6)
    return saved(Image.fromarray(values), "TIFF")


def tiff(values: np.ndarray, *, apart: bool = False, others: int = 0) -> bytes:
    """A TIFF of 16 bits; each colour may have a plane of its own, and the last bands be of no colour, as infrared."""
    height, width, bands = values.shape
    strips = [values[..., k] for k in range(bands)] if apart else [values]
    tags = {256: (3, [width]), 257: (3, [height]), 258: (3, [16] * bands), 259: (3, [1]), 262: (3, [2])}
    tags |= {273: (4, [200 + k * strips[0].nbytes for k in range(len(strips))]), 277: (3, [bands]), 278: (3, [height])}
    tags |= {279: (4, [strips[0].nbytes] * len(strips)), 284: (3, [1 + apart])} | (
        {338: (3, [0] * others)} if others else {}
    )
    far, table, place = b"", struct.pack("<2sHIH", b"II", 42, 8, len(tags)), 14 + 12 * len(tags)
    for tag, (kind, numbers) in tags.items():
        held = struct.pack(f"<{len(numbers)}{'HI'[kind - 3]}", *numbers)
        table += struct.pack("<HHI", tag, kind, len(numbers))
        table += held.ljust(4, b"\0") if len(held) <= 4 else struct.pack("<I", place + len(far))
        far += held if len(held) > 4 else b""
    return (table + bytes(4) + far).ljust(200, b"\0") + b"".join(strip.astype("<u2").tobytes() for strip in strips)


PLAIN = np.random.default_rng(4).integers(0, 256, (8, 12, 3), dtype=np.uint8)
LONG = b"x" * 1_300_000
PROFILE = b"p\0\0" + zlib.compress(LONG)
SCALED = COLOURS / COLOURS.max() * 255
OF_FLOATS = np.linspace(1, 100, 24).reshape(4, 6) / 100 * 255
PICTURES = {  # the file and its pixels
    "packed text": (with_part(png(PLAIN), b"zTXt", b"a\0\0" + zlib.compress(LONG)), PLAIN),
    "packed text in Unicode": (with_part(png(PLAIN), b"iTXt", b"a\0\1\0\0\0" + zlib.compress(LONG)), PLAIN),
    "plain text": (with_part(png(PLAIN), b"tEXt", b"a\0" + LONG), PLAIN),
    "colour profile": (with_part(png(PLAIN), b"iCCP", PROFILE), PLAIN),
    "damaged profile": (with_part(png(PLAIN), b"iCCP", b"p\0\0nothing"), PLAIN),
    "damaged parts": (with_part(with_part(png(PLAIN), b"pHYs", b"\0"), b"acTL", b"\0"), PLAIN),
    "part with a wrong checksum": (with_part(png(PLAIN), b"gAMA", b"\0\0\xb1\x8f").replace(b"\xb1\x8f", b"\xb1\x8e"), PLAIN),
    "16-bit PNG": (encoded(COLOURS, ".png"), SCALED),
    "16-bit TIFF": (encoded(COLOURS, ".tif"), SCALED),
    "16-bit TIFF of four bands": (tiff(np.dstack([COLOURS, 0 * COLOURS[..., :1]]), others=1), SCALED),
    "16-bit PPM": (encoded(COLOURS, ".ppm"), SCALED),
    "16-bit grey PNG": (encoded(COLOURS[..., 0], ".png"), COLOURS[..., :1] / COLOURS[..., 0].max() * 255),
    "16-bit and clear": (encoded(np.dstack([COLOURS, 0 * COLOURS[..., :1]]), ".png"), np.full(COLOURS.shape, 255)),
    "16-bit and opaque": (encoded(np.dstack([COLOURS, 0 * COLOURS[..., :1] + 65535]), ".png"), SCALED),
    "no number": (floats(np.nan), np.where(np.arange(24).reshape(4, 6) == 0, 0, np.nan)),
    "infinite": (floats(np.inf, -np.inf), None),
    "nothing is high": (floats(3.4e38), None),
    "nothing is low": (floats(-9999), None),
    "nothing is lowest": (floats(-3.4e38), None),
    "nothing is both": (floats(-32768, 1e20), None),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_every_kind_are_read(kind: str, reader: str, tmp_path: Path) -> None:
    content, pixels = PICTURES[kind]
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    read = READERS[reader](path).astype(float)
    if pixels is None or np.isnan(pixels).any():  # what is known is as bright as without the values that stand for nothing
        known = np.unique(read)
        assert known[-1] == 255 and len(known) > 20 and known[1] < 40
    else:
        assert np.abs(read - pixels).max() <= 1


def test_numbers_below_zero_are_spread_and_none_at_all_is_a_sentence() -> None:
    below = np.linspace(-251, -170, 24, dtype=np.float32).reshape(4, 6)
    read = decode_image(saved(Image.fromarray(below), "TIFF"), "it")
    assert (read.min(), read.max()) == (0, 255) and len(np.unique(read)) == 24
    with pytest.raises(ValueError, match="none of its pixels holds a number"):
        decode_image(saved(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"), "it")


def test_planes_of_16_bits_are_a_sentence() -> None:
    with pytest.raises(ValueError, match="must have its colours pixel by pixel, but this one has a plane for each"):
        decode_image(tiff(COLOURS, apart=True), "it")


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_every_orientation_is_turned_upright(number: int, deep: bool) -> None:
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([number, 0, 0, 0]) + bytes(4)
    content = with_part(encoded(COLOURS, ".png") if deep else png(PLAIN), b"eXIf", exif)
    stored = decode_image(content, "it", as_stored=True)
    turned = Image.fromarray(stored).transpose(TURNS[number]) if number > 1 else stored
    assert np.array_equal(decode_image(content, "it"), np.asarray(turned))


@pytest.mark.parametrize("reader", READERS)
def test_damaged_exif_turns_what_it_can(reader: str, tmp_path: Path) -> None:
    assert READERS[reader](FAULTS / "exif_bad_rational.jpg").shape == (96, 64, 3)
    path = tmp_path / "p.png"
    path.write_bytes(with_part(png(PLAIN), b"eXIf", b"II*\0\xff\xff\xff\xffnothing"))
    assert np.array_equal(READERS[reader](path), PLAIN)
    for order, kind, turn in (("<", "H", 3), (">", "I", 4), ("<", "B", 1)):  # a tag of a million letters, none of them there
        letters = struct.pack(f"{order}HHII", 0x10F, 2, 10**6, 99_999)
        last = struct.pack(f"{order}HHI{kind}", 0x112, turn, 1, 6).ljust(12, b"\0")
        begin = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, 2)
        path.write_bytes(with_part(png(PLAIN), b"eXIf", begin + letters + last + bytes(4)))
        assert np.array_equal(READERS[reader](path), np.rot90(PLAIN, -1))


def test_too_many_pixels_are_two_numbers_that_differ(tmp_path: Path) -> None:
    for width, height in ((8192, 6144), (50_000_001, 1), (7071, 7072)):
        path = tmp_path / "large.png"
        path.write_bytes(png(np.zeros((1, 1), np.uint8))[:16] + width.to_bytes(4) + height.to_bytes(4) + b"\x01\0\0\0\0xxxx")
        head = path.read_bytes()[:29]
        path.write_bytes(head + zlib.crc32(head[12:29]).to_bytes(4) + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4))
        with pytest.raises(ValueError, match=r"50 megapixels at most, but has 50\.\d*[1-9].*OVSEG_MAX_PIXELS"):
            read_image(path)


LETTERS = {  # what is typed, and the names of the classes
    "ca\u200bt, car": ["cat", "car"], "\ufeffcat, car": ["cat", "car"], "cat\u00ad, car": ["cat", "car"],
    "\u200b, cat": ["cat"], "cat\0, car": ["cat", "car"], "c\u2060a\u200et": ["cat"], "ca\u034ft\u3164": ["cat"],
    "a\u1363b\u1802c\ua60dd\ufe11e": ["a", "b", "c", "d", "e"], "cat\ufffc\U000e0001\ufdd0\u2065\ufff0": ["cat"],
    "\u06af\u0647\u200c, \u0645\u06cc\u200c": ["\u06af\u0647", "\u0645\u06cc"], "\u1100\u200b\u1161": ["\uac00"],
    "cafe\u0301": ["caf\u00e9"], "cafe\u200b\u0301": ["caf\u00e9"], "cat\ufe0f": ["cat"], "cat\U000e0041": ["cat"],
    "\u732b\uff0c\u6c7d\u8f66": ["\u732b", "\u6c7d\u8f66"], "\u732b\u3001\u6c7d\u8f66": ["\u732b", "\u6c7d\u8f66"],
    "\u0642\u0637\u0629\u060c \u0633": ["\u0642\u0637\u0629", "\u0633"], "\u732b\uff5c\u72d7": ["\u732b"],
    "cat\r\ncar\u2028dog": ["cat", "car", "dog"], "traffic\u00a0light": ["traffic light"],
    "\U0001f468\u200d\U0001f469\u200d\U0001f467": ["\U0001f468\u200d\U0001f469\u200d\U0001f467"],
    "\u2764\ufe0f\u200d\U0001f525": ["\u2764\ufe0f\u200d\U0001f525"],
    "\u0645\u06cc\u200c\u062e": ["\u0645\u06cc\u200c\u062e"],
}  # fmt: skip


@pytest.mark.parametrize("typed", LETTERS)
def test_words_are_what_can_be_seen_of_them(typed: str) -> None:
    assert [word.name for word in parse_classes(typed)] == LETTERS[typed]
    assert [word.name for word in parse_classes(inputs.classes(typed))] == LETTERS[typed]


def test_the_page_parts_classes_as_the_package_does() -> None:
    marks = re.search(r"split\(/\[(.*)\]/\)", static("chips.js"))[1].replace(r"\v", r"\u000b")
    assert json.loads(f'"{marks}"') == COMMAS


def test_what_looks_alike_is_the_same_word_everywhere(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is there twice"):
        parse_classes("caf\u00e9, cafe\u0301")
    assert inputs.text("The caption", "a c\u200bat") == "a cat" == visible("a c\u200bat\u200b")
    with pytest.raises(ValueError, match="it is empty"):
        from_prompt(models, "\u200b \ufeff")
    (tmp_path / "l.json").write_text('[{"index": 1, "label": "cafe\u0301\u200b"}]', encoding="utf-8")
    assert read_legend(tmp_path / "l.json") == {1: "caf\u00e9"}


def test_marks_and_unknown_words_are_noted() -> None:
    row = Models("pocket", device="cpu").checkpoint
    for typed in ("cat; car", "cat . car .", "cat\uff1bcar", "cat / car", "cat - car", "a\u061bb", "cat \u2022 car"):
        assert "commas part classes" in notes_on(row, parse_classes(typed))[0]
    assert notes_on(row, parse_classes("kitten|cat, Car, brick wall")) == []
    assert notes_on(row, parse_classes("cat, zzyzx")) == ["The pocket world does not know 'zzyzx'."]
    assert notes_on(Models("sd15", device="cpu").checkpoint, parse_classes("zzyzx, St. Bernard")) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_text_is_read_in_its_own_encoding(encoding: str, tmp_path: Path) -> None:
    path, text = tmp_path / "legend.json", (FAULTS / "cafe_legend.json").read_text(encoding="utf-8")
    path.write_bytes(("\ufeff" if encoding == "utf-16-be" else "").encode("utf-16-be") + text.encode(encoding))
    assert read_legend(path)[1] == "caf\u00e9"
    folder = tmp_path / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    listed = folder / "ImageSets" / "Segmentation" / "val.txt"
    listed.write_bytes(("\ufeff" if encoding == "utf-16-be" else "").encode("utf-16-be") + "one\n".encode(encoding))
    assert find_dataset("voc-21", folder).samples == ("one",)


def test_the_locale_decides_no_encoding(tmp_path: Path) -> None:
    code = f"from ovseg.files import read_text; assert 'caf\\xe9' in read_text({str(FAULTS / 'cafe_legend.json')!r})"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ | plain)
    assert '"PLW1514"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("per-file-ignores")[0]
    (tmp_path / "latin").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ValueError, match="must be one of text in UTF-8, but is not"):
        read_text(tmp_path / "latin")


def test_a_data_set_with_hidden_files_and_turned_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "ADE"
    for part in ("images", "annotations"):
        (folder / part / "validation").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:2] = 200
    Image.fromarray(picture).save(folder / "images" / "validation" / "one.jpg", exif=exif, quality=100)
    Image.fromarray(np.repeat([[1], [0]], 2, 0).astype(np.uint8).repeat(6, 1)).save(
        folder / "annotations" / "validation" / "one.png"
    )
    (folder / "annotations" / "validation" / "._one.png").write_bytes(b"\0\5\x16\7")
    dataset = find_dataset("ade20k", folder)
    assert dataset.samples == ("one",)
    with pytest.warns(UserWarning, match="not turned as its EXIF asks"):
        sample = dataset.sample(0)
    assert sample.image[0, 0, 0] > 150 and sample.labels[0, 0] == 1
    with pytest.raises(ValueError, match=r"voc-21 must be in the folder that is given, but .*none is no folder"):
        find_dataset("voc-21", tmp_path / "none")


def linked(source: Path, to: Path) -> Path:
    """A copy of a folder whose files may be deleted, without copying what they hold."""
    return Path(shutil.copytree(source, to, copy_function=os.symlink))


def networks(request: pytest.FixtureRequest) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """The folder of each network of random weights, and what loads it."""
    folder = request.getfixturevalue
    return {
        "backbone": (folder("tiny_folder"), lambda path: Models(str(path), device="cpu").backbone),
        "clip": (folder("clip_folder"), lambda path: Clip(f"local-dir:{path}")),
        "captioner": (folder("captioner_folder"), lambda path: Captioner(str(path))),
        "dino": (folder("dino_folder"), lambda path: Dino(str(path))),
        "grounding": (folder("grounding_folder") / "S1", Grounding),
        "detector": (folder("detector_folder"), lambda path: load_detector(str(path))),
    }


NAMES = ("backbone", "clip", "captioner", "dino", "grounding", "detector")
OPTIONAL = {"generation_config.json"}  # published captioners have none


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_one_of_its_files_is_refused(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source, load = networks(request)[name]
    for number, path in enumerate(sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())):
        folder = linked(source, tmp_path / str(number))
        (folder / path).unlink()
        if path.name in OPTIONAL:
            continue
        with pytest.raises(ValueError) as caught:
            load(folder)
        assert "\n" not in str(caught.value), path


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_one_of_its_tensors_is_refused(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source, load = networks(request)[name]
    for number, path in enumerate(sorted(path.relative_to(source) for path in source.rglob("*.safetensors"))):
        folder = linked(source, tmp_path / str(number))
        tensors = load_file(folder / path)
        lost = sorted(key for key in tensors if key.endswith("weight"))[len(tensors) // 4]
        (folder / path).unlink()
        save_file({key: value for key, value in tensors.items() if key != lost}, folder / path, {"format": "pt"})
        with pytest.raises(ValueError, match=r"must be whole, but 1 tensors? |loading it failed: .*issing"):
            load(folder)


def test_a_tokenizer_is_whole_in_each_of_its_formats(tiny_folder: Path, tmp_path: Path) -> None:
    files = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")
    for missing in files:
        folder = linked(tiny_folder, tmp_path / missing)
        (folder / "tokenizer" / "tokenizer.json").unlink()
        for name in {*files} - {missing, "tokenizer_config.json"}:
            (folder / "tokenizer" / name).write_text("{}")
        if missing == "tokenizer_config.json":
            (folder / "tokenizer" / missing).unlink()
        with pytest.raises(ValueError, match=f"tokenizer must be whole, but {missing} is not there"):
            pipeline_folder(StableDiffusionPipeline, str(folder), None, {})


def changed(folder: Path, part: str, **values: object) -> None:
    path = folder / part
    content = json.loads(path.read_text(encoding="utf-8")) | values
    path.unlink()
    path.write_text(json.dumps(content))


KINDS = {
    "inpainting": ("unet/config.json", {"in_channels": 9}, "takes 9 channels where the codec gives 4"),
    "editing": ("unet/config.json", {"in_channels": 8}, "takes 8 channels"),
    "XL": ("unet/config.json", {"addition_embed_type": "text_time"}, "is told more than words"),
    "upscaling": ("unet/config.json", {"in_channels": 7, "num_class_embeds": 1000}, "num_class_embeds"),
    "other words": ("unet/config.json", {"cross_attention_dim": 32}, "reads words of 32 numbers"),
    "flow": ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow matching or EDM"),
    "EDM": ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "flow matching or EDM"),
    "flow by sigmas": ("scheduler/scheduler_config.json", {"use_flow_sigmas": True}, "flow matching or EDM"),
    "samples": ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts sample"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_checkpoint_is_named(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = linked(tiny_folder, tmp_path / "checkpoint")
    file, values, sentence = KINDS[kind]
    changed(folder, file, **values)
    with pytest.raises(ValueError, match=f"must be a Stable Diffusion 1.x or 2.x .*{sentence}"):
        StableDiffusion.check(*pipeline_folder(StableDiffusionPipeline, str(folder), None, {}))


def without(folder: Path, part: str, *names: str) -> None:
    path = folder / part
    content = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    path.write_text(json.dumps({name: value for name, value in content.items() if name not in names}))


def too_high(folder: Path) -> None:
    content = json.loads((folder / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    words = {word: number + 10**6 for word, number in content["model"]["vocab"].items()}
    changed(folder, "tokenizer/tokenizer.json", model=content["model"] | {"vocab": words})


SCHEDULER = "scheduler/scheduler_config.json"
UNSAID: dict[str, tuple[Callable[[Path], None], str]] = {
    "noise": (lambda folder: without(folder, SCHEDULER, "beta_schedule"), "its scheduler does not say its beta_schedule"),
    "steps": (lambda folder: changed(folder, "model_index.json", scheduler=["diffusers", "KarrasVeScheduler"]),
              "must add noise step by step .*KarrasVe"),
    "padding": (lambda folder: without(folder, "tokenizer/tokenizer_config.json", "pad_token"), "have no pad_token"),
    "tokens": (too_high, "must number its tokens below"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSAID)
def test_what_a_library_would_guess_or_stumble_over_is_named(what: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = linked(tiny_folder, tmp_path / "checkpoint")
    change, sentence = UNSAID[what]
    change(folder)
    with pytest.raises(ValueError, match=sentence):
        _ = Models(str(folder), device="cpu").backbone


def test_a_pipeline_of_another_class_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    for kind in ("KandinskyPipeline", "StableDiffusionInpaintPipeline", "FluxPipeline"):
        folder = linked(tiny_folder, tmp_path / kind)
        changed(folder, "model_index.json", _class_name=kind)
        with pytest.raises(ValueError, match=f"must be one of StableDiffusionPipeline, .* but got '{kind}'"):
            _ = Models(str(folder), device="cpu").backbone


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save("p.png")
    return tmp_path


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {LIST}


COMPARE = "compare p.png --classes cat --methods diffsegmenter"
RERUNS = {  # of each command a run that leaves more behind than the next one
    "segment p.png --classes cat,dog --files all --attention": "segment p.png --classes bird",
    f"{COMPARE},diffsegmenter:draws=2": COMPARE,
    'attention p.png "a cat" --noise 100 --at 0.5,0.5': 'attention p.png "cat" --noise 100',
    "scenes --count 2": "scenes --count 1",
}  # fmt: skip


@pytest.mark.parametrize("first", RERUNS)
def test_nothing_of_an_earlier_run_stays_but_what_is_not_ours(first: str, here: Path, tiny_folder: Path) -> None:
    def run(line: str, out: str) -> None:
        network = [] if line.startswith("scenes") else ["--backbone", str(tiny_folder), "--device", "cpu"]
        assert main([*shlex.split(line), "--out", out, *network]) == 0

    run(first, "out")
    (here / "out" / "mine.txt").write_text("mine")
    run(RERUNS[first], "out")
    run(RERUNS[first], "fresh")
    assert names_in(here / "out") == names_in(here / "fresh") | {"mine.txt"}
    assert not [path for path in (here / "out").rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_a_folder_is_one_runs_alone(here: Path, tiny_folder: Path, capsys: pytest.CaptureFixture) -> None:
    rest = ["--classes", "cat", "--backbone", str(tiny_folder), "--device", "cpu"]
    (here / "out").mkdir()
    (here / "pictures").mkdir()
    shutil.copy("p.png", "pictures")
    with FileLock(here / "out" / LOCK):
        for command in (["segment", "p.png"], ["segment", "pictures"]):
            assert main([*command, *rest, "--out", "out"]) == 2
            assert "must be one run's alone, but another one writes to it" in capsys.readouterr().err
    assert main(["segment", "pictures", *rest, "--out", "out"]) == 0
    assert main(["segment", "p.png", *rest, "--out", "out"]) == 2
    assert "holds a run that can go on" in capsys.readouterr().err
    assert main(["segment", "p.png", *rest, "--out", "other"]) == 0
    assert main(["segment", "pictures", *rest, "--out", "other"]) == 2
    assert "holds the files of another run" in capsys.readouterr().err
    (here / "pictures" / "p.png").rename(here / "pictures" / "q.png")
    assert main(["segment", "pictures", *rest, "--out", "out"]) == 0
    assert not (here / "out" / "pictures" / "p.png").exists()
    COCO(here / "out" / "coco.json").loadRes([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0}])


def test_every_picture_of_a_folder_is_read_or_named(here: Path, tiny_folder: Path, capsys: pytest.CaptureFixture) -> None:
    home = here / "pictures"
    (here / "elsewhere").mkdir()
    home.mkdir()
    image = Image.open("p.png").convert("RGB")
    for name, kind in {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.avif": "AVIF", "d.jp2": "JPEG2000", "e": "PNG"}.items():
        image.save(home / name, kind)
    image.save(here / "elsewhere" / "f.png")
    (home / "linked").symlink_to(here / "elsewhere", target_is_directory=True)
    (here / "elsewhere" / "round").symlink_to(here / "elsewhere", target_is_directory=True)
    image.save(os.fsencode(home) + b"/g\xff.png")
    (home / "h.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (home / "notes.txt").write_text("no picture")
    os.mkfifo(home / "pipe.png")
    assert looks_like_picture(home / "e") and not looks_like_picture(home / "notes.txt")
    rest = ["--classes", "cat", "--backbone", str(tiny_folder), "--device", "cpu", "--out", "out"]
    assert main(["segment", "pictures", *rest]) == 3
    said = capsys.readouterr()
    assert "7 of 8 pictures segmented" in said.out
    assert "left out 2 files that are no pictures: 1 .png, 1 .txt" in said.err
    assert "skipped h.heic: The picture must be" in said.err
    coco = json.loads((here / "out" / "coco.json").read_text(encoding="utf-8"))
    assert {os.fsencode(item["file_name"]) for item in coco["images"]} >= {b"linked/f.png", b"g\xff.png", b"e"}
    assert coco["info"]["description"]


def test_narrow_pictures_take_no_longer_than_others() -> None:
    for settings in (OVDiff(), OVDiff(short_side=128, windows=())):
        for hw in ((300, 1), (1, 300), (4000, 3)):
            assert max(working_hw(settings, hw)) <= 16 * settings.short_side
            assert count_boxes(settings, working_hw(settings, hw)) <= count_boxes(settings, working_hw(settings, (320, 20)))
    assert working_hw(OVDiff(short_side=100), (20, 60)) == (100, 300)
    assert working_hw(OVDiff(short_side=0), (300, 1)) == (300, 1)


def test_a_terminal_that_cannot_show_a_character_is_no_reason_to_stop(
    here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoding in ("ascii", "cp932", "iso-8859-1"):
        shown = BytesIO()
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(shown, encoding, write_through=True))
        line = ["segment", "p.png", "--classes", "caf\u00e9, \U0001f408", "--backbone", str(tiny_folder), "--device", "cpu"]
        assert main([*line, "--out", "out"]) == 0
        assert b"caf" in shown.getvalue() and b"wrote" in shown.getvalue()


def test_what_stops_before_the_work_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def raising(error: BaseException) -> Callable[..., None]:
        def parser(*_: object) -> None:
            raise error

        return parser

    for error, code, sentence in (
        (KeyboardInterrupt(), 130, "ovseg: stopped"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "the package torch must be installed"),
    ):
        monkeypatch.setattr(__main__, "build_parser", raising(error))
        assert main(["methods"]) == code and sentence in capsys.readouterr().err
        assert main(["methods"], raising(error)) == code and sentence in capsys.readouterr().err


def test_the_command_runs_where_the_checkout_hides_the_package(tmp_path: Path) -> None:
    (tmp_path / "ovseg").symlink_to(ROOT, target_is_directory=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.run(
        [sys.executable, "-m", "ovseg", "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert said.returncode == 0 and "segment a picture" in said.stdout.lower().replace("segments", "segment"), said.stderr


def test_a_user_without_a_home_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert list(homes_of_this_user()) == [] or os.access(Path.home(), os.W_OK) is False
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    (sentence,) = homes_of_this_user()
    assert "HOME" in sentence and Path.home().parent == tmp_path and (Path.home().stat().st_mode & 0o077) == 0
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == str(tmp_path / f"ovseg-{os.getuid()}"))
    monkeypatch.setenv("HOME", "/")
    (sentence,) = homes_of_this_user()
    assert "XDG_CACHE_HOME" in sentence and os.environ["XDG_CACHE_HOME"].startswith(str(tmp_path))


def test_a_page_of_this_machine_passes_every_proxy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for name in [name for name in os.environ if name.lower() in PROXIES]:
        monkeypatch.delenv(name)
    given = {"ALL_PROXY": "socks5://127.0.0.1:1", "all_proxy": "socks4://127.0.0.1:1", "https_proxy": "http://proxy:port"}
    given |= {"HTTP_PROXY": "127.0.0.1:1", "NO_PROXY": "intern.example,::1/128"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where it is not installed
    prepare_environment("::1")
    left = {name for name in os.environ if name.lower() in PROXIES}
    assert left == {"HTTP_PROXY", "NO_PROXY", "no_proxy"}
    said = capsys.readouterr().err
    assert all(
        f"{value.split(',')[-1]!r} of {name} is not used" in said for name, value in given.items() if name not in left
    )
    assert {"localhost", "127.0.0.1", "::1"} <= set(os.environ["no_proxy"].split(","))
    assert "intern.example" in os.environ["NO_PROXY"].split(",") and "::1/128" in said
    httpx.Client().close()


@pytest.mark.parametrize("name, value", [("GRADIO_TEMP_DIR", "/proc/none"), ("OVSEG_PROXIES", "10.0.0.0/8,proxy.example")])
def test_a_variable_that_a_page_cannot_use_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kept in ("NO_PROXY", "no_proxy", "FORWARDED_ALLOW_IPS", name):
        monkeypatch.setenv(kept, os.environ.get(kept, ""))  # it is put back afterwards
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"The variable {name}"):
        prepare_environment("127.0.0.1")


@pytest.mark.parametrize("host", ["300.1.1.1", "nowhere.invalid", "192.0.2.1", "a" * 70, "2001:db8::1"])
def test_a_host_that_is_not_of_this_machine_is_named(host: str) -> None:
    with pytest.raises(
        ValueError, match=f"^The host must be an address of this machine, or its name, but '{host}' is not: "
    ):
        check_host(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_page_listens_on_addresses_of_this_machine(host: str) -> None:
    check_host(host)


def test_unknown_words_are_said_once(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(ASSETS / "examples", here / "examples", ignore=lambda *_: [])
    assert main(["segment", "examples/cat-car.png", "--classes", "cat, zzyzx", "--out", "out", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert said.count("does not know 'zzyzx'") == 1 and said.count("its masks on photographs mean little") == 1


def test_a_folder_of_no_pictures_says_so(tmp_path: Path, models: Models) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match="must hold pictures, but holds none"):
        _ = FolderTask(models, OVDiff(), tmp_path / "in", tmp_path / "out").names


assert len(LONG) > PngImagePlugin.MAX_TEXT_CHUNK  # else the long texts try nothing
