"""What looking inside takes, before it is done: passes of the network, bytes, seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from ovseg.backbones.base import Backbone, Capture, Sampling, Site, Token, grid_at
from ovseg.limits import check_count, limits, quoted
from ovseg.maths.flops import seconds_of
from ovseg.models import Models

NOISE_LEVELS = (20, 50, 100, 200, 300, 400, 500, 600, 700, 800)
MOST_BYTES = 10**9
KEEPS = ("every", "middle", "none")
HALF, SINGLE = 2, 4  # bytes of a number


@dataclass(frozen=True)
class Inspection:
    """What is asked for.

    Args:
        prompt: the sentence whose tokens are looked for.
        keep: at which levels self-attention is kept: every, the middle one alone, or none.
        most_bytes: what the result may take in memory.
        words_later: whether queries of cross-attention are kept where self-attention is: other words are answered from them.
    """

    prompt: str
    keep: str = "every"
    most_bytes: int = MOST_BYTES
    words_later: bool = False

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError('The sentence must say what to look for, such as "a cat on a sofa", but it is empty.')
        if self.keep not in KEEPS:
            raise ValueError(f"Self-attention must be kept at one of {', '.join(KEEPS)}, but got {quoted(self.keep)}.")

    def kept(self, levels: int) -> tuple[int, ...]:
        """The levels at which self-attention is kept, of so many."""
        return {"every": tuple(range(levels)), "middle": (levels // 2,), "none": ()}[self.keep]


@dataclass(frozen=True)
class Plan:
    """What looking inside takes.

    Args:
        timesteps: of the levels, in order: each is one pass of the network.
        kept: the levels, counted from 0, whose self-attention is kept.
        rows: rows that the network is given in all passes; with guidance two for each.
        memory: bytes of the resulting `Attention`.
        capture: what each pass records.
    """

    timesteps: tuple[float, ...]
    kept: tuple[int, ...]
    rows: int
    memory: int
    capture: Capture

    @property
    def passes(self) -> int:
        """How many times the network runs."""
        return len(self.timesteps)

    def sentence(self, row_seconds: float | None) -> str:
        """ "10 passes of the network, about 0.6 s; the result takes 4.2 MB.", by the seconds of a row, if known."""
        passes = "1 pass" if self.passes == 1 else f"{self.passes} passes"
        seconds = "how long is known after the first run here" if row_seconds is None else _seconds(self.rows * row_seconds)
        return f"{passes} of the network, {seconds}; the result takes {_size(self.memory)} of memory."

    def check(self, most_bytes: int) -> None:
        """Raise ValueError where the result would take too much memory."""
        if self.memory > most_bytes:
            advice = "fewer levels" if not self.kept else "fewer levels, or self-attention at fewer of them"
            raise ValueError(
                f"The result must take {most_bytes / 1e6:.12g} MB at most, but would take {self.memory / 1e6:.12g} MB:"
                f" choose {advice}."
            )


def _seconds(seconds: float) -> str:
    if seconds < 0.1:
        return "under 0.1 s"
    return f"about {seconds:.1f} s" if seconds < 60 else f"about {seconds / 60:.0f} min"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def parse_levels(text: str) -> tuple[int, ...]:
    """Read "20, 50, 100": noise levels, sorted.

    Raises:
        ValueError: there is none, there are too many, one is no whole number, or one comes twice.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError('Noise levels must be numbers with commas between them, such as "50, 100", but none was given.')
    if wrong := next((entry for entry in entries if not (entry.isdecimal() and len(entry) < 6)), None):
        raise ValueError(f"Each noise level must be a whole number, 0 or more, but got {quoted(wrong)}.")
    levels = sorted(int(entry) for entry in entries)
    if twice := [a for a, b in pairwise(levels) if a == b]:
        raise ValueError(f"Each noise level must be given once, but {twice[0]} is there twice.")
    check_count("The noise levels", len(levels), limits().list_values)
    return tuple(levels)


def token_groups(tokens: Sequence[Token]) -> tuple[tuple[Token, ...], tuple[tuple[int, ...], ...]]:
    """The tokens that are told apart, and the columns of each: all padding together is one, the last."""
    apart = [k for k, token in enumerate(tokens) if token.kind != "padding"]
    padding = tuple(k for k, token in enumerate(tokens) if token.kind == "padding")
    groups = tuple((k,) for k in apart) + ((padding,) if padding else ())
    return tuple(tokens[group[0]] for group in groups), groups


def plan_looking(models: Models, image_hw: tuple[int, int], inspection: Inspection, timesteps: Sequence[float]) -> Plan:
    """What looking into a given picture takes: one pass for each noise level.

    Raises:
        ValueError: the prompt does not fit the text encoder, or there is no noise level.
    """
    if not timesteps:
        raise ValueError("There must be 1 noise level or more, but none was given.")
    work_hw = models.backbone.working_hw(image_hw)
    return _plan(models.backbone, inspection, (image_hw, work_hw), tuple(timesteps), rows=len(timesteps))


def plan_drawing(models: Models, inspection: Inspection, sampling: Sampling) -> Plan:
    """What looking into a picture takes while it is drawn: one pass for each sampling step, and no more.

    Raises:
        ValueError: the prompt does not fit the text encoder, or there are no steps.
    """
    backbone, hw = models.backbone, models.backbone.square_hw()
    timesteps = backbone.timesteps(sampling)
    rows_each = 2 if sampling.guidance > 1 else 1  # with guidance every pass has a second, unconditional row
    return _plan(backbone, inspection, (hw, hw), timesteps, rows=rows_each * len(timesteps))


def _plan(
    backbone: Backbone,
    inspection: Inspection,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    timesteps: tuple[float, ...],
    *,
    rows: int,
) -> Plan:
    """The plan for a picture's size and the size at which the network works on it."""
    (image_hw, work_hw), kept = sizes, inspection.kept(len(timesteps))
    shape = backbone.latent_shape(work_hw)
    tokens, _ = token_groups(backbone.tokens(inspection.prompt))
    selves = tuple(site for site in backbone.sites if site.kind == "self") if kept else ()
    crossing = tuple(site for site in backbone.sites if site.kind == "cross")

    def places(site: Site) -> int:
        return math.prod(grid_at(shape[1:], site.stride))

    cross = sum(map(places, crossing)) * len(tokens) * HALF
    states = sum((places(site) + backbone.keys(site, shape[1:])) * backbone.width(site) for site in selves) * HALF
    asked = crossing if kept and inspection.words_later else ()
    states += sum(places(site) * backbone.width(site) for site in asked) * HALF
    memory = math.prod(image_hw) * 3 + len(timesteps) * (cross + math.prod(shape) * SINGLE) + len(kept) * states
    return Plan(timesteps, kept, rows, memory, Capture(cross=backbone.strides, states=(*selves, *asked)))


@torch.no_grad()
def measured_row_seconds(models: Models, shape: tuple[int, int, int]) -> float:
    """Seconds that one row of the network takes here, for a latent of this shape: one pass, timed."""
    backbone = models.backbone
    text = backbone.encode_text([""], [""])
    latent = torch.zeros(1, *shape).to(text.embeddings)
    row = partial(backbone.trace, latent, text, 100, Capture(), 0)
    tries = 1 if models.device.type == "cpu" else 2  # an accelerator's first pass chooses kernels
    return [seconds_of(row, models.device) for _ in range(tries)][-1]
