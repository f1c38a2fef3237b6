"""Captions by salesforce-lavis (Li et al. 2022, arXiv 2209.09019), in an environment and a process of its own."""

import base64
import io
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

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
    """Build the environment and return its folder; what is in the folder is deleted first.

    torch and torchvision are those of the running environment; everything else is installed without dependencies.

    Args:
        report: called with one line of text at a time.

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
        self.name, self.device, self.seconds, self.setup = name, device, seconds, setup
        self._process: subprocess.Popen | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._lock, self._count = threading.Lock(), 0

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
                load = {"name": self.zoo_name, "model_type": self.model_type, "device": self.device}
                self._ask({"load": load}, LOADING_SECONDS)
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            picture = base64.b64encode(content.getvalue()).decode()
            text = self._ask({"caption": picture, "prefix": prefix}, self.seconds)["caption"]
        return as_sentence(text, prefix)

    def describe(self, image: UInt8[np.ndarray, "h w 3"], beginning: str = "", least: int = 0) -> str:
        """What comes after `beginning` in the sentence. LAVIS's own least number of tokens counts, which is 10 for BLIP."""
        return without(self.caption(image, beginning), beginning)

    def go_on(self, image: UInt8[np.ndarray, "h w 3"], prefix: str = "") -> str:
        """Refused by a ValueError: LAVIS decodes in its own way."""
        raise ValueError(f"A captioner that goes on greedily must be one of transformers, but got {self.name} of LAVIS.")

    def close(self) -> None:
        """End the process: by closing its input, or after 5 seconds by force."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        self.close()
        # -P: the worker's own folder is not searched, where this very file would be taken for LAVIS.
        command = [str(_python(environment())), "-P", str(WORKER), *(["--setup", str(self.setup)] if self.setup else [])]
        # The main environment's path must not leak in: it would put today's libraries before LAVIS's.
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables, cwd=environment()
        )
        self._answers = queue.Queue()
        threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()

    def _ask(self, request: dict, seconds: float) -> dict:
        self._count += 1
        try:
            self._process.stdin.write(json.dumps({"id": self._count, **request}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except BrokenPipeError:
            line = None
        except queue.Empty:
            self._process.kill()
            self.close()
            raise ValueError(f"LAVIS must answer within {seconds:g} seconds, but did not; it was ended.") from None
        if line is None:
            code = self._process.wait()
            self._process = None
            raise ValueError(f"The process of LAVIS must stay alive, but ended with code {code}; its log says why.")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(f"LAVIS could not caption with {self.name}: {answer['error']}")
        return answer


def _read(stream: io.TextIOBase, answers: "queue.Queue[str | None]") -> None:
    """Hand on every line, and None at the end."""
    for line in stream:
        answers.put(line)
    answers.put(None)
