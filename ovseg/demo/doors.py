"""The doors for programs: `segment`, `compare`, `caption` and `generate`, as gradio_client and MCP clients see them.

A door checks what it is given and answers bad input with a sentence, before the accelerator is asked for.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio import FileData

from ovseg.demo.work import NETWORK, worker
from ovseg.doors import inputs
from ovseg.doors.answers import Captioned, Compared, Drawn, Segmented
from ovseg.doors.requests import About, CaptionRequest, CompareRequest, GenerateRequest, SegmentRequest
from ovseg.methods import METHODS
from ovseg.models import Models
from ovseg.output import view
from ovseg.server.download_folders import new_folder
from ovseg.server.durations import Durations
from ovseg.server.gradio_parts import describe_values, read_own_files
from ovseg.server.request_cost import Work, check_work, learn_speed, to_draw, to_segment
from ovseg.server.sentences import as_sentences
from ovseg.server.uploaded_files import sent_file

SLOW = " (slow the first time: it draws pictures of each class)"
Settings = dict[str, str | float | bool | list[str | float]]
DoorRequest = SegmentRequest | CompareRequest | CaptionRequest | GenerateRequest


def announced(**types: Any) -> Callable[[Callable], Callable]:
    """Tell programs the types of a door's values, and which methods there are.

    The door itself takes anything: what they send may be anything. What it raises of that is a sentence.
    """

    known = ", ".join(kind.name + SLOW * kind.draws_first for kind in METHODS)

    def with_types(door: Callable) -> Callable:
        door.__doc__ = door.__doc__.replace("{methods}", known)
        door.__annotations__ = {**types, "return": door.__annotations__["return"]}
        return as_sentences()(door)

    return with_types


class Doors:
    """The four doors on the networks of a server. Their signatures and docstrings are what programs see.

    Gradio passes the values by position, so there are as many of them as a door has parameters.
    """

    def __init__(self, models: Models, durations: Durations) -> None:
        self._models, self._durations = models, durations
        self._work = worker(
            models, durations, lambda request: works_of(models, request), lambda request, report: request.run(models, report)
        )

    def _answered(self, request: DoorRequest) -> Any:
        """The answer to a request; how long it took is learned.

        Raises:
            ValueError: it asks for too much work.
        """
        if isinstance(request, (SegmentRequest, CompareRequest)):
            about = request.about
            check_work(self._models, request.variants, about.words, about.image.shape[:2], about.caption)
        progress, answer = gr.Progress(), None
        for stage, share, made in self._work(request):
            progress((round(100 * share), 100), desc=stage, unit="%")
            answer = made
        for part, seconds in took(self._models, request, answer):
            learn_speed(self._durations, part, seconds)
        return answer

    @announced(
        picture=FileData,
        classes=str,
        method=str,
        settings=Settings | None,
        seed=int,
        caption=str,
        captioner=str,
        only_present=bool,
        longest_side=int,
    )
    def segment(
        self, picture: Any, classes: Any = "", method: Any = METHODS[0].name, settings: Any = None, seed: Any = 0,
        caption: Any = "", captioner: Any = "", only_present: Any = False, longest_side: Any = 1024,
    ) -> Segmented:  # fmt: skip
        """Find which pixels of a picture show which class, read out of a frozen text-to-image diffusion model by one method.
        Every pixel gets one of the classes or the background, so a class that is absent may still get pixels: set
        only_present to leave such classes out. The network that ships with this server knows a small world of emoji scenes;
        on photographs it means little, unless the server runs another backbone (see "backbone" in the answer).

        Args:
            picture: the picture: an uploaded file, an http(s) address, a data address, or base64
            classes: words such as "dog|puppy, sky": commas between classes, bars between synonyms; "" takes a caption's nouns
            method: {methods}
            settings: settings by name, such as {"threshold": 0.5}; {"mode": "released"} takes those of the paper's code
            seed: seed of the noise; the same seed gives the same masks
            caption: a sentence about the picture, which some methods read; "" lets a captioner write it where one is needed
            captioner: name of the captioner; "" is the one that goes with the server's backbone
            only_present: true leaves out the classes that neither CLIP nor the caption finds in the picture
            longest_side: larger pictures are shrunk to this many pixels, 16 to 2048; masks have the shrunk size

        Returns:
            an object with labels, masks (label, mean score, area, bbox and COCO RLE of each class found), shares of the picture, the background's threshold, size (height, width), caption, seconds by stage, settings used
        """  # noqa: E501
        image = inputs.picture(sent_file(picture), longest_side)
        about = About.of(self._models, image, classes=classes, caption=caption, captioner=captioner, seed=seed)
        request = SegmentRequest(
            about, inputs.method(self._models, method, settings), inputs.yes_or_no("only_present", only_present)
        )
        return self._answered(request)

    @announced(
        picture=FileData, classes=str, methods=list[str] | None, seed=int, caption=str, captioner=str, longest_side=int
    )
    def compare(
        self, picture: Any, classes: Any = "", methods: Any = None, seed: Any = 0, caption: Any = "", captioner: Any = "",
        longest_side: Any = 1024,
    ) -> Compared:  # fmt: skip
        """Run several methods on the same picture and say where they agree. Use it to see how much to trust a mask: where
        methods disagree, at least one is wrong.

        Args:
            picture: the picture: an uploaded file, an http(s) address, a data address, or base64
            classes: words such as "dog|puppy, sky": commas between classes, bars between synonyms; "" takes a caption's nouns
            methods: names such as ["diffsegmenter", "diffsegmenter:threshold=0.6:timesteps=100+300"]; null takes those that the page begins with
            seed: seed of the noise; the same seed gives the same masks
            caption: a sentence about the picture, which some methods read; "" lets a captioner write it where one is needed
            captioner: name of the captioner; "" is the one that goes with the server's backbone
            longest_side: larger pictures are shrunk to this many pixels, 16 to 2048; masks have the shrunk size

        Returns:
            an object with results (one for each method, as segment answers), failures (title and reason), agreement (share of the picture where all say the same, 0 to 1) and mutual_iou (of every two results)
        """  # noqa: E501
        image = inputs.picture(sent_file(picture), longest_side)
        about = About.of(self._models, image, classes=classes, caption=caption, captioner=captioner, seed=seed)
        return self._answered(CompareRequest.of(self._models, about, methods))

    @announced(picture=FileData, prefix=str, captioner=str, longest_side=int)
    def caption(self, picture: Any, prefix: Any = "", captioner: Any = "", longest_side: Any = 1024) -> Captioned:
        """Describe a picture in one sentence, and list the things that the sentence names: they can be used as classes of
        segment and compare.

        Args:
            picture: the picture: an uploaded file, an http(s) address, a data address, or base64
            prefix: how the sentence shall begin, such as "a photo of"
            captioner: name of the captioner; "" is the one that goes with the server's backbone
            longest_side: larger pictures are shrunk to this many pixels, 16 to 2048

        Returns:
            an object with caption, things and seconds
        """
        image = inputs.picture(sent_file(picture), longest_side)
        return self._answered(CaptionRequest.of(self._models, image, captioner=captioner, prefix=prefix))

    @announced(prompt=str, seed=int, steps=int | None, guidance=float | None, negative=str)
    def generate(
        self, prompt: Any, seed: Any = 0, steps: Any = None, guidance: Any = None, negative: Any = ""
    ) -> tuple[FileData, Drawn]:
        """Draw a picture from a prompt with the diffusion model whose attention the methods read.

        Args:
            prompt: what the picture shall show, such as "a photo of a cat and a car on grass"
            seed: another seed gives another picture; the same seed gives the same one
            steps: sampling steps, 1 to 100; null takes what suits the backbone
            guidance: how closely the prompt is followed, 0 to 50; null takes what suits the backbone
            negative: what the picture shall not show

        Returns:
            the picture as a PNG file, and an object with prompt, seed, steps, guidance, size (height, width) and seconds
        """
        request = GenerateRequest.of(prompt, seed=seed, steps=steps, guidance=guidance, negative=negative)
        image, drawn = self._answered(request)
        path = new_folder() / "generated.png"
        path.write_bytes(view.png(image))
        return FileData(path=str(path), orig_name=path.name, mime_type="image/png"), drawn


def works_of(models: Models, request: DoorRequest) -> tuple[Work, ...]:
    """What a request asks of the networks, to say beforehand how long it takes."""
    match request:
        case CaptionRequest():
            return (Work("caption"),)
        case GenerateRequest():
            return to_draw(models, request.steps)
    about, looks = request.about, isinstance(request, SegmentRequest) and request.only_present
    works = to_segment(models, request.variants, about.words, about.caption, about.image.shape[:2])
    return (*works, *([Work("look for classes")] * looks))


def took(models: Models, request: DoorRequest, answer: Any) -> list[tuple[Work, float]]:
    """The work of a request that is answered, with its seconds."""
    match request:
        case CaptionRequest():
            return [(Work("caption"), answer["seconds"])]
        case GenerateRequest():
            return [(to_draw(models, request.steps)[0], answer[1]["seconds"])]
    works = {variant.title: variant.work for variant in request.variants}
    results = [answer] if isinstance(request, SegmentRequest) else answer["results"]
    return [(Work(works[result["title"]], result["rows"] or 0), result["seconds"]["total"]) for result in results]


def build_doors(page: gr.Blocks, models: Models, durations: Durations) -> None:
    """Add the four doors to the page that is being built."""
    doors = Doors(models, durations)
    for door in (doors.segment, doors.compare, doors.caption, doors.generate):
        added = gr.api(door, api_name=door.__name__, **NETWORK)
        describe_values(page, added["id"], door)
        read_own_files(page, added["id"])
