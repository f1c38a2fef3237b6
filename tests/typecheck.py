"""The run-time type checker of the tests: an int is a float, as PEP 484 says."""

import functools
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose arguments and result are checked. The check is made when it is first called: most functions of the
    package are never called in one process, and to make the checks of all of them takes longer than most tests.
    """
    made: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        if not made:
            made.append(_checked(function))
        return made[0](*arguments, **named)

    return checked
