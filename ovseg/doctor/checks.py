"""Checks of one machine: what is installed and fetched, whether each network loads, and whether each method makes masks."""

import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from ovseg import __version__
from ovseg.backbones.weights import revision_of
from ovseg.maths.live_memory import memory_of
from ovseg.methods import METHODS, Method, obstacle_to, suited_to, what_runs
from ovseg.models import Models
from ovseg.output.cost import measuring
from ovseg.progress import Report, silent
from ovseg.scene import from_image
from ovseg.types import Segmentation
from ovseg.words.classes import ClassWord

LIBRARIES = ("torch", "diffusers", "transformers", "open_clip_torch", "huggingface_hub", "numpy")
FAILURES = (ValueError, RuntimeError, OSError, MemoryError, KeyError, TypeError, AttributeError, ImportError)


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    state: str  # "ok", "not there" for what the machine lacks and does not need, or "FAILED"
    said: str  # more of it, in a sentence
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.state:9} {self.name:22} {self.seconds:7.1f} s  {self.said}"


def surroundings(models: Models) -> Iterator[str]:
    """Lines on the machine: versions, device, memory, and which weights lie on it."""
    yield f"ovseg {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    yield f"{models.name} in {models.dtype_name} on {device_line(models.device)}"
    if models.checkpoint.gigabytes:
        yield what_fits(models)
    row = models.checkpoint
    sources = {"backbone": row.source, "clip": row.clip, "captioner": row.captioner, "dino": row.dino}
    for part, source in sources.items():
        yield f"{part:10} {source}: {where(source)}"


def what_fits(models: Models) -> str:
    """Whether the diffusion network's weights have room on the device, and what helps where they have not."""
    taken, there = models.checkpoint.taken(models.dtype), memory_of(models.device) / 1e9
    weights = f"its weights take {taken:.1f} GB in {models.dtype_name}, of {there:.1f} GB on {models.device.type}"
    if taken < 0.8 * there:  # activations and the other networks need the rest
        return f"{weights}: they fit"
    if models.device.type == "cpu":
        return f"{weights}: they do not fit; --dtype bfloat16 halves float32"
    return f"{weights}: they do not fit together; --offload brings one part at a time"


def device_line(device: torch.device) -> str:
    """The device with its memory."""
    if device.type != "cuda":
        return f"{device} ({torch.get_num_threads()} threads)"
    free, total = torch.cuda.mem_get_info(device)
    return f"{torch.cuda.get_device_name(device)} ({free / 2**30:.1f} of {total / 2**30:.1f} GiB free)"


def where(source: str) -> str:
    """Whether the weights of a source lie on this machine."""
    if Path(source.removeprefix("local-dir:")).is_dir():
        return "a folder on this machine"
    try:
        return f"in the cache of the hub, revision {revision_of(source)[:12]}"
    except ValueError:
        return "fetched when it is first used"


def check_networks(models: Models, image: UInt8[np.ndarray, "h w 3"], captioner: str = "") -> Iterator[Finding]:
    """Load every network that goes with the backbone, and let the captioner describe a picture."""
    loaders: dict[str, Callable[[], str]] = {
        "backbone": lambda: checked(models),
        "clip": lambda: models.clip.fingerprint,
        "dino": lambda: models.dino.fingerprint,
        "captioner": lambda: f'"{models.captioner(captioner).caption(image)}"',
    }
    for name, load in loaders.items():
        yield _timed(name, load)


def checked(models: Models) -> str:
    """The backbone's fingerprint, its checks, and the methods that it can run.

    Raises:
        ValueError: a check failed.
    """
    found = models.network_check
    if found.failed:
        raise ValueError(str(found))
    return f"{models.backbone.fingerprint}; {found}; {what_runs(models)}"


def check_methods(
    models: Models, image: UInt8[np.ndarray, "h w 3"], classes: tuple[ClassWord, ...], report: Report = silent
) -> Iterator[Finding]:
    """Run every method on a picture; its scores must be finite, and its masks must not all be empty."""
    with tempfile.TemporaryDirectory() as folder:
        models.prototype_folders = (Path(folder), None)  # a check's short prototypes are nobody else's
        for kind in METHODS:
            if missing := obstacle_to(models, kind):
                yield Finding(kind.title, "not there", missing)
                continue
            method = suited_to(models, kind, kind.short)
            finding = _timed(kind.title, lambda method=method: _masks_of(models, method, image, classes, report))
            report(kind.title, 1.0)  # so that the finding begins a line
            yield finding


def _masks_of(models: Models, method: Method, image: np.ndarray, classes: tuple[ClassWord, ...], report: Report) -> str:
    with measuring(models.device) as cost:
        scene = replace(from_image(models, image), caption="a photo of " + " and ".join(word.name for word in classes))
        result = method.segment(models, scene, classes, report)
    problem = problem_of(result)
    if problem:
        raise ValueError(problem)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.shares.items())
    return f"{shares}; {cost.passes} passes of the network"


def problem_of(result: Segmentation) -> str:
    """What is wrong with a result, in a sentence; empty where nothing is."""
    if not np.isfinite(result.scores()).all():
        return "The scores must be finite, but some are not."
    if not (result.label_map > 0).any():
        return "The masks must not all be empty, but every pixel is background."
    return ""


def _timed(name: str, check: Callable[[], str]) -> Finding:
    start, state = time.perf_counter(), "ok"
    try:
        said = check()
    except FAILURES as error:  # whatever a library raises is what the check is for
        state, said = "FAILED", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return Finding(name, state, said, time.perf_counter() - start)


def peak_memory(device: torch.device) -> str:
    """The highest memory that this process has had, resident and on the graphics card."""
    if sys.platform == "win32":
        return "memory unknown"
    import resource  # here, because Windows has none

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    on_card = f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB on the card" if device.type == "cuda" else ""
    return f"{resident:.1f} GiB resident{on_card}"


def summary(models: Models, findings: list[Finding], seconds: float, random: str = "") -> str:
    """All of it in one line, to paste into an issue."""
    count = {state: sum(f.state == state for f in findings) for state in ("ok", "not there", "FAILED")}
    failed = "; ".join(f"{f.name}: {f.said}" for f in findings if f.state == "FAILED")
    parts = [
        f"ovseg {__version__}", f"{models.name}{random}", models.dtype_name, device_line(models.device),
        f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES[:3]),
        f"{count['ok']} ok, {count['not there']} not there, {count['FAILED']} failed", f"{seconds:.0f} s",
        peak_memory(models.device),
    ]  # fmt: skip
    return " | ".join([*parts, failed] if failed else parts)
