"""The board: what Python packs for it, and what headless Chromium makes of that."""

import base64
import io
import re
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from ovseg.compare import CLAIMED, CONFUSED, MISSED, RIGHT, Comparison, Entry, Truth
from ovseg.demo.board import (
    PACKED,
    STEPS,
    board_picture,
    board_value,
    done,
    packed,
    score_steps,
    two_best,
    unpacked,
    waiting,
)
from ovseg.output import view
from ovseg.types import Segmentation
from tests.board_browser import BoardPage, served
from tests.board_page import LABELS, by_itself, by_threshold, picture, segmentations, truth
from tests.browsers import leave


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.mark.parametrize("own", [0.5, 0.4, 0.0, 1.0, 0.12345])
def test_a_packed_map_parts_at_every_threshold_as_the_scores_do(own: float) -> None:
    segmentation = by_threshold(40, 60, 0.0, own)
    labels, steps = unpacked(done("a", "A", segmentation)["best"], (40, 60))
    for threshold in (own, *(k / 100 for k in range(101)), 0.333):
        expected = segmentation.with_threshold(threshold).label_map
        assert np.array_equal(np.where(steps > round(threshold * STEPS), labels, 0), expected), threshold


def test_maps_come_back_as_they_were_packed() -> None:
    random = np.random.default_rng(0)
    labels, steps = random.integers(0, 255, (30, 50), np.uint8), random.integers(0, STEPS + 1, (30, 50), np.uint16)
    steps[0, :4] = 0, STEPS, 0, STEPS
    url = packed(labels, steps)
    assert all(np.array_equal(*pair) for pair in zip(unpacked(url, (30, 50)), (labels, steps), strict=True))
    bomb = PACKED + base64.b64encode(zlib.compress(bytes(10**7))).decode()
    for wrong, image_hw in (
        (url, (30, 49)),
        (url, (-30, -50)),
        (url[:-40], (30, 50)),
        (bomb, (30, 50)),
        ("data:,a", (30, 50)),
    ):
        with pytest.raises(ValueError, match="three numbers for each of"):
            unpacked(wrong, image_hw)


def test_scores_on_the_threshold_itself_are_background() -> None:
    scores = np.array([[[0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.7]]], np.float32)
    steps = score_steps(scores, 0.0, 1.0, 0.3)
    assert (steps > round(0.3 * STEPS)).tolist() == [[[False, True, True]]]


def test_a_background_with_its_own_score_is_packed_with_the_scores_range() -> None:
    segmentation = by_itself(40, 60)
    entry = done("a", "A", segmentation)
    labels, steps = unpacked(entry["best"], (40, 60))
    assert entry["threshold"] is None and np.array_equal(labels, segmentation.label_map)
    scores = entry["low"] + (entry["high"] - entry["low"]) * steps / STEPS
    assert np.abs(scores - segmentation.scores().max(0)).max() < 1e-4
    runner_up, steps = unpacked(entry["runner_up"], (40, 60))
    order = (-segmentation.scores()).argsort(0, kind="stable")
    assert np.array_equal(runner_up, order[1])
    scores = entry["low"] + (entry["high"] - entry["low"]) * steps / STEPS
    assert np.abs(scores - np.take_along_axis(segmentation.scores(), order[1:2], 0)[0]).max() < 1e-4


def test_a_label_map_is_found_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation = by_itself(40, 60)
    monkeypatch.setattr("ovseg.types.STRIP", 7 * 60)
    assert np.array_equal(segmentation.label_map, segmentation.scores().argmax(0))


def test_one_class_over_a_threshold_has_no_runner_up() -> None:
    segmentation = Segmentation(picture(8, 12), ("background", "cat"), np.zeros((2, 8, 12), np.float32), threshold=0.5)
    assert done("a", "A", segmentation)["runner_up"] is None
    assert two_best(segmentation)[0].tolist() == np.ones((1, 8, 12)).tolist()


def test_the_legend_is_the_words_asked_for_and_then_what_was_found_besides() -> None:
    scene = board_picture(picture(40, 60), LABELS)
    value = board_value(scene, [waiting("w", "W", 3.0), done("a", "A", by_itself(40, 60))], "run")
    assert [item["label"] for item in value["legend"]] == [*LABELS, "sky"]
    assert value["asked"] == 4 and value["legend"][0]["hatch"] is None
    assert len({item["colour"] for item in value["legend"]}) == 5


def test_a_threshold_that_no_slider_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
        score_steps(np.zeros((1, 2, 2), np.float32), 0.0, 1.0, 1.5)


# ---- In the browser ----

HEIGHT, WIDTH = 144, 208
ORDER = (*LABELS, "sky")
METHODS = segmentations(HEIGHT, WIDTH)
KEYS = dict(zip(METHODS, ("m0", "m1", "m2"), strict=True))
TRUTH = Truth(truth(HEIGHT, WIDTH), LABELS)
LOOKS = [(1400, "light"), (390, "dark")]  # each width and each theme once


def comparison(threshold: float | None = None) -> Comparison:
    """What the server says of the same methods, at their own threshold or at one for all that have any."""
    moved = {
        title: one if threshold is None or one.threshold is None else one.with_threshold(threshold)
        for title, one in METHODS.items()
    }
    entries = tuple(Entry(title, one, 0.0) for title, one in moved.items())
    return Comparison(picture(HEIGHT, WIDTH), LABELS[1:], entries, truth=TRUTH)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(HEIGHT, WIDTH) as url:
        yield url


@pytest.fixture
def visit(address: str, tab: Page, request: pytest.FixtureRequest) -> Iterator[BoardPage]:
    width, theme = getattr(request, "param", (1400, "light"))
    visitor = BoardPage(tab, address, width, theme)
    yield visitor
    try:
        assert not visitor.errors and not visitor.outside
    finally:
        leave(tab)  # which breaks off what the page was asking for: an error in its console


@pytest.fixture
def finished(visit: BoardPage) -> BoardPage:
    visit.show("finished", 3)
    return visit


def assert_same(pixels: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding, which a canvas with opacity does more than once."""
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 3


@pytest.mark.parametrize("visit", LOOKS, indirect=True)
def test_canvases_show_what_the_files_show(finished: BoardPage) -> None:
    assert_same(finished.pixels("picture"), picture(HEIGHT, WIDTH))
    for title, key in KEYS.items():
        assert_same(finished.pixels(key), view.overlay(METHODS[title], 0.45, order=ORDER))
    finished.press(".ov-more > summary")
    finished.press("[data-look=hatching]")
    for title, key in KEYS.items():
        assert_same(finished.pixels(key), view.overlay(METHODS[title], 0.45, order=ORDER, hatched=True))


def test_a_step_of_a_run_brings_one_methods_maps_and_the_others_stay(visit: BoardPage) -> None:
    visit.show("under way", 1)
    visit.press(".ov-chip[data-label=cat]")
    visit.find(".ov-card[data-state=waiting]").wait_for()
    visit.page.locator("#step").click()
    visit.find(".ov-card[data-key=m2][data-state=done]").wait_for()
    visit.settle()
    assert visit.card("m1").get_attribute("data-state") == "running"
    for title, key in (("DiffSegmenter", "m0"), ("OVDiff", "m2")):
        assert_same(visit.pixels(key), view.overlay(METHODS[title], 0.45, ["cat"], order=ORDER))


def test_a_value_that_comes_late_ends_no_run(visit: BoardPage) -> None:
    visit.show("under way", 1)
    visit.show("small", 1)  # as the page's opening may bring it, while a run goes on
    visit.page.locator("#step").click()
    visit.find(".ov-card[data-key=m2][data-state=done]").wait_for()
    visit.settle()
    assert visit.card("m1").get_attribute("data-state") == "running"
    assert_same(visit.pixels("m0"), view.overlay(METHODS["DiffSegmenter"], 0.45, order=ORDER))


def test_opacity_and_hidden_classes_act_on_all(finished: BoardPage) -> None:
    finished.slide(".ov-opacity", 0.9)
    finished.press(".ov-chip[data-label=cat]")
    assert finished.find(".ov-chip[data-label=cat]").get_attribute("aria-pressed") == "false"
    for title, key in KEYS.items():
        assert_same(finished.pixels(key), view.overlay(METHODS[title], 0.9, ["cat"], order=ORDER))
    finished.press(".ov-chip[data-label=cat]")
    assert_same(finished.pixels("m0"), view.overlay(METHODS["DiffSegmenter"], 0.9, order=ORDER))


COLOURS = view.palette_for(picture(HEIGHT, WIDTH), 5)


def test_the_background_is_coloured_when_asked_for(finished: BoardPage) -> None:
    finished.press(".ov-more > summary")
    finished.press("[data-look=outline]")
    finished.press(".ov-chip[data-label=background]")
    segmentation = METHODS["DiffSegmenter"]
    expected = view.paint(segmentation.image, segmentation.label_map, COLOURS, np.full(5, 0.45))
    assert_same(finished.pixels("m0"), expected)


def test_pointing_at_a_class_dims_the_others(finished: BoardPage) -> None:
    finished.press(".ov-more > summary")
    finished.press("[data-look=outline]")
    finished.find(".ov-chip[data-label=car]").hover()
    finished.settle()
    segmentation = METHODS["DiffSegmenter"]
    expected = view.paint(segmentation.image, segmentation.label_map, COLOURS, 0.45 * np.array([0, 0.25, 1, 0.25, 0]))
    assert_same(finished.pixels("m0"), expected)


def test_the_threshold_moves_masks_and_iou_as_the_server_would(finished: BoardPage) -> None:
    for threshold in (None, 0.31, 0.7, 0.999):
        if threshold is not None:
            finished.find(".ov-threshold").evaluate("(slider) => { slider.step = 'any'; }")
            finished.slide(".ov-threshold", threshold)
        expected = comparison(threshold)
        for entry in expected.entries:
            key = KEYS[entry.title]
            assert_same(finished.pixels(key), view.overlay(entry.segmentation, 0.45, order=ORDER))
            assert finished.card(key).locator("header b").inner_text() == f"IoU {100 * expected.mean_iou(entry):.0f}"
            assert finished.card(key).locator(".ov-figures").inner_text().startswith("IoU")
            figures = finished.card(key).locator(".ov-figures span").all_inner_texts()
            ious = {label: value for label, value in expected.iou(entry).items() if not np.isnan(value)}
            assert figures == [f"{label} {100 * value:.0f}" for label, value in ious.items()]
    finished.press(".ov-more > summary")
    finished.press(".ov-own")
    assert_same(finished.pixels("m1"), view.overlay(METHODS["Grounded Diffusion"], 0.45, order=ORDER))


def test_outlines_stay_without_a_fill_and_go_when_asked(finished: BoardPage) -> None:
    finished.slide(".ov-opacity", 0)
    assert_same(finished.pixels("m0"), view.overlay(METHODS["DiffSegmenter"], 0, order=ORDER))
    assert (finished.pixels("m0") != picture(HEIGHT, WIDTH)).any()
    finished.press(".ov-more > summary")
    finished.press("[data-look=outline]")
    assert_same(finished.pixels("m0"), picture(HEIGHT, WIDTH))


PLACE = (0.25, 0.7)  # of the picture's width and height: a car, where x for y would be nothing


def test_pointing_marks_all_canvases_and_names_classes_scores_and_runners_up(finished: BoardPage) -> None:
    finished.point("m0", *PLACE)
    row, column = int(PLACE[1] * HEIGHT), int(PLACE[0] * WIDTH)
    for title, segmentation in METHODS.items():
        scores = segmentation.scores()[:, row, column]
        first, second = (-scores).argsort(kind="stable")[:2]
        reading = finished.card(KEYS[title]).locator(".ov-reading").inner_text().replace("−", "-")
        one, one_score, two, two_score = re.fullmatch(r"(\w+) (-?[\d.]+), then (\w+) (-?[\d.]+)", reading).groups()
        assert (one, two) == (segmentation.labels[first], segmentation.labels[second])
        assert float(one_score) == pytest.approx(scores[first], abs=0.0052)
        assert float(two_score) == pytest.approx(scores[second], abs=0.0052)
        frame = finished.card(KEYS[title]).locator(".ov-frame").bounding_box()
        vertical = finished.card(KEYS[title]).locator(".ov-vertical").bounding_box()
        horizontal = finished.card(KEYS[title]).locator(".ov-horizontal").bounding_box()
        assert vertical["x"] - frame["x"] == pytest.approx(PLACE[0] * frame["width"], abs=2)
        assert horizontal["y"] - frame["y"] == pytest.approx(PLACE[1] * frame["height"], abs=2)
    assert finished.card("picture").locator(".ov-reading").inner_text() == "truth: car"
    finished.page.mouse.move(1, 1)
    finished.settle()
    assert not finished.card("m1").locator(".ov-vertical").is_visible()


def test_below_the_threshold_the_background_comes_first(finished: BoardPage) -> None:
    finished.slide(".ov-threshold", 0.9)
    finished.point("m0", 0.25, 0.6)
    score = METHODS["DiffSegmenter"].scores()[2, int(0.6 * HEIGHT), int(0.25 * WIDTH)]
    assert score < 0.9
    assert finished.card("m0").locator(".ov-reading").inner_text() == f"background 0.90, then car {score:.2f}"


@pytest.mark.parametrize("visit", LOOKS, indirect=True)
def test_a_click_says_where_and_on_which_canvas(finished: BoardPage) -> None:
    finished.point("m0", *PLACE, click=True)
    said = finished.page.locator("#selected")
    finished.page.wait_for_function("document.querySelector('#selected').innerText.includes('m0')")
    x, y = (float(number) for number in re.findall(r"\d\.\d+", said.inner_text())[:2])
    assert (x, y) == (pytest.approx(PLACE[0], abs=0.01), pytest.approx(PLACE[1], abs=0.01))
    assert finished.find(".ov-pin:visible").count() == 4


def related(kinds: np.ndarray) -> np.ndarray:
    """What kinds of relations look like over the grey picture: an error map as the sheet draws it."""
    return view.error_picture(picture(HEIGHT, WIDTH), kinds, 0.85)


def test_errors_are_coloured_by_kind(finished: BoardPage) -> None:
    finished.press("[data-view=errors]")
    expected, kinds_seen = comparison(), set()
    for entry in expected.entries:
        kinds = expected.error_map(entry)
        assert_same(finished.pixels(KEYS[entry.title]), related(kinds))
        missed = (kinds == MISSED).sum() / (kinds != 255).sum()
        assert f"missed {100 * missed:.1f} %" in finished.canvas(KEYS[entry.title]).get_attribute("aria-label")
        kinds_seen |= set(kinds.ravel().tolist())
    assert {RIGHT, MISSED, CLAIMED, 255} <= kinds_seen
    finished.press(".ov-chip[data-label=car]")
    row, column = int(0.75 * HEIGHT), int(0.25 * WIDTH)  # the car, which is hidden now
    assert_same(finished.pixels("m0")[row, column], view.dimmed(picture(HEIGHT, WIDTH))[row, column])


def test_the_first_canvas_shows_the_truth_too(finished: BoardPage) -> None:
    finished.press(".ov-truth")
    labels = np.where(TRUTH.label_map == 255, 0, TRUTH.label_map)
    expected = view.masks_over(picture(HEIGHT, WIDTH), labels, COLOURS, np.arange(5) > 0)
    assert_same(finished.pixels("picture"), expected)
    assert "The truth: background" in finished.canvas("picture").get_attribute("aria-label")


@pytest.mark.parametrize("visit", LOOKS, indirect=True)
def test_where_two_differ(finished: BoardPage) -> None:
    finished.press("[data-view=agreement]")
    finished.press("[data-way=difference]")
    expected = comparison()
    one, other = expected.entries[0], expected.entries[2]
    finished.find(".ov-second").select_option(label="OVDiff")
    finished.settle()
    first, second = (expected.maps_of_classes[entry.title] for entry in (one, other))
    differ = first != second
    assert f"say the same on {100 * (1 - differ.mean()):.1f} % of the picture" in finished.find(".ov-agreement").inner_text()
    pair = Comparison(expected.image, expected.classes, (one, other))
    assert f"on {100 * pair.agreement_on_classes:.1f} % of where" in finished.find(".ov-agreement").inner_text()
    kinds = np.select([first == second, second == 0, first == 0], [RIGHT, MISSED, CLAIMED], CONFUSED)
    assert_same(finished.pixels("difference"), related(kinds.astype(np.uint8)))
    assert (kinds == CLAIMED).any() and (kinds == MISSED).any()
    assert finished.page.evaluate("document.documentElement.scrollWidth") <= finished.page.viewport_size["width"]


def test_the_curtain_hangs_between_two(finished: BoardPage) -> None:
    finished.press("[data-view=slider]")
    finished.slide(".ov-curtain", 75)
    pixels, edge = finished.pixels("difference"), round(0.75 * WIDTH)
    left, right = (view.overlay(METHODS[title], 0.45, order=ORDER) for title in list(METHODS)[:2])
    assert_same(pixels[:, :edge], left[:, :edge])
    assert_same(pixels[:, edge + 1 :], right[:, edge + 1 :])
    canvas = finished.canvas("difference")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    finished.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 20)
    finished.page.mouse.down()
    finished.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 20, steps=3)
    finished.page.mouse.up()
    finished.settle()
    assert float(finished.find(".ov-curtain").input_value()) == pytest.approx(30, abs=1)
    assert finished.find(".ov-pin:visible").count() == 0  # letting go of the curtain asks nothing


def test_how_many_agree_and_mutual_iou(finished: BoardPage) -> None:
    finished.press("[data-view=agreement]")
    expected = comparison()
    assert f"on {100 * expected.agreement:.1f} % of" in finished.find(".ov-agreement").inner_text()
    assert np.array_equal(np.ptp(finished.pixels("difference").astype(int), -1) == 0, expected.votes == 3)
    cells = [float(text) for text in finished.find(".ov-mutual td").all_inner_texts() if text]
    iou = 100 * expected.mutual_iou
    assert cells == [pytest.approx(iou[row, column], abs=0.051) for row, column in ((1, 0), (2, 0), (2, 1))]


def test_everything_is_reached_by_keyboard(finished: BoardPage) -> None:
    page = finished.page
    finished.find(".ov-chip[data-label=cat]").focus()
    page.keyboard.press("Space")
    finished.settle()
    assert finished.find(".ov-chip[data-label=cat]").get_attribute("aria-pressed") == "false"
    reached = []
    finished.find(".ov-more > summary").press("Enter")
    finished.find(".ov-chip[data-label=cat]").focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className || document.activeElement.textContent"))
    assert {"ov-opacity", "ov-threshold", "ov-own", "Outline", "Hatching", "Errors", "Slider", "ov-truth"} <= set(reached)
    assert sum("ov-canvas" in name for name in reached) == 4
    finished.canvas("m1").focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown", "Shift+ArrowDown"):  # the first press starts in the middle
        page.keyboard.press(key)
        for still in ("pointermove", "pointerleave"):  # what a page sends that scrolls under a mouse at rest
            finished.canvas("m1").dispatch_event(still, {"pointerType": "mouse"})
    finished.settle()
    x, y = WIDTH // 2 - 3, HEIGHT // 2 + 3 + 1  # a stride is a 64th of the longer side
    scores = METHODS["OVDiff"].scores()[:, y, x]
    best = METHODS["OVDiff"].labels[scores.argmax()]
    spoken = f"OVDiff: {best} {scores.max():.2f}".replace("-", "−")
    assert spoken in finished.find(".ov-live").inner_text()
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('#selected').innerText.includes('m1')")
    said = [float(number) for number in re.findall(r"\d\.\d+", page.locator("#selected").inner_text())[:2]]
    assert said == [pytest.approx((x + 0.5) / WIDTH, abs=1e-3), pytest.approx((y + 0.5) / HEIGHT, abs=1e-3)]
    page.keyboard.press("Escape")
    finished.settle()
    assert not finished.card("m1").locator(".ov-vertical").is_visible()


def test_what_a_visitor_moved_is_told_to_the_server(finished: BoardPage) -> None:
    finished.press(".ov-chip[data-label=car]")
    finished.slide(".ov-threshold", 0.62)
    finished.page.wait_for_function("document.querySelector('#looked').innerText.includes('0.62')")
    text = finished.page.locator("#looked").inner_text()
    assert "car" in text and "0.6" in text
    finished.press(".ov-more > summary")
    finished.press(".ov-offsets summary")
    finished.slide(".ov-offsets label:has-text('cat') input", -0.25)
    finished.page.wait_for_function("document.querySelector('#looked').innerText.includes('-0.25')")
    assert finished.find(".ov-offsets label:has-text('cat') output").inner_text() == "-0.25"
    finished.press(".ov-own")
    finished.page.wait_for_function("!document.querySelector('#looked').innerText.includes('-0.25')")
    assert finished.find(".ov-offsets label:has-text('cat') output").inner_text() == "0.00"


def test_methods_wait_work_and_fail_in_their_own_places(visit: BoardPage) -> None:
    assert "press Run" in visit.find(".ov-empty").inner_text()
    visit.show("under way", 1)
    texts = {key: visit.card(key).locator(".ov-state").inner_text() for key in ("m1", "m2", "m3")}
    assert texts["m1"] == "reading the attention; about 2.0 s left"
    assert visit.card("m1").locator("progress").get_attribute("value") == "0.4"
    assert texts["m2"] == "Waits; takes about 15 s"
    assert texts["m3"] == "The captioner must be there, but its weights are not."
    assert_same(visit.pixels("m0"), view.overlay(METHODS["DiffSegmenter"], 0.45))
    visit.press(".ov-chip[data-label=cat]")
    visit.slide(".ov-threshold", 0.7)
    visit.show("finished", 3)  # the same run: what the visitor chose stays
    for key, entry in zip(KEYS.values(), comparison(0.7).entries, strict=True):
        assert_same(visit.pixels(key), view.overlay(entry.segmentation, 0.45, ["cat"], order=ORDER))
    visit.show("no truth", 3)  # another run: each method's own threshold, and every class
    assert_same(visit.pixels("m1"), view.overlay(METHODS["Grounded Diffusion"], 0.45, order=ORDER))
    assert not visit.find("[data-view=errors]").is_visible() and not visit.find(".ov-truth").is_visible()
    shares = METHODS["OVDiff"].shares
    assert f"car {100 * shares['car']:.0f} %" in visit.canvas("m2").get_attribute("aria-label")
    visit.show("small", 1)
    assert visit.canvas("m0").evaluate("canvas => [canvas.width, canvas.height]") == [96, 64]
    visit.show("empty", 0)
    visit.find(".ov-empty").wait_for(state="visible")


@pytest.mark.parametrize("visit", LOOKS[1:], indirect=True)
def test_a_narrow_page_shows_one_canvas_at_a_time(finished: BoardPage) -> None:
    page = finished.page

    def in_view() -> list[str]:
        return page.evaluate(
            "[...document.querySelectorAll('#board .ov-card')].filter(card => { const box = card.getBoundingClientRect();"
            " return box.left >= 0 && box.right <= innerWidth; }).map(card => card.dataset.key)"
        )

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert in_view() == ["m0"]  # the first masks
    finished.find(".ov-names button").nth(3).click()
    page.wait_for_function("document.querySelectorAll('#board .ov-names button')[3].ariaPressed === 'true'")
    assert in_view() == ["m2"]
    assert finished.find(".ov-bar").bounding_box()["y"] > finished.canvas("m2").bounding_box()["y"]
    box = finished.canvas("m2").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(WIDTH / HEIGHT, rel=0.02)


@pytest.mark.parametrize("width, height, columns, least", [(1400, 900, 2, 420), (1920, 1080, 2, 560), (1024, 768, 2, 340)])
def test_canvases_are_as_large_as_the_window_allows(
    finished: BoardPage, width: int, height: int, columns: int, least: int
) -> None:
    finished.page.set_viewport_size({"width": width, "height": height})
    finished.settle()
    boxes = [finished.canvas(key).bounding_box() for key in ("picture", *KEYS.values())]
    assert len({round(box["x"]) for box in boxes}) == columns
    assert all(
        box["width"] >= least and box["width"] / box["height"] == pytest.approx(WIDTH / HEIGHT, 0.02) for box in boxes
    )
    assert finished.page.evaluate("document.documentElement.scrollWidth") <= width


def test_zoom_and_pan_are_those_of_all_canvases(finished: BoardPage) -> None:
    page = finished.page
    whole = finished.canvas("m0").bounding_box()
    finished.point("m0", 0.25, 0.5)
    page.mouse.wheel(0, -400)
    finished.settle()
    boxes = [finished.canvas(key).bounding_box() for key in ("picture", *KEYS.values())]
    scale = boxes[1]["width"] / whole["width"]
    assert scale > 1.5 and all(box["width"] == pytest.approx(boxes[0]["width"], abs=1) for box in boxes)
    # What was pointed at stays there.
    assert boxes[1]["x"] - whole["x"] == pytest.approx(0.25 * whole["width"] * (1 - scale), abs=2)
    page.mouse.down()
    page.mouse.move(whole["x"] + 0.25 * whole["width"] + 30, whole["y"] + 0.5 * whole["height"], steps=3)
    page.mouse.up()
    finished.settle()
    assert finished.canvas("m2").bounding_box()["x"] == pytest.approx(boxes[3]["x"] + 30, abs=6)
    assert finished.find(".ov-pin:visible").count() == 0  # letting go of the picture asks nothing
    finished.canvas("m1").focus()
    page.keyboard.press("0")
    finished.settle()
    assert finished.canvas("m0").bounding_box()["width"] == pytest.approx(whole["width"], abs=1)


def test_one_is_large_and_the_others_are_a_strip(finished: BoardPage) -> None:
    page = finished.page
    finished.canvas("m1").dblclick()
    finished.settle()

    def widths() -> dict[str, float]:
        return {key: finished.canvas(key).bounding_box()["width"] for key in ("picture", *KEYS.values())}

    assert widths()["m1"] > 450 and all(width <= 150 for key, width in widths().items() if key != "m1")
    assert finished.card("m0").locator("header b").is_visible()
    page.keyboard.press("2")
    finished.settle()
    assert widths()["m0"] > 450 and widths()["m1"] <= 150
    page.keyboard.press("Escape")
    finished.settle()
    assert len({round(width) for width in widths().values()}) == 1
    page.keyboard.press("f")
    finished.settle()
    assert widths()["m0"] > 450


def test_what_nobody_asked_for_is_marked(finished: BoardPage) -> None:
    marked = [chip.inner_text() for chip in finished.find(".ov-chip").all() if "from the caption" in chip.inner_text()]
    assert [text.split("\n")[0] for text in marked] == ["sky"]


@pytest.mark.parametrize("visit", LOOKS, indirect=True)
def test_it_is_accessible_under_way_and_where_methods_are_compared(visit: BoardPage) -> None:
    visit.show("under way", 1)
    visit.accessible("#board")
    visit.show("finished", 3)
    visit.press("[data-view=agreement]")
    visit.accessible("#board")
