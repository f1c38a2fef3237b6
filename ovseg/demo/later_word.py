"""Look inside: a word that was not in the sentence, answered from the queries that a pass kept (OVAM, arXiv 2403.14291)."""

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from ovseg.attention.later import Later, beside_a_pass, word_later
from ovseg.demo.inside_panel import SHOWN_SIDE, Focus, focus_of, looking
from ovseg.demo.looking import tiles_html
from ovseg.demo.work import QUIET, on_the_network, sent_once, status_line, told, worker
from ovseg.doors import inputs
from ovseg.models import Models
from ovseg.output import view
from ovseg.pictures import shrunk
from ovseg.server.durations import Durations

APPROXIMATE = (
    "An approximation: what each place asks for was computed with the sentence above, and only the word's keys are new."
    " No pass was run."
)
DIFFERS = (
    "On the left from kept queries, on the right by a pass of its own with “{}” alone. Where each map is above half of its"
    " range, the two have an IoU of {:.0f}."
)


@dataclass(frozen=True, eq=False)
class LaterAsked:
    """A word, in place of the one that is looked at; and whether a pass of its own is run beside."""

    focus: Focus
    word: str
    is_compared: bool = False

    def run(self, models: Models) -> Later | np.ndarray:
        """The word's map (y, x); compared, both maps."""
        answer, focus = beside_a_pass if self.is_compared else word_later, self.focus
        return answer(models.beside(focus.network), focus.attention, self.word, focus.weights, focus.level)


def later_html(asked: LaterAsked, made: Later | np.ndarray) -> str:
    """The answer as HTML: the map over the picture, and beside it that of a pass where one was run."""
    image, word = shrunk(asked.focus.attention.image, SHOWN_SIDE), f"“{asked.word}”"
    if isinstance(made, Later):
        said = DIFFERS.format(asked.word, 100 * made.iou)
        maps = [(made.from_queries, f"{word}, from kept queries"), (made.by_pass, f"{word}, by a pass")]
    else:
        said, maps = APPROXIMATE, [(made, f"{word}, from kept queries")]
    tiles = [(view.heat_overlay(image, values), title) for values, title in maps]
    return f'<p class="ov-note" aria-live="polite">{html.escape(said)}</p>{tiles_html(tiles)}'


def build_later(
    models: Models, durations: Durations, status: gr.HTML, state: tuple[gr.State, gr.State, gr.Dropdown]
) -> list[gr.events.Dependency]:
    """Lay out the controls and their answer, of a state as `build_shares` has; returns the events, which use the network."""
    with gr.Accordion("A word that was not in the sentence", open=False, elem_id="later"):
        word = gr.Textbox(label="Word", placeholder="wheel", elem_id="later-word")
        with gr.Row():
            quick = gr.Button("From kept queries", size="sm", elem_id="later-quick", min_width=140)
            compared = gr.Button("Beside a pass of its own", size="sm", elem_id="later-compared", min_width=140)
        answer = gr.HTML("", elem_id="later-answer")
    work = worker(models, durations, lambda asked: [looking(asked.focus.network)], lambda asked, report: asked.run(models))

    def answered(given: tuple[Any, ...], is_compared: bool) -> Iterator[tuple[Any, ...]]:
        asked = replace(word_asked(*given), is_compared=is_compared)
        yield status_line("asking the kept queries", 0.0), gr.skip()
        passes = "1 pass" if is_compared else "no pass"
        said = status_line(f"“{html.escape(asked.word)}” answered: {passes}.", None)
        yield from told(work(asked), 2, lambda made: (said, later_html(asked, made)))

    @sent_once
    def word_quick(*given: Any) -> Iterator[tuple[Any, ...]]:
        yield from answered(given, False)

    @sent_once
    def word_beside(*given: Any) -> Iterator[tuple[Any, ...]]:
        yield from answered(given, True)

    state[0].change(lambda looked: "", state[0], answer, **QUIET)
    return [
        gr.on(triggers, handler, [*state, word], [status, answer], **on_the_network(status))
        for triggers, handler in (([quick.click, word.submit], word_quick), ([compared.click], word_beside))
    ]


def word_asked(looked: Any, weights: dict[int, float] | None, level: int | None, word: str | None) -> LaterAsked:
    """What the buttons ask for."""
    return LaterAsked(focus_of(looked, weights, level), inputs.text("The word", word or "", needed=True).strip())
