"""Look inside, one thing changed: a pass run again without a layer, a head, a grid or a token, or with another sentence.

Map and mask of the pass as it was stand beside those of the changed one: an answer to "does this head matter?".
"""

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from ovseg.attention import Attention, again
from ovseg.attention.plan import token_groups
from ovseg.backbones.base import Ablation
from ovseg.demo.head_shares import SharesPanel, build_shares
from ovseg.demo.inside_panel import SHOWN_SIDE, first_token, looked_at
from ovseg.demo.looking import tiles_html
from ovseg.demo.work import QUIET, on_accelerator, on_the_network, sent_once, status_line, stream
from ovseg.doors import inputs
from ovseg.limits import check_count, limits, quoted
from ovseg.maths.maps import resize
from ovseg.maths.overlap import iou
from ovseg.models import Models
from ovseg.output import view
from ovseg.pictures import shrunk
from ovseg.server.durations import Durations
from ovseg.server.request_cost import Work, seconds_for
from ovseg.server.sentences import as_sentences

CHOICE = re.compile(r"(grid|layer|token) (\d+)|head (\d+) of layer (\d+)")
MASK_FROM = 0.5  # of the fused map, whose values are 0 to 1


@dataclass(frozen=True, eq=False)
class Change:
    """What a visitor changes. `token` is the one whose map is looked at; with another sentence it is that sentence's own."""

    attention: Attention
    weights: Mapping[int, float]
    token: int
    level: int
    off: Ablation
    sentence: str = ""
    network: str = ""  # that was looked into; empty for the usual one

    def run(self, models: Models) -> Attention:
        """The changed pass.

        Raises:
            ValueError: the sentence does not fit, or a head is none of its layer.
        """
        return again(models.beside(self.network), self.attention, self.level, self.sentence, self.off)


def choices_of(attention: Attention) -> list[tuple[str, str]]:
    """What can be switched off, as (label, value): grids, layers, tokens. A head is typed: "head 2 of layer 3"."""
    grids = [("grid {} × {}".format(*attention.grid(stride)), f"grid {stride}") for stride in attention.strides]
    sites = enumerate(attention.cross, 1)
    layers = [("layer {}: {} × {}".format(n, *attention.grid(site.stride)), f"layer {n}") for n, site in sites]
    tokens = [(f"token {k}: {attention.token_name(k)}", f"token {k}") for k in range(len(attention.tokens))]
    return grids + layers + tokens


def off_of(models: Models, attention: Attention, chosen: Sequence[str]) -> Ablation:
    """What is switched off by the values of `choices_of` and by heads.

    Raises:
        ValueError: there is no such grid, layer, head or token.
    """
    check_count("What is switched off", len(chosen), limits().list_values)
    sites, heads, layers, tokens = list(attention.cross), [], [], []
    _, columns = token_groups(models.backbone.tokens(attention.prompt))
    for text in chosen:
        found = CHOICE.fullmatch(text.strip())
        if not found:
            raise ValueError(
                f'What is switched off must be a choice of the list or "head 2 of layer 3", but got {quoted(text)}.'
            )
        kind, number, head, layer = found.groups()
        if kind == "grid":
            layers += [site for site in sites if site.stride == int(number)]
        elif kind == "token":
            tokens += _numbered(columns, int(number), 0, "token")
        elif kind == "layer":
            layers.append(_numbered(sites, int(number), 1, "layer"))
        else:
            heads.append((_numbered(sites, int(layer), 1, "layer"), int(head) - 1))
    return Ablation(tuple(heads), tuple(dict.fromkeys(layers)), tuple(tokens))


def _numbered(things: Sequence[Any], number: int, first: int, what: str) -> Any:
    if not first <= number < first + len(things):
        raise ValueError(f"There must be such a {what}, {first} to {first + len(things) - 1}, but got {what} {number}.")
    return things[number - first]


def change_html(change: Change, changed: Attention, words: str) -> str:
    """Before, after and their difference, as HTML: maps, and masks above `MASK_FROM`.

    Args:
        words: what was changed.
    """
    before = change.attention.fused(change.token, change.weights, [change.level])
    token = first_token(changed.tokens) if change.sentence else change.token
    after = changed.fused(token, change.weights)
    image = shrunk(change.attention.image, SHOWN_SIDE)
    one, other = (_mask(image.shape[:2], fused) for fused in (before, after))
    names = change.attention.token_name(change.token), changed.token_name(token)
    tiles = [
        (view.heat_overlay(image, before), f"“{names[0]}”, as it was"),
        (view.heat_overlay(image, after), f"“{names[1]}”, {words}"),
        (view.change_over(image, after - before), "red rose, blue fell"),
        (_painted(image, one), "mask as it was"),
        (_painted(image, other), f"mask, {words}"),
    ]
    said = f"The two masks (where a map is above half of its range) have an IoU of {100 * iou(one, other):.0f}."
    return f'<p aria-live="polite">{html.escape(said)}</p>{tiles_html(tiles)}'


def _mask(image_hw: tuple[int, int], fused: Float[np.ndarray, "y x"]) -> Bool[np.ndarray, "H W"]:
    return (resize(torch.from_numpy(fused)[None], image_hw)[0] > MASK_FROM).numpy()


def _painted(image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return view.paint(image, mask.astype(np.uint8), view.palette(2), np.array([0.0, 0.6]))


@dataclass(frozen=True)
class WhatIf:
    """The controls, and where the answer stands."""

    off: gr.Dropdown
    sentence: gr.Textbox
    level: gr.Dropdown
    again: gr.Button
    answer: gr.HTML
    shares: SharesPanel


def build_what_if() -> WhatIf:
    """Lay out the controls; what can be chosen is known after the first look."""
    with gr.Accordion("Switch off and see, or another sentence", open=False, elem_id="what-if"):
        with gr.Row():
            off = gr.Dropdown(
                [], multiselect=True, allow_custom_value=True, label="Switched off", elem_id="what-if-off",
                info="Grids, layers, tokens, or a head: “head 2 of layer 3”.",
            )  # fmt: skip
            sentence = gr.Textbox(label="Another sentence", placeholder="a photo of a kitten", elem_id="what-if-sentence")
            level = gr.Dropdown([], label="Level", elem_id="what-if-level")
        run = gr.Button("Run this pass again", size="sm", elem_id="what-if-again")
        answer = gr.HTML("", elem_id="what-if-answer")
        shares = build_shares()
    return WhatIf(off, sentence, level, run, answer, shares)


def wire_what_if(
    models: Models, durations: Durations, panel: WhatIf, status: gr.HTML, state: tuple[gr.State, gr.State],
    work_of: Callable[[str, int], Work],
) -> gr.events.Dependency:  # fmt: skip
    """Connect the controls; returns the event that uses the network.

    Args:
        state: what the session looked at, and the weights of its sliders.
        work_of: so many rows of a network as work, under the name that its speed is learned by.
    """
    kept, weights = state

    @on_accelerator(models, lambda change: seconds_for(durations, [work_of(change.network, 1)]))
    def work(change: Change) -> Iterator[tuple[str, float, Attention | None]]:
        yield from stream(lambda report: change.run(models))

    @sent_once
    def what_if(
        looked: Any, own: dict[int, float] | None, off: list[str] | None, sentence: str, level: int | None
    ) -> Iterator[tuple[str, Any]]:
        with as_sentences():
            change = change_of(models, looked, own, off or (), sentence, level)
        yield status_line("one more pass", 0.0), gr.skip()
        words = f"without {', '.join(off)}" if off else f"of “{change.sentence}”"
        for *_, changed in work(change):
            if changed is not None:
                yield status_line("One thing changed: 1 pass.", None), change_html(change, changed, words)

    def renew(looked: Any) -> tuple[gr.Dropdown, gr.Dropdown, str]:
        if looked is None:
            return gr.Dropdown([], value=[]), gr.Dropdown([], value=None), ""
        attention = looked.inside.attention
        levels = [(attention.level_name(k), k) for k in range(len(attention.timesteps))]
        return gr.Dropdown(choices_of(attention), value=[]), gr.Dropdown(levels, value=len(levels) // 2), ""

    kept.change(renew, kept, [panel.off, panel.level, panel.answer], **QUIET)
    return panel.again.click(
        what_if, [kept, weights, panel.off, panel.sentence, panel.level], [status, panel.answer],
        api_visibility="private", **on_the_network(status),
    )  # fmt: skip


def change_of(
    models: Models, looked: Any, weights: dict[int, float] | None, off: Sequence[str], sentence: str, level: int | None
) -> Change:
    """What a visitor's controls ask for.

    Raises:
        ValueError: nothing was looked at yet, nothing is changed, or there is no such thing or level.
    """
    attention, level = looked_at(looked, level)
    sentence = inputs.text("The sentence", sentence or "").strip()
    if not off and not sentence:
        raise ValueError("Something must be switched off, or another sentence given, but there is neither.")
    slim, own = attention.without_states(), weights or looked.inside.weights
    switched = off_of(models.beside(looked.network), attention, off)
    return Change(slim, own, looked.token, level, switched, sentence, looked.network)
