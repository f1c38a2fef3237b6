"""The tab that looks inside: what the browser gets, and what it shows of it."""

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Request as PageRequest
from playwright.sync_api import Route, expect

import ovseg
from ovseg.attention import Attention, Inspection, again, draw_inside, heads_of, look_inside
from ovseg.attention.plan import NOISE_LEVELS
from ovseg.backbones import counting
from ovseg.backbones.base import NOTHING, Ablation, Capture
from ovseg.demo.dataset_tab import FIRST_SEED, READY, WORDS
from ovseg.demo.inside import heads_value, inside_value, place_value, token_maps
from ovseg.demo.inside_panel import Wish, estimate_line, sentence_of
from ovseg.demo.inside_tab import Looked, first_token, layer_asked, learn, look, zip_of
from ovseg.demo.later_word import later_html, word_asked
from ovseg.demo.picture import Picture, of_scene
from ovseg.demo.picture_panel import FIRST_SCENE
from ovseg.demo.what_if import change_html, change_of, choices_of
from ovseg.demo.worked_example import WorkedExample
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.attention_files import usual_weights
from ovseg.pocket.world import LABELS
from ovseg.progress import silent
from ovseg.scene import from_image
from ovseg.server.durations import NETWORK_ROW, Durations
from tests.board_browser import READ, TWO_FRAMES
from tests.test_browser import DARK, NARROW, WIDE, Visit, visit  # noqa: F401  fixtures

PROMPT = "a photo of a cat"
WISH = Wish(None, "compare", None, None, PROMPT, "300, 50", "at every level", 3, 4, 2.0)


def picture_of(height: int = 60, width: int = 90) -> Picture:
    return Picture(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def unpacked(text: str, high: float, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u2").reshape(shape) * high / 65535


def look_as(models: Models, wish: Wish) -> Looked:
    """What Look does, but for the page around it."""
    asked = wish.look(models)
    asked.plan(models)
    return look(models, asked, silent)


@pytest.fixture(scope="module")
def looked(models: Models) -> Looked:
    return look_as(models, replace(WISH, compared=picture_of()))


def test_a_wish_is_done_by_the_same_code_as_the_command(models: Models, looked: Looked) -> None:
    attention, expected = looked.inside.attention, look_inside(
        models, from_image(models, picture_of().image, 3), Inspection(PROMPT), (50, 300)
    )  # fmt: skip
    assert attention.timesteps == (50, 300) and attention.kept == (0, 1) and attention.seed == 3
    for site, maps in expected.cross.items():
        assert np.array_equal(attention.cross[site], maps)
    assert looked.inside.made_by["cost"]["passes"] == 2 and looked.inside.weights == usual_weights(models)
    assert attention.token_name(looked.token) == "cat" and first_token(()) == 0
    drawn = look_as(models, replace(WISH, source="draw", keep="nowhere")).inside
    _, other = draw_inside(models, Inspection(PROMPT, "none"), models.checkpoint.sampling(4, 2.0), 3)
    assert drawn.attention.is_drawn and not drawn.attention.states and len(drawn.attention.timesteps) == 4
    assert all(np.array_equal(drawn.attention.cross[site], maps) for site, maps in other.cross.items())


def test_looking_at_what_was_gathered_runs_no_pass(models: Models, looked: Looked) -> None:
    attention = looked.inside.attention
    with counting() as count:
        value = inside_value(attention, looked.run, looked.inside.weights, 1)
        token_maps(attention, looked.run, 2)
        place_value(attention, looked.run, 0.8, 0.3, 0)
        archive = zipfile.ZipFile(io.BytesIO(zip_of(looked, {1: 0.25, 2: 0.0, 4: 1.0, 8: 0.0})))
    assert count.passes == 0 and value["token_maps"]["token"] == 1
    arrays = np.load(io.BytesIO(archive.read("attention.npz")))
    assert list(arrays["fused_weights"]) == [0.25, 0.0, 1.0, 0.0]
    assert np.array_equal(arrays["fused"][5], attention.fused(5, {1: 0.25, 4: 1.0}))


def test_the_browser_gets_every_map_of_a_token(looked: Looked) -> None:
    attention = looked.inside.attention
    value = inside_value(attention, "r", {2: 1.0}, 5)
    given = value["token_maps"]
    assert given["run"] == "r" and len(given["layers"]) == len(value["layers"]) == len(attention.cross) == 16
    for entry, text, (site, maps) in zip(value["layers"], given["layers"], attention.cross.items(), strict=True):
        assert (entry["rows"], entry["columns"]) == maps.shape[-2:] and entry["name"] == site.name
        found = unpacked(text, given["high"], (2, *maps.shape[-2:]))
        assert np.abs(found - maps[:, 5]).max() <= given["high"] / 65535
    assert [token["text"] for token in value["tokens"]] == ["start", "a", "photo", "of", "a", "cat", "end", "padding"]
    assert [level["short"] for level in value["levels"]] == ["50", "300"] and value["all"] == "mean of 2 noise levels"
    assert (value["height"], value["width"]) == (60, 90) and value["grid"] == list(attention.latent_hw)
    assert [entry["weight"] for entry in value["strides"]] == [0.0, 1.0, 0.0, 0.0]
    rows, columns = value["thumb"]
    assert rows < columns and len(base64.b64decode(value["tokens"][5]["thumb"])) == rows * columns


def test_a_place_is_x_from_the_left_and_y_from_the_top(models: Models, looked: Looked) -> None:
    attention = looked.inside.attention
    value = place_value(attention, "r", 0.8, 0.3, 1)
    assert value["text"] == "What the place 80% from the left, 30% from the top attends to, noise level 300:"
    for entry, row in zip(value["maps"], attention.rows_from(0.8, 0.3, [1]).values(), strict=True):
        assert entry["title"] == f"{row.shape[0]} × {row.shape[1]}"
        assert np.abs(unpacked(entry["data"], entry["high"], row.shape) - row).max() <= entry["high"] / 65535
    assert "mean of 2 levels" in place_value(attention, "r", 0.8, 0.3, None)["text"]
    wish = replace(WISH, compared=picture_of(), keep="at the middle one")
    middle = look_as(models, wish).inside.attention
    assert "noise level 300" in place_value(middle, "r", 0.8, 0.3, 0)["text"]  # the nearest that was kept
    none = look_as(models, replace(wish, keep="nowhere")).inside.attention
    assert place_value(none, "r", 0.8, 0.3, 0)["maps"] == []


def test_one_visitors_maps_are_bounded(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = replace(WISH, compared=picture_of())
    monkeypatch.setattr("ovseg.demo.inside_panel.most_memory", lambda: 100_000)
    assert "must take 0.1 MB at most, but would take" in estimate_line(models, Durations(), wish)
    with counting() as count, pytest.raises(ValueError, match="choose fewer levels"):
        look_as(models, wish)
    assert count.passes == 0


def test_heads_are_those_of_the_token(models: Models, looked: Looked) -> None:
    attention = looked.inside.attention
    heads = heads_of(models, attention, list(attention.cross)[2], 1)
    value = heads_value(attention, "r", heads, 5)
    assert value["text"] == "Heads of layer 3 at noise level 300, “cat”" and len(value["maps"]) == len(heads.maps)
    found = unpacked(value["maps"][1]["data"], value["maps"][1]["high"], heads.maps.shape[-2:])
    assert np.abs(found - heads.maps[1, 5]).max() <= value["maps"][1]["high"] / 65535
    assert layer_asked(looked, 3, 1) == (attention, heads.site, 1)
    for layer, level in ((0, 0), (17, 0), (1, 2), (1, -1)):
        with pytest.raises(ValueError, match="There must be such a layer and level"):
            layer_asked(looked, layer, level)
    with pytest.raises(ValueError, match="nothing was looked at yet"):
        layer_asked(None, 1, 0)


def test_what_it_takes_is_said_before(models: Models) -> None:
    durations, wish = Durations(), replace(WISH, compared=picture_of())
    assert "2 passes of the network, how long is known after the first run" in estimate_line(models, durations, wish)
    looked = look_as(models, wish)
    learn(durations, looked)
    cost = looked.inside.made_by["cost"]
    assert durations.expected(NETWORK_ROW) == pytest.approx(cost["seconds"] / 2)
    durations.learn(NETWORK_ROW, 1000.0)
    drawing = estimate_line(models, durations, replace(wish, source="draw", keep="nowhere"))
    assert "4 passes of the network, about" in drawing and "min" in drawing
    size = f"{looked.inside.attention.nbytes / 1e6:.1f} MB"
    assert f"the result takes {size} of memory" in estimate_line(models, durations, wish)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"compared": None}, "A picture must be chosen first"),
        ({"source": "upload"}, "A picture must be chosen first"),
        ({"sentence": " "}, "sentence must say what to look for"),
        ({"noise": "20, x"}, "whole number, 0 or more, but got &#x27;x&#x27;"),
        ({"source": "draw", "steps": 0}, "steps must be a whole number from 1 to 100, but got 0"),
        ({"source": "draw", "guidance": None}, "guidance must be a number from 0 to 50, but got null"),
    ],
)
def test_bad_input_is_one_sentence(models: Models, changed: dict, sentence: str) -> None:
    wish = replace(WISH, **{"compared": picture_of(), **changed})
    assert sentence in estimate_line(models, Durations(), wish)
    with counting() as count, pytest.raises(ValueError):
        look_as(models, wish)
    assert count.passes == 0
    if "seed" not in changed:
        with pytest.raises(ValueError, match="The seed must be a whole number"):
            look_as(models, replace(WISH, compared=picture_of(), seed=-1))


def test_a_picture_brings_its_sentence() -> None:
    models, blank = Models("pocket"), picture_of().image
    assert sentence_of(models, Picture(blank, words="apple|pomme, cat")) == "a photo of an apple and a cat"
    assert sentence_of(models, Picture(blank, caption="a dog", words="cat")) == "a dog"
    assert sentence_of(models, Picture(blank)) == models.checkpoint.prompt


# ---- In the browser ----

JOIN = re.compile("/queue/join")


@pytest.fixture(scope="module")
def pocket() -> Models:
    return ovseg.Models("pocket", "cpu")


@pytest.fixture(scope="module")
def expected(pocket: Models) -> Attention:
    """What the first scene's Look must gather at two noise levels."""
    scene = from_image(pocket, of_scene(FIRST_SCENE).image)
    return look_inside(pocket, scene, Inspection("a photo of a car and a cat"), (100, 600))


@pytest.fixture
def opened(visit: Visit) -> Iterator[Visit]:  # noqa: F811
    """The tab, with two noise levels."""
    visit.page.locator("button[role=tab]", has_text="Look inside").last.click()
    if not visit.page.locator("#inside-look").is_visible():
        visit.page.get_by_role("tab", name="Look inside").click()
    visit.page.locator("#inside[data-run], #inside [data-run]").first.wait_for()  # the worked example
    visit.page.locator("#inside-noise textarea, #inside-noise input").first.fill("100, 600")
    visit.page.locator("#inside-estimate", has_text="2 passes").wait_for()
    return visit


def press_look(visit: Visit) -> None:  # noqa: F811
    before = visit.page.evaluate("document.querySelector('#inside[data-run], #inside [data-run]')?.dataset.run ?? ''")
    visit.page.locator("#inside-look").click()
    visit.page.wait_for_function(
        "before => { const run = document.querySelector('#inside[data-run], #inside [data-run]')?.dataset.run;"
        " return run && run !== before }",
        arg=before,
    )
    visit.page.evaluate(TWO_FRAMES)


def pixels(visit: Visit, selector: str) -> np.ndarray:  # noqa: F811
    visit.page.evaluate(TWO_FRAMES)
    height, width, data = visit.page.locator(f"#inside {selector}").first.evaluate(READ)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def choose_token(visit: Visit, name: str, number: int) -> None:  # noqa: F811
    visit.page.locator("#inside .ov-token", has_text=name).last.click()
    visit.page.wait_for_function(
        "number => document.querySelector('#inside[data-token], #inside [data-token]').dataset.token === number",
        arg=str(number),
    )


def slide(visit: Visit, selector: str, value: float) -> None:  # noqa: F811
    script = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }"
    visit.page.locator(f"#inside {selector}").evaluate(script, value)


def weights_told(request: PageRequest) -> dict[str, float]:
    """The weights that the page tells the server with this request; none with any other."""
    asked = json.loads(request.post_data) if JOIN.search(request.url) and request.post_data else {}
    return (asked.get("event_data") or {}).get("weights", {})


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for rounding: 16-bit steps, and another process's sums."""
    difference = np.abs(found - wanted.astype(int))
    assert found.shape == wanted.shape and difference.max() <= 12 and difference.mean() < 0.6, (
        difference.max(), difference.mean(),
    )  # fmt: skip


@pytest.mark.parametrize("visit", [WIDE, NARROW], indirect=True, ids=["wide", "narrow"])
def test_a_tokens_map_lies_on_its_thing_and_follows_the_sliders(
    opened: Visit, expected: Attention, pocket: Models, tmp_path: Path
) -> None:
    page, big = opened.page, ".ov-in-frame .ov-canvas"
    assert page.locator("#inside-sentence textarea, #inside-sentence input").first.input_value() == expected.prompt
    assert "of memory" in page.locator("#inside-estimate").inner_text()
    press_look(opened)
    assert page.locator("#inside-status").inner_text().startswith("Done: 2 passes in")
    names = [expected.token_name(k) for k in range(len(expected.tokens))]
    assert page.locator("#inside .ov-token").all_inner_texts() == names and names[5] == "car"
    weights = usual_weights(pocket)
    assert_same(pixels(opened, big), view.heat_overlay(expected.image, expected.fused(5, weights)))
    choose_token(opened, "cat", 8)
    assert_same(pixels(opened, big), view.heat_overlay(expected.image, expected.fused(8, weights)))
    assert page.locator(f"#inside {big}").get_attribute("aria-label").startswith("“cat”, all resolutions fused, mean of 2")
    inside = of_scene(FIRST_SCENE).world == LABELS.index("cat")
    fused = np.asarray(Image.fromarray(expected.fused(8, weights)).resize(inside.shape[::-1]))
    assert fused[inside].mean() > 3 * fused[~inside].mean()  # the map lies on its thing
    told: list[Route] = []  # the second move comes before the answer to the first
    page.route(JOIN, lambda route: told.append(route) if weights_told(route.request) else route.continue_())
    for stride, weight in (("4", 0.5), ("2", 0.25)):
        with page.expect_request(lambda asked, wish=(stride, weight): wish in weights_told(asked).items()):
            slide(opened, f"[data-stride='{stride}']", weight)
    for route in told:
        with page.expect_response(lambda answer, body=route.request.post_data: answer.request.post_data == body):
            route.continue_()
    page.unroute(JOIN)
    assert_same(pixels(opened, big), view.heat_overlay(expected.image, expected.fused(8, {2: 0.25, 4: 0.5})))
    slide(opened, ".ov-in-level", 1)
    assert_same(pixels(opened, big), view.heat_overlay(expected.image, expected.fused(8, {2: 0.25, 4: 0.5}, [1])))
    expect(page.locator("#inside .ov-in-said")).to_have_text("“cat”, all resolutions fused, noise level 600")
    slide(opened, ".ov-in-opacity", 0.3)
    faint = view.heat_overlay(expected.image, expected.fused(8, {2: 0.25, 4: 0.5}, [1]), 0.3)
    assert_same(pixels(opened, big), faint)
    page.locator("#inside-make").click()
    with page.expect_download() as download:
        page.locator("#inside-files a").first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        arrays = np.load(io.BytesIO(archive.read("attention.npz")))
    assert dict(zip(arrays["fused_strides"], arrays["fused_weights"], strict=True)) == {1: 0.0, 2: 0.25, 4: 0.5}
    assert list(arrays["timesteps"]) == [100, 600]
    for stride in (1, 2, 4):
        slide(opened, f"[data-stride='{stride}']", 0)
    assert_same(pixels(opened, big), expected.image)
    expect(page.locator("#inside .ov-in-said")).to_contain_text("No resolution counts")
    opened.screenshot(f"inside-{page.viewport_size['width']}")
    opened.well()


@pytest.mark.parametrize("visit", [WIDE, DARK], indirect=True, ids=["wide light", "narrow dark"])
def test_a_click_shows_what_the_place_attends_to_and_all_is_accessible(opened: Visit, expected: Attention) -> None:
    page, big = opened.page, opened.page.locator("#inside .ov-in-frame .ov-canvas")
    press_look(opened)
    big.scroll_into_view_if_needed()
    box = big.bounding_box()
    big.click(position={"x": 0.3 * box["width"], "y": 0.45 * box["height"]})
    said = page.locator("#inside .ov-in-place-said")
    page.wait_for_function("document.querySelector('#inside .ov-in-place-said').innerText.startsWith('What the place')")
    assert "30% from the left, 45% from the top attends to, mean of 2 levels" in said.inner_text()
    titles = page.locator("#inside .ov-in-place figcaption b").all_inner_texts()
    rows = expected.rows_from(0.3, 0.45)
    assert titles == [f"{row.shape[0]} × {row.shape[1]}" for row in rows.values()] == ["32 × 32", "16 × 16", "8 × 8"]
    for number, row in enumerate(rows.values(), 1):
        found = pixels(opened, f".ov-in-place figure:nth-child({number}) canvas")
        assert_same(found, view.heat_overlay(expected.image, row))
    slide(opened, ".ov-in-level", 0)
    page.wait_for_function("document.querySelector('#inside .ov-in-place-said').innerText.includes('noise level 100')")
    assert_same(
        pixels(opened, ".ov-in-place figure:nth-child(2) canvas"),
        view.heat_overlay(expected.image, expected.rows_from(0.3, 0.45, [0])[2]),
    )
    big.focus()
    page.keyboard.press("ArrowRight")
    assert "“car” here: 32 × 32:" in page.locator("#inside .ov-reading").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#inside .ov-in-place-said').innerText.includes('32% from the left')")
    page.locator("#inside [data-rows=layers]").click()
    opened.accessible()
    opened.screenshot(f"inside-{page.viewport_size['width']}-{page.evaluate('document.body.className.includes(`dark`)')}")
    opened.well()


def test_the_table_has_every_map_and_heads_come_apart(opened: Visit, expected: Attention) -> None:
    page = opened.page
    press_look(opened)
    table = page.locator("#inside .ov-in-table")
    assert table.locator("thead th").all_inner_texts() == ["Noise level", "mean", "100", "600"]
    assert table.locator("tbody th").all_inner_texts() == ["32 × 32", "16 × 16", "8 × 8"]
    own = expected.stride_maps(5, [1])[2]
    assert_same(pixels(opened, "[data-map='stride-2/1'] canvas"), view.heat(own))
    page.locator("#inside [data-map='stride-2/1']").click()
    assert_same(pixels(opened, ".ov-in-frame .ov-canvas"), view.heat_overlay(expected.image, own))
    label = page.locator("#inside .ov-in-said").inner_text()
    assert label == f"“car”, 16 × 16, noise level 600: {own.min():.3f} to {own.max():.3f}"
    expect(page.locator("#inside [data-map='stride-2/1']")).to_have_attribute("aria-pressed", "true")
    page.locator("#inside [data-range=one]").click()
    maps = [expected.stride_maps(5, [level]) for level in (0, 1)]
    low, high = (pick(one for level in maps for one in map(pick_in, level.values()))
                 for pick, pick_in in ((min, np.min), (max, np.max)))  # fmt: skip
    found = pixels(opened, "[data-map='stride-1/0'] canvas")
    assert found.max() < view.heat(own).max() and high > low
    page.locator("#inside [data-rows=layers]").click()
    assert len(expected.cross) == 9
    expect(table.locator("tbody tr")).to_have_count(9)
    page.locator("#inside .ov-in-heads-ask").nth(5).click()
    page.locator("#inside .ov-in-heads figure").first.wait_for()
    assert page.locator("#inside .ov-in-heads-title").inner_text() == "Heads of layer 6 at noise level 600, “car”"
    expect(page.locator("#inside .ov-in-heads figure")).to_have_count(4)
    choose_token(opened, "cat", 8)
    page.wait_for_function("document.querySelector('#inside .ov-in-heads-title').innerText.endsWith('“cat”')")
    opened.well()


def test_a_drawn_picture_is_looked_into_step_by_step_and_can_be_stopped(opened: Visit, pocket: Models) -> None:
    page = opened.page
    page.locator("#inside-source label", has_text="Draw").click()
    opened.set_slider("inside-steps", 4)
    page.locator("#inside-sentence textarea, #inside-sentence input").first.fill("a photo of a dog on grass")
    page.locator("#inside-estimate", has_text="4 passes").wait_for()
    press_look(opened)
    assert page.locator("#inside .ov-in-table thead th").all_inner_texts() == ["Sampling step", "mean", "1", "2", "3", "4"]
    _, drawn = draw_inside(pocket, Inspection("a photo of a dog on grass"), pocket.checkpoint.sampling(4))
    shown = view.heat_overlay(drawn.image, drawn.fused(5, usual_weights(pocket)))
    assert np.abs(pixels(opened, ".ov-in-frame .ov-canvas") - shown.astype(int)).mean() < 2
    slide(opened, ".ov-in-level", 2)
    page.wait_for_function("document.querySelector('#inside .ov-in-said').innerText.includes('step 3 (t = ')")
    big = page.locator("#inside .ov-in-frame .ov-canvas")
    box = big.bounding_box()
    big.click(position={"x": 0.3 * box["width"], "y": 0.45 * box["height"]})
    page.wait_for_function("document.querySelector('#inside .ov-in-place-said').innerText.includes('step 3 (t = ')")
    assert page.locator("#inside .ov-in-place-said").inner_text().startswith("What the place 30% from the left, 45% from")
    assert big.bounding_box() == box  # texts that change do not move the page
    page.locator("#inside-keep").get_by_label("nowhere").check()  # 50 steps with self-attention are more than is kept
    opened.set_slider("inside-steps", 50)
    page.locator("#inside-estimate", has_text="50 passes").wait_for()
    page.locator("#inside-look").click()
    page.locator("#inside-status", has_text=re.compile(r"step \d+ of 50")).wait_for()
    with opened.end_comes_late():
        page.locator("#inside-stop").click()
        page.locator("#inside-status", has_text="Stopped.").wait_for()
    assert page.locator("#inside-status").inner_text().strip() == "Stopped."
    opened.well()


def test_an_upload_and_an_example_and_what_is_wrong_is_one_sentence(opened: Visit, tmp_path: Path) -> None:
    page = opened.page
    page.locator("#inside-source label", has_text="Upload").click()
    page.locator("#inside-estimate", has_text="A picture must be chosen first").wait_for()
    Image.fromarray(picture_of(96, 160).image).save(tmp_path / "p.png")
    page.locator("#inside-upload input[type=file]").set_input_files(tmp_path / "p.png")
    page.locator("#inside-estimate", has_text="2 passes").wait_for()
    press_look(opened)
    assert pixels(opened, ".ov-in-frame .ov-canvas").shape == (96, 160, 3)
    page.locator("#inside-source label", has_text="Example").click()
    page.locator("#inside-examples img").first.click()
    page.locator("#inside-example img").wait_for()
    before = page.locator("#inside-status").inner_text()
    press_look(opened)
    assert page.locator("#inside-status").inner_text().startswith("Done") and before.startswith("Done")
    page.locator("#inside-noise textarea, #inside-noise input").first.fill("20, many")
    page.locator("#inside-estimate", has_text="whole number, 0 or more, but got 'many'").wait_for()
    page.locator("#inside-look").click()
    page.get_by_text("Each noise level must be a whole number").last.wait_for()
    opened.well()


def test_one_thing_changed_is_the_pass_without_it(models: Models, looked: Looked) -> None:
    attention, backbone = looked.inside.attention, models.backbone
    sites = list(attention.cross)
    assert [value for _, value in choices_of(attention)][:2] == [f"grid {stride}" for stride in attention.strides[:2]]
    word = looked.token
    change = change_of(models, looked, None, ["layer 2", "head 1 of layer 3", f"token {word}"], "", 1)
    assert change.off == Ablation(((sites[2], 0),), (sites[1],), (word,))
    with counting() as count:
        changed = change.run(models)
    assert count.passes == 1 and changed.timesteps == (300,)
    text = backbone.encode_text([PROMPT], [""])
    noised = backbone.noised(from_image(models, picture_of().image, 3).latent, 300, 3)
    plain, without = (
        backbone.trace_noised(noised, text, 300, Capture(cross=attention.strides), off=off) for off in (NOTHING, change.off)
    )
    for site in sites:
        assert np.allclose(changed.cross[site][0, word], without.cross[site][0, ..., word], atol=1e-3)
        assert np.allclose(again(models, attention, 1).cross[site][0, 1], plain.cross[site][0, ..., 1], atol=1e-3)
    assert not changed.cross[sites[0]][0, word].any()  # no place attends to a token that is off
    page = change_html(change, changed, "without it")
    assert page.count("<figure>") == 5 and "have an IoU of" in page
    other = change_of(models, looked, None, [], "a photo of a dog", 0)
    answer = change_html(other, other.run(models), "of another")
    assert "“dog”, of another" in answer and "“cat”, as it was" in answer


def test_a_word_that_was_not_in_the_sentence_is_answered(models: Models, looked: Looked) -> None:
    asked = word_asked(looked, None, 1, " dog ")
    with counting() as count:
        quick = asked.run(models)
        assert count.passes == 0
        both = replace(asked, is_compared=True).run(models)
    assert count.passes == 1 and np.array_equal(both.from_queries, quick)
    plain, beside = later_html(asked, quick), later_html(asked, both)
    assert plain.count("<figure>") == 1 and "An approximation" in plain
    assert beside.count("<figure>") == 2 and f"an IoU of {100 * both.iou:.0f}." in beside
    for given, said in (
        ((None, None, 1, "dog"), "nothing was looked at yet"), ((looked, None, 1, " "), "The word must"),
        ((looked, None, 7, "dog"), "The level must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            word_asked(*given)


@pytest.mark.parametrize(
    ("off", "sentence", "level", "said"),
    [
        ([], " ", 0, "Something must be switched off"), (["cats"], "", 0, "must be a choice of the list"),
        (["layer 99"], "", 0, "There must be such a layer, 1 to"), (["head 1 of layer 0"], "", 0, "such a layer"),
        (["token 77"], "", 0, "There must be such a token"), (["layer 1"], "", 9, "The level must be one of those"),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_said(
    models: Models, looked: Looked, off: list[str], sentence: str, level: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        change_of(models, looked, None, off, sentence, level)
    with pytest.raises(ValueError, match="nothing was looked at yet"):
        change_of(models, None, None, off, sentence, level)


def test_a_place_ranks_all_tokens_and_levels_play(opened: Visit, expected: Attention) -> None:
    page = opened.page
    press_look(opened)
    frame = page.locator("#inside .ov-in-frame .ov-canvas").first
    box = frame.bounding_box()
    frame.hover(position={"x": box["width"] * 0.4, "y": box["height"] * 0.6})
    page.wait_for_function("document.querySelectorAll('#inside .ov-in-ranked li').length > 3")
    shown = [li.inner_text().split("\n") for li in page.locator("#inside .ov-in-ranked li").all()]
    stride = max(usual_weights(ovseg.Models("pocket", "cpu")).items(), key=lambda item: item[1])[0]
    maps = np.stack([expected.stride_maps(token)[stride] for token in range(len(expected.tokens))])
    rows, columns = maps.shape[1:]
    here = maps[:, int(0.6 * rows), int(0.4 * columns)]
    assert len(shown) == len(here) and shown[0][0] == expected.token_name(int(here.argmax()))
    shares = [int(parts[-1].split()[0]) for parts in shown]
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 100) <= len(shares)
    page.locator("#inside .ov-in-play").click()
    page.wait_for_function("document.querySelector('#inside .ov-in-level-name').textContent.includes('600')")
    page.locator("#inside .ov-in-play", has_text="Pause").click()
    opened.well()


def test_it_opens_with_the_worked_example(pocket: Models) -> None:
    example = WorkedExample(pocket, Durations(), FIRST_SCENE)
    assert example.looked() is None  # not begun
    example.begin()
    looked = example.looked()
    attention = looked.inside.attention
    assert np.array_equal(attention.image, example.results().picture.image) and example.looked() is looked
    assert attention.token_name(looked.token) in example.results().picture.words and attention.timesteps == NOISE_LEVELS


def test_a_small_data_set_is_there_from_the_start() -> None:
    with zipfile.ZipFile(READY.with_suffix(".zip")) as file:
        names = file.namelist()
        settings = json.loads(file.read("settings.json"))
    assert len([name for name in names if name.startswith("JPEGImages/") and name.endswith(".jpg")]) == 8
    assert ", ".join(settings["classes"]) == WORDS and settings["seed"] == FIRST_SEED
    assert Image.open(READY.with_suffix(".webp")).width > 800
