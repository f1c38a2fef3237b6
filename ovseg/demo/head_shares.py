"""Look inside: how much each layer and each of its heads counts by the rules of `ovseg.reading.shares`, as a picture."""

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ovseg.attention import Attention
from ovseg.demo.inside_panel import looked_at
from ovseg.demo.work import QUIET, on_accelerator, on_the_network, sent_once, status_line, stream
from ovseg.models import Models
from ovseg.output import view
from ovseg.reading.shares import Shares, shares_of
from ovseg.server.durations import Durations
from ovseg.server.request_cost import Work, seconds_for
from ovseg.server.sentences import as_sentences

SAID = (
    "A row is a layer of cross-attention, in the order of computing. Its weight says how alike its self-attention is to that"
    " of the reference layer; its heads' say what each contributes to its output where “{}” is. In per cent."
)


@dataclass(frozen=True, eq=False)
class SharesAsked:
    """For which word and level, and the weights of the resolutions in the word's map."""

    attention: Attention
    level: int
    token: int
    weights: dict[int, float]
    network: str = ""  # that was looked into; empty for the usual one

    def run(self, models: Models) -> Shares:
        """The weights; one pass."""
        return shares_of(models.beside(self.network), self.attention, self.level, self.token, self.weights)


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


@dataclass(frozen=True)
class SharesPanel:
    """The button, and where the picture stands."""

    ask: gr.Button
    answer: gr.HTML


def build_shares() -> SharesPanel:
    """Lay out the button and the place of its answer."""
    return SharesPanel(
        gr.Button("How layers and heads count here", size="sm", elem_id="shares-ask"),
        gr.HTML("", elem_id="shares-answer"),
    )


def wire_shares(
    models: Models, durations: Durations, panel: SharesPanel, status: gr.HTML, state: tuple[gr.State, gr.State, gr.Dropdown],
    work_of: Callable[[str, int], Work],
) -> gr.events.Dependency:  # fmt: skip
    """Connect the button; returns its event, which uses the network.

    Args:
        state: what the session looked at, the weights of its sliders, and the level that is chosen.
        work_of: so many rows of a network as work, under the name that its speed is learned by.
    """

    @on_accelerator(models, lambda asked: seconds_for(durations, [work_of(asked.network, 1)]))
    def work(asked: SharesAsked) -> Iterator[tuple[str, float, Shares | None]]:
        yield from stream(lambda report: asked.run(models))

    @sent_once
    def shares(looked: Any, own: dict[int, float] | None, level: int | None) -> Iterator[tuple[str, Any]]:
        with as_sentences():
            asked = asked_of(looked, own, level)
        yield status_line("one more pass", 0.0), gr.skip()
        for *_, made in work(asked):
            if made is not None:
                name = asked.attention.token_name(asked.token)
                yield status_line("Layers and heads weighed: 1 pass.", None), shares_html(made, asked.attention, name)

    state[0].change(lambda looked: "", state[0], panel.answer, **QUIET)
    return panel.ask.click(shares, list(state), [status, panel.answer], api_visibility="private", **on_the_network(status))


def asked_of(looked: Any, weights: dict[int, float] | None, level: int | None) -> SharesAsked:
    """What the button asks for: the word that is looked at.

    Raises:
        ValueError: nothing was looked at yet, or there is no such level.
    """
    attention, level = looked_at(looked, level)
    own = weights or looked.inside.weights
    return SharesAsked(attention.without_states(), level, looked.token, own, looked.network)
