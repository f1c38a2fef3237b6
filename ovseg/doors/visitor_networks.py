"""What visitors may choose where a name could also be a folder of this machine or begin a download: what there is."""

from ovseg.assets import variable
from ovseg.limits import quoted
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.pretrained.captioner import CAPTIONERS
from ovseg.pretrained.lavis import MODELS as LAVIS_MODELS

HINT = "Who runs this server can allow downloads by OVSEG_ALLOW_DOWNLOADS=1."


def may_download() -> bool:
    """Whether visitors may choose networks that must be downloaded first."""
    return variable("OVSEG_ALLOW_DOWNLOADS") == "1"


def captioners(models: Models) -> tuple[str, ...]:
    """The names of the captioners that visitors may choose; "" is the backbone's own, if it has one."""
    usable = (name for name in ("", *CAPTIONERS, *LAVIS_MODELS) if not models.captioner_obstacle(name))
    return tuple(name for name in usable if not name or may_download() or models.has_captioner(name))


def clips(models: Models, wanted: str = "") -> tuple[str, ...]:
    """What visitors may choose of CLIPs; "" is the backbone's own.

    Args:
        wanted: a CLIP to look for on this machine: there are too many to look for all.
    """
    is_path = wanted.startswith(("local-dir:", "/", ".", "~"))
    more = wanted and not is_path and (may_download() or models.has_clip(wanted))
    return tuple(dict.fromkeys(("", *([wanted] if more or wanted == models.checkpoint.clip else []))))


def choices(models: Models, method: type[Method], field: str, wanted: str = "") -> tuple[str, ...] | None:
    """The values of a setting that visitors may choose among; None where its own type says what it can be.

    Args:
        wanted: the value that is asked for.
    """
    if field == "captioner":
        return captioners(models)
    if field == "clip":
        return clips(models, wanted)
    return models.grounding_names() if (method.name, field) == ("grounded-diffusion", "module") else None


def check_captioner(models: Models, name: str) -> None:
    """Pass if visitors may choose this captioner.

    Raises:
        ValueError: they may not.
    """
    _check("captioner", name, captioners(models))


def check_choices(models: Models, method: Method) -> None:
    """Pass if no setting of the method is a folder of this machine or a network that would have to be downloaded.

    Raises:
        ValueError: one is; the sentence names what can be chosen.
    """
    for field in ("captioner", "clip", "module"):
        value = getattr(method, field, None)
        if value is not None:
            offered = choices(models, type(method), field, value)
            if offered is not None:
                _check(field, value, offered)


def _check(field: str, value: str, offered: tuple[str, ...]) -> None:
    if value not in offered:
        known = ", ".join(name or '"" (that of the backbone)' for name in offered) or "none"
        hint = "" if field == "module" else f" {HINT}"
        raise ValueError(f"{field} must be one that this server has, {known}, but got {quoted(value)}.{hint}")
