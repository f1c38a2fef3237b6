"""The tab that looks inside: what the network attends to, by token, layer and level, and from a place."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from ovseg.attention import Attention, Heads, Inspection, heads_of
from ovseg.attention.plan import NOISE_LEVELS
from ovseg.backbones.base import Site
from ovseg.compare import work_on
from ovseg.demo.inside import heads_value, inside_component, inside_value, place_value, token_maps
from ovseg.demo.inside_panel import NOT_YET, Wish, build_inside_panel, first_token, looking, sentence_of
from ovseg.demo.later_word import build_later
from ovseg.demo.looking import inside_picture
from ovseg.demo.picture import Picture
from ovseg.demo.what_if import build_what_if
from ovseg.demo.work import EACH, QUIET, cancelled_by, on_the_network, say_stopped, sent_once, status_line, told, worker
from ovseg.models import Models
from ovseg.output.attention_files import Inside, Look, files_of_attention
from ovseg.output.files import zipped
from ovseg.progress import Report
from ovseg.server.download_folders import new_folder
from ovseg.server.durations import NETWORK_ROW, Durations
from ovseg.server.request_cost import learn_speed
from ovseg.server.sentences import as_sentences

WORKED = (
    "A worked example: where the network finds each word of the sentence. Press a word, point, click, or Look with your own."
)


@dataclass(frozen=True, eq=False)  # told apart by identity: a session asks whether its state is another
class Looked:
    """What a session keeps: what is written of it, the run's name, and the token that is shown."""

    inside: Inside
    run: str
    token: int
    network: str = ""  # that was looked into; empty for the usual one

    @property
    def heads(self) -> dict | None:
        """What the browser gets of the heads, if any were asked for."""
        heads = self.inside.heads
        return None if heads is None else heads_value(self.inside.attention, self.run, heads, self.token)


def build_inside_tab(
    models: Models, durations: Durations, compared: gr.State, tab: gr.Tab, example: Callable[[], Looked | None]
) -> None:
    """Lay out the tab and wire its events.

    Args:
        compared: the picture of the tab that compares, a `Picture` or None.
        tab: shows the worked example when it is first opened.
        example: what lies inside the worked example, where there is one.
    """
    kept, weights = gr.State(None), gr.State(None)
    with gr.Row(elem_id="inside-frame"):
        with gr.Column(elem_id="inside-left", min_width=320):
            wish, look_button, stop = build_inside_panel(models, durations, compared, kept)
        with gr.Column(elem_id="inside-right", min_width=320):
            status = gr.HTML(status_line("Choose a picture and a sentence, then press Look.", None), elem_id="inside-status")
            maps = inside_component("inside")
            level, changing = build_what_if(models, durations, status, (kept, weights))
            words = build_later(models, durations, status, (kept, weights, level))
            with gr.Row():
                make = gr.Button("Download", size="sm", elem_id="inside-make", min_width=140, scale=0)
                files = gr.File(label="Maps, arrays and their README", elem_id="inside-files", visible=False)
    parts = _Parts(status, maps, kept, weights)
    seeing = _wire_look(models, durations, parts, look_button, wish)
    asking = _wire_heads(models, durations, parts)
    _wire_looking(parts)
    say_stopped(stop, [seeing, asking, *changing, *words], status)

    @as_sentences()
    def as_zip(looked: Looked | None, given: dict[int, float] | None) -> gr.File:
        path = new_folder() / "look-inside.zip"
        path.write_bytes(zip_of(looked, given))
        return gr.File(str(path), visible=True)

    def opened(looked: Looked | None) -> tuple[Any, ...]:
        found = example() if looked is None else None
        return (gr.skip(),) * 3 if found is None else (status_line(WORKED, None), value_of(found), found)

    make.click(as_zip, [kept, weights], files, **QUIET)
    opening = tab.select(opened, kept, [status, maps, kept], **QUIET)
    cancelled_by(look_button, [opening])  # else the example could come behind what the visitor asked for


@dataclass(frozen=True)
class _Parts:
    """What the events of the tab share."""

    status: gr.HTML
    maps: gr.HTML
    kept: gr.State
    weights: gr.State


def zip_of(looked: Looked | None, weights: dict[int, float] | None) -> bytes:
    """The files of what a session looks at, with the weights that its sliders have.

    Raises:
        ValueError: nothing was looked at yet, or no resolution has a weight.
    """
    if looked is None:
        raise ValueError(NOT_YET)
    return zipped(files_of_attention(replace(looked.inside, weights=weights or looked.inside.weights)))


def look(models: Models, asked: Look, report: Report) -> Looked:
    """Look into the picture, or draw one and look meanwhile."""
    report("loading the network", 0.0)
    inside = asked.run(models, report)
    return Looked(inside, uuid.uuid4().hex, first_token(inside.attention.tokens), asked.network)


def look_at(models: Models, picture: Picture, report: Report) -> Looked:
    """Look into a picture of the page's own, with its sentence, at the usual noise levels."""
    inspection = Inspection(sentence_of(models, picture), "middle", words_later=True)
    return look(models, Look(inspection, 0, image=picture.image, levels=NOISE_LEVELS), report)


def value_of(looked: Looked) -> dict:
    """What the browser gets of what was looked at."""
    return inside_value(looked.inside.attention, looked.run, looked.inside.weights, looked.token)


def learn(durations: Durations, looked: Looked) -> None:
    """Learn how fast this machine is."""
    cost = looked.inside.made_by["cost"]
    durations.learn(work_on(NETWORK_ROW, looked.network), cost["seconds"] / cost["rows"])
    learn_speed(durations, looking(looked.network, cost["rows"]), cost["seconds"])


def _wire_look(
    models: Models, durations: Durations, parts: _Parts, button: gr.Button, wish: list[Component]
) -> gr.events.Dependency:
    work = worker(
        models, durations, lambda asked: [looking(asked.network, asked.plan(models).rows)],
        lambda asked, report: look(models, asked, report),
    )  # fmt: skip

    @sent_once
    def look_in(*given: Any) -> Iterator[tuple[Any, ...]]:
        begun = time.monotonic()

        def answer(looked: Looked) -> tuple[Any, ...]:
            learn(durations, looked)
            cost = looked.inside.made_by["cost"]
            passes = "1 pass" if cost["passes"] == 1 else f"{cost['passes']} passes"
            text = f"Done: {passes} in {time.monotonic() - begun:.1f} s. Looking runs the network no more."
            return status_line(text, None), value_of(looked), looked, None

        asked = Wish(*given).look(models)
        asked.plan(models)
        yield from told(work(asked), 4, answer)

    return button.click(
        look_in, wish, [parts.status, parts.maps, parts.kept, parts.weights],
        **on_the_network(parts.status),
    )  # fmt: skip


def _wire_heads(models: Models, durations: Durations, parts: _Parts) -> gr.events.Dependency:
    def parted(network: str, attention: Attention, site: Site, level: int, report: Report) -> Heads:
        return heads_of(models.beside(network), attention, site, level)

    work = worker(models, durations, lambda network, *layer: [looking(network)], parted)

    @sent_once
    def heads(looked: Looked | None, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        attention, site, level = layer_asked(looked, int(event.layer), int(event.level))
        yield status_line("one more pass, heads apart", 0.0), gr.skip(), gr.skip()

        def answer(found: Heads) -> tuple[Any, ...]:
            now = replace(looked, inside=replace(looked.inside, heads=found))
            return status_line("Heads apart: 1 pass.", None), gr.HTML(heads=now.heads), now

        slim = replace(attention.without_states(), cross={site: attention.cross[site]})
        yield from told(work(looked.network, slim, site, level), 3, answer)

    return parts.maps.heads(heads, parts.kept, [parts.status, parts.maps, parts.kept], **on_the_network(parts.status))


def layer_asked(looked: Looked | None, layer: int, level: int) -> tuple[Attention, Site, int]:
    """The attention, a layer of it by its number from 1, and a level.

    Raises:
        ValueError: nothing was looked at yet, or there is no such layer or level.
    """
    if looked is None:
        raise ValueError(NOT_YET)
    attention = looked.inside.attention
    if not (1 <= layer <= len(attention.cross) and 0 <= level < len(attention.timesteps)):
        raise ValueError(f"There must be such a layer and level, but got layer {layer} and level {level}.")
    return attention, list(attention.cross)[layer - 1], level


def _wire_looking(parts: _Parts) -> None:
    """What only looks at what the session keeps."""

    def of_token(looked: Looked | None, event: gr.EventData) -> tuple[Any, Any]:
        if looked is None or not 0 <= int(event.token) < len(looked.inside.attention.tokens):
            return gr.skip(), gr.skip()
        now = replace(looked, token=int(event.token))
        return gr.HTML(token_maps=token_maps(now.inside.attention, now.run, now.token), heads=now.heads), now

    def of_place(looked: Looked | None, event: gr.SelectData) -> Any:
        if looked is None:
            return gr.skip()
        x, y = inside_picture(event.index)
        level = None if event.value is None else int(event.value)
        return gr.HTML(place=place_value(looked.inside.attention, looked.run, x, y, level))

    def weigh(event: gr.EventData) -> dict[int, float]:
        return {int(stride): float(weight) for stride, weight in event.weights.items()}

    parts.maps.token(of_token, parts.kept, [parts.maps, parts.kept], **EACH)
    parts.maps.select(of_place, parts.kept, parts.maps, **EACH)
    parts.maps.weigh(weigh, None, parts.weights, **EACH)
