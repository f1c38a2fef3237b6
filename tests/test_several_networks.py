"""Several networks on one board: on the page, in links and doors, and how often each is loaded."""

import json
import pickle
import re
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import BrowserContext, expect

import ovseg.models
from ovseg.__main__ import main
from ovseg.assets import SHIPPED
from ovseg.backbones import find_checkpoint
from ovseg.compare import board_of, compare, read_variants
from ovseg.compare.variants import saved_words_of
from ovseg.demo.build import _header, build
from ovseg.demo.compare_tab import begins, done_line, query_of
from ovseg.demo.control_views import asked_of as controls_asked
from ovseg.demo.inside_panel import Wish, estimate_line
from ovseg.demo.inside_tab import look
from ovseg.demo.link import Link
from ovseg.demo.method_panel import _about, chosen, estimates_of, on_other_networks, restored, with_variant
from ovseg.demo.picture import Picture
from ovseg.demo.run import Results, RunRequest, entries_of, run
from ovseg.demo.what_if import change_of
from ovseg.doors import inputs
from ovseg.doors.requests import About, CompareRequest, SegmentRequest
from ovseg.limits import limits
from ovseg.methods import DiffSegmenter, find_method, runs_on, suited_to
from ovseg.methods.concept_attention.method import ConceptAttention
from ovseg.methods.grammar import Configuration, read_method
from ovseg.methods.seg4diff.method import Seg4Diff
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.scene import from_image, from_prompt
from ovseg.server.durations import Durations
from ovseg.server.request_cost import to_draw
from ovseg.words.classes import parse_classes
from tests.browsers import served
from tests.test_browser import Visit
from tests.test_zero_gpu import event

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
PATHS = ("/etc/passwd", "../joint", "./joint", "~/joint", "sdxl")


@pytest.fixture
def board(with_clip: Models, tiny_folder: Path, joint_folder: Path) -> Models:
    """The tiny U-Net, whose folder is called pipeline, with that beside it; both have the same other networks."""
    return board_on(with_clip, tiny_folder, joint_folder)


def board_on(with_clip: Models, *folders: Path) -> Models:
    """The networks of these folders, with the same other networks."""
    models = board_of(",".join(map(str, folders)), "cpu")
    parts = {name: getattr(with_clip.checkpoint, name) for name in ("clip", "captioner", "dino", "grounding")}
    for own in models.board:
        own.checkpoint = replace(own.checkpoint, steps=2, guidance=2.0, gigabytes=1.0, **parts)
    return models


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the diffusion networks that are loaded, as they come; there is room for one at a time."""
    # Each takes 2 GB in float32, and 60 % of the memory may be taken.
    monkeypatch.setattr("ovseg.shared_networks.memory_of", lambda device: 3e9)
    counted, load = [], ovseg.models.load_backbone
    monkeypatch.setattr(
        "ovseg.models.load_backbone",
        lambda name, *told, **more: counted.append(Path(name).name) or load(name, *told, **more),
    )
    return counted


def results_of(board: Models, texts: list[str], parts: list[Results], report: Report = silent) -> Results:
    """What Run makes of methods as a link writes them."""
    request = RunRequest(Picture(IMAGE), "cat, dog", "a cat", "", read_variants(board, texts), 3)
    return run(board, request, Durations(), report, parts.append)


def test_a_run_loads_each_network_once_and_shows_what_was_asked_for_in_its_order(board: Models, loads: list[str]) -> None:
    texts, parts = ["concept-attention:backbone=joint", "goca", "diffsegmenter:backbone=joint", "diffsegmenter"], []
    said: list[str] = []
    results = results_of(board, texts, parts, lambda stage, share: said.append(stage))
    assert loads == ["pipeline", "joint"] and not results.comparison.failures
    assert any("loaded in" in stage for stage in said)
    titles = ["ConceptAttention on joint", "GoCA", "DiffSegmenter on joint", "DiffSegmenter"]
    assert [entry.title for entry in results.comparison.entries] == titles == [e["title"] for e in entries_of(results)]
    assert list(parts[0].waiting) == ["GoCA", "DiffSegmenter", "ConceptAttention on joint", "DiffSegmenter on joint"]
    assert [entry["state"] for entry in entries_of(parts[0])] == ["waiting", "running", "waiting", "waiting"]
    networks = ["joint", "pipeline", "joint", "pipeline"]
    assert [entry.network for entry in results.comparison.entries] == networks
    assert [card["backbone"]["name"] for card in results.cards.values()] == networks
    hw = [card["latent_hw"] for card in results.cards.values()]
    assert hw[0] == hw[2] and hw[1] == hw[3]
    assert [entry.loading > 0 for entry in results.comparison.entries] == [True, True, False, False]
    assert "Loading a network took" in done_line(board, results, 9.0)
    assert "| network |" in results.comparison.markdown() and '"pipeline"' not in results.comparison.markdown()
    # What led to a mask may need another pass: it was made while its network was there.
    assert all(entry.segmentation.evidence for entry in results.comparison.entries) and len(loads) == 2
    results_of(board, ["diffsegmenter", "diffsegmenter:backbone=joint"], [])
    assert loads == ["pipeline", "joint", "pipeline"]  # it began with the one that was there
    asked = controls_asked(results, "DiffSegmenter on joint")
    assert asked.variant.backbone == "joint" and asked.work(board).rows > 0


def test_networks_that_have_room_together_stay(board: Models, loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovseg.shared_networks.memory_of", lambda device: 8e9)
    for _ in range(2):
        results_of(board, ["diffsegmenter", "diffsegmenter:backbone=joint"], [])
    assert loads == ["pipeline", "joint"] and all(own.is_loaded for own in board.board)
    value, durations = restored(board, [read_method("diffsegmenter:backbone=joint")]), Durations()
    durations.learn("diffsegmenter on joint", 1.0)
    assert begins(board, "cat", value, durations)
    left = weakref.ref(board.beside("joint").backbone.network)
    board.beside("joint").release()
    assert left() is None  # its memory is free at once
    assert not begins(board, "cat", value, durations)  # nothing is loaded unasked


def test_a_network_that_cannot_be_loaded_fails_alone(board: Models, joint_folder: Path) -> None:
    board.beside("joint").words = str(joint_folder / "model_index.json")
    results = results_of(board, ["diffsegmenter", "diffsegmenter:backbone=joint"], [])
    (failure,) = results.comparison.failures
    assert failure.title == "DiffSegmenter on joint" and "must be a file of `python -m ovseg words save`" in failure.sentence
    assert [entry.title for entry in results.comparison.entries] == ["DiffSegmenter"]


def test_networks_beside_the_diffusion_networks_are_loaded_once_for_all(
    board: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    for name, kind in (("clip", "Clip"), ("dino", "Dino"), ("captioner", "Captioner")):
        made = getattr(__import__(f"ovseg.pretrained.{name}", fromlist=[kind]), kind)

        def counting(*told: object, name: str = name, made: type = made) -> object:
            counted.append(name)
            return made(*told)

        monkeypatch.setattr(f"ovseg.pretrained.{name}.{kind}", counting)
    other = board.beside("joint")
    for own in (board, other):
        assert own.clip is board.clip and own.dino is board.dino and own.captioner() is board.captioner()
    assert sorted(counted) == ["captioner", "clip", "dino"]
    again = pickle.loads(pickle.dumps(board))
    for own in again.board:
        own.checkpoint = other.checkpoint
    assert again.clip is again.beside("joint").clip is not board.clip and len(counted) == 4
    assert board.grounding("S1") is board.grounding("S1")
    with pytest.raises(ValueError, match="was trained on another"):
        other.grounding("S1")  # a module is of one backbone alone, whoever has loaded it


def test_two_folders_of_one_name_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / tiny_folder.name).symlink_to(tiny_folder)
    with pytest.raises(ValueError, match=r"must have a name of its own, .* but 'pipeline' is there twice"):
        board_of(f"{tiny_folder},{tmp_path / tiny_folder.name}", "cpu")


def test_each_method_is_offered_on_each_network_or_says_why_not(board: Models) -> None:
    about = _about(board, ConceptAttention)
    assert [own["network"] for own in about["networks"]] == ["", "joint"] and about["usual"] == "joint"
    assert [bool(own["obstacle"]) for own in about["networks"]] == [True, False]
    value = restored(board, [Configuration(DiffSegmenter)])
    networks = {name: held["network"] for name, held in value["settings"].items()}
    assert networks["concept-attention"] == "joint" and networks["diffsegmenter"] == ""
    (_, variant) = chosen(board, value | {"used": ["diffsegmenter", "concept-attention"]})
    assert (variant.title, variant.backbone) == ("ConceptAttention on joint", "joint")
    assert {"diffsegmenter", "diffsegmenter on joint"} <= set(estimates_of(board, Durations()))
    header = _header(board.board)
    assert header.count("<b>Local checkpoint") == 2 and ">pipeline + joint</summary>" in header
    assert "<b>" not in _header(Models(board.name, "cpu").board)


def test_a_variant_may_be_of_another_network_and_a_link_brings_it_back(board: Models) -> None:
    value, own = restored(board, [Configuration(DiffSegmenter)]), board.beside("joint")
    held = {"network": "joint", "mode": "suited", "values": value["settings"]["diffsegmenter"]["values"] | {"draws": 2}}
    value["settings"]["diffsegmenter"], before = held, value["settings"]["diffsegmenter"]
    made = with_variant(board, value, "diffsegmenter", before)
    (variant,) = made["variants"]
    assert made["settings"]["diffsegmenter"] == before and variant["title"].startswith("DiffSegmenter on joint, ")
    asked = chosen(board, made)
    assert [(one.backbone, one.method.draws) for one in asked] == [("", 1), ("joint", 2)]
    query = query_of(board, None, "cat", 0, made)
    assert "run=diffsegmenter:backbone=joint:" in query
    link = Link.of_query(query)
    assert chosen(board, restored(board, link.methods)) == asked
    with pytest.raises(ValueError, match=r"must be one of those that were named at the start \(pipeline\), but got 'joint'"):
        restored(Models(board.name, "cpu"), link.methods)
    plain = restored(board, [Configuration(DiffSegmenter, backbone="joint")])
    assert [one.title for one in chosen(board, plain)] == ["DiffSegmenter on joint"]
    assert plain["settings"]["diffsegmenter"]["values"]["refine_stride"] == suited_to(own, DiffSegmenter).refine_stride
    first = Configuration(DiffSegmenter, backbone="pipeline")  # the usual one may be named, too
    assert restored(board, [first])["settings"]["diffsegmenter"]["network"] == ""


@pytest.mark.parametrize("name", PATHS)
def test_visitors_name_networks_of_the_server_and_no_path(board: Models, joint_folder: Path, name: str) -> None:
    value = restored(board, [Configuration(DiffSegmenter)])
    for text in (name, str(joint_folder)):
        value["settings"]["diffsegmenter"]["network"] = text
        for ask in (
            lambda: chosen(board, value),
            lambda text=text: inputs.method(board, f"diffsegmenter:backbone={text}", None),
            lambda text=text: CompareRequest.of(board, About.of(board, IMAGE), [f"diffsegmenter:backbone={text}"]),
            lambda text=text: wish(text).look(board),
        ):
            with pytest.raises(ValueError, match=r"must be one of those that were named at the start \(pipeline, joint\)"):
                ask()


def test_what_is_ticked_is_taken_to_the_other_network_with_what_was_changed(
    board: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = Configuration(DiffSegmenter, settings={"threshold": 0.7})
    value = restored(board, [changed, Configuration(ConceptAttention, backbone="joint")])
    value["variants"] = [{"text": "ovdiff:images=2", "title": "kept", "used": False}]
    grown = on_other_networks(board, value)
    assert [(one["title"], one["used"]) for one in grown["variants"]] == [
        ("kept", False), ("DiffSegmenter on joint, background threshold 0.7", True),
    ]  # fmt: skip
    assert chosen(board, grown)[1].method == suited_to(board.beside("joint"), DiffSegmenter, {"threshold": 0.7})
    assert on_other_networks(board, grown) == grown  # nothing is left to add
    monkeypatch.setattr("ovseg.demo.method_panel.limits", lambda: replace(limits(), methods=1))
    with pytest.raises(ValueError, match="The variants must be"):
        on_other_networks(board, value | {"used": ["diffsegmenter"]})


def test_doors_answer_for_the_network_that_is_named(board: Models) -> None:
    about = About.of(board, IMAGE, classes="cat, dog", seed=3)
    answer = SegmentRequest(about, inputs.method(board, "diffsegmenter:backbone=joint", {"draws": 2})).run(board)
    assert answer["backbone"] == "joint" and answer["title"] == "DiffSegmenter on joint, noise samples 2"
    both = CompareRequest.of(board, about, ["diffsegmenter:backbone=joint:draws=2", "diffsegmenter"]).run(board)
    assert [result["backbone"] for result in both["results"]] == ["joint", "pipeline"]
    assert both["results"][0]["masks"] == answer["masks"]
    own, method = board.beside("joint"), suited_to(board.beside("joint"), DiffSegmenter, {"draws": 2})
    alone = method.segment(own, from_image(own, IMAGE, 3), parse_classes("cat, dog"))
    assert alone.shares == answer["shares"]
    asked = read_variants(board, ["diffsegmenter:backbone=joint", "diffsegmenter"])
    made = compare(board, from_image(board, IMAGE), parse_classes("cat"), asked)
    assert [entry.title for entry in made.entries] == [variant.title for variant in asked]


def wish(network: str) -> Wish:
    return Wish(Picture(IMAGE), "compare", None, None, "a photo of a cat", "300", "nowhere", 3, 4, 2.0, network)


def test_look_inside_looks_into_the_network_that_is_chosen(board: Models, loads: list[str]) -> None:
    assert "Local checkpoint joint is loaded first" in estimate_line(board, Durations(), wish("joint")) and not loads
    looked = look(board, wish("joint").look(board), silent)
    assert looked.network == "joint" and loads == ["joint"]
    assert set(looked.inside.attention.cross) == {s for s in board.beside("joint").backbone.sites if s.kind == "cross"}
    changed = change_of(board, looked, None, ["layer 1"], "", 0).run(board)
    assert set(changed.cross) == set(looked.inside.attention.cross) and loads == ["joint"]
    assert wish("pipeline").look(board).network == wish("").look(board).network == ""


def choosing(page: gr.Blocks, choice: str, changed: list[str]) -> Callable[[str], Any]:
    """What is called when a network is chosen, which changes these parts."""
    (fn,) = (fn for fn in page.fns.values() if [part.elem_id for part in fn.inputs] == [choice])
    assert [part.elem_id for part in fn.outputs] == changed
    return fn.fn


def test_a_network_is_chosen_where_there_are_several(board: Models) -> None:
    ids, parts = ("draw-network", "dataset-network", "inside-network"), {}
    for models in (board, Models(board.name, "cpu")):
        choices = {block.elem_id: block for block in build(models).blocks.values() if block.elem_id in ids}
        parts[len(models.board)] = [choices[name] for name in ids]
    assert [part.visible for part in parts[2]] == [True] * 3 and [part.visible for part in parts[1]] == [False] * 3
    assert {part.value for part in parts[2] + parts[1]} == {"pipeline"}
    assert [name for _, name in parts[2][0].choices] == ["pipeline", "joint"]


def test_a_picture_is_drawn_by_the_network_that_is_chosen(board: Models, loads: list[str]) -> None:
    durations, other = Durations(), board.beside("joint")
    other.checkpoint = replace(other.checkpoint, steps=3)
    page = build(board, durations=durations)
    suit = choosing(page, "draw-network", ["steps"])
    assert (suit("pipeline"), suit("joint")) == (2, 3)
    drawn = {name: list(event(page, "draw")("a cat", 4, suit(name), name))[-1][1] for name in ("joint", "pipeline")}
    assert loads == ["joint", "pipeline"]
    for name, made in drawn.items():
        own = board.beside(name)
        assert np.array_equal(made.image, from_prompt(own, "a cat", 4, steps=own.checkpoint.steps).image)
    assert not np.array_equal(drawn["joint"].image, drawn["pipeline"].image)
    assert (to_draw(other, None)[0].kind, to_draw(other, None)[0].rows) == ("draw on joint", 6)
    assert durations.expected("speed of draw on joint") and durations.expected("speed of draw")
    with pytest.raises(ValueError, match="must be one of those that were named at the start"):
        next(event(page, "draw")("a cat", 4, 2, "sdxl"))


def test_a_data_set_is_made_by_the_network_that_is_chosen(
    with_clip: Models, tiny_folder: Path, joint_folder: Path, loads: list[str]
) -> None:
    board = board_on(with_clip, joint_folder, tiny_folder)
    board.checkpoint, durations = replace(board.checkpoint, grounding=""), Durations()
    page, obstacle = build(board, durations=durations), "This backbone has no grounding module"
    choose = choosing(page, "dataset-network", ["dataset-about", "dataset-make"])
    for name, there in (("joint", False), ("pipeline", True)):
        about, make = choose(name)
        assert make.constructor_args["interactive"] is there and (obstacle in about) is not there
    with pytest.raises(ValueError, match=f"must have a grounding module. {obstacle}"):
        next(event(page, "dataset")("cat, dog", 1, 0.5, 0, "joint"))
    assert not loads
    *_, (_, _, archive) = event(page, "dataset")("cat, dog", 1, 0.5, 0, "pipeline")
    with zipfile.ZipFile(archive) as file:
        settings, card = json.loads(file.read("settings.json")), file.read("README.md").decode()
    own = board.beside("pipeline")
    assert loads == ["pipeline"] and settings["backbone"] == own.backbone.fingerprint
    assert "Pictures: Local checkpoint pipeline," in card
    assert durations.expected("speed of data set on pipeline")


def test_saved_words_name_their_network(tmp_path: Path, board: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "a=b", "states"):
        Path(name).touch()
    assert saved_words_of(["pocket", "sdxl"], ["one", "sdxl=two"]) == {"pocket": "one", "sdxl": "two"}
    assert saved_words_of(["pocket"], ["a=b"]) == {"pocket": "a=b"}
    for texts, said in (
        (["sd15=one"], "as FILE or NAME=FILE with one of the backbones pocket, sdxl, but got 'sd15=one'"),
        (["one", "pocket=two"], "must have one file of saved words, but pocket has one and two"),
        (["sdxl=three"], "must be a file that is there, as FILE or NAME=FILE"),
        (["three"], "must be a file that is there"),
        (["sdxl="], "must be a file that is there"),
    ):
        with pytest.raises(ValueError, match=said):
            saved_words_of(["pocket", "sdxl"], texts)
    names = ",".join(own.name for own in board.board)
    words = [own.words for own in board_of(names, "cpu", words=["joint=states"]).board]
    assert words == ["", "states"]


def test_everything_of_a_method_is_read_on_its_network(board: Models) -> None:
    text = "concept-attention:backbone=joint"
    with pytest.raises(ValueError, match="must be for the backbone pipeline here, but is for 'joint'"):
        read_method(text).build(board)
    (variant,) = read_variants(board, [text])
    assert variant.method == suited_to(board.beside("joint"), find_method("concept-attention"))


def test_a_method_that_the_usual_network_cannot_run_takes_another(
    board: Models, tiny_folder: Path, joint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert [variant.backbone for variant in read_variants(board, ["concept-attention", "diffsegmenter"])] == ["joint", ""]
    assert inputs.method(board, "concept-attention", None).backbone == "joint"
    assert restored(board, [read_method("concept-attention")])["settings"]["concept-attention"]["network"] == "joint"
    Image.fromarray(IMAGE).save(tmp_path / "picture.png")
    command = ["segment", str(tmp_path / "picture.png"), "--classes", "cat", "--device", "cpu", "--backbone"]
    for name in ("concept-attention", "diffsegmenter:backbone=joint"):
        out = tmp_path / name.partition(":")[0]
        assert main([*command, f"{tiny_folder},{joint_folder}", "--method", name, "--out", str(out)]) == 0
        assert json.loads((out / "run.json").read_text())["backbone"]["name"] == "joint"
    assert main([*command, str(tiny_folder), "--method", "concept-attention", "--out", str(tmp_path / "none")]) == 2
    assert "words and places do not share their attention" in capsys.readouterr().err


def test_what_a_folders_weights_take_is_read_from_its_files(board: Models) -> None:
    for own in board.board:
        row, parts = find_checkpoint(own.name), own.backbone.pipeline.components.values()
        networks = [part for part in parts if isinstance(part, torch.nn.Module)]
        numbers = sum(weight.numel() for network in networks for weight in network.state_dict().values())
        assert row.gigabytes == pytest.approx(2 * numbers / 1e9, rel=0.01) and row.gigabytes > 0


def test_in_the_browser_a_variant_of_another_network_is_made_and_run(
    tiny_folder: Path, joint_folder: Path, browser: BrowserContext
) -> None:
    with served("app.py", environment={"OVSEG_BACKBONE": f"{tiny_folder},{joint_folder}"}) as address:
        visit = Visit(browser.new_page())
        page = visit.page
        page.set_viewport_size({"width": 1400, "height": 900})
        page.goto(f"{address}?picture=scene-12&words=cat&run=diffsegmenter")
        visit.wait_for_board()
        expect(page.locator("#knows summary")).to_have_text("pipeline + joint")
        page.locator("#other-networks").click()
        page.locator("#variants label", has_text="DiffSegmenter on joint").locator("input").uncheck()
        page.locator("#use-diffsegmenter").hover()
        page.locator("#open-diffsegmenter").click()
        page.locator("#network-diffsegmenter-value").select_option("joint")
        expect(page.locator("#use-diffsegmenter label")).to_have_text("DiffSegmenter on joint")
        page.locator("#add-diffsegmenter").click()
        page.locator("#variants label", has_text="DiffSegmenter on joint").and_(page.locator(":has(:checked)")).wait_for()
        expect(page.locator("#use-diffsegmenter label")).to_have_text("DiffSegmenter")
        page.locator("#more-methods summary").click()
        expect(page.locator("#use-concept-attention label")).to_have_text("ConceptAttention on joint")
        page.locator("#use-concept-attention").hover()
        page.locator("#open-concept-attention").click()
        page.locator("#network-concept-attention-value").select_option("")
        expect(page.locator("#why-not-concept-attention")).to_contain_text("do not share their attention")
        expect(page.locator("#add-concept-attention")).to_be_disabled()
        expect(page.locator("#use-concept-attention input")).to_be_disabled()
        page.locator("#close-concept-attention").click()
        visit.run_and_wait()
        assert re.search(r"Done: 2 methods in .* Loading a network took", visit.status())
        assert visit.canvas("DiffSegmenter on joint").count() == 1
        visit.well()
        page.close()


def test_a_method_takes_the_network_that_it_was_made_for() -> None:
    models = board_of(SHIPPED, "cpu")
    strange = type("Strange", (DiffSegmenter,), {"name": "strange", "released_on": "a network that nobody knows"})
    taken = [runs_on(models, kind).name for kind in (DiffSegmenter, Seg4Diff, ConceptAttention, strange)]
    assert taken == ["pocket", "pocket-sd3", "pocket-sd3", "pocket"]
    assert runs_on(Models("pocket", "cpu"), Seg4Diff).name == "pocket"  # where there is no other
