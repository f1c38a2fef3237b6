"""The run-time type checker of the tests: shapes by jaxtyping, all other annotations by beartype.

What is checked is made when a function is first called. Most functions of the package are never called in one process, and
to make the checks of all of them took longer than all imports together.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as PEP 484 says
jaxtyped = jaxtyping.jaxtyped


def when_called(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Stands in for `jaxtyping.jaxtyped` while the package is imported: a decorator of functions and classes."""

    def decorate(made: Any) -> Any:
        if not isinstance(made, type):
            return _first_call(made, typechecker)
        if dataclasses.is_dataclass(made) and not hasattr(made.__init__, "__checked__"):
            made.__init__ = _first_call(made.__init__, typechecker)
        return made

    return decorate


def _first_call(function: Callable[..., Any], typechecker: Callable[[Any], Any]) -> Callable[..., Any]:
    made: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        if not made:
            plain = all(map(_is_plain, function.__annotations__.values()))
            made.append(typechecker(function) if plain else jaxtyped(function, typechecker=typechecker))
        return made[0](*arguments, **named)

    @functools.wraps(function)
    def steps(*arguments: Any, **named: Any) -> Any:
        return (yield from checked(*arguments, **named))

    # Gradio asks whether what it calls is a generator function.
    result = steps if inspect.isgeneratorfunction(function) else checked
    result.__checked__ = True
    return result


def _is_plain(annotation: Any) -> bool:
    """Whether beartype alone checks it as well, and sooner: no shape is in it, and no name that only readers import."""
    said = "" if type(annotation) is type else str(annotation)
    return not isinstance(annotation, str) and not any(mark in said for mark in ("jaxtyping", "ForwardRef", "'"))
