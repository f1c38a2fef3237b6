"""Look inside, one thing changed: a pass run again without a layer, a head, a grid or a token, or with another sentence.

Map and mask of the pass as it was stand beside those of the changed one: an answer to "does this head matter?".
"""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from ovseg.attention import Attention, again
from ovseg.attention.plan import token_groups
from ovseg.backbones.base import Ablation
from ovseg.demo.head_shares import build_shares
from ovseg.demo.inside_panel import SHOWN_SIDE, Focus, first_token, focus_of, looking
from ovseg.demo.looking import tiles_html
from ovseg.demo.work import QUIET, on_the_network, sent_once, status_line, told, worker
from ovseg.doors import inputs
from ovseg.limits import check_count, limits, quoted
from ovseg.maths.maps import resize
from ovseg.maths.overlap import iou
from ovseg.models import Models
from ovseg.output import view
from ovseg.pictures import shrunk
from ovseg.server.durations import Durations

CHOICE = re.compile(r"(grid|layer|token) (\d+)|head (\d+) of layer (\d+)")
MASK_FROM = 0.5  # of the fused map, whose values are 0 to 1


@dataclass(frozen=True, eq=False)
class Change:
    """What a visitor changes. With another sentence the map that is looked at is of a token of its own."""

    focus: Focus
    off: Ablation
    sentence: str = ""

    def run(self, models: Models) -> Attention:
        """The changed pass."""
        focus = self.focus
        return again(models.beside(focus.network), focus.attention, focus.level, self.sentence, self.off)


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
    """Before, after and their difference, as HTML: maps, and masks above `MASK_FROM`. `words` say what was changed."""
    focus = change.focus
    before = focus.attention.fused(focus.token, focus.weights, [focus.level])
    token = first_token(changed.tokens) if change.sentence else focus.token
    after = changed.fused(token, focus.weights)
    image = shrunk(focus.attention.image, SHOWN_SIDE)
    one, other = (_mask(image.shape[:2], fused) for fused in (before, after))
    tiles = [
        (view.heat_overlay(image, before), f"“{focus.word}”, as it was"),
        (view.heat_overlay(image, after), f"“{changed.token_name(token)}”, {words}"),
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


def build_what_if(
    models: Models, durations: Durations, status: gr.HTML, state: tuple[gr.State, gr.State]
) -> tuple[gr.Dropdown, list[gr.events.Dependency]]:
    """Lay out the controls and their answers; returns the choice of a level, and the events, which use the network.

    What can be chosen is known after the first look.

    Args:
        state: what the session looked at, and the weights of its sliders.
    """
    kept, weights = state
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
        weighing = build_shares(models, durations, status, (kept, weights, level))
    kept.change(_renewed, kept, [off, level, answer], **QUIET)
    changing = run.click(
        _what_if(models, durations), [kept, weights, off, sentence, level], [status, answer], **on_the_network(status)
    )
    return level, [changing, weighing]


def _renewed(looked: Any) -> tuple[gr.Dropdown, gr.Dropdown, str]:
    """What can be switched off, the levels and no answer, of what was looked at last."""
    if looked is None:
        return gr.Dropdown([], value=[]), gr.Dropdown([], value=None), ""
    attention = looked.inside.attention
    levels = [(attention.level_name(k), k) for k in range(len(attention.timesteps))]
    return gr.Dropdown(choices_of(attention), value=[]), gr.Dropdown(levels, value=len(levels) // 2), ""


def _what_if(models: Models, durations: Durations) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """What the button does: yields (status, answer)."""
    work = worker(
        models, durations, lambda change: [looking(change.focus.network)], lambda change, report: change.run(models)
    )

    @sent_once
    def what_if(
        looked: Any, own: dict[int, float] | None, off: list[str] | None, sentence: str | None, level: int | None
    ) -> Iterator[tuple[Any, ...]]:
        change = change_of(models, looked, own, off or (), sentence, level)
        yield status_line("one more pass", 0.0), gr.skip()
        words = f"without {', '.join(off)}" if off else f"of “{change.sentence}”"
        said = status_line("One thing changed: 1 pass.", None)
        yield from told(work(change), 2, lambda changed: (said, change_html(change, changed, words)))

    return what_if


def change_of(
    models: Models,
    looked: Any,
    weights: dict[int, float] | None,
    off: Sequence[str],
    sentence: str | None,
    level: int | None,
) -> Change:
    """What a visitor's controls ask for."""
    focus = focus_of(looked, weights, level)
    sentence = inputs.text("The sentence", sentence or "").strip()
    if not off and not sentence:
        raise ValueError("Something must be switched off, or another sentence given, but there is neither.")
    return Change(focus, off_of(models.beside(focus.network), focus.attention, off), sentence)
