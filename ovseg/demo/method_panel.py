"""The methods to compare: a line for each, a dialogue with its settings, and variants of them, as one component.

One component, as every input of an event costs the browser something at each of the event's steps. Its value, in JSON:

    {"used": [names of ticked methods], "settings": {name: {"network": str, "mode": str, "values": {field: value}}},
     "variants": [{"text": as a link has it, "title": str, "used": bool}]}

`network` is the short name of a backbone, empty for the usual one. The property `about` describes the methods and their
settings on each network, as text of JSON; `estimates` says by name and network how long each takes.
Its event `variant` (event.method, event.before) asks for a variant of the settings as they stand; `before` is what they were
when the dialogue was opened. Its event `others` asks for what is ticked on the other networks too.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ovseg.compare import Variant, read_variants, variant_of, work_on
from ovseg.demo.controls import control_of, read_controls, values_of
from ovseg.demo.static_files import script_of, static
from ovseg.demo.work import QUIET
from ovseg.doors.visitor_networks import check_networks, choices
from ovseg.limits import check_count, limits
from ovseg.methods import METHODS, Method, at_first, find_method, modes_of, obstacle_to, runs_on, suited_to
from ovseg.methods.grammar import Configuration
from ovseg.models import Models
from ovseg.server.durations import Durations, in_words
from ovseg.server.sentences import as_sentences

MODES = {"suited": "Tuned for this model", "released": "As published"}
FIRST_DRAWING = "The first time, pictures of each class are drawn."


def build_method_panel(models: Models) -> tuple[gr.HTML, gr.Number]:
    """Lay out the lines and dialogues, and wire what needs no network; also the seed of the noise, not laid out yet."""
    lines = gr.HTML(
        restored(models, tuple(map(Configuration, at_first(models)))), html_template=static("methods.html"),
        css_template=static("elements.css", "methods.css"), js_on_load=script_of(("elements", "methods")),
        elem_id="methods", apply_default_css=False, estimates={},
        about=json.dumps([_about(models, kind) for kind in METHODS]),
    )  # fmt: skip
    seed = gr.Number(0, label="Seed of the noise", precision=0, minimum=0, elem_id="seed", render=False)

    @as_sentences()
    def add(value: Any, event: gr.EventData) -> dict[str, Any]:
        return with_variant(models, value, event.method, event.before)

    @as_sentences()
    def add_others(value: Any) -> dict[str, Any]:
        return on_other_networks(models, value)

    lines.variant(add, lines, lines, **QUIET)
    lines.others(add_others, lines, lines, **QUIET)
    return lines, seed


def estimates_of(models: Models, durations: Durations) -> dict[str, str]:
    """How long each method takes here on each network, "" before its first run."""
    works = [work_on(kind.name, own.board_name) for kind in METHODS for own in models.board]
    return {work: in_words(durations.expected(work)) for work in works}


def _about(models: Models, kind: type[Method]) -> dict[str, Any]:
    """What the browser is told of a method."""
    paper = kind.paper
    return {
        "name": kind.name, "title": kind.title, "authors": paper.authors, "paper": paper.title, "venue": paper.venue,
        "arxiv": paper.arxiv, "usual": runs_on(models, kind).board_name,
        "networks": [_about_on(own, kind) for own in models.board],
    }  # fmt: skip


def _about_on(models: Models, kind: type[Method]) -> dict[str, Any]:
    """What the browser is told of a method on one network."""
    obstacle = obstacle_to(models, kind)
    draws = kind.draws_first and not models.checkpoint.prototypes and not obstacle
    return {
        "network": models.board_name, "title": models.checkpoint.short_title, "obstacle": obstacle,
        "note": FIRST_DRAWING if draws else kind.yardstick,
        "modes": [[name, MODES.get(name, name), values_of(method)] for name, method in modes_of(models, kind).items()],
        "fields": [control_of(kind, field, choices(models, kind, field)) for field in kind.settings()],
    }  # fmt: skip


def chosen(models: Models, value: Any) -> tuple[Variant, ...]:
    """The ticked methods and variants of a panel's value; a variant stands behind its method, to be seen beside it.

    Raises:
        ValueError: a setting is no value of its kind or names a network that visitors may not choose, nothing is ticked, or
            the value is no panel's.
    """
    try:
        used, texts = value["used"], [one["text"] for one in value["variants"] if one["used"]]
        check_count("Methods and variants", len(used) + len(texts), limits().methods)
        variants = [_read(models, find_method(name), value["settings"][name]) for name in used]
        variants += read_variants(models, texts)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("The methods must be those of the page's own lines, but got something else.") from None
    if not variants:
        raise ValueError("At least one method must be ticked, but none is.")
    for variant in variants:
        check_networks(models.beside(variant.backbone), variant.method)
    return tuple(sorted(variants, key=lambda variant: METHODS.index(type(variant.method))))


def _read(models: Models, kind: type[Method], held: Any) -> Variant:
    own = models.beside(held["network"].strip())
    return variant_of(own, suited_to(own, kind, read_controls(kind, dict(held["values"]))))


def _held(models: Models, written: Configuration) -> dict[str, Any]:
    own = written.networks(models)
    return {"network": own.board_name, "mode": written.mode, "values": values_of(written.build(own))}


def restored(models: Models, methods: Sequence[Configuration]) -> dict[str, Any]:
    """The panel's value by which these methods are ticked.

    The first of a kind goes into the kind's own controls, any other becomes a variant.

    Raises:
        ValueError: a setting names a network that visitors may not choose, or a method a backbone that is not offered here.
    """
    first: dict[type[Method], Configuration] = {}
    more: list[Configuration] = []
    for method in methods:
        own = method.networks(models)
        check_networks(own, method.build(own))
        if first.setdefault(method.kind, method) is not method:
            more.append(Configuration.of(own, method.build(own)))
    return {
        "used": [kind.name for kind in METHODS if kind in first],
        "settings": {kind.name: _held(models, first.get(kind, _as_usual(models, kind))) for kind in METHODS},
        "variants": [*{one.title: _variant(one) for one in more}.values()],
    }


def _as_usual(models: Models, kind: type[Method]) -> Configuration:
    """A method as nobody has changed it, on a network that it runs on."""
    return Configuration(kind, backbone=runs_on(models, kind).board_name)


def _variant(written: Configuration) -> dict[str, Any]:
    return {"text": written.text, "title": written.title, "used": True}


def with_variant(models: Models, value: Any, name: str, before: Any) -> dict[str, Any]:
    """A panel's value with a method's settings made a variant, and the method itself put back as it was before.

    Where nothing was turned since the dialogue was opened, the variant takes along what the method has.

    Raises:
        ValueError: nothing is changed, there are too many variants, or a setting is no value of its kind.
    """
    kind = find_method(name)
    try:
        held = value["settings"][kind.name]
        made = _read(models, kind, held)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("The settings must be those of the page's own lines, but got something else.") from None
    own, usual = models.beside(made.backbone), _as_usual(models, kind)
    check_networks(own, made.method)
    written = Configuration.of(own, made.method)
    if written == usual:
        raise ValueError(f"A variant must differ from {kind.title} in a setting, but nothing is changed.")
    if not before or all(before.get(name) == held[name] for name in ("network", "values")):
        before = _held(models, usual)
    return _grown(value, [written]) | {"settings": value["settings"] | {kind.name: before}}


def on_other_networks(models: Models, value: Any) -> dict[str, Any]:
    """A panel's value with each ticked method also on the other networks that it runs on, as it suits them.

    What a visitor changed stays changed there.

    Raises:
        ValueError: nothing is ticked, or there are too many variants.
    """
    ticked = [Configuration.of(models.beside(variant.backbone), variant.method) for variant in chosen(models, value)]
    runs = [(one, own.board_name) for one in ticked for own in models.board if not obstacle_to(own, one.kind)]
    everywhere = [replace(one, backbone=name) for one, name in runs]
    return _grown(value, [one for one in everywhere if one not in ticked])


def _grown(value: Any, variants: Sequence[Configuration]) -> dict[str, Any]:
    """A panel's value with more variants, ticked; one that is there already stays where it is."""
    grown = {one["title"]: one for one in value["variants"]} | {one.title: _variant(one) for one in variants}
    check_count("The variants", len(grown), limits().methods)
    return value | {"variants": [*grown.values()]}
