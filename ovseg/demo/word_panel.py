"""The words: classes as typed or as a caption names them, their chips, and which of them seem to be there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from ovseg.demo.picture import Picture
from ovseg.demo.static_files import script_of, static
from ovseg.demo.work import QUIET, on_the_network, sent_once, status_line, told, worker
from ovseg.doors import inputs
from ovseg.doors.visitor_networks import captioners
from ovseg.methods import METHODS
from ovseg.models import Models
from ovseg.output.view import hex_colours, palette, palette_for
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS
from ovseg.progress import Report
from ovseg.server.durations import Durations
from ovseg.server.request_cost import Work, learning
from ovseg.server.sentences import as_sentences
from ovseg.words.class_filter import Presence, look_for
from ovseg.words.classes import check_amount, parse_classes
from ovseg.words.notes import known_words
from ovseg.words.nouns import classes_of

COLOURS = 64  # chips with colours of their own, one after the other
MUST_BE_DOWNLOADED = "Others must be downloaded first, which this server does not let visitors do."
OWN = "own"  # the captioner that goes with the backbone, as the choice on the page calls it


@dataclass(frozen=True)
class WordPanel:
    """The class box with its chips; `rest`, with the caption and its captioner, is not laid out yet."""

    words: gr.Textbox
    chips: gr.HTML
    caption: gr.Textbox
    captioner: gr.Radio
    rest: tuple[Component, ...]


def build_word_panel(
    models: Models, durations: Durations, picture: gr.State, status: gr.HTML
) -> tuple[WordPanel, list[gr.events.Dependency]]:
    """Lay out the words, and wire their buttons; also the events that use the network."""
    no_clip, no_captioner = models.obstacle("clip"), models.captioner_obstacle()
    box = gr.Textbox(
        label="Classes", elem_id="classes", placeholder="cat, dog|puppy, sky",
        info="Commas between; bars between words for one class.",
    )  # fmt: skip
    chips = gr.HTML(
        chips_value(models, ()), html_template=static("chips.html"), css_template=static("chips.css"),
        js_on_load=script_of(("elements", "chips")), elem_id="chips", apply_default_css=False,
    )  # fmt: skip
    with gr.Row():
        say = gr.Button("Caption it", size="sm", elem_id="caption-button", min_width=90)
        check = gr.Button("Find them", size="sm", elem_id="check-classes", interactive=not no_clip, min_width=90)
        only = gr.Button("Keep only classes found", size="sm", elem_id="only-present", visible=False, min_width=120)
    if no_clip:
        gr.HTML(f'<p class="ov-note">“Find them” cannot be asked here. {no_clip}</p>', elem_id="no-clip")
    if no_captioner:
        gr.HTML(f'<p class="ov-note">{no_captioner}</p>', elem_id="no-captioner")
    caption = gr.Textbox(
        label="Caption", placeholder="What the picture shows", elem_id="caption", render=False,
        info=", ".join(f"{kind.title} {kind.caption_use}" for kind in METHODS if kind.caption_use) + ".",
    )  # fmt: skip
    captioner = _captioner_choice(models)
    rest: list[Component] = [caption, captioner]
    if models.checkpoint.classes:
        fill = gr.Button("Ask for every class that this model knows", size="sm", elem_id="fill-classes", render=False)
        fill.click(lambda: models.checkpoint.classes, None, box, **QUIET)
        rest.append(fill)
    only.click(_left_out, [box, chips], [box, only], **QUIET)
    network = on_the_network(status)
    saying = say.click(_captioning(models, durations), [picture, captioner], [status, caption, box], **network)
    checking = check.click(_looking_for(models, durations), [picture, box, caption], [status, chips, only], **network)
    return WordPanel(box, chips, caption, captioner, tuple(rest)), [saying, checking]


@as_sentences()
def _left_out(words: str, value: Any) -> tuple[str, gr.Button]:
    """The words without those that the chips do not find, and the button hidden."""
    classes = parse_classes(words)
    try:
        kept = [w for w in classes if value["present"].get(w.name, {"present": True})["present"]]
    except (KeyError, TypeError, AttributeError):
        raise ValueError("What is found must be what the page's own chips say, but got something else.") from None
    return ", ".join("|".join(word.phrases) for word in kept), gr.Button(visible=False)


def _captioner_choice(models: Models) -> gr.Radio:
    """The captioners that can be used here."""
    titles = {"": "default", **{name: spec.title for name, spec in CAPTIONERS.items()}}
    titles |= {name: f"LAVIS's {kind}/{variant}" for name, (kind, variant) in LAVIS_MODELS.items()}
    reasons = {name: models.captioner_obstacle(name) for name in titles}
    offered = captioners(models)
    reasons |= {name: MUST_BE_DOWNLOADED for name in titles if name not in offered and not reasons[name]}
    usable = [(title, name or OWN) for name, title in titles.items() if not reasons[name]]
    why = " ".join(dict.fromkeys(reason for reason in reasons.values() if reason))
    first = usable[0][1] if usable else None
    return gr.Radio(usable, value=first, label="Captioner", info=why or None, elem_id="captioner", render=False)


def captioner_name(choice: str | None) -> str:
    """The captioner that a choice of the page means, as `Models.captioner` takes it."""
    return "" if choice in (None, OWN) else choice


def colours_on(image: np.ndarray | None) -> list[str]:
    """The colours of classes on a picture, in their order."""
    return hex_colours((palette(COLOURS + 1) if image is None else palette_for(image, COLOURS + 1))[1:])


def chips_value(models: Models, seen: Sequence[Presence], image: np.ndarray | None = None) -> dict[str, Any]:
    """What the chips show: colours in the order of the classes, what is known, and which seem to be there."""
    return {
        "box": "classes",
        "colours": colours_on(image),
        "known": known_words(models.checkpoint),
        "unknown": f"{models.checkpoint.world} does not know",
        "present": {item.name: {"present": item.present, "score": f"{item.clip_score:.2f}"} for item in seen},
    }


def _captioning(models: Models, durations: Durations) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """What the button that captions does: yields (status, caption, its classes)."""
    captioning = Work("caption")

    def described(image: np.ndarray, name: str, report: Report) -> str:
        report("captioning", 0.0)
        return models.captioner(name).caption(image)

    def answer(sentence: str) -> tuple[str, str, str]:
        named = ", ".join(word.name for word in classes_of(sentence))
        return status_line(f"“{sentence}”" + ("" if named else ": the caption names nothing."), None), sentence, named

    describe = worker(models, durations, lambda image, name: [captioning], described)

    @sent_once
    def say(given: Picture | None, captioner: str | None) -> Iterator[tuple[Any, ...]]:
        image, name = given_image(given), inputs.captioner(models, captioner_name(captioner))
        if obstacle := models.captioner_obstacle(name):
            raise ValueError(f"Another captioner must be chosen: {obstacle}")
        yield from told(learning(durations, captioning, describe(image, name)), 3, answer)

    return say


def _looking_for(models: Models, durations: Durations) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """What the button that looks for the classes does: yields (status, chips, the button that leaves classes out)."""
    looking = Work("look for classes")

    def found(image: np.ndarray, words: str, caption: str, report: Report) -> tuple[Presence, ...]:
        report("comparing words and picture", 0.0)
        return look_for(models, image, parse_classes(words), caption)

    look = worker(models, durations, lambda image, words, caption: [looking], found)

    @sent_once
    def check(given: Picture | None, words: str | None, caption: str | None) -> Iterator[tuple[Any, ...]]:
        def answer(seen: tuple[Presence, ...]) -> tuple[Any, ...]:
            count = sum(item.present for item in seen)
            text = f"CLIP and the caption see {count} of {len(seen)} classes; the others stay until you leave them out."
            return status_line(text, None), chips_value(models, seen, image), gr.Button(visible=count < len(seen))

        image = given_image(given)
        check_amount(parse_classes(words or ""))
        inputs.text("The caption", caption or "")
        yield from told(learning(durations, looking, look(image, words, caption or "")), 3, answer)

    return check


def given_image(given: Picture | None) -> Any:
    """The picture (H, W, 3) that the visitor looks at."""
    if given is None:
        raise ValueError("A picture must be chosen first: a scene, an upload, a drawing or an example.")
    return given.image
