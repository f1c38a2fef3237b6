"""The words of the main tab: classes as typed or as a caption names them, and which of them seem to be there."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import spaces

from ovseg.demo.controls import grey_out
from ovseg.demo.work import given_picture, on_the_network, status_line, stream
from ovseg.models import Models
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS
from ovseg.progress import Report
from ovseg.words.classes import parse_classes
from ovseg.words.nouns import classes_of
from ovseg.words.presence import Presence, look_for

QUIET = {"api_visibility": "private", "show_progress": "hidden"}
STYLE = """
#present label:not(:has(input:checked)) { opacity: .5; }
"""


def word_controls(models: Models) -> dict[str, Any]:
    """Class box, caption and captioner, and the boxes that keep or leave out a class."""
    look: dict[str, Any] = {}
    no_clip = models.obstacle("clip")
    look["words"] = gr.Textbox(
        label="Classes",
        info="Words with commas between them; bars between words for the same thing: dog|puppy, traffic light, sky."
        " Left empty, a caption gives them.",
        placeholder="cat, car",
        elem_id="classes",
    )
    if models.checkpoint.classes:
        fill = gr.Button("Fill in every word this backbone knows", size="sm", elem_id="fill-classes")
        fill.click(lambda: models.checkpoint.classes, None, look["words"], **QUIET)
    with gr.Row():
        look["say"] = gr.Button("Caption", size="sm", elem_id="caption-button")
        look["check"] = gr.Button("Which are there?", size="sm", elem_id="check-classes", interactive=not no_clip)
    if no_clip:
        gr.Markdown(f"*Which are there?* cannot be asked here. {no_clip}", elem_id="no-clip")
    look["caption"] = gr.Textbox(
        label="Caption", placeholder="What the picture shows: press Caption, or write it yourself", elem_id="caption"
    )
    look["present"] = gr.CheckboxGroup(
        [], label="Classes that seem to be there", visible=False, elem_id="present",
        info="Run asks for the ticked ones. Behind each: how near its CLIP score is to the best class's, and how near it is"
        " to a word of the caption. Tick a grey one to ask for it all the same.",
    )  # fmt: skip
    look["checked"] = gr.State("")  # the words that the boxes were made for
    look["captioner"] = _captioner_choice(models)
    return look


def _captioner_choice(models: Models) -> gr.Radio:
    """All captioners; those that cannot be used here are greyed, with the reason."""
    titles = {"": "the backbone's own", **{name: spec.title for name, spec in CAPTIONERS.items()}}
    titles |= {name: f"LAVIS's {kind}/{variant}" for name, (kind, variant) in LAVIS_MODELS.items()}
    obstacles = {name: models.captioner_obstacle(name) for name in titles}
    reasons = " ".join(dict.fromkeys(reason for reason in obstacles.values() if reason))
    with gr.Accordion("Captioner", open=False, elem_id="captioner-panel"):
        choice = gr.Radio(
            [(titles[name], name or "own") for name in titles],
            value=None if obstacles[""] else "own",
            label="Captioner", info=reasons or None, elem_id="captioner",
        )  # fmt: skip
        grey_out("captioner", [name or "own" for name in titles if obstacles[name]])
    return choice


def captioner_name(choice: str | None) -> str:
    """The captioner that a choice of the page means, as `Models.captioner` takes it."""
    return "" if choice in (None, "own") else choice


def wire_words(models: Models, image: gr.Image, look: dict[str, Any], status: gr.HTML) -> list[gr.events.Dependency]:
    """Connect the buttons; what was said about a picture goes when the picture does."""

    @spaces.GPU(duration=30)
    def say(picture: np.ndarray | None, captioner: str | None) -> Iterator[tuple[Any, Any, str]]:
        def work(report: Report) -> str:
            name = captioner_name(captioner)
            if obstacle := models.captioner_obstacle(name):
                raise ValueError(f"Another captioner must be chosen: {obstacle}")
            report("captioning", 0.0)
            return models.captioner(name).caption(given_picture(picture))

        for stage, share, sentence in stream(work):
            if sentence is None:
                yield gr.skip(), gr.skip(), status_line(stage, share)
            else:
                named = ", ".join(word.name for word in classes_of(sentence))
                told = "Captioned: change the words as you like, then press Run." if named else "The caption names nothing."
                yield sentence, named, status_line(told, None)

    @spaces.GPU(duration=30)
    def check(picture: np.ndarray | None, words: str, caption: str) -> Iterator[tuple[Any, Any, str]]:
        def work(report: Report) -> tuple[Presence, ...]:
            report("comparing words and picture", 0.0)
            return look_for(models, given_picture(picture), parse_classes(words or ""), caption or "")

        for stage, share, found in stream(work):
            if found is None:
                yield gr.skip(), gr.skip(), status_line(stage, share)
            else:
                count = sum(item.present for item in found)
                yield _boxes(found), words, status_line(f"{count} of {len(found)} classes seem to be there.", None)

    gone = (lambda: (gr.CheckboxGroup([], value=[], visible=False), ""), None, [look["present"], look["checked"]])
    image.change(lambda: "", None, look["caption"], **QUIET)
    image.change(*gone, **QUIET)
    look["words"].change(*gone, **QUIET)
    network = on_the_network(status)
    return [
        look["say"].click(
            say, [image, look["captioner"]], [look["caption"], look["words"], status], api_name="caption", **network
        ),
        look["check"].click(
            check, [image, look["words"], look["caption"]], [look["present"], look["checked"], status],
            api_name="look_for", **network,
        ),
    ]  # fmt: skip


def _boxes(found: tuple[Presence, ...]) -> gr.CheckboxGroup:
    choices = [(f"{item.name} {item.looks:.2f} · {item.said:.2f}", item.name) for item in found]
    return gr.CheckboxGroup(choices, value=[item.name for item in found if item.present], visible=True)
