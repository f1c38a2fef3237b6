"""Where the files that ship with the project lie, where those are kept that it makes, and the variables that say so."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "assets"
ASSETS = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "assets"
"""In an installed package the folder lies inside it; in a checkout, beside it."""

VARIABLES: dict[str, str] = {
    "OVSEG_BACKBONE": "the backbone that `python app.py` serves: a name of `BACKBONES` or a local folder; pocket if not set",
    "OVSEG_PROTOTYPES": "the folder of pictures, masks and prototypes of classes; a folder of the user's cache if not set",
    "OVSEG_PROTOTYPES_CLOSED": "anything: nothing is added to that folder; visitors then use what is there",
    "OVSEG_GROUNDING": "the folder of grounding modules; the backbone's own, or one of the user's cache, if not set",
    "OVSEG_LAVIS": "the folder of the LAVIS captioner's environment; a folder of the user's cache if not set",
    "OVSEG_ALLOW_DOWNLOADS": "1 lets visitors choose networks that must be downloaded first; without it they may not",
    "OVSEG_HOSTS": "the names under which the page may be asked for, with commas between them",
    "OVSEG_CUTLER": "the folder of a CutLER checkout with its weights; without it there are no masks by CutLER",
}
"""The environment variables of the package, each with what it says. No other is read under the name OVSEG_."""


def variable(name: str) -> str | None:
    """What an environment variable of `VARIABLES` says; None where it is not set or empty."""
    assert name in VARIABLES, name
    return os.environ.get(name) or None


def kept_in(name_of_variable: str, name: str) -> Path:
    """A folder for what outlives a run: what a variable of `VARIABLES` says, or one of this name in the user's cache.

    The user's cache is ovseg in the folder that `XDG_CACHE_HOME` names, or in ~/.cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(variable(name_of_variable) or cache / "ovseg" / name)
