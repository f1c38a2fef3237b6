"""The frozen page: a folder that shows comparisons and what lies inside them without a server."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext

from ovseg.commands.freeze import PICTURES
from ovseg.demo.freeze import freeze
from ovseg.demo.picture import Picture, of_origin
from ovseg.models import Models
from ovseg.progress import silent
from tests.browsers import Watched

PLACES = 4


@pytest.fixture(scope="module")
def site(with_clip: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two pictures that are 64 px high, with few places: how long it takes follows both."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovseg.demo.freeze.of_origin", small)
        patch.setattr("ovseg.demo.freeze.PLACES", PLACES)
        freeze(with_clip, ["example-cat-car", "scene-7"], folder, silent)
    return folder


def small(origin: str) -> Picture:
    picture = of_origin(origin)
    shrunk = Image.fromarray(picture.image).resize((96, 64))
    return replace(picture, image=np.array(shrunk), truth_file=None, world=None)


def test_it_holds_what_the_page_would_send(site: Path) -> None:
    name, value = re.fullmatch(
        r'ovsegFrozen\("(.*?)", (.*)\);\n', (site / "example-cat-car.js").read_text(), re.DOTALL
    ).groups()
    value = json.loads(value)
    assert name == "example-cat-car" and [entry["state"] for entry in value["board"]["entries"]].count("done") >= 2
    assert [maps["token"] for maps in value["tokens"]] == list(range(len(value["inside"]["tokens"])))
    assert len(value["places"]) == PLACES and all(len(row) == PLACES for row in value["places"])
    assert "38% from the left, 12% from the top" in value["places"][0][1]["text"]  # rows are y
    assert all(method["title"] and method["html"].count("<figure>") > 1 for method in value["evidence"])
    outside = re.findall(r'(?:src|href)="(?!frozen\.)[^"]*"', (site / "index.html").read_text())
    assert not outside


def test_the_pictures_of_the_command_are_there() -> None:
    assert all(of_origin(name).words for name in PICTURES)
    with pytest.raises(ValueError, match="picture of a link must be"):
        freeze(Models("pocket", "cpu"), ["cat"], Path("unused"), silent)


def test_a_browser_shows_it_from_the_disk(site: Path, browser: BrowserContext) -> None:
    watched = Watched(browser.new_page())
    page = watched.page
    page.goto((site / "index.html").as_uri())
    page.locator("#board[data-run]").wait_for()
    page.locator("#inside .ov-tokens button").nth(2).click()
    page.wait_for_function("document.querySelector('#inside').dataset.token === '2'")
    page.locator("#evidence summary").first.click()
    assert page.locator("#evidence details[open] img").first.evaluate(
        "image => image.decode().then(() => image.naturalWidth)"
    )
    before = page.locator("#board").get_attribute("data-run")
    page.locator("nav button").nth(1).click()
    page.wait_for_function(f"document.querySelector('#board').dataset.run !== '{before}'")
    frame = page.locator("#inside .ov-in-frame .ov-canvas").first
    frame.click(position={"x": 40, "y": 30})
    page.locator("#inside .ov-in-place .ov-in-strip canvas").first.wait_for()
    assert not watched.errors
    page.close()
