"""Files that visitors are offered: each in a folder of its own, and all deleted after their hour."""

import shutil
import tempfile
import time
from pathlib import Path

from ovseg.server.gradio_parts import upload_folder

PREFIX = "ovseg-offered-"  # what Gradio and others keep in the same place is not ours to delete


def new_folder() -> Path:
    """An empty folder among Gradio's own, whose files it may hand out. `delete_old` removes it."""
    upload_folder().mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=upload_folder()))


def delete_old(seconds: float) -> None:
    """Delete the folders of `new_folder` that are older than this, also those of a server that was killed.

    Gradio copies a file that is offered, and deletes its copy: it does not know of the first one.
    """
    for folder in upload_folder().glob(f"{PREFIX}*"):
        if time.time() - folder.stat().st_ctime > seconds:
            shutil.rmtree(folder, ignore_errors=True)
