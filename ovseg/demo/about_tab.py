"""The About tab: what the page does, how each method works, in pictures of its steps, and where figures come from.

Texts and CSS of the page are files in `static/about/`. What is said of a method is in its folder `about/`, the pictures of
which `python -m ovseg.demo.make_about` makes. Building the tab loads no weights. The pictures travel inside the page, so
that they need no address of their own behind a proxy.
"""

import base64
import json
from html import escape

import gradio as gr

from ovseg.demo.static_files import static
from ovseg.methods import METHODS, Method
from ovseg.models import Models

ABOUT = "about"  # a method's folder of its text and its pictures
STEPS = "steps.json"  # the pictures of its strip, in order: file, caption, alt


def build_about_tab(models: Models) -> None:
    """Lay out the tab. Loads no weights."""
    gr.HTML(about_html(models), css_template=static("about/about.css"), elem_id="about-tab", js_on_load=None)


def about_html(models: Models) -> str:
    """The whole tab as HTML: an introduction, each method with its strip, the pocket world, honesty."""
    methods = "".join(map(_method, METHODS))
    knows = f"<p><strong>{escape(models.checkpoint.title)}.</strong> {escape(models.checkpoint.knows)}</p>"
    world = static("about/world.html").replace("<!-- backbone -->", knows)
    return f'<div class="ov-about">{static("about/intro.html")}{methods}{world}</div>'


def _method(kind: type[Method]) -> str:
    """What is said of a method: what it has no text or pictures for is left out."""
    paper, text = kind.paper, kind.folder() / ABOUT / "text.html"
    cited = (
        f'<p class="paper">{escape(paper.authors)}: <a href="https://arxiv.org/abs/{paper.arxiv}" target="_blank"'
        f' rel="noopener">{escape(paper.title)}</a>. {escape(paper.venue)}, arXiv {paper.arxiv}.</p>'
    )
    body = text.read_text(encoding="utf-8") if text.exists() else ""
    apart = f'<p class="apart">A yardstick: {escape(kind.yardstick)}.</p>' if kind.yardstick else ""
    parts = f"<h3>{escape(kind.title)}</h3>{body}{apart}{cited}{_strip(kind)}"
    return f'<section class="method" id="about-{kind.name}">{parts}</section>'


def _strip(kind: type[Method]) -> str:
    """The steps as an ordered list of figures; empty where there are no pictures."""
    folder = kind.folder() / ABOUT
    strip = json.loads((folder / STEPS).read_text(encoding="utf-8")) if (folder / STEPS).exists() else []
    items = "".join(
        f'<li><figure><img src="data:image/webp;base64,{base64.b64encode((folder / step["file"]).read_bytes()).decode()}"'
        f' alt="{escape(step["alt"])}" width="288" height="288">'
        f"<figcaption>{escape(step['caption'])}</figcaption></figure></li>"
        for step in strip
    )
    return f'<ol aria-label="Steps of {escape(kind.title)}">{items}</ol>' if items else ""
