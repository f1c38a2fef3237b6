"""The tab that compares: picture, words and methods on the left, the board and what lies below it on the right."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from ovseg.demo.board import board, board_picture, board_step, board_value, running, waiting
from ovseg.demo.link import Link
from ovseg.demo.looking import LookPanel, build_look_panel, empty_views, first_views, wire_look_panel
from ovseg.demo.method_panel import MethodPanel, at_first, build_method_panel, restored
from ovseg.demo.picture import Picture, of_origin
from ovseg.demo.picture_panel import Chosen, PicturePanel, build_picture_panel, wire_picture_panel
from ovseg.demo.run import Outcome, Results, RunRequest, grow, run_parts
from ovseg.demo.word_panel import (
    WordPanel,
    build_word_panel,
    captioner_name,
    chips_value,
    given_image,
    wire_word_panel,
)
from ovseg.demo.work import (
    QUIET,
    cancelled_by,
    on_accelerator,
    on_the_network,
    status_line,
    stream_parts,
    whole,
)
from ovseg.demo.worked_example import WorkedExample
from ovseg.doors import inputs
from ovseg.methods import METHODS, Method
from ovseg.methods.grammar import Configuration
from ovseg.models import Models
from ovseg.server.durations import Durations, in_words
from ovseg.server.request_cost import Work, check_work, seconds_for, to_segment
from ovseg.server.sentences import as_sentences
from ovseg.types import BACKGROUND
from ovseg.words.classes import parse_classes

WORKED = (
    "A worked example: each picture shows what one method takes for the classes named on the left. The truth is known here,"
    " so the figure under each is how well it does (IoU). Point, click, move the threshold, or press Run with your own."
)


@dataclass(frozen=True)
class CompareTab:
    """The parts of the tab, and what a session keeps: its results, and what a link holds."""

    pictures: PicturePanel
    words: WordPanel
    methods: MethodPanel
    looks: LookPanel
    board: gr.HTML
    status: gr.HTML
    results: gr.State
    run: gr.Button
    stop: gr.Button
    link: gr.Button
    address: gr.Textbox
    last: gr.BrowserState

    @property
    def asked(self) -> list[Any]:
        """What Run takes, before the methods' own inputs."""
        return [self.pictures.picture, self.words.words, self.words.caption, self.words.captioner, self.methods.seed]


def build_compare_tab(models: Models, durations: Durations, link: gr.Button) -> CompareTab:
    """Lay out the tab and wire its events."""
    with gr.Row(elem_id="frame"):
        with gr.Column(elem_id="left", min_width=320):
            gr.HTML('<h2 class="ov-step">1 Picture</h2>')
            pictures = build_picture_panel(models)
            gr.HTML('<h2 class="ov-step">2 Words</h2>')
            words = build_word_panel(models)
            gr.HTML('<h2 class="ov-step">3 Methods</h2>')
            methods = build_method_panel(models)
            with gr.Row(elem_id="run-bar"):
                run_button = gr.Button("Run", variant="primary", elem_id="run", min_width=120)
                stop = gr.Button("Stop", elem_id="stop", min_width=80)
        with gr.Column(elem_id="right", min_width=320):
            status = gr.HTML(status_line("Choose a picture and words, then press Run.", None), elem_id="status")
            canvases = board("board")
            looks = build_look_panel()
    results, address = gr.State(None), gr.Textbox(visible=False, elem_id="link-query")
    last = gr.BrowserState("", storage_key="ovseg-last-choice", secret="ovseg")  # nothing in it is secret
    tab = CompareTab(pictures, words, methods, looks, canvases, status, results, run_button, stop, link, address, last)
    chosen = Chosen(pictures.picture, words.words, words.caption, words.chips, pictures.number)
    sources, drawing = wire_picture_panel(models, pictures, chosen, chips_value(models, ()), status, durations=durations)
    asking = wire_word_panel(models, words, pictures.picture, status, durations)
    wire_look_panel(looks, canvases, results)
    running_event = _wire_run(models, tab, durations)
    _wire_pictures(tab, [*sources, drawing])
    _wire_stop(tab, [running_event, drawing, *asking])
    _wire_estimates(tab, durations)
    _wire_link(models, tab)
    return tab


def drawn(results: Results, name: str) -> dict[str, Any]:
    """The board for results that may still be growing."""
    picture = board_picture(results.picture.image, (BACKGROUND, *results.comparison.classes), results.truth)
    return board_value(picture, entries_of(results), name)


def entries_of(results: Results) -> list[dict]:
    """What the board shows of each method, done or still to be run."""
    entries = list(results.drawn)
    for number, (title, seconds) in enumerate(results.waiting.items()):
        if number:
            entries.append(waiting(title, title, seconds))
        else:
            entries.append(running(title, title, "starting", None, seconds))
    return entries


def _wire_run(models: Models, tab: CompareTab, durations: Durations) -> gr.events.Dependency:
    @on_accelerator(lambda asked: seconds_for(durations, works_of(models, asked)))
    def work(asked: RunRequest) -> Iterator[tuple[str, float, Results | Outcome | None]]:
        yield from stream_parts(lambda report, publish: run_parts(models, asked, durations, report, publish))

    def compare(
        picture: Picture | None, words: str, caption: str, captioner: str | None, seed: float | None, *chosen: Any
    ) -> Iterator[tuple[str, Any, Any]]:
        begun, made, value = time.monotonic(), None, None
        with as_sentences():
            asked = request_of(models, picture, (words, caption, captioner), seed, tab.methods.chosen(models, chosen))
        for stage, share, part in work(asked):
            if isinstance(part, Results):
                made, value = part, drawn(part, uuid.uuid4().hex)
                yield status_line(stage, share), value, made
            elif part is not None:
                made = grow(made, part, durations)
                step = board_step(value, entries_of(made), fresh=made.drawn[-1]["key"])
                yield status_line(stage, share), gr.HTML(step=step), made
            elif stage != "done":
                yield status_line(stage, share), gr.skip(), gr.skip()
        yield done_line(made, time.monotonic() - begun), gr.skip(), gr.skip()

    def below(results: Results, words: str) -> tuple[Any, ...]:
        names = ", ".join("|".join(word.phrases) for word in results.classes)
        return words or names, results.caption, *first_views(results)

    # What changes at the end alone is an event of its own: a step costs the browser something for each of its outputs.
    running_event = tab.run.click(
        compare, [*tab.asked, *tab.methods.inputs], [tab.status, tab.board, tab.results], api_visibility="private",
        **on_the_network(tab.status),
    )  # fmt: skip
    running_event.success(
        below, [tab.results, tab.words.words], [tab.words.words, tab.words.caption, *tab.looks.outputs], **QUIET
    )
    return running_event


def request_of(
    models: Models,
    picture: Picture | None,
    words: tuple[str | None, str | None, str | None],
    seed: float | None,
    methods: tuple[Method, ...],
) -> RunRequest:
    """What Run asks for, checked before any network works.

    Args:
        words: the class words, the caption, and the captioner's choice.

    Raises:
        ValueError: something is missing, no value of its kind, or too much.
    """
    image, (classes, caption, captioner) = given_image(picture), words
    asked = RunRequest(
        picture, inputs.classes(classes or ""), inputs.text("The caption", caption or ""),
        inputs.captioner(models, captioner_name(captioner)), methods, whole("The seed", seed),
    )  # fmt: skip
    check_work(models, methods, asked.words, image.shape[:2], asked.caption)
    return asked


def works_of(models: Models, asked: RunRequest) -> tuple[Work, ...]:
    """The work of a request, to say beforehand how long it takes."""
    return to_segment(models, asked.methods, asked.words, asked.caption, asked.picture.image.shape[:2])


def done_line(results: Results, seconds: float) -> str:
    """What a finished run says of itself, with the seconds that the visitor waited for it."""
    entries, failures = results.comparison.entries, results.comparison.failures
    text = f"Done: {len(entries)} {'method' if len(entries) == 1 else 'methods'} in {seconds:.1f} s."
    return status_line(text + (f" {len(failures)} could not be run." if failures else ""), None)


def _wire_pictures(tab: CompareTab, events: list[gr.events.Dependency]) -> None:
    """Another picture empties the board of the old one's masks."""

    def show(picture: Picture | None, words: str) -> tuple[Any, ...]:
        if picture is None:
            return tuple(gr.skip() for _ in range(3))
        value, text = plain_board(picture, words)
        return value, None, status_line(text, None)

    for event in events:
        event.success(show, [tab.pictures.picture, tab.words.words], [tab.board, tab.results, tab.status], **QUIET)


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
    return board_value(board_picture(picture.image, labels, truth), [], uuid.uuid4().hex), text


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


def _wire_estimates(tab: CompareTab, durations: Durations) -> None:
    """Seconds beside each method, as this machine's own runs took."""
    tab.results.change(lambda: estimates_of(durations), None, list(tab.methods.estimates), **QUIET)


def estimates_of(durations: Durations) -> list[str]:
    """For each method how long it takes here, "" before its first run."""
    return [in_words(durations.expected(kind.name)) for kind in METHODS]


def _wire_link(models: Models, tab: CompareTab) -> None:
    """The button that puts everything chosen into the page's address; Run keeps it in the browser for the next visit."""

    def query(picture: Picture | None, words: str, seed: float | None, *chosen: Any) -> str:
        try:
            methods = tuple(Configuration.of(models, method) for method in tab.methods.chosen(models, chosen))
            return Link(picture.origin if picture else "", words or "", whole("The seed", seed), methods).query()
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    inputs = [tab.pictures.picture, tab.words.words, tab.methods.seed, *tab.methods.inputs]
    tab.link.click(query, inputs, tab.address, **QUIET).success(
        None, tab.address, tab.status, js="(query) => window.ovsegLink.copy(query)", api_visibility="private"
    )
    tab.run.click(query, inputs, tab.last, **QUIET)


def wire_opening(models: Models, tab: CompareTab, example: WorkedExample, durations: Durations, page: gr.Blocks) -> None:
    """What stands on the page when it opens: what its address names, the visitor's last choices, or the worked example."""

    def open_page(last: str | None, request: gr.Request) -> tuple[Any, ...]:
        linked = Link.is_in(request.query_params)
        try:
            link = Link.of_query(str(request.query_params) if linked else last or "")
            return _opened(models, tab, link, example.results(), durations)
        except ValueError as error:
            gr.Warning(f"What was chosen before could not be brought back. {error}")
            return _opened(models, tab, Link(), example.results(), durations)

    outputs = [tab.status, tab.board, tab.results, tab.pictures.picture, tab.words.words, tab.pictures.number]
    outputs += [tab.methods.seed, *tab.looks.outputs, *tab.methods.estimates, *tab.methods.inputs]
    page.load(open_page, tab.last, outputs, **QUIET)


BROUGHT_BACK = "Picture, words and methods are as they were chosen. Press Run."
# A picture of the visitor's own is not kept.
WITHOUT_ITS_PICTURE = "Words and methods are as they were chosen. Choose a picture, then press Run."


def _opened(models: Models, tab: CompareTab, link: Link, example: Results | None, durations: Durations) -> tuple[Any, ...]:
    """The values of the outputs of `wire_opening`."""
    estimates = estimates_of(durations)
    if link.picture or link.words or link.methods:
        picture = of_origin(link.picture) if link.picture else None
        status = status_line(BROUGHT_BACK if picture else WITHOUT_ITS_PICTURE, None)
        number = _number_of(picture)
        value = plain_board(picture, link.words)[0] if picture else None
        methods = restored(models, tab.methods, link.methods or tuple(map(Configuration, at_first(models))))
        return status, value, None, picture, link.words, number, link.seed, *empty_views(), *estimates, *methods
    kept = [gr.skip() for _ in tab.methods.inputs]
    if example is None:
        text = status_line("Choose a picture and words, then press Run.", None)
        return text, None, None, None, "", gr.skip(), 0, *empty_views(), *estimates, *kept
    value, picture = drawn(example, uuid.uuid4().hex), example.picture
    views, number = first_views(example), _number_of(picture)
    return status_line(WORKED, None), value, example, picture, picture.words, number, 0, *views, *estimates, *kept


def _number_of(picture: Picture | None) -> Any:
    """The scene's number for its field; the field stays where the picture is no scene."""
    return picture.scene if picture and picture.scene is not None else gr.skip()
