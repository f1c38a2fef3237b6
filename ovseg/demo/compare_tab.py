"""The tab that compares: picture, words and methods on the left, the board and what lies below it on the right."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from ovseg.compare import Entry, Failure, Variant
from ovseg.demo.board import board, board_step, board_value
from ovseg.demo.board_file import read_board
from ovseg.demo.control_views import wire_controls
from ovseg.demo.link import Link
from ovseg.demo.looking import LookPanel, build_look_panel, first_views
from ovseg.demo.method_panel import build_method_panel, chosen, estimates_of, restored
from ovseg.demo.picture import Picture, of_kept, of_origin
from ovseg.demo.picture_panel import PicturePanel, build_picture_panel, number_of, wire_picture_panel
from ovseg.demo.preload import on_zero_gpu
from ovseg.demo.run import Results, RunRequest, drawn, entries_of, grow, run_parts
from ovseg.demo.word_panel import WordPanel, build_word_panel, captioner_name, chips_value, given_image
from ovseg.demo.work import QUIET, cancelled_by, on_accelerator, on_the_network, status_line, stream_parts
from ovseg.demo.worked_example import WorkedExample
from ovseg.doors import inputs
from ovseg.limits import limits
from ovseg.methods import at_first
from ovseg.methods.grammar import Configuration
from ovseg.models import Models
from ovseg.server.durations import Durations
from ovseg.server.request_cost import Work, check_work, seconds_for, to_segment
from ovseg.server.sentences import as_sentences
from ovseg.types import BACKGROUND
from ovseg.words.classes import parse_classes, rows_of
from ovseg.words.notes import notes_on

FIRST_STATUS = "Choose a picture and words, then press Run."
WORKED = "A worked example. The truth is known here, so IoU says how well each method does."


@dataclass(frozen=True)
class CompareTab:
    """The parts of the tab, and what a session keeps: its results, and what a link holds."""

    pictures: PicturePanel
    words: WordPanel
    lines: gr.HTML  # the methods
    seed: gr.Number
    looks: LookPanel
    board: gr.HTML
    status: gr.HTML
    results: gr.State
    run: gr.Button
    stop: gr.Button
    link: gr.Button
    address: gr.Textbox
    last: gr.BrowserState
    own: gr.Textbox  # a picture of the visitor's own that the browser kept
    begin: gr.Textbox  # a word in it lets Run begin by itself


def build_compare_tab(models: Models, durations: Durations, link: gr.Button) -> CompareTab:
    """Lay out the tab and wire its events."""
    status = gr.HTML(status_line(FIRST_STATUS, None), elem_id="status", render=False)
    with gr.Row(elem_id="frame"):
        with gr.Column(elem_id="left", min_width=280):
            pictures = build_picture_panel(models)
            words, asking = build_word_panel(models, durations, pictures.picture, status)
            lines, seed = build_method_panel(models)
            with gr.Column(elem_id="run-bar"):
                run_button = gr.Button("Run", variant="primary", elem_id="run", min_width=120)
                stop = gr.Button("Stop", elem_id="stop", min_width=80)
                status.render()
            with gr.Accordion("more", open=False, elem_id="more"):
                for part in (pictures.number, *words.rest, seed):
                    part.render()
        with gr.Column(elem_id="right", min_width=320):
            canvases = board("board")
            results = gr.State(None)
            looks = build_look_panel(canvases, results)
    address = gr.Textbox(visible=False, elem_id="link-query")
    last = gr.BrowserState("", storage_key="ovseg-last-choice", secret="ovseg")  # nothing in it is secret
    own, begin = gr.Textbox(visible=False, elem_id="own"), gr.Textbox(visible=False, elem_id="begin")
    tab = CompareTab(
        pictures, words, lines, seed, looks, canvases, status, results, run_button, stop, link, address, last,
        own, begin,
    )  # fmt: skip
    shown = [pictures.picture, words.words, words.caption, words.chips, pictures.number]
    sources, drawing = wire_picture_panel(models, pictures, shown, chips_value(models, ()), status, durations=durations)
    running_event = _wire_run(models, tab, durations)
    controlling = wire_controls(models, durations, looks, results, status)
    _wire_zip(tab)
    _wire_pictures(models, tab, [*sources, drawing], durations)
    _wire_stop(tab, [running_event, drawing, controlling, *asking])
    _wire_link(models, tab)
    return tab


def _wire_run(models: Models, tab: CompareTab, durations: Durations) -> gr.events.Dependency:
    @on_accelerator(models, lambda asked: seconds_for(durations, works_of(models, asked)))
    def work(asked: RunRequest) -> Iterator[tuple[str, float, Results | Entry | Failure | None]]:
        yield from stream_parts(lambda report, publish: run_parts(models, asked, durations, report, publish))

    def compare(
        picture: Picture | None,
        words: str | None,
        caption: str | None,
        captioner: str | None,
        seed: float | None,
        methods: Any,
    ) -> Iterator[tuple[str, Any, Any, Any]]:
        begun, made, value = time.monotonic(), None, None
        with as_sentences():
            asked = request_of(models, picture, (words, caption, captioner), seed, chosen(models, methods))
        for stage, share, part in work(asked):
            if isinstance(part, Results):
                made, value = part, drawn(part, uuid.uuid4().hex)
                names = words or ", ".join("|".join(word.phrases) for word in made.classes)
                last = query_of(models, made.picture, names, seed, methods)
                last += "" if made.picture.origin else f"&own={value['run']}"
                # Before the first method: who leaves in the middle of a run, or right after it, finds it again.
                yield status_line(stage, share), value, made, last
            elif part is not None:
                made = grow(made, part, durations)
                step = board_step(value, entries_of(made), fresh=made.drawn[-1]["key"])
                yield status_line(stage, share), gr.HTML(step=step), made, gr.skip()
            elif stage != "done":
                yield status_line(stage, share), gr.skip(), gr.skip(), gr.skip()
        yield done_line(models, made, time.monotonic() - begun), gr.skip(), gr.skip(), gr.skip()

    def below(results: Results | None, words: str) -> tuple[Any, ...]:
        if results is None:  # no run came before
            return tuple(gr.skip() for _ in (0, 1, 2, *tab.looks.outputs))
        # Words that stand there stay: this may come late, when the visitor has typed others.
        names = gr.skip() if words else ", ".join("|".join(word.phrases) for word in results.classes)
        return names, results.caption, gr.HTML(estimates=estimates_of(models, durations)), *first_views(results)

    # What changes at the end alone is an event of its own: a step costs the browser something for each of its outputs.
    running_event = tab.run.click(
        compare,
        [tab.pictures.picture, tab.words.words, tab.words.caption, tab.words.captioner, tab.seed, tab.lines],
        [tab.status, tab.board, tab.results, tab.last], **on_the_network(tab.status),
    )  # fmt: skip
    running_event.success(
        below, [tab.results, tab.words.words],
        [tab.words.words, tab.words.caption, tab.lines, *tab.looks.outputs], **QUIET,
    )  # fmt: skip
    keep = "(last, board) => window.ovsegOwn.keep(last, board)"
    tab.last.change(None, [tab.last, tab.board], None, js=keep, api_visibility="private")
    return running_event


def request_of(
    models: Models,
    picture: Picture | None,
    words: tuple[str | None, str | None, str | None],
    seed: float | None,
    variants: tuple[Variant, ...],
) -> RunRequest:
    """What Run asks for, by class words, caption and captioner, checked before any network works."""
    image, (classes, caption, captioner) = given_image(picture), words
    asked = RunRequest(
        picture, inputs.classes(classes or ""), inputs.text("The caption", caption or ""),
        inputs.captioner(models, captioner_name(captioner)), variants, inputs.whole("The seed", seed),
    )  # fmt: skip
    check_work(models, variants, asked.words, image.shape[:2], asked.caption)
    return asked


def works_of(models: Models, asked: RunRequest) -> tuple[Work, ...]:
    """The work of a request, to say beforehand how long it takes."""
    return to_segment(models, asked.variants, asked.words, asked.caption, asked.picture.image.shape[:2])


def done_line(models: Models, results: Results, seconds: float) -> str:
    """What a finished run says of itself and of its words, with the seconds that the visitor waited for it."""
    entries, failures = results.comparison.entries, results.comparison.failures
    text = f"Done: {len(entries)} {'method' if len(entries) == 1 else 'methods'} in {seconds:.1f} s."
    text += f" {len(failures)} could not be run." if failures else ""
    loading = sum(entry.loading for entry in entries)
    text += f" Loading a network took {loading:.1f} s of it." if loading else ""
    return status_line(" ".join([text, *notes_on(models.checkpoint, results.classes)]), None)


BEGIN = "(word) => { if (word) document.querySelector('#run').click(); return []; }"


def _wire_pictures(models: Models, tab: CompareTab, events: list[gr.events.Dependency], durations: Durations) -> None:
    """Another picture empties the board of the old one's masks; a quick comparison then begins by itself."""

    def show(picture: Picture | None, words: str | None, methods: Any) -> tuple[Any, ...]:
        if picture is None:
            return *(gr.skip() for _ in outputs[1:]), ""
        value, text = plain_board(picture, words or "")
        begin = begins(models, words or "", methods, durations) if picture.origin else ""
        return value, None, status_line(text, None), *first_views(None), begin

    inputs = [tab.pictures.picture, tab.words.words, tab.lines]
    outputs = [tab.board, tab.results, tab.status, *tab.looks.outputs, tab.begin]
    for event in events:
        shown = event.success(show, inputs, outputs, **QUIET)
        shown.success(None, tab.begin, None, js=BEGIN, api_visibility="private")


def begins(models: Models, words: str, methods: Any, durations: Durations) -> str:
    """A word where a comparison begins by itself, "" elsewhere.

    It begins with no accelerator that is lent, no network to be loaded beside others, no picture to be drawn first, and few
    seconds expected.
    """
    if on_zero_gpu() or not words:
        return ""
    try:
        asked, classes = chosen(models, methods), parse_classes(words)
    except ValueError:
        return ""
    seconds = [durations.expected(variant.work) for variant in asked]
    if None in seconds or sum(seconds) > limits().unasked_seconds:
        return ""
    networks, phrases = [models.beside(variant.backbone) for variant in asked], rows_of(classes)[0]
    if len(models.board) > 1 and not all(own.is_loaded for own in networks):
        return ""
    undrawn = (variant.method.undrawn(own, phrases) for variant, own in zip(asked, networks, strict=True))
    return "" if any(undrawn) else uuid.uuid4().hex


def plain_board(picture: Picture, words: str) -> tuple[dict[str, Any], str]:
    """The board for a picture without masks, with its truth where it is known, and the sentence beside it."""
    labels, truth, text = (BACKGROUND,), None, "Press Run to see what each method makes of this picture."
    try:
        classes = parse_classes(words) if words.strip() else ()
        known = picture.truth_of(classes) if classes else None
        if known is not None:
            labels, truth = known.labels, known.label_map
    except ValueError as error:
        text = str(error)
    return board_value(picture.on_board(labels, truth), [], uuid.uuid4().hex), text


def _wire_zip(tab: CompareTab) -> None:
    """A downloaded zip opens as the board that it was made of; what led to its masks is not in it."""

    @as_sentences()
    def opened(path: str | None) -> tuple[Any, ...]:
        if path is None:
            return tuple(gr.skip() for _ in outputs)
        value = read_board(Path(path))
        said = "Opened: the masks of the file. Evidence and figures come with a run."
        return status_line(said, None), value, None, *first_views(None)

    outputs = [tab.status, tab.board, tab.results, *tab.looks.outputs]
    tab.looks.open_zip.upload(opened, tab.looks.open_zip, outputs, **QUIET)


def _wire_stop(tab: CompareTab, events: list[gr.events.Dependency]) -> None:
    """Stop ends what runs and keeps what is done."""

    def stopped(results: Results | None) -> tuple[Any, ...]:
        if results is None or not results.waiting:
            return status_line("Stopped.", None), *(gr.skip() for _ in outputs[1:])
        kept = replace(results, waiting={})
        count = len(kept.comparison.entries)
        text = f"Stopped: {count} of {count + len(results.waiting) + len(kept.comparison.failures)} methods are done."
        return status_line(text, None), drawn(kept, uuid.uuid4().hex), kept, *first_views(kept)

    outputs = [tab.status, tab.board, tab.results, *tab.looks.outputs]
    cancelled_by(tab.stop, events).then(stopped, tab.results, outputs, **QUIET)


def _wire_link(models: Models, tab: CompareTab) -> None:
    """The button that puts everything chosen into the page's address; Run keeps it in the browser for the next visit."""

    @as_sentences()
    def query(picture: Picture | None, words: str, seed: float | None, methods: Any) -> str:
        return query_of(models, picture, words, seed, methods)

    inputs = [tab.pictures.picture, tab.words.words, tab.seed, tab.lines]
    tab.link.click(query, inputs, tab.address, **QUIET).success(
        None, tab.address, tab.status, js="(query) => window.ovsegLink.copy(query)", **QUIET
    )


def query_of(models: Models, picture: Picture | None, words: str, seed: float | None, methods: Any) -> str:
    """What was chosen, as the query of a link.

    Raises:
        ValueError: the seed or a setting is not as it must be, or no method is ticked.
    """
    asked = chosen(models, methods)
    written = tuple(Configuration.of(models.beside(variant.backbone), variant.method) for variant in asked)
    return Link(picture.origin if picture else "", words or "", inputs.whole("The seed", seed), written).query()


def wire_opening(models: Models, tab: CompareTab, example: WorkedExample, durations: Durations, page: gr.Blocks) -> None:
    """What stands on the page when it opens: what its address names, the visitor's last choices, or the worked example."""

    def open_page(last: str | None, own: str, request: gr.Request) -> tuple[Any, ...]:
        linked = Link.is_in(request.query_params)
        try:
            link = Link.of_query(str(request.query_params) if linked else last or "")
            picture = of_origin(link.picture) if link.picture else of_kept(own) if own and not linked else None
            if picture or linked:
                return _as_chosen(models, link, picture, durations)
            said = NOT_KEPT if link.words else WORKED
        except ValueError as error:
            gr.Warning(f"What was chosen before could not be brought back. {error}")
            said = WORKED
        return _worked(models, example, said, durations)

    outputs = [tab.status, tab.board, tab.results, tab.pictures.picture, tab.words.words, tab.pictures.number]
    outputs += [tab.seed, *tab.looks.outputs, tab.lines, tab.words.chips, tab.begin]
    bring = "(last) => window.ovsegOwn.bring(last)"
    opened = page.load(open_page, [tab.last, tab.own], outputs, js=bring, **QUIET)
    opened.success(None, tab.begin, None, js=BEGIN, api_visibility="private")


BROUGHT_BACK = "Picture, words and methods are as they were chosen. Press Run."
NOT_KEPT = "A worked example: your own picture was too large for this browser to keep, and the server keeps none."
# A link holds no picture of a visitor's own.
WITHOUT_ITS_PICTURE = "Words and methods are as they were chosen. Choose a picture, then press Run."


def _as_chosen(models: Models, link: Link, picture: Picture | None, durations: Durations) -> tuple[Any, ...]:
    """The values of the outputs of `wire_opening` for what was chosen before."""
    status = status_line(BROUGHT_BACK if picture else WITHOUT_ITS_PICTURE, None)
    value = plain_board(picture, link.words)[0] if picture else None
    methods = restored(models, link.methods or tuple(map(Configuration, at_first(models))))
    lines = gr.HTML(value=methods, estimates=estimates_of(models, durations))
    chips = chips_value(models, (), picture.image if picture else None)
    begin = begins(models, link.words, methods, durations) if picture else ""
    chosen_now = (picture, link.words, number_of(picture), link.seed)
    return status, value, None, *chosen_now, *first_views(None), lines, chips, begin


def _worked(models: Models, example: WorkedExample, said: str, durations: Durations) -> tuple[Any, ...]:
    """The values of the outputs of `wire_opening` for the worked example, and what is said of it."""
    results = example.results()
    if results is None:
        text = status_line(FIRST_STATUS, None)
        return text, None, None, None, "", gr.skip(), 0, *first_views(None), gr.skip(), gr.skip(), ""
    (value, views), picture = example.views, results.picture
    lines = gr.HTML(estimates=estimates_of(models, durations))
    chosen_now, chips = (picture, picture.words, number_of(picture), 0), chips_value(models, (), picture.image)
    return status_line(said, None), value, results, *chosen_now, *views, lines, chips, ""
