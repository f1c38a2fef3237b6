"""A page whose events answer with a sentence, also where Gradio itself cannot take what was sent."""

from inspect import Parameter, signature
from typing import Any

import gradio as gr
from httpx import HTTPError, InvalidURL

from ovseg.server.component_values import check_characters, checked_values
from ovseg.server.gradio_parts import BlockFunction, SessionState, click_data, door_of, is_door, parts_now
from ovseg.server.listeners import Listeners
from ovseg.server.sentences import as_sentences

NO_FILE = (
    "picture must be an uploaded file or an http(s) address that this server may fetch (with gradio_client:"
    " handle_file(path or address)), but it is neither."
)
NO_EVENT = "What is sent of a click or a choice must be as this page sends it, but it is not."
FAULT = "The page must be able to do this, but it failed: a fault of the program, of which the server's log says more."
FILE_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, HTTPError, InvalidURL)
"""What Gradio raises where it cannot fetch or read a file."""
EVENT_ERRORS = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)  # of reading an event's data


class Page(gr.Blocks):
    """A page whose events answer with a sentence also where Gradio itself cannot take what was sent.

    `listeners` knows who reads what its jobs give, once it is served.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.listeners = Listeners()

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> list[Any]:
        """What a function of the page is called with. A program may leave out the values at the end that have defaults.

        Raises:
            gr.Error: there are too many values or too few, or one is not what its part of the page can hold.
        """
        with as_sentences():
            given = completed(block_fn, inputs) if is_door(block_fn) else checked_values(parts_now(block_fn, state), inputs)
        try:
            return await super().preprocess_data(block_fn, given, state, explicit_call)
        except FILE_ERRORS as error:
            raise gr.Error(NO_FILE, print_exception=False) from error

    async def process_api(
        self, block_fn: BlockFunction | int, inputs: list[Any], *rest: Any, **named: Any
    ) -> dict[str, Any]:
        """Run an event of the page, as Gradio calls it.

        Raises:
            gr.Error: what was sent is wrong, or the program has a fault; the log then has the error itself.
        """
        event = named.get("event_data")
        try:
            with as_sentences():
                check_characters(click_data(event))
            return await super().process_api(block_fn, inputs, *rest, **named)
        except gr.Error:
            raise
        except EVENT_ERRORS as error:
            raise gr.Error(NO_EVENT if event is not None else FAULT) from error
        except Exception as error:
            raise gr.Error(FAULT) from error


def completed(block_fn: BlockFunction, values: list[Any]) -> list[Any]:
    """The values of a door, with the defaults of those that a program left out at the end.

    Raises:
        ValueError: there are too many or too few, or a text cannot be written.
    """
    name, door = door_of(block_fn)
    parameters = list(signature(door).parameters.values())
    left_out = parameters[len(values) :]
    if len(values) > len(parameters) or any(item.default is Parameter.empty for item in left_out):
        names = ", ".join(item.name for item in parameters)
        raise ValueError(f"{name} takes values for {names}, of which the first is needed, but got {len(values)}.")
    check_characters(values)
    return [*values, *(item.default for item in left_out)]
