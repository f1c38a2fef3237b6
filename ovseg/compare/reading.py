"""Reading which variants of the methods are asked for: "diffsegmenter", "diffsegmenter:threshold=0.6:timesteps=100+300"."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_origin, get_type_hints

from ovseg.compare.running import Variant, variant_of
from ovseg.limits import quoted
from ovseg.methods import METHODS, find_method, modes_of
from ovseg.methods.settings import read_setting
from ovseg.models import Models
from ovseg.types import named


def read_variants(models: Models, entries: Sequence[str], settings: Sequence[str] = ()) -> tuple[Variant, ...]:
    """The variants that are asked for, in their order; blank entries are left out.

    Args:
        entries: a method's name, followed by settings with colons before them; values of a list stand between plus signs,
            and mode=released takes the settings of the paper's code.
        settings: METHOD.FIELD=VALUE for every variant of a method, such as "diffsegmenter.timesteps=300".

    Raises:
        ValueError: there is no such method, mode or setting, or a value cannot be read.
    """
    names = [entry.strip() for entry in entries if entry.strip()]
    common: dict[str, list[str]] = {kind.name: [] for kind in METHODS}
    for item in settings:
        method, dot, rest = item.partition(".")
        if not dot:
            raise ValueError(f"A setting must be METHOD.FIELD=VALUE, but got {quoted(item)}.")
        common[find_method(method).name].append(rest)
    return tuple(_variant(models, name, common) for name in names)


def _variant(models: Models, entry: str, common: dict[str, list[str]]) -> Variant:
    name, *own = entry.split(":")
    kind = find_method(name.strip())
    hints, mode, changed = get_type_hints(kind), "suited", {}
    for item in [*common[kind.name], *own]:
        field, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ValueError(f"A setting must be FIELD=VALUE, but got {quoted(item)}.")
        if field == "mode":
            mode = value
        else:
            in_list = get_origin(hints.get(field)) is tuple
            changed[field] = read_setting(kind, field, value.replace("+", ",") if in_list else value)
    usual = named(modes_of(models, kind), f"mode of {kind.title}", mode)
    return variant_of(models, replace(usual, **changed), mode)
