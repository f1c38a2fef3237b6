"""Where the files that ship with the project lie, where those are kept that it makes, and the variables that say so."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "assets"
ASSETS = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "assets"
"""In an installed package the folder lies inside it; in a checkout, beside it."""

SHIPPED = "pocket,pocket-sd3"
"""The backbones whose weights ship, as `--backbone` names several."""

VARIABLES: dict[str, str] = {
    "OVSEG_BACKBONE": "what `python app.py` serves: names of `BACKBONES`, or local folders; those that ship if not set",
    "OVSEG_PROTOTYPES": "the folder of pictures, masks and prototypes of classes; a folder of the user's cache if not set",
    "OVSEG_PROTOTYPES_CLOSED": "anything: nothing is added to that folder; visitors then use what is there",
    "OVSEG_GROUNDING": "the folder of grounding modules; the backbone's own, or one of the user's cache, if not set",
    "OVSEG_LAVIS": "the folder of the LAVIS captioner's environment; a folder of the user's cache if not set",
    "OVSEG_ALLOW_DOWNLOADS": "1 lets visitors choose networks that must be downloaded first; without it they may not",
    "OVSEG_HOSTS": "the names under which the page may be asked for, with commas between them",
    "OVSEG_PROXIES": "addresses of proxies, or networks of them: what they say of a visitor's address is believed",
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
    return Path(variable(name_of_variable) or _cache() / "ovseg" / name)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def own_temporary_folder() -> Path:
    """A folder of this user alone among the system's temporary ones; another user's of the same name is left alone."""
    user = os.getuid() if hasattr(os, "getuid") else 0  # Windows gives each user a folder anyway
    folder = Path(tempfile.gettempdir()) / f"ovseg-{user}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not folder.is_symlink() and folder.stat().st_uid == user and os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="ovseg-"))


def homes_of_this_user() -> Iterator[str]:
    """Let this process have a home and a cache where its user has none that can be written to; says so in a sentence."""
    try:
        Path.home()
    except RuntimeError:  # a user whom the system does not know, as in a container
        os.environ["HOME"] = str(own_temporary_folder())
        yield f"this user has no home folder, so that {os.environ['HOME']} is taken: the variable HOME may name another."
    there = _cache()
    while not os.path.lexists(there):
        there = there.parent
    if not os.access(there, os.W_OK):
        kept, os.environ["XDG_CACHE_HOME"] = _cache(), str(own_temporary_folder() / "cache")
        yield (
            f"{kept} cannot be written to, so that what is kept goes to {os.environ['XDG_CACHE_HOME']}: the variable"
            " XDG_CACHE_HOME may name another folder, and OVSEG_PROTOTYPES one for prototypes."
        )
