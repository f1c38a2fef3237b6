"""The methods, in the order in which they are shown. A new method is one file here and its name in `METHODS`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType

from ovseg.methods.base import Method
from ovseg.methods.diffsegmenter import DiffSegmenter
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.grounded_diffusion import GroundedDiffusion
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.models import Models
from ovseg.types import named

METHODS: tuple[type[Method], ...] = (DiffSegmenter, OVDiff, FreeSegDiff, GroundedDiffusion)

__all__ = ["METHODS", "Method", "check_setting", "find_method", "modes_of", "obstacle_to", "suited_to"]


def find_method(name: str, kinds: Sequence[type[Method]] = METHODS) -> type[Method]:
    """The method of this name among `kinds`.

    Raises:
        ValueError: there is none.
    """
    return named({kind.name: kind for kind in kinds}, "method", name)


def check_setting(method: type[Method], name: str) -> None:
    """Pass if the method has a setting of this name.

    Raises:
        ValueError: it has none.
    """
    known = [field.name for field in fields(method)]
    if name not in known:
        raise ValueError(f"A setting of {method.title} must be one of {', '.join(known)}, but got {name!r}.")


def suited_to(models: Models, method: type[Method], settings: Mapping[str, object] = MappingProxyType({})) -> Method:
    """The method with the settings that suit the backbone, and these on top.

    Raises:
        ValueError: a setting that the method does not have.
    """
    for name in settings:
        check_setting(method, name)
    return replace(method(), **{**models.checkpoint.settings.get(method.name, {}), **settings})


def modes_of(models: Models, kind: type[Method]) -> dict[str, Method]:
    """The method in each of its modes: as it suits the backbone, as its code was released, and its presets."""
    presets = {name: suited_to(models, kind, settings) for name, settings in kind.presets.items()}
    return {"suited": suited_to(models, kind), "released": kind(), **presets}


def obstacle_to(models: Models, kind: type[Method]) -> str:
    """Why a method cannot be run with these networks, in a sentence; empty where it can. Loads nothing."""
    return " ".join(sentence for part in kind.needs if (sentence := models.obstacle(part)))
