"""The methods to compare: a line for each, a dialogue with its settings, and variants of them."""

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

import gradio as gr
from gradio.components import Component

from ovseg.demo.controls import build_control, fields_of, read_controls, shown
from ovseg.demo.work import QUIET
from ovseg.doors.visitor_networks import check_networks, choices
from ovseg.limits import check_count, limits
from ovseg.methods import METHODS, Method, modes_of, obstacle_to, suited_to
from ovseg.methods.grammar import SUITED, Configuration
from ovseg.methods.settings import as_text, label_of
from ovseg.models import Models
from ovseg.server.sentences import as_sentences

OPEN = "() => {{ window.ovsegDialog.open('{0}') }}"
CLOSE = "() => {{ window.ovsegDialog.close('{0}') }}"


@dataclass(frozen=True)
class MethodRow:
    """One method's line and dialogue.

    Args:
        names: the fields of `controls`, in the same order.
        mode: fills the controls.
        before: mode and controls as they stood when the dialogue was opened.
        add: makes a variant of what the controls hold.
    """

    kind: type[Method]
    use: gr.Checkbox
    names: tuple[str, ...]
    controls: tuple[Component, ...]
    mode: gr.Radio
    before: gr.State
    add: gr.Button

    def read(self, models: Models, values: Sequence[object]) -> Method:
        """The method as its controls stand.

        Raises:
            ValueError: a control holds no value of its setting.
        """
        return suited_to(models, self.kind, read_controls(self.kind, self.names, values))

    def shown(self, method: Method) -> list[object]:
        """What its controls show of a method."""
        return [shown(getattr(method, name)) for name in self.names]


@dataclass(frozen=True)
class MethodPanel:
    """All lines, and the variants: `variants` lists their titles with ticks, `kept` holds them by title."""

    rows: tuple[MethodRow, ...]
    variants: gr.CheckboxGroup
    kept: gr.State
    seed: gr.Number
    estimates: tuple[gr.HTML, ...]

    @property
    def inputs(self) -> list[Component]:
        """What a handler must take to know which methods shall run: for `chosen`."""
        controls = [control for row in self.rows for control in row.controls]
        return [*(row.use for row in self.rows), self.variants, self.kept, *controls]

    def chosen(self, models: Models, values: Sequence[object]) -> tuple[Method, ...]:
        """The ticked methods and variants, from the values of `inputs`.

        Raises:
            ValueError: a setting is no value of its kind, or nothing is ticked.
        """
        used, (ticked, kept) = values[: len(self.rows)], values[len(self.rows) : len(self.rows) + 2]
        rest, methods = list(values[len(self.rows) + 2 :]), []
        for row, use in zip(self.rows, used, strict=True):
            mine, rest = rest[: len(row.controls)], rest[len(row.controls) :]
            if use:
                methods.append(row.read(models, mine))
        methods += [kept[title].build(models) for title in ticked or () if title in kept]
        if not methods:
            raise ValueError("At least one method must be ticked, but none is.")
        check_count("Methods and variants", len(methods), limits().methods)
        for method in methods:
            check_networks(models, method)
        return tuple(methods)


def at_first(models: Models) -> tuple[type[Method], ...]:
    """The methods that are ticked when the page opens: those that can run, and have nothing to draw first."""
    kinds = METHODS if models.checkpoint.has_prototypes else [kind for kind in METHODS if not kind.draws_first]
    return tuple(kind for kind in kinds if not obstacle_to(models, kind))


def build_method_panel(models: Models) -> MethodPanel:
    """Lay out the lines and dialogues, and wire what needs no network."""
    kept = gr.State({})
    rows, estimates, ticked = [], [], at_first(models)
    for kind in METHODS:
        obstacle = obstacle_to(models, kind)
        with gr.Row(elem_classes="ov-method", equal_height=True):
            use = gr.Checkbox(
                kind in ticked, label=kind.title, interactive=not obstacle, container=False,
                elem_id=f"use-{kind.name}", scale=1, min_width=120,
            )  # fmt: skip
            estimates.append(gr.HTML("", elem_id=f"estimate-{kind.name}", elem_classes="ov-estimate", min_width=60))
            opener = gr.Button("Settings", size="sm", elem_id=f"open-{kind.name}", scale=0, min_width=72)
        if kind.draws_first and not obstacle and not models.checkpoint.has_prototypes:
            note = '<p class="ov-note">The first time, pictures of each class are drawn.</p>'
            gr.HTML(note, elem_id=f"first-drawing-{kind.name}")
        if obstacle:
            gr.HTML(f'<p class="ov-note">{obstacle}</p>', elem_id=f"obstacle-{kind.name}")
        rows.append(row := _dialogue(models, kind, use))
        opener.click(None, None, None, js=OPEN.format(kind.name), api_visibility="private")
        opener.click(lambda *values: list(values), [row.mode, *row.controls], row.before, **QUIET)
    links = " · ".join(f'<a href="https://arxiv.org/abs/{k.paper.arxiv}">{k.title}</a>' for k in METHODS)
    gr.HTML(f'<p class="ov-papers">The papers: {links}</p>', elem_id="papers")
    variants = gr.CheckboxGroup([], label="Variants", visible=False, elem_id="variants")
    seed = gr.Number(0, label="Seed of the noise", precision=0, minimum=0, elem_id="seed")
    for row in rows:
        _wire_variant(models, row, variants, kept)
    return MethodPanel(tuple(rows), variants, kept, seed, tuple(estimates))


def _dialogue(models: Models, kind: type[Method], use: gr.Checkbox) -> MethodRow:
    suited, names, controls = suited_to(models, kind), [], []
    with gr.Column(elem_id=f"dialog-{kind.name}", elem_classes="ov-dialog"):
        with gr.Row(equal_height=True):
            gr.Markdown(f"### {kind.title}", elem_classes="ov-dialog-title")
            close = gr.Button("Close", size="sm", elem_id=f"close-{kind.name}", scale=0, min_width=70)
        gr.Markdown(
            f"{kind.paper.authors}. [{kind.paper.title}](https://arxiv.org/abs/{kind.paper.arxiv}). {kind.paper.venue}."
        )
        mode = gr.Radio(
            list(modes_of(models, kind)), value=SUITED, label="Take all settings from", elem_id=f"mode-{kind.name}"
        )
        changed = gr.CheckboxGroup(
            [], label="Differs from what suits this backbone (untick to put it back)", visible=False,
            elem_id=f"changed-{kind.name}",
        )  # fmt: skip
        for main in (True, False):
            group = fields_of(kind, main)
            with gr.Accordion("What most people turn" if main else "The rest", open=main, visible=bool(group)):
                names += [field.name for field in group]
                controls += [_control(models, kind, field, getattr(suited, field.name)) for field in group]
        add = gr.Button("Add these settings as a variant", size="sm", elem_id=f"add-{kind.name}")
    row = MethodRow(kind, use, tuple(names), tuple(controls), mode, gr.State(), add)
    close.click(None, None, None, js=CLOSE.format(kind.name), api_visibility="private")
    _wire_changes(models, row, changed)
    return row


def _control(models: Models, kind: type[Method], field: Field, value: object) -> Component:
    return build_control(kind, field, value, choices(models, kind, field))


def _wire_changes(models: Models, row: MethodRow, changed: gr.CheckboxGroup) -> None:
    """A mode fills the controls; what differs from the suited settings is listed, and can be put back."""
    suited, controls = suited_to(models, row.kind), list(row.controls)
    labels = {f.name: label_of(f) for f in fields(row.kind)}

    def fill(name: str) -> list[object]:
        return _one_or_all(row.shown(modes_of(models, row.kind)[name]))

    def list_changes(*values: object) -> gr.CheckboxGroup:
        differing = []
        for name, value in zip(row.names, values, strict=True):
            if value != shown(getattr(suited, name)):
                differing.append((f"{labels[name]}: {_said(value)} (suits: {_said(shown(getattr(suited, name)))})", name))
        return gr.CheckboxGroup(differing, value=[name for _, name in differing], visible=bool(differing))

    def put_back(kept: list[str], *values: object) -> list[object]:
        pairs = zip(row.names, values, strict=True)
        return _one_or_all([value if name in kept else shown(getattr(suited, name)) for name, value in pairs])

    row.mode.input(fill, row.mode, controls, **QUIET)
    gr.on([control.change for control in controls], list_changes, controls, changed, trigger_mode="always_last", **QUIET)
    changed.input(put_back, [changed, *controls], controls, **QUIET)


def restored(models: Models, panel: MethodPanel, methods: Sequence[Configuration]) -> list[Any]:
    """The values of `MethodPanel.inputs` by which these methods are ticked.

    The first of a kind goes into the kind's own controls, any other becomes a variant.

    Raises:
        ValueError: a setting names a network that visitors may not choose.
    """
    for method in methods:
        check_networks(models, method.build(models))
    first: dict[type[Method], Configuration] = {}
    for method in methods:
        first.setdefault(method.kind, method)
    more = [method.build(models) for method in methods if first[method.kind] is not method]
    variants = {(written := Configuration.of(models, method)).title: written for method in more}
    controls = [
        value for row in panel.rows for value in row.shown(first.get(row.kind, Configuration(row.kind)).build(models))
    ]
    uses = [row.kind in first for row in panel.rows]
    return [*uses, gr.CheckboxGroup(list(variants), value=list(variants), visible=bool(variants)), variants, *controls]


def _said(value: object) -> str:
    return value if isinstance(value, str) else as_text(value)


def _one_or_all(values: list[object]) -> object:
    """Gradio wants one value for one output and a list for several."""
    return values if len(values) > 1 else values[0]


def _wire_variant(models: Models, row: MethodRow, variants: gr.CheckboxGroup, kept: gr.State) -> None:
    """The button that makes the controls' settings a variant, and puts the method itself back as it was.

    Where nothing was turned since the dialogue was opened, the variant takes along what the method has.
    """
    suited = suited_to(models, row.kind)

    def keep(
        ticked: list[str] | None, known: dict[str, Configuration], before: list[object] | None, *values: object
    ) -> tuple[Any, ...]:
        with as_sentences():
            method = row.read(models, values)
            check_networks(models, method)
            if method == suited:
                raise ValueError(f"A variant must differ from {suited.title} in a setting, but nothing is changed.")
            variant = Configuration.of(models, method)
            known = known | {variant.title: variant}
            check_count("The variants", len(known), limits().methods)
        if not before or before[1:] == [*values]:
            before = [SUITED, *row.shown(suited)]
        ticked = [*dict.fromkeys([*(ticked or ()), variant.title])]
        return gr.CheckboxGroup(list(known), value=ticked, visible=True), known, before, *before

    outputs = [variants, kept, row.before, row.mode, *row.controls]
    row.add.click(keep, [variants, kept, row.before, *row.controls], outputs, **QUIET)
