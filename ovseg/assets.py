"""Where the files that ship with the project lie, and where those are kept that it makes for later."""

import os
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "assets"


def kept_in(variable: str, name: str) -> Path:
    """A folder for what outlives a run: what an environment variable says, or one of this name in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(variable) or cache / "ovseg" / name)
