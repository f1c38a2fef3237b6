"""The tab that looks inside: what the network attends to, by token, layer and level, and from a place."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from ovseg.attention import (
    Attention,
    Heads,
    Inspection,
    Plan,
    draw_inside,
    heads_of,
    look_inside,
    plan_drawing,
    plan_looking,
)
from ovseg.backbones.base import Sampling, Site
from ovseg.compare import work_on
from ovseg.demo.head_shares import wire_shares
from ovseg.demo.inside import heads_value, inside_component, inside_value, place_value, token_maps
from ovseg.demo.inside_panel import (
    NOT_YET,
    SOURCES,
    InsidePanel,
    Wish,
    build_inside_panel,
    first_token,
    sentence_of,
    thumbnail_of,
)
from ovseg.demo.later_word import build_later, wire_later
from ovseg.demo.looking import inside_picture
from ovseg.demo.network_choice import network_of
from ovseg.demo.picture import Picture, example_names, of_example, of_file
from ovseg.demo.what_if import build_what_if, wire_what_if
from ovseg.demo.work import (
    EACH,
    QUIET,
    cancelled_by,
    on_accelerator,
    on_the_network,
    say_stopped,
    sent_once,
    status_line,
    stream,
)
from ovseg.models import Models
from ovseg.output.attention_files import Inside, attention_card, usual_weights, zip_of_attention
from ovseg.output.cost import measuring
from ovseg.progress import Report
from ovseg.scene import from_image
from ovseg.server.download_folders import new_folder
from ovseg.server.durations import NETWORK_ROW, Durations
from ovseg.server.request_cost import Work, learn_speed, seconds_for
from ovseg.server.sentences import as_sentences

LOOKING = "look inside"  # what its speed is learned under
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
    with gr.Row(elem_id="inside-frame"):
        with gr.Column(elem_id="inside-left", min_width=320):
            panel = build_inside_panel(models)
        with gr.Column(elem_id="inside-right", min_width=320):
            status = gr.HTML(status_line("Choose a picture and a sentence, then press Look.", None), elem_id="inside-status")
            maps = inside_component("inside")
            what_if = build_what_if()
            later = build_later()
            with gr.Row():
                make = gr.Button("Download", size="sm", elem_id="inside-make", min_width=140, scale=0)
                files = gr.File(label="Maps, arrays and their README", elem_id="inside-files", visible=False)
    kept, weights = gr.State(None), gr.State(None)
    parts = _Parts(panel, status, maps, kept, compared, weights)
    seeing = _wire_look(models, durations, parts)
    asking = _wire_heads(models, durations, parts)
    _wire_looking(parts)
    _wire_sources(models, parts)
    _wire_estimate(models, durations, parts)
    changing = wire_what_if(models, durations, what_if, status, (kept, weights), looking)
    weighing = wire_shares(models, durations, what_if.shares, status, (kept, weights, what_if.level), looking)
    words = wire_later(models, durations, later, status, (kept, weights, what_if.level), looking)
    say_stopped(panel.stop, [seeing, asking, changing, weighing, *words], status)

    def as_zip(looked: Looked | None, given: dict[int, float] | None) -> gr.File:
        path = new_folder() / "look-inside.zip"
        path.write_bytes(zipped(looked, given))
        return gr.File(str(path), visible=True)

    def opened(looked: Looked | None) -> tuple[Any, ...]:
        found = example() if looked is None else None
        return (gr.skip(),) * 3 if found is None else (status_line(WORKED, None), value_of(found), found)

    make.click(as_zip, [kept, weights], files, **QUIET)
    opening = tab.select(opened, kept, [status, maps, kept], **QUIET)
    cancelled_by(panel.look, [opening])  # else the example could come behind what the visitor asked for


@dataclass(frozen=True)
class _Parts:
    """What the events of the tab share."""

    panel: InsidePanel
    status: gr.HTML
    maps: gr.HTML
    kept: gr.State
    compared: gr.State
    weights: gr.State


def zipped(looked: Looked | None, weights: dict[int, float] | None) -> bytes:
    """The files of what a session looks at, with the weights that its sliders have.

    Raises:
        gr.Error: nothing was looked at yet, or no resolution has a weight.
    """
    with as_sentences():
        if looked is None:
            raise ValueError(NOT_YET)
        return zip_of_attention(replace(looked.inside, weights=weights or looked.inside.weights))


@dataclass(frozen=True, eq=False)
class Asked:
    """What a visitor asks of the networks: a drawing, or a picture and noise levels."""

    inspection: Inspection
    seed: int
    sampling: Sampling | None = None
    image: np.ndarray | None = None
    levels: tuple[int, ...] = ()
    network: str = ""  # that is looked into; empty for the usual one

    def plan(self, models: Models) -> Plan:
        """What it takes.

        Raises:
            ValueError: it cannot be done, or takes too much memory.
        """
        own = models.beside(self.network)
        if self.sampling:
            plan = plan_drawing(own, self.inspection, self.sampling)
        else:
            plan = plan_looking(own, self.image.shape[:2], self.inspection, self.levels)
        plan.check(self.inspection.most_bytes)
        return plan


def asked_of(models: Models, wish: Wish) -> Asked:
    """What a visitor's wish asks of the networks.

    Raises:
        ValueError: something that was chosen is not as it must be.
    """
    inspection, seed, own = wish.inspection(), wish.seed_number(), models.beside(wish.network)
    if wish.draws:
        return Asked(inspection, seed, sampling=wish.sampling(own), network=own.board_name)
    return Asked(inspection, seed, image=wish.image(), levels=wish.levels(), network=own.board_name)


def look(models: Models, asked: Asked, report: Report) -> Looked:
    """Look into the picture, or draw one and look meanwhile.

    Raises:
        ValueError: something is not as it must be.
    """
    report("loading the network", 0.0)
    inspection, settings = asked.inspection, {"self-attention at": asked.inspection.keep}
    own = models.beside(asked.network)
    if asked.sampling:
        with measuring(own.device) as cost:
            _, attention = draw_inside(own, inspection, asked.sampling, asked.seed, report)
        settings |= {"steps": asked.sampling.steps, "guidance": asked.sampling.guidance}
    else:
        scene = from_image(own, asked.image, asked.seed)
        with measuring(own.device) as cost:
            attention = look_inside(own, scene, inspection, asked.levels, report)
    inside = Inside(attention, usual_weights(own), attention_card(own, attention, cost, settings))
    return Looked(inside, uuid.uuid4().hex, first_token(attention.tokens), asked.network)


def looking(network: str, rows: int) -> Work:
    """So many rows of a network, under the name that its speed is learned by."""
    return Work(work_on(LOOKING, network), rows)


def value_of(looked: Looked) -> dict:
    """What the browser gets of what was looked at."""
    return inside_value(looked.inside.attention, looked.run, looked.inside.weights, looked.token)


def learn(durations: Durations, looked: Looked) -> None:
    """Learn how fast this machine is."""
    cost = looked.inside.made_by["cost"]
    durations.learn(work_on(NETWORK_ROW, looked.network), cost["seconds"] / cost["rows"])
    learn_speed(durations, looking(looked.network, cost["rows"]), cost["seconds"])


def _wire_look(models: Models, durations: Durations, parts: _Parts) -> gr.events.Dependency:
    @on_accelerator(models, lambda asked: seconds_for(durations, [looking(asked.network, asked.plan(models).rows)]))
    def work(asked: Asked) -> Iterator[tuple[str, float, Looked | None]]:
        yield from stream(lambda report: look(models, asked, report))

    @sent_once
    def look_in(compared: Picture | None, *given: Any) -> Iterator[tuple[Any, ...]]:
        begun = time.monotonic()
        with as_sentences():
            asked = asked_of(models, Wish(compared, *given))
            asked.plan(models)
        for stage, share, looked in work(asked):
            if looked is None:
                yield status_line(stage, share), gr.skip(), gr.skip(), gr.skip()
            else:
                learn(durations, looked)
                cost = looked.inside.made_by["cost"]
                passes = "1 pass" if cost["passes"] == 1 else f"{cost['passes']} passes"
                text = f"Done: {passes} in {time.monotonic() - begun:.1f} s. Looking runs the network no more."
                yield status_line(text, None), value_of(looked), looked, None

    return parts.panel.look.click(
        look_in, [parts.compared, *parts.panel.inputs], [parts.status, parts.maps, parts.kept, parts.weights],
        api_visibility="private", **on_the_network(parts.status),
    )  # fmt: skip


def _wire_heads(models: Models, durations: Durations, parts: _Parts) -> gr.events.Dependency:
    @on_accelerator(models, lambda network, attention, site, level: seconds_for(durations, [looking(network, 1)]))
    def work(network: str, attention: Attention, site: Site, level: int) -> Iterator[tuple[str, float, Heads | None]]:
        yield from stream(lambda report: heads_of(models.beside(network), attention, site, level))

    @sent_once
    def heads(looked: Looked | None, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        with as_sentences():
            attention, site, level = layer_asked(looked, int(event.layer), int(event.level))
        yield status_line("one more pass, heads apart", 0.0), gr.skip(), gr.skip()
        slim = replace(attention.without_states(), cross={site: attention.cross[site]})
        for *_, found in work(looked.network, slim, site, level):
            if found is not None:
                now = replace(looked, inside=replace(looked.inside, heads=found))
                yield status_line("Heads apart: 1 pass.", None), gr.HTML(heads=now.heads), now

    return parts.maps.heads(
        heads, parts.kept, [parts.status, parts.maps, parts.kept], api_visibility="private", **on_the_network(parts.status)
    )


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


def _wire_sources(models: Models, parts: _Parts) -> None:
    """Another picture brings its sentence."""
    panel = parts.panel

    def of_compare(picture: Picture | None, source: str) -> tuple[str, Any]:
        words = sentence_of(models, picture) if picture and source == "compare" else gr.skip()
        return thumbnail_of(picture, "The picture of the tab Compare"), words

    def uploaded(path: str | None) -> Picture | None:
        with as_sentences():
            return None if path is None else of_file(path)

    def example(event: gr.SelectData) -> tuple[Picture, str, str]:
        picture = of_example(example_names()[event.index])
        return picture, sentence_of(models, picture), thumbnail_of(picture, f"Example: {picture.words}")

    parts.compared.change(of_compare, [parts.compared, panel.source], [panel.thumbnail, panel.sentence], **QUIET)
    panel.upload.change(uploaded, panel.upload, panel.uploaded, **QUIET)
    panel.examples.select(example, None, [panel.example, panel.sentence, panel.example_shown], **QUIET)
    panel.network.change(_sampling_of(models), panel.network, [panel.steps, panel.guidance], **QUIET)
    panel.source.change(
        lambda source: [gr.Column(visible=source == name) for name in SOURCES.values()], panel.source, list(panel.parts),
        **QUIET,
    )  # fmt: skip


def _sampling_of(models: Models) -> Callable[[str], tuple[int, float]]:
    """What gives the steps and the guidance that suit a network."""

    def of_network(network: str) -> tuple[int, float]:
        checkpoint = network_of(models, network).checkpoint
        return checkpoint.steps, checkpoint.guidance

    return of_network


def _wire_estimate(models: Models, durations: Durations, parts: _Parts) -> None:
    """What it will take, said before it is done, whenever a choice changes."""

    def estimate(compared: Picture | None, *given: Any) -> str:
        return estimate_line(models, durations, Wish(compared, *given))

    changes = [control.change for control in (parts.compared, *parts.panel.inputs, parts.kept)]
    gr.on(
        changes, estimate, [parts.compared, *parts.panel.inputs], parts.panel.estimate, trigger_mode="always_last", **QUIET
    )


def estimate_line(models: Models, durations: Durations, wish: Wish) -> str:
    """What a wish will take, or what is wrong with it, as HTML.

    Of a network beside others this is known once it is there: no visitor loads one by choosing it.
    """
    try:
        asked = asked_of(models, wish)
        own = models.beside(asked.network)
        if len(own.board) > 1 and not own.is_loaded:
            return status_line(f"{own.checkpoint.title} is loaded first.", None)
        expected = durations.expected(work_on(NETWORK_ROW, asked.network))
        return status_line(f"Will take {asked.plan(models).sentence(expected)}", None)
    except ValueError as error:
        return status_line(str(error), None)
