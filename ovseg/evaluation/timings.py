"""How long loading, generating and segmenting take on this machine: `python -m ovseg timings`."""

import statistics
from collections.abc import Callable, Sequence

import torch

from ovseg.maths.flops import seconds_of
from ovseg.methods import Method, suited_to
from ovseg.models import Models
from ovseg.scene import from_prompt
from ovseg.words.classes import parse_classes

CLASSES = "cat, car, grass, sky, tree"


def measure(models: Models, runs: int, kinds: Sequence[type[Method]]) -> list[tuple[str, float, int]]:
    """Rows of (what, median seconds, runs): loading, generating, and for each method five classes and a moved threshold.

    Raises:
        ValueError: `runs` is below 1.
    """
    if runs < 1:
        raise ValueError(f"The number of runs must be 1 or more, but got {runs}.")

    def median(what: str, work: Callable[[], object]) -> tuple[str, float, int]:
        return what, statistics.median(seconds_of(work, models.device) for _ in range(runs)), runs

    rows = [("loading the network", seconds_of(lambda: models.backbone, models.device), 1)]
    scene = from_prompt(models, models.checkpoint.prompt, seed=1, steps=2)  # the first call also warms up
    rows.append(median(f"generate, {models.checkpoint.steps} steps", lambda: from_prompt(models, scene.caption, 1)))
    classes = parse_classes(CLASSES)
    for kind in kinds:
        method = suited_to(models, kind)
        result = method.segment(models, scene, classes)
        rows.append(median(f"{kind.title}, 5 classes", lambda m=method: m.segment(models, scene, classes)))
        if result.threshold is not None:
            rows.append(median(f"{kind.title}, threshold moved", lambda r=result: r.with_threshold(0.3).label_map))
    return rows


def table(models: Models, rows: list[tuple[str, float, int]]) -> str:
    """The rows as text, below a line that names the backbone, the device and the number of threads."""
    threads, dtype = torch.get_num_threads(), models.dtype_name
    lines = [f"backbone {models.name}, {models.device}, {dtype}, {threads} threads, torch {torch.__version__}"]
    return "\n".join(lines + [f"{seconds:9.3f} s  {what} (median of {runs})" for what, seconds, runs in rows])
