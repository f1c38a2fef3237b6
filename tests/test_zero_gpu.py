"""Everything that uses an accelerator, run as ZeroGPU runs it: forked, pickled, and with nothing loaded in the fork."""

import ast
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import HanTa.HanoverTagger
import numpy as np
import pytest
import spaces
from gradio.utils import get_upload_folder
from PIL import Image

import ovseg.models
import ovseg.pretrained.captioner
import ovseg.pretrained.clip
import ovseg.pretrained.dino
import ovseg.pretrained.grounding
from ovseg.attention import Inspection, heads_of, look_inside
from ovseg.attention.later import beside_a_pass, word_later
from ovseg.compare import Variant, run_variant
from ovseg.demo.build import build, launch
from ovseg.demo.control_views import asked_of, controls_html
from ovseg.demo.head_shares import shares_html
from ovseg.demo.inside_panel import focus_of
from ovseg.demo.later_word import LaterAsked, later_html
from ovseg.demo.picture import Picture
from ovseg.demo.preload import load_everything
from ovseg.demo.run import Results, titled
from ovseg.demo.what_if import change_html, change_of
from ovseg.demo.work import on_accelerator
from ovseg.methods import DiffSegmenter, FreeSegDiff, OVDiff, suited_to
from ovseg.models import Models
from ovseg.progress import silent
from ovseg.reading.shares import shares_of
from ovseg.scene import from_image, from_prompt
from ovseg.server.durations import Durations
from ovseg.server.request_cost import USUAL_HW, Work, learn_speed, seconds_for, to_draw, to_segment
from ovseg.words.classes import parse_classes, rows_of
from tests.forked import Forks
from tests.networks import ON_A_UNET, run_of, with_traits

ROOT = Path(__file__).resolve().parents[1]
LOADERS = {
    "backbone": (ovseg.models, "load_backbone"),
    "clip": (ovseg.pretrained.clip, "Clip"),
    "dino": (ovseg.pretrained.dino, "Dino"),
    "captioner": (ovseg.pretrained.captioner, "Captioner"),
    "grounding": (ovseg.pretrained.grounding, "Grounding"),
    "the tagger of captions": (HanTa.HanoverTagger, "HanoverTagger"),
}


def forbid_loading() -> None:
    """In a forked process: whoever loads a network there fails."""

    def refuse(name: str) -> Callable[..., None]:
        def loads(*given: object, **named: object) -> None:
            raise AssertionError(f"{name} is loaded after the fork")

        return loads

    for name, (module, loader) in LOADERS.items():
        setattr(module, loader, refuse(name))


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """ZeroGPU's decorator, in place of the real one while the page is built."""
    stand_in = Forks(forbid_loading)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spaces, "GPU", stand_in.GPU)
        yield stand_in


@pytest.fixture(scope="module")
def loaded(with_clip: Models, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Networks of random weights, everything loaded, as a Space does before it serves."""
    models = with_traits(with_clip)
    models.prototype_folders = (tmp_path_factory.mktemp("prototypes"), None)
    load_everything(models)
    return models


@pytest.fixture(scope="module")
def page(forks: Forks, loaded: Models) -> gr.Blocks:
    return build(loaded)


@pytest.fixture
def picture() -> Picture:
    return Picture(np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8))


@pytest.fixture
def upload(picture: Picture) -> Iterator[dict[str, Any]]:
    """A picture as Gradio hands an upload to a door."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "zero-gpu-test.png"
    Image.fromarray(picture.image).save(path)
    yield {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    path.unlink()


def event(page: gr.Blocks, name: str) -> Callable[..., Any]:
    """The function of an event that uses the network, without what ends it with no values."""
    (fn,) = (fn.fn for fn in page.fns.values() if fn.concurrency_id == "network" and fn.fn.__qualname__.endswith(name))
    return fn if inspect.ismethod(fn) else inspect.unwrap(fn)  # a door is a method, and belongs to its object


def run_button(page: gr.Blocks, picture: Picture) -> list[Any]:
    (fn,) = (fn for fn in page.fns.values() if fn.fn and fn.fn.__qualname__.endswith("_wire_run.<locals>.compare"))
    chosen = [block.value for block in fn.inputs[5:]]
    return list(fn.fn(picture, "cat, dog", "a cat and a dog", None, 3, *chosen))


def test_run(page: gr.Blocks, picture: Picture, loaded: Models) -> None:
    parts = run_button(page, picture)
    results = next(part[2] for part in reversed(parts) if isinstance(part[2], Results))
    comparison = results.comparison
    assert [entry.method for entry in comparison.entries] == ["diffsegmenter", "freeseg-diff", "grounded-diffusion"]
    assert (
        not comparison.failures and not results.waiting and all(entry.segmentation.evidence for entry in comparison.entries)
    )
    boards = [part[1] for part in parts if isinstance(part[1], dict) and part[1] != gr.skip()]
    steps = [part[1].constructor_args["step"] for part in parts if isinstance(part[1], gr.HTML)]
    brought = [[entry["key"] for entry in step["entries"] if "best" in entry] for step in steps]
    assert len(boards) == 1 and brought == [[entry.title] for entry in comparison.entries]
    scene = from_image(loaded, picture.image, 3, caption="a cat and a dog")
    here = run_variant(loaded, scene, parse_classes("cat, dog"), Variant("here", suited_to(loaded, DiffSegmenter)))
    assert np.array_equal(here.segmentation.scores(), comparison.entries[0].segmentation.scores())


def test_controls(page: gr.Blocks, picture: Picture, loaded: Models) -> None:
    results = run_of(loaded, [suited_to(loaded, DiffSegmenter)], picture, caption="a cat", seed=3)
    *_, (status, shown) = event(page, "controls")(results, None)
    assert "controls of DiffSegmenter" in status
    assert shown == controls_html(results, "DiffSegmenter", asked_of(results, None).run(loaded, silent))


def test_draw(page: gr.Blocks, loaded: Models) -> None:
    *_, (_, made, *_rest) = event(page, "draw")("a cat", 4, 2, "")
    assert np.array_equal(made.image, from_prompt(loaded, "a cat", 4, steps=2).image)


def test_caption_it(page: gr.Blocks, picture: Picture, loaded: Models) -> None:
    *_, (_, sentence, *_rest) = event(page, "say")(picture, None)
    assert sentence == loaded.captioner().caption(picture.image)


def test_which_are_there(page: gr.Blocks, picture: Picture) -> None:
    *_, (_, chips, *_rest) = event(page, "check")(picture, "cat, dog", "")
    assert set(chips["present"]) == {"cat", "dog"}


def test_make_a_data_set(page: gr.Blocks) -> None:
    *_, (status, sheet, archive) = event(page, "dataset")("cat, dog", 2, 0.5, 0, "")
    assert "2 pictures made" in status and sheet.ndim == 3 and Path(archive).stat().st_size > 1000


def test_the_door_segment(page: gr.Blocks, upload: dict[str, Any]) -> None:
    answer = event(page, "Doors.segment")(upload, "cat, dog", only_present=True)
    assert answer["method"] == "diffsegmenter" and answer["labels"][0] == "background"


def test_the_door_compare(page: gr.Blocks, upload: dict[str, Any]) -> None:
    answer = event(page, "Doors.compare")(upload, "cat, dog", None, 0, "a cat and a dog")
    assert len(answer["results"]) == 3 and not answer["failures"]


def test_the_door_caption(page: gr.Blocks, upload: dict[str, Any]) -> None:
    assert event(page, "Doors.caption")(upload)["caption"]


def test_the_door_generate(page: gr.Blocks, loaded: Models) -> None:
    file, drawn = event(page, "Doors.generate")("a cat", 4, 2)
    assert np.array_equal(np.asarray(Image.open(file.path)), from_prompt(loaded, "a cat", 4, steps=2).image)
    assert drawn["steps"] == 2


WISHED = ("compare", None, None, "a photo of a cat", "50, 300", "at every level", 3, 2, 2.0)


def test_look_inside_and_heads(page: gr.Blocks, picture: Picture, loaded: Models) -> None:
    *_, (status, value, looked, _) = event(page, "look_in")(picture, *WISHED)
    attention = looked.inside.attention
    expected = look_inside(
        loaded, from_image(loaded, picture.image, 3), Inspection("a photo of a cat", words_later=True), (50, 300)
    )
    assert "Done: 2 passes" in status and value["run"] == looked.run and attention.nbytes == expected.nbytes
    assert all(np.array_equal(attention.cross[site], maps) for site, maps in expected.cross.items())
    *_, (_, shown, now) = event(page, "heads")(looked, gr.EventData(None, {"layer": 3, "level": 1}))
    found = heads_of(loaded, expected, list(expected.cross)[2], 1)
    assert np.array_equal(now.inside.heads.maps, found.maps) and now.inside.attention is attention
    assert shown.props["heads"]["text"].startswith("Heads of layer 3 at noise level 300")
    *_, (_, answer) = event(page, "what_if")(now, None, ["layer 3", "head 1 of layer 2"], "", 1)
    change = change_of(loaded, looked, None, ["layer 3", "head 1 of layer 2"], "", 1)
    assert answer == change_html(change, change.run(loaded), "without layer 3, head 1 of layer 2")
    *_, (_, weighed) = event(page, "shares")(now, None, 1)
    shares = shares_of(loaded, attention, 1, now.token, now.inside.weights)
    assert weighed == shares_html(shares, attention, attention.token_name(now.token))
    for name, made in (("word_quick", word_later), ("word_beside", beside_a_pass)):
        *_, (said, answer) = event(page, name)(now, None, 1, "dog")
        asked = LaterAsked(focus_of(now, None, 1), "dog", name == "word_beside")
        assert (
            answer == later_html(asked, made(loaded, attention, "dog", now.inside.weights, 1)) and "“dog” answered" in said
        )


def test_look_inside_while_drawing(page: gr.Blocks, loaded: Models) -> None:
    *_, (status, _, looked, _) = event(page, "look_in")(None, "draw", *WISHED[1:])
    made = from_prompt(loaded, "a photo of a cat", 3, steps=2, guidance=2.0).image
    assert "Done: 2 passes" in status and np.abs(looked.inside.attention.image.astype(int) - made).max() <= 1


TESTED = {
    "look_in", "heads", "what_if", "shares", "word_quick", "word_beside", "controls", "compare", "draw", "say", "check",
    "dataset", "segment", "caption", "generate",
}  # fmt: skip


def test_every_event_that_uses_the_network_is_tested_above(page: gr.Blocks) -> None:
    names = {fn.fn.__qualname__.rpartition(".")[2] for fn in page.fns.values() if fn.concurrency_id == "network"}
    assert names == TESTED, "an event that uses the network must be run as ZeroGPU runs it: add a test for it here"


def test_nothing_but_one_decorator_asks_for_an_accelerator() -> None:
    """So no duration is fixed: the decorator takes a function of the arguments."""
    for path in [*(ROOT / "ovseg").rglob("*.py"), ROOT / "app.py"]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        asking = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "GPU"]
        assert len(asking) == (path.name == "work.py"), path
        for call in calls:
            if isinstance(call.func, ast.Name) and call.func.id == "on_accelerator":
                assert isinstance(call.args[1], ast.Lambda) and not isinstance(call.args[1].body, ast.Constant), path


def test_bad_input_is_refused_before_the_accelerator_is_asked_for(
    page: gr.Blocks, forks: Forks, picture: Picture, upload: dict[str, Any]
) -> None:
    before = len(forks.calls)
    for name, given in {
        "Doors.segment": (upload, "cat", "magic"), "Doors.generate": ("",), "say": (None, None),
        "check": (picture, "cat||dog", ""), "draw": ("a cat", None, 2, ""), "dataset": ("", 1, 0.5, 0, ""),
        "look_in": (None, *WISHED), "heads": (None, gr.EventData(None, {"layer": 1, "level": 0})),
        "what_if": (None, None, ["layer 1"], "", 0), "controls": (None, None),
        "shares": (None, None, 0), "word_quick": (None, None, 0, "cat"), "word_beside": (None, None, 0, "cat"),
    }.items():  # fmt: skip
        with pytest.raises((ValueError, gr.Error), match="must"):
            list(event(page, name)(*given))
    assert len(forks.calls) == before


def test_an_error_in_the_fork_is_its_sentence(page: gr.Blocks, upload: dict[str, Any]) -> None:
    with pytest.raises(gr.Error, match="must fit 32 tokens"):
        event(page, "Doors.generate")("cat " * 50, 0, 1)
    with pytest.raises(gr.Error, match=r"must hold \{\} once"):
        event(page, "Doors.segment")(upload, "cat", "diffsegmenter", {"prompt": "none"})


def test_more_work_asks_for_more_time(
    page: gr.Blocks, forks: Forks, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Durations, "expected", lambda self, kind, rows=None: None)  # of a machine of which nothing is known
    few, many = {"timesteps": [100]}, {"timesteps": list(range(100, 900, 40))}
    for settings in (few, many):
        event(page, "Doors.segment")(upload, "cat, dog", "diffsegmenter", settings | {"refinements": 0})
    (_, short), (_, long) = forks.calls[-2:]
    assert long > short > 0


@pytest.mark.parametrize("words", ["cat", "cat|kitten, dog, sky"])
@pytest.mark.parametrize("kind", ON_A_UNET, ids=lambda kind: kind.name)
def test_rows_are_counted_beforehand(loaded: Models, picture: Picture, kind: type, words: str) -> None:
    changed = {"ovdiff": {"images": 2, "steps": 1, "extractors": ("diffusion",), "windows": (), "prefilter": False}}
    changed |= {"diffsegmenter": {"timesteps": (100, 300), "draws": 2}}
    method, classes = suited_to(loaded, kind, changed.get(kind.name, {})), parse_classes(words)
    expected = method.rows(loaded, rows_of(classes)[0], USUAL_HW)
    scene = from_image(loaded, picture.image, caption="a cat")
    assert run_variant(loaded, scene, classes, Variant("counted", method)).rows == expected
    if kind is OVDiff:
        assert method.rows(loaded, rows_of(classes)[0], USUAL_HW) == 1  # its pictures are drawn now


def test_a_space_loads_before_it_serves(with_clip: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    models = with_traits(with_clip)
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    launch(models, "127.0.0.1", None, wait=False)
    gr.close_all(verbose=False)
    parts = {part for part, _ in models._shared._loaded}
    assert "_backbone" in vars(models) and parts == {"clip", "captioner", "dino", "grounding"}


def test_the_time_follows_what_was_learned() -> None:
    durations, works = Durations(), (Work("draw", rows=200),)
    unknown = seconds_for(durations, works)
    learn_speed(durations, works[0], 100.0)
    assert seconds_for(durations, works) > 2 * unknown
    assert seconds_for(durations, (Work("caption"),)) < unknown
    learn_speed(durations, works[0], 1e6)  # a hiccup of the machine is not believed
    assert seconds_for(durations, works) < 1000


def test_captions_that_must_be_made_are_counted(loaded: Models) -> None:
    methods, others = (titled(loaded, [suited_to(loaded, kind)]) for kind in (DiffSegmenter, FreeSegDiff))
    assert [work.kind for work in to_segment(loaded, methods, "cat")] == ["diffsegmenter"]
    assert [work.kind for work in to_segment(loaded, methods, "")] == ["caption", "diffsegmenter"]
    assert [work.kind for work in to_segment(loaded, others, "cat")] == ["caption", "freeseg-diff"]
    assert to_draw(loaded, 10)[0].rows == 20 and to_draw(loaded, None)[0].rows == 2 * loaded.checkpoint.steps


def test_what_runs_in_the_fork_is_learned_in_the_parent(forks: Forks, loaded: Models, picture: Picture) -> None:
    durations = Durations()
    run_button(build(loaded, durations=durations), picture)
    assert durations.expected("diffsegmenter") > 0 and durations.expected("speed of diffsegmenter") > 0


def test_what_programs_ask_for_is_learned(
    forks: Forks, loaded: Models, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    durations = Durations()
    own = build(loaded, durations=durations)
    event(own, "Doors.compare")(upload, "cat, dog", ["diffsegmenter", "grounded-diffusion"])
    event(own, "Doors.caption")(upload)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "not there yet"))
    assert Path(event(own, "Doors.generate")("a cat", 0, 1)[0].path).is_file()
    for kind in ("diffsegmenter", "grounded-diffusion", "caption", "draw"):
        assert durations.expected(f"speed of {kind}") > 0


def test_the_stand_in_loses_what_a_call_keeps(forks: Forks) -> None:
    """Else the tests above could not see it."""
    kept, parent = [], threading.get_ident()

    @forks.GPU(duration=lambda value: 1)
    def keep(value: int) -> int:
        kept.append(value)
        assert threading.get_ident() != parent
        return len(kept)

    assert keep(1) == 1 and keep(1) == 1 and not kept

    @forks.GPU(duration=lambda: 1)
    def load() -> object:
        return Models("pocket", "cpu").backbone

    with pytest.raises(gr.Error, match="backbone is loaded after the fork"):
        load()


def test_the_networks_of_a_small_world_take_no_accelerator(forks: Forks) -> None:
    """They are fast on the CPU, and a visitor has few seconds of an accelerator; `spaces` knows of the function."""
    before = len(forks.calls)

    @on_accelerator(Models("pocket", device="cpu"), lambda: 1)
    def steps() -> Iterator[int]:
        yield 1

    assert list(steps()) == [1] and len(forks.calls) == before
