"""Look inside: how much each layer and each of its heads counts by the rules of `ovseg.reading.shares`, as a picture."""

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ovseg.attention import Attention
from ovseg.demo.inside_panel import Focus, focus_of, looking
from ovseg.demo.work import QUIET, on_the_network, sent_once, status_line, told, worker
from ovseg.models import Models
from ovseg.output import view
from ovseg.progress import Report
from ovseg.reading.shares import Shares, shares_of
from ovseg.server.durations import Durations

SAID = (
    "A row is a layer of cross-attention, in the order of computing. Its weight says how alike its self-attention is to that"
    " of the reference layer; its heads' say what each contributes to its output where “{}” is. In per cent."
)


def shares_html(shares: Shares, attention: Attention, word: str) -> str:
    """Layers by heads as a table of coloured cells."""
    count = max(map(len, shares.heads))
    names = "".join(f"<th scope='col'>head {number}</th>" for number in range(1, count + 1))
    most, highest = max(float(one.max()) for one in shares.heads), float(shares.layers.max())
    rows = []
    for number, (site, layer, heads) in enumerate(zip(shares.sites, shares.layers, shares.heads, strict=True), 1):
        grid = "{} × {}".format(*attention.grid(site.stride))
        cells = _cell(float(layer), highest) + "<td></td>" + "".join(_cell(float(head), most) for head in heads)
        rows.append(f"<tr><th scope='row'>{number}: {grid}</th>{cells}</tr>")
    head = f"<tr><th scope='col'>layer</th><th scope='col'>weight</th><td></td>{names}</tr>"
    table = f"<table class='ov-shares'><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<p class='ov-note'>{html.escape(SAID.format(word))}</p>{table}"


def _cell(share: float, most: float) -> str:
    """A cell coloured by its share of the highest one; what is negative has the lowest colour."""
    place = min(max(share / most, 0.0), 1.0) if most > 0 else 0.0
    red, green, blue = map(int, view.HEAT[round(place * (len(view.HEAT) - 1))])
    ink = "#000" if place > 0.5 else "#fff"
    return f"<td style='background:rgb({red},{green},{blue});color:{ink}'>{100 * share:.0f}</td>"


def build_shares(
    models: Models, durations: Durations, status: gr.HTML, state: tuple[gr.State, gr.State, gr.Dropdown]
) -> gr.events.Dependency:
    """Lay out the button and the place of its answer; returns its event, which uses the network.

    Args:
        state: what the session looked at, the weights of its sliders, and the level that is chosen.
    """
    ask = gr.Button("How layers and heads count here", size="sm", elem_id="shares-ask")
    answer = gr.HTML("", elem_id="shares-answer")

    def weighed(asked: Focus, report: Report) -> Shares:
        return shares_of(models.beside(asked.network), asked.attention, asked.level, asked.token, asked.weights)

    work = worker(models, durations, lambda asked: [looking(asked.network)], weighed)

    @sent_once
    def shares(looked: Any, own: dict[int, float] | None, level: int | None) -> Iterator[tuple[Any, ...]]:
        asked = focus_of(looked, own, level)
        yield status_line("one more pass", 0.0), gr.skip()
        said = status_line("Layers and heads weighed: 1 pass.", None)
        yield from told(work(asked), 2, lambda made: (said, shares_html(made, asked.attention, asked.word)))

    state[0].change(lambda looked: "", state[0], answer, **QUIET)
    return ask.click(shares, list(state), [status, answer], **on_the_network(status))
