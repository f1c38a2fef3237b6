"""The run-time type checker of the tests: shapes by jaxtyping, all other annotations by beartype.

What is checked is made when a function is first called. Most functions of the package are never called in one process, and
to make the checks of all of them took longer than all imports together.
"""

import dataclasses
import functools
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
            with_shapes = any("jaxtyping" in str(annotation) for annotation in function.__annotations__.values())
            made.append(jaxtyped(function, typechecker=typechecker) if with_shapes else typechecker(function))
        return made[0](*arguments, **named)

    checked.__checked__ = True
    return checked
