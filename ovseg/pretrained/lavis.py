"""Captions by salesforce-lavis (Li et al. 2022, arXiv 2209.09019), in an environment and a process of its own."""

import os
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ovseg.assets import kept_in
from ovseg.pretrained.captioner import as_sentence, without

REQUIREMENTS = Path(__file__).parent / "lavis_requirements.txt"
WORKER = Path(__file__).parent / "lavis_worker.py"
LOADING_SECONDS = 1800
READY = "ready.txt"  # written last; holds the requirements that were installed
MODELS = {"lavis-blip": ("blip_caption", "base_coco"), "lavis-blip2": ("blip2_opt", "caption_coco_opt2.7b")}


def environment() -> Path:
    """Where the environment is: `OVSEG_LAVIS`, or a folder of the user's cache."""
    return kept_in("OVSEG_LAVIS", "lavis")


def is_installed() -> bool:
    """Whether the environment is complete and of the requirements of this version."""
    ready = environment() / READY
    return ready.is_file() and ready.read_text(encoding="utf-8") == REQUIREMENTS.read_text(encoding="utf-8")


def obstacle() -> str:
    """Why the environment cannot be built here, in words for the page; empty where it can."""
    if sys.version_info[:2] != (3, 11):
        have = ".".join(map(str, sys.version_info[:2]))
        return f"LAVIS needs Python 3.11, and this is {have}: its tokenizers have no build for it."
    return ""


def missing() -> str:
    """What to do before LAVIS can be used; empty where it is installed."""
    return "" if is_installed() else "LAVIS must be installed first: run `python -m ovseg lavis install`."


def install(report: Callable[[str], None] = print) -> Path:
    """Build the environment, report each line, and return its folder; what is in the folder is deleted first.

    torch and torchvision are those of the running environment; everything else is installed without dependencies.

    Raises:
        ValueError: it cannot be built here, or pip fails; the last of its lines say why.
    """
    if obstacle():
        raise ValueError(obstacle())
    folder = environment()
    report(f"building the environment of LAVIS in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    (shared,) = {str(Path(path).resolve()) for path in sys.path if (Path(path) / "torch").is_dir()}
    (site,) = folder.glob("lib/python*/site-packages")
    # A path file's folders come after the environment's own, so that its older libraries win.
    (site / "ovseg-main.pth").write_text(shared + "\n", encoding="utf-8")
    options = ["--no-deps", "--ignore-installed", "--no-input", "--no-compile"]  # most of the modules are never imported
    command = [_python(folder), "-m", "pip", "install", *options, "-r", REQUIREMENTS]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        report(lines[-1])
    if process.wait() != 0:
        raise ValueError("The environment of LAVIS must install, but pip failed: " + " ".join(lines[-3:]))
    (folder / READY).write_text(REQUIREMENTS.read_text(encoding="utf-8"))
    return folder


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


class LavisCaptioner:
    """A captioner of LAVIS's model zoo, used like `Captioner`. Its process starts with the first picture.

    Where the process dies or does not answer in time, `caption` raises; the next picture starts another process.

    Args:
        name: a name of `MODELS`, or NAME/TYPE of LAVIS's model zoo.
        seconds: how long an answer may take; loading, which may fetch weights, may take `LOADING_SECONDS`.
        setup: a Python file to run in the process first, such as one that registers models of one's own.

    Raises:
        ValueError: the environment is not there.
    """

    def __init__(self, name: str, device: str = "cpu", *, seconds: float = 120, setup: Path | None = None) -> None:
        if not is_installed():
            raise ValueError(obstacle() or missing())
        self.zoo_name, self.model_type = MODELS[name] if name in MODELS else name.split("/", 1)
        self.name, self.device, self.seconds = name, device, seconds
        self.setup = ["--setup", setup] if setup else []
        self._process: subprocess.Popen | None = None
        self._worker: Connection | None = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """The model's name in LAVIS's zoo: the weights are in another process, which does not show them."""
        return f"lavis/{self.zoo_name}/{self.model_type}"

    def caption(self, image: UInt8[np.ndarray, "h w 3"], prefix: str = "") -> str:
        """One sentence on an RGB picture, that begins with `prefix`.

        Raises:
            ValueError: the process died, took too long, or could not load or use the model.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            # As bytes: an array of today's numpy cannot be read by LAVIS's.
            text = self._ask(self.seconds, "caption", image.tobytes(), image.shape[1::-1], prefix)
        return as_sentence(text, prefix)

    def describe(self, image: UInt8[np.ndarray, "h w 3"], beginning: str = "", least: int = 0) -> str:
        """What comes after `beginning` in the sentence. LAVIS's own least number of tokens counts, which is 10 for BLIP."""
        return without(self.caption(image, beginning), beginning)

    def go_on(self, image: UInt8[np.ndarray, "h w 3"], prefix: str = "") -> str:
        """Refused by a ValueError: LAVIS decodes in its own way."""
        raise ValueError(f"A captioner that goes on greedily must be one of transformers, but got {self.name} of LAVIS.")

    def close(self) -> None:
        """End the process: by closing the connection, or after 5 seconds by force."""
        if self._process is None:
            return
        process, self._process = self._process, None
        self._worker.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        self.close()
        self._worker, theirs = Pipe()
        with theirs:
            # -P: the worker's own folder is not searched, where this very file would be taken for LAVIS.
            command = [_python(environment()), "-P", WORKER, str(theirs.fileno()), *self.setup]
            # The main environment's path must not leak in: it would put today's libraries before LAVIS's.
            variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            keep = {"env": variables, "cwd": environment(), "pass_fds": [theirs.fileno()]}
            self._process = subprocess.Popen(command, stdout=2, **keep)  # what libraries print goes to standard error
        try:
            self._ask(LOADING_SECONDS, "load", self.zoo_name, self.model_type, self.device)
        except ValueError:
            self.close()  # the next picture must load again, not ask a process without a model
            raise

    def _ask(self, seconds: float, method: str, *values: object) -> str | None:
        """What a method of the process's `Worker` answers."""
        try:
            self._worker.send((method, values))
            if not self._worker.poll(seconds):
                self._process.kill()
                self.close()
                raise ValueError(f"LAVIS must answer within {seconds:g} seconds, but did not; it was ended.")
            text, error = self._worker.recv()
        except (EOFError, ConnectionError):
            code = self._process.wait()
            self._process = None
            message = f"The process of LAVIS must stay alive, but ended with code {code}; its log says why."
            raise ValueError(message) from None
        if error:
            raise ValueError(f"LAVIS could not caption with {self.name}: {error}")
        return text
