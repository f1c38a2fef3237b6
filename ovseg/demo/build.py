"""Putting the page together, and serving it."""

import html
import sys
from collections.abc import Sequence

import gradio as gr
from starlette.middleware import Middleware

from ovseg.compare import board_of
from ovseg.demo.about_tab import build_about_tab
from ovseg.demo.compare_tab import build_compare_tab, wire_opening
from ovseg.demo.dataset_tab import build_dataset_tab
from ovseg.demo.doors import build_doors
from ovseg.demo.inside_tab import build_inside_tab
from ovseg.demo.mcp_content import content_of
from ovseg.demo.picture_panel import FIRST_SCENE
from ovseg.demo.preload import load_everything, on_zero_gpu
from ovseg.demo.results_tab import build_results_tab
from ovseg.demo.static_files import script_of, static
from ovseg.demo.worked_example import WorkedExample
from ovseg.limits import limits
from ovseg.models import Models
from ovseg.server.durations import Durations
from ovseg.server.gradio_parts import expect_recent_times, look_for_jobs_less_often, take_bare_pictures, write_mcp_answers
from ovseg.server.guard import HANDLERS, Guard, allowed_hosts
from ovseg.server.housekeeping import housekeeping
from ovseg.server.listeners import ListeningMiddleware
from ovseg.server.page import Page
from ovseg.server.stopped_jobs import StoppedJobMiddleware
from ovseg.server.visitors import VisitorMiddleware, Visitors

TURN_SECONDS = 0.0005  # for which a thread keeps Python where others wait for it
TITLE = "ovseg: how a text-to-image diffusion model segments a picture"


def build(models: Models, example: WorkedExample | None = None, durations: Durations | None = None) -> Page:
    """The page. Loads no weight and opens no port.

    Args:
        example: the comparison that stands there when the page opens; none if not given or not begun.
        durations: what is known of how long methods take here.
    """
    durations = durations or Durations()
    example = example or WorkedExample(models, durations, FIRST_SCENE)
    with Page(title=TITLE, fill_width=True, delete_cache=(60, limits().file_seconds)) as page:
        build_doors(page, models, durations)  # first, so that no event of the page takes their names
        with gr.Row(elem_id="header"):
            gr.HTML(_header(models.board), elem_id="title")
            link = gr.Button("Link", elem_id="link", size="sm", scale=0, min_width=60)
        with gr.Tab("Compare", id="compare"):
            tab = build_compare_tab(models, durations, link)
        with gr.Tab("Look inside", id="look-inside") as inside:
            build_inside_tab(models, durations, tab.pictures.picture, inside, example.looked)
        with gr.Tab("Make a data set", id="dataset"):
            build_dataset_tab(models, durations)
        with gr.Tab("Results", id="results"):
            build_results_tab(models)
        with gr.Tab("About", id="about"):
            build_about_tab(models)
        wire_opening(models, tab, example, durations, page)
    # Nothing goes past the line.
    page.queue(default_concurrency_limit=8, max_size=limits().queue, api_open=False)
    expect_recent_times(page)
    look_for_jobs_less_often(page)
    return page


def _header(board: Sequence[Models]) -> str:
    """The page's name, and the networks that are read, with what each knows."""
    named = [(html.escape(own.checkpoint.short_title), html.escape(own.checkpoint.knows)) for own in board]
    several = len(named) > 1
    knows = "".join(f"<p>{f'<b>{title}.</b> ' * several}{text}</p>" for title, text in named)
    titles = " + ".join(html.escape(own.short_name) for own in board) if several else named[0][0]
    return (
        '<h1 title="See how a diffusion model segments a picture">ovseg</h1>'
        f'<details id="knows"{" class=ov-several" * several}>'
        f'<summary title="What {"they know" if several else "it knows"}">{titles}</summary>'
        f"{knows}</details>"
    )


def page_theme() -> gr.themes.Default:
    """Gradio's default theme, with borders that can be seen, in the system's own font."""
    return gr.themes.Default(primary_hue="indigo", font=["system-ui", "sans-serif"]).set(
        input_border_color="*neutral_400", checkbox_border_color="*neutral_500", block_title_text_weight="600",
        # Gradio's own grey of small texts is too pale to read well.
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        # White on it, and it on white, must be readable: 4.5 to 1.
        color_accent="*primary_600", button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600", button_primary_background_fill_hover="*primary_700",
        block_title_text_color="*neutral_700", block_title_text_color_dark="*neutral_200",
    )  # fmt: skip


def launch(models: Models, host: str, port: int | None, *, mcp: bool = False, wait: bool = True) -> str:
    """Serve the page; returns its address once it is there, or when it has been stopped.

    Args:
        port: a free one from 7860 on if None.
        mcp: whether the doors are also tools for MCP clients. If not, the variable GRADIO_MCP_SERVER decides.
        wait: whether to come back only when the page has been stopped.
    """
    # Each call of torch waits for its turn when it ends, while another thread packs masks: turns are shorter than usual.
    sys.setswitchinterval(TURN_SECONDS)
    durations = Durations()
    example = WorkedExample(models, durations, FIRST_SCENE)
    if on_zero_gpu() and models.is_small:
        # Fast enough there, and costs no visitor a second of an accelerator.
        models = board_of(",".join(own.name for own in models.board), "cpu")
        example = WorkedExample(models, durations, FIRST_SCENE)
        example.begin()
    elif on_zero_gpu():
        load_everything(models)
        # This process has no accelerator, and no thread may be at work in it when a call forks it.
        example = WorkedExample(Models(models.name, "cpu"), Durations(), FIRST_SCENE)
        example.begin()
        example.results()
    else:
        example.begin()
    page = build(models, example, durations)
    _, address, _ = page.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        theme=page_theme(),
        css=static("page.css"),
        head=f"<script>{{ {script_of(('elements', 'page', 'tour'))} }}</script>",
        ssr_mode=False,
        footer_links=["api"],
        run_history=False,  # Gradio's own: what public events take and give, in the browser's storage
        max_file_size=limits().upload_bytes,
        mcp_server=mcp or None,
        app_kwargs={
            "middleware": [
                Middleware(Guard, hosts=allowed_hosts(host)),
                Middleware(VisitorMiddleware, page.listeners, Visitors()),
                Middleware(ListeningMiddleware, page.listeners),
                Middleware(StoppedJobMiddleware),
            ],
            "exception_handlers": HANDLERS,
            "lifespan": housekeeping(page),
        },
        state_session_capacity=limits().sessions,
        prevent_thread_lock=True,
    )
    write_mcp_answers(page, content_of)
    take_bare_pictures(page)
    if wait:
        page.block_thread()
    return address
