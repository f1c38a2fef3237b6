"""The About tab: its texts and pictures."""

import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg import methods
from ovseg.demo import make_about, screenshots
from ovseg.demo.about_tab import ABOUT, STEPS, about_html
from ovseg.demo.static_files import static
from ovseg.methods import METHODS, find_method
from ovseg.models import Models


class Outline(HTMLParser):
    """Headings, pictures and links of a page, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch(r"h\d", tag):
            self.levels.append(int(tag[1]))
        elif tag == "img":
            self.images.append({name: value or "" for name, value in attrs})
        elif tag == "a":
            self.links.append(dict(attrs)["href"] or "")


@pytest.fixture(scope="module")
def outline() -> Outline:
    return Outline(about_html(Models("pocket")))


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_every_method_has_a_paper_and_what_its_folder_holds(kind: type) -> None:
    html = about_html(Models("pocket"))
    section = html.split(f'id="about-{kind.name}">')[1].split("</section>")[0]
    assert f"https://arxiv.org/abs/{kind.paper.arxiv}" in section
    text = re.sub(r"<[^>]+>", " ", section.split('<p class="paper">')[0])
    has_text, has_steps = ((kind.folder() / ABOUT / name).exists() for name in ("text.html", STEPS))
    assert 4 <= len(re.findall(r"\.\s", text)) <= 8 if has_text else text.split() == kind.title.split(), text
    assert 4 <= section.count("<figure>") <= 5 if has_steps else "<ol" not in section


def test_the_papers_that_ship_all_have_a_text_and_a_strip() -> None:
    folders = [folder for folder in Path(methods.__file__).parent.iterdir() if (folder / "__init__.py").exists()]
    assert {folder.name for folder in folders} == {kind.folder().name for kind in METHODS}
    assert all((folder / ABOUT / "text.html").exists() for folder in folders)
    shows = [kind for kind in METHODS if kind.strip is not methods.Method.strip]
    assert len(shows) >= 7 and all((kind.folder() / ABOUT / STEPS).exists() for kind in shows)


def test_headings_go_down_one_level_at_a_time(outline: Outline) -> None:
    assert outline.levels[0] == 2  # the page's own title is the first level
    assert all(after - before <= 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))


def test_every_picture_says_what_it_shows(outline: Outline) -> None:
    assert outline.images
    assert all(len(image["alt"]) > 20 for image in outline.images)


def test_nothing_comes_from_outside(outline: Outline) -> None:
    assert all(image["src"].startswith("data:image/webp;base64,") for image in outline.images)
    assert not re.search(r"url\(|@import", static("about/about.css"))


def test_the_tab_says_what_the_backbone_knows() -> None:
    models = Models("pocket")
    assert models.checkpoint.knows in about_html(models)


def test_pictures_are_small_and_all_are_shown(outline: Outline) -> None:
    files = [file for kind in METHODS for file in (kind.folder() / ABOUT).glob("*.webp")]
    assert len(files) == len(outline.images)
    assert max(file.stat().st_size for file in files) <= make_about.MOST_BYTES
    assert sum(file.stat().st_size for file in files) <= 600_000


def test_noise_is_made_to_fit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="must fit 20000 bytes"):
        make_about.webp(noise)
    smooth = np.asarray(Image.fromarray(noise).resize((8, 8)).resize((512, 384)))
    assert Image.open(BytesIO(make_about.webp(smooth))).size == (288, 216)


def test_strips_of_two_methods_are_the_shipped_ones(tmp_path: Path) -> None:
    """The shipped pictures are what the shipped networks do; another processor may round a little otherwise."""
    kinds = [find_method(name) for name in ("diffsegmenter", "grounded-diffusion")]
    subject = make_about.subject_of(Models("pocket", "cpu"), make_about.SCENE)
    for kind in kinds:
        make_about.write_strip(subject, kind, tmp_path / kind.name)
        steps = json.loads((tmp_path / kind.name / STEPS).read_text())
        assert steps == json.loads((kind.folder() / ABOUT / STEPS).read_text()) and len(steps) == 5
        for step in steps:
            folders = (kind.folder() / ABOUT, tmp_path / kind.name)
            old, new = (np.asarray(Image.open(folder / step["file"]), np.float32) for folder in folders)
            assert np.abs(old - new).mean() < 6, f"{step['file']} is old: run python -m ovseg.demo.make_about"


def test_screenshots_are_made_small_and_their_greys_stay_grey() -> None:
    ramp = np.linspace(0, 255, 1800).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (900, 1)), np.tile(ramp[::-1], (900, 1)), np.tile(ramp[:900, None], (1, 1800))], -1)
    picture[:100] = 120
    content = BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    small = screenshots.shrunk_png(content.getvalue())
    shown = np.asarray(Image.open(BytesIO(small)).convert("RGB"), int)
    assert len(small) <= screenshots.MOST_BYTES
    assert shown.shape == (700, 1400, 3)
    assert (shown[:70] == 120).all()
    assert np.abs(shown - np.asarray(Image.fromarray(picture).resize((1400, 700)), int)).mean() < 12
