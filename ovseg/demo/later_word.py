"""Look inside: a word that was not in the sentence, answered from the queries that a pass kept (OVAM, arXiv 2403.14291)."""

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from ovseg.attention import Attention
from ovseg.attention.later import Later, beside_a_pass, word_later
from ovseg.demo.inside_panel import SHOWN_SIDE, looked_at
from ovseg.demo.looking import tiles_html
from ovseg.demo.work import QUIET, on_accelerator, on_the_network, sent_once, status_line, stream
from ovseg.doors import inputs
from ovseg.models import Models
from ovseg.output import view
from ovseg.pictures import shrunk
from ovseg.server.durations import Durations
from ovseg.server.request_cost import Work, seconds_for
from ovseg.server.sentences import as_sentences

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
    """A word, at which level, with which weights of the resolutions; and whether a pass of its own is run beside."""

    attention: Attention
    word: str
    level: int
    weights: dict[int, float]
    is_compared: bool = False
    network: str = ""  # that was looked into; empty for the usual one

    def run(self, models: Models) -> Later | np.ndarray:
        """The word's map (y, x); compared, both maps.

        Raises:
            ValueError: no queries were kept at this level, or the network's words have no keys of their own.
        """
        answer = beside_a_pass if self.is_compared else word_later
        return answer(models.beside(self.network), self.attention, self.word, self.weights, self.level)


def later_html(asked: LaterAsked, made: Later | np.ndarray) -> str:
    """The answer as HTML: the map over the picture, and beside it that of a pass where one was run."""
    image, word = shrunk(asked.attention.image, SHOWN_SIDE), f"“{asked.word}”"
    if isinstance(made, Later):
        said = DIFFERS.format(asked.word, 100 * made.iou)
        maps = [(made.from_queries, f"{word}, from kept queries"), (made.by_pass, f"{word}, by a pass")]
    else:
        said, maps = APPROXIMATE, [(made, f"{word}, from kept queries")]
    tiles = [(view.heat_overlay(image, values), title) for values, title in maps]
    return f'<p class="ov-note" aria-live="polite">{html.escape(said)}</p>{tiles_html(tiles)}'


@dataclass(frozen=True)
class LaterPanel:
    """The word, the two buttons, and where the answer stands."""

    word: gr.Textbox
    quick: gr.Button
    compared: gr.Button
    answer: gr.HTML


def build_later() -> LaterPanel:
    """Lay out the controls."""
    with gr.Accordion("A word that was not in the sentence", open=False, elem_id="later"):
        word = gr.Textbox(label="Word", placeholder="wheel", elem_id="later-word")
        with gr.Row():
            quick = gr.Button("From kept queries", size="sm", elem_id="later-quick", min_width=140)
            compared = gr.Button("Beside a pass of its own", size="sm", elem_id="later-compared", min_width=140)
        answer = gr.HTML("", elem_id="later-answer")
    return LaterPanel(word, quick, compared, answer)


def wire_later(
    models: Models, durations: Durations, panel: LaterPanel, status: gr.HTML,
    state: tuple[gr.State, gr.State, gr.Dropdown], work_of: Callable[[str, int], Work],
) -> list[gr.events.Dependency]:  # fmt: skip
    """Connect the buttons; returns the events, which use the network.

    Args:
        state: what the session looked at, the weights of its sliders, and the level that is chosen.
        work_of: so many rows of a network as work, under the name that its speed is learned by.
    """

    @on_accelerator(models, lambda asked: seconds_for(durations, [work_of(asked.network, 1)]))
    def work(asked: LaterAsked) -> Iterator[tuple[str, float, Later | np.ndarray | None]]:
        yield from stream(lambda report: asked.run(models))

    def answered(asked: LaterAsked) -> Iterator[tuple[str, Any]]:
        yield status_line("asking the kept queries", 0.0), gr.skip()
        for *_, made in work(asked):
            if made is not None:
                passes = "1 pass" if asked.is_compared else "no pass"
                yield status_line(f"“{html.escape(asked.word)}” answered: {passes}.", None), later_html(asked, made)

    @sent_once
    def word_quick(looked: Any, own: dict[int, float] | None, level: int | None, word: str) -> Iterator[tuple[str, Any]]:
        with as_sentences():
            asked = word_asked(looked, own, level, word)
        yield from answered(asked)

    @sent_once
    def word_beside(looked: Any, own: dict[int, float] | None, level: int | None, word: str) -> Iterator[tuple[str, Any]]:
        with as_sentences():
            asked = word_asked(looked, own, level, word)
        yield from answered(replace(asked, is_compared=True))

    state[0].change(lambda looked: "", state[0], panel.answer, **QUIET)
    presses = [([panel.quick.click, panel.word.submit], word_quick), ([panel.compared.click], word_beside)]
    return [
        gr.on(
            triggers, handler, [*state, panel.word], [status, panel.answer], api_visibility="private",
            **on_the_network(status),
        )
        for triggers, handler in presses
    ]  # fmt: skip


def word_asked(looked: Any, weights: dict[int, float] | None, level: int | None, word: str) -> LaterAsked:
    """What the buttons ask for.

    Raises:
        ValueError: nothing was looked at yet, there is no word, or no such level.
    """
    attention, level = looked_at(looked, level)
    word, own = inputs.text("The word", word or "", needed=True).strip(), weights or looked.inside.weights
    return LaterAsked(replace(attention, states={}), word, level, own, network=looked.network)
