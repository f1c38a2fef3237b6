"""Which networks visitors may choose, where a name could also be a folder of this machine or begin a download.

Which settings name networks is marked on their fields, by the `kind` of `knob`. No method is known here.
"""

import os
import re
from dataclasses import Field, fields

from ovseg.assets import variable
from ovseg.limits import quoted
from ovseg.methods import Method, modes_of, suited_to
from ovseg.models import Models
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS

HINT = "Who runs this server can allow downloads by OVSEG_ALLOW_DOWNLOADS=1."
LISTED = ("captioner", "grounding")  # kinds of which all names are known; of others there are too many
REPOSITORY = re.compile(r"(?:hf-hub:)?\w[\w.-]*(?:/\w[\w.-]*)*", re.ASCII)


def may_download() -> bool:
    """Whether visitors may choose networks that must be downloaded first."""
    return variable("OVSEG_ALLOW_DOWNLOADS") == "1"


def captioners(models: Models) -> tuple[str, ...]:
    """The names of the captioners that visitors may choose; "" is the backbone's own, if it has one."""
    usable = (name for name in ("", *CAPTIONERS, *LAVIS_MODELS) if not models.captioner_obstacle(name))
    return tuple(name for name in usable if not name or may_download() or models.has_captioner(name))


def allowed(models: Models, kind: str, own: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The names of networks that visitors may choose for a setting.

    Args:
        kind: of the setting, as `knob` has it.
        own: the names that suit the backbone.
        wanted: names to look for, where there are too many to list them all.
    """
    if kind == "captioner":
        return captioners(models)
    if kind == "grounding":
        return models.grounding_names()
    always = {*own, models.checkpoint.clip} if kind == "clip" else set(own)

    def may_load(name: str) -> bool:
        return _is_name(name) and (may_download() or (kind == "clip" and models.has_clip(name)))

    return tuple(dict.fromkeys((*own, *(name for name in wanted if name in always or may_load(name)))))


def _is_name(text: str) -> bool:
    """Whether a text can be a network's name, and no path of this machine."""
    return REPOSITORY.fullmatch(text) is not None and not os.path.exists(text.removeprefix("hf-hub:"))


def choices(models: Models, kind: type[Method], field: Field) -> tuple[str, ...] | None:
    """The names that a page offers for a setting of a method; None where it is typed: where it names no network or
    several, or the server's owner allows any. What is typed is checked by `check_networks` all the same.
    """
    about, modes = field.metadata.get("kind", ""), modes_of(models, kind)
    several = isinstance(getattr(modes["suited"], field.name), tuple)
    if not about or several or (may_download() and about not in LISTED):
        return None
    wanted = [name for method in modes.values() for name in _names(method, field)]
    return allowed(models, about, _names(modes["suited"], field), tuple(wanted))


def check_captioner(models: Models, name: str) -> None:
    """Raise ValueError where visitors may not choose this captioner."""
    _check("captioner", "captioner", name, captioners(models))


def check_networks(models: Models, method: Method) -> None:
    """Pass if no setting of the method is a folder of this machine or a network that would have to be downloaded.

    Raises:
        ValueError: one is; the sentence names what can be chosen.
    """
    suited = suited_to(models, type(method))
    for field in fields(method):
        if kind := field.metadata.get("kind", ""):
            names = _names(method, field)
            for name in names:
                _check(field.name, kind, name, allowed(models, kind, _names(suited, field), names))


def _names(method: Method, field: Field) -> tuple[str, ...]:
    """The names in a setting, which is one or several."""
    value = getattr(method, field.name)
    return value if isinstance(value, tuple) else (value,)


def _check(field: str, kind: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        known = ", ".join(each or '"" (that of the backbone)' for each in names) or "none"
        hint = "" if kind == "grounding" else f" {HINT}"
        raise ValueError(f"{field} must be one that this server has, {known}, but got {quoted(name)}.{hint}")
