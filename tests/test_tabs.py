"""How the tabs of texts look in a browser, wide and narrow, light and dark."""

from collections.abc import Iterator

import gradio as gr
import pytest
from playwright.sync_api import Page

from ovseg.demo.about_tab import build_about_tab
from ovseg.demo.build import page_theme
from ovseg.demo.results_tab import build_results_tab
from ovseg.models import Models
from tests.browsers import Watched, leave


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with gr.Blocks(title="Tabs") as page:
        gr.Markdown("# Title")
        with gr.Tab("About"):
            build_about_tab(Models("pocket"))
        with gr.Tab("Results"):
            build_results_tab(Models("pocket"))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, theme=page_theme())
    yield url
    page.close()


@pytest.fixture(params=[(1400, "light"), (390, "dark")], ids=["wide light", "narrow dark"])
def watched(address: str, tab: Page, request: pytest.FixtureRequest) -> Iterator[Watched]:
    width, theme = request.param
    watched = Watched(tab)
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(f"{address}?__theme={theme}")
    tab.locator(".ov-about img").last.wait_for()
    assert tab.locator("body.dark").count() == (theme == "dark")
    yield watched
    try:
        watched.fits(".gradio-container")
        watched.accessible(".ov-about, .ov-results")
        watched.screenshot(f"{request.node.name}")
        assert not watched.errors and not watched.outside
    finally:
        leave(tab)


def test_pictures_of_about_are_sharp_and_square(watched: Watched) -> None:
    sizes = watched.page.eval_on_selector_all(
        ".ov-about img", "all => all.map(i => [i.naturalWidth, i.clientWidth, i.clientHeight])"
    )
    assert len(sizes) >= 16
    assert all(natural == 288 and abs(wide - high) <= 1 and wide >= 115 for natural, wide, high in sizes), sizes


def test_results_can_be_read(watched: Watched) -> None:
    page = watched.page
    page.get_by_role("tab", name="Results").click()
    page.locator("#results-claims li").first.wait_for()
    for summary in page.locator(".ov-results .fold > summary").all():
        summary.click()
    for summary in page.locator(".ov-results td summary").all()[:3]:
        summary.click()
    assert page.locator(".ov-results details[open] code").first.inner_text().startswith("python -m ovseg evaluate")
    # Wide, the cells of a row stand beside each other; narrow, the two figures do, each under the name of its column.
    row = page.locator("#results-diffsegmenter tbody tr").first
    cells = [cell.bounding_box() for cell in row.locator("th, td").all()]
    assert len(cells) == 4
    if page.viewport_size["width"] > 1000:
        assert len({cell["y"] for cell in cells}) == 1 and all(cell["width"] > 150 for cell in cells)
    else:
        what, paper, ours, why = cells
        assert what["y"] < paper["y"] == ours["y"] < why["y"] and paper["x"] == what["x"] == why["x"] < ours["x"]
        assert min(paper["width"], ours["width"]) > 120 and min(what["width"], why["width"]) > 240
        named = row.locator("td").evaluate_all("all => all.map(e => getComputedStyle(e, '::before').content)")
        assert named == ['"The paper"', '"Ours"', '"What differs"']
