"""Gathering `Attention`: from a given picture at noise levels, or while a picture is drawn."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float16, UInt8

from ovseg.attention.later import queries_of
from ovseg.attention.plan import Inspection, Plan, plan_drawing, plan_looking, token_groups
from ovseg.attention.value import Attention, Heads
from ovseg.backbones.base import NOTHING, Ablation, Capture, Sampling, Site, Token, Trace, Watch
from ovseg.layer_attention import LayerAttention, as_rows
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.types import Scene


class Gathered:
    """Collects the traces of all levels, in order, in half precision on the CPU."""

    def __init__(self, tokens: Sequence[Token], plan: Plan) -> None:
        self.tokens, self.columns = token_groups(tokens)
        self.plan, self.levels = plan, 0
        self.cross: dict[Site, list[np.ndarray]] = {}
        self.states: dict[Site, list[LayerAttention]] = {}
        self.asked: dict[Site, list[LayerAttention]] = {}
        self.noised: list[np.ndarray] = []

    def add(self, trace: Trace) -> None:
        """Add the first row of the next level's trace."""
        for site, maps in trace.cross.items():
            self.cross.setdefault(site, []).append(by_token(maps[0].permute(2, 0, 1), self.columns))
        if self.levels in self.plan.kept:
            for site, states in trace.states.items():
                is_asked = site.kind == "cross"
                kept, holds = (queries_of(states), self.asked) if is_asked else (states.kept(), self.states)
                holds.setdefault(site, []).append(kept)
        self.noised.append(trace.noised[0].float().cpu().numpy())
        self.levels += 1

    def value(self, image: UInt8[np.ndarray, "H W 3"], prompt: str, seed: int, *, is_drawn: bool) -> Attention:
        """What was gathered."""
        return Attention(
            image, prompt, self.tokens, self.plan.timesteps, is_drawn,
            {site: np.stack(maps) for site, maps in self.cross.items()},
            {site: as_rows(states) for site, states in self.states.items()},
            self.plan.kept, np.stack(self.noised), seed,
            {site: as_rows(states) for site, states in self.asked.items()},
        )  # fmt: skip


def by_token(probabilities: torch.Tensor, columns: Sequence[tuple[int, ...]]) -> Float16[np.ndarray, "*heads token y x"]:
    """Maps of all columns as maps of the tokens that are told apart: those of several columns are added up."""
    parts = [probabilities.index_select(-3, torch.tensor(own, device=probabilities.device)).sum(-3) for own in columns]
    return torch.stack(parts, -3).to(torch.float16).cpu().numpy()


def look_inside(
    models: Models, scene: Scene, inspection: Inspection, timesteps: Sequence[float], report: Report = silent
) -> Attention:
    """What the network attends to in a given picture: one pass for each noise level, with the noise of the scene's seed.

    Raises:
        ValueError: it would take too much memory, the prompt does not fit the text encoder, or a noise level is outside the
            schedule.
    """
    plan, backbone = plan_looking(models, scene.image.shape[:2], inspection, timesteps), models.backbone
    plan.check(inspection.most_bytes)
    text = backbone.encode_text([inspection.prompt], [""])
    # All noise first: a level outside the schedule is refused before the network runs.
    noised = [backbone.noised(scene.latent, timestep, scene.seed) for timestep in plan.timesteps]
    gathered = Gathered(backbone.tokens(inspection.prompt), plan)
    for level, (timestep, latent) in enumerate(zip(plan.timesteps, noised, strict=True)):
        report(f"noise level {timestep}", level / plan.passes)
        gathered.add(backbone.trace_noised(latent, text, timestep, plan.capture))
    return gathered.value(scene.image, inspection.prompt, scene.seed, is_drawn=False)


def draw_inside(
    models: Models, inspection: Inspection, sampling: Sampling, seed: int = 0, report: Report = silent
) -> tuple[Scene, Attention]:
    """Draw a picture of the prompt, and what the network attends to in every step, gathered on the way.

    Returns:
        the drawn scene, and the attention of the conditional rows; the level axis counts sampling steps.

    Raises:
        ValueError: it would take too much memory, the prompt does not fit the text encoder, or there are no steps.
    """
    plan = plan_drawing(models, inspection, sampling)
    plan.check(inspection.most_bytes)
    gathered = Gathered(models.backbone.tokens(inspection.prompt), plan)

    def see(trace: Trace) -> None:
        report(f"step {gathered.levels + 1} of {plan.passes}", gathered.levels / plan.passes)
        gathered.add(trace)

    (made,) = models.backbone.generate(inspection.prompt, [seed], sampling, watch=Watch(plan.capture, see))
    scene = Scene(made.image, made.latent, inspection.prompt, seed)
    return scene, gathered.value(made.image, inspection.prompt, seed, is_drawn=True)


def again(models: Models, attention: Attention, level: int, prompt: str = "", off: Ablation = NOTHING) -> Attention:
    """One level looked at once more with another sentence or something off, on what the network was given there: one pass.

    Returns:
        the attention of that level alone, without self-attention.

    Raises:
        ValueError: the sentence does not fit the text encoder, or what is switched off is not there.
    """
    backbone, prompt = models.backbone, prompt or attention.prompt
    text = backbone.encode_text([prompt], [""])
    trace = attention.passed_again(backbone, level, text, Capture(cross=attention.strides), off)
    tokens, columns = token_groups(backbone.tokens(prompt))
    cross = {site: by_token(maps[0].permute(2, 0, 1), columns)[None] for site, maps in trace.cross.items()}
    here = slice(level, level + 1)
    return replace(
        attention, prompt=prompt, tokens=tokens, timesteps=attention.timesteps[here], cross=cross, states={}, kept=(),
        noised=attention.noised[here], asked={},
    )  # fmt: skip


def heads_of(models: Models, attention: Attention, site: Site, level: int) -> Heads:
    """The cross-attention of one layer with its heads apart: one more pass, on what the network was given at this level.

    Raises:
        ValueError: the layer is none of the attention's, or was gathered with another backbone.
    """
    backbone = models.backbone
    if site not in attention.cross or site not in backbone.sites:
        raise ValueError(f"The layer must be one of the {len(attention.cross)} that were looked at, but got {site.name!r}.")
    text = backbone.encode_text([attention.prompt], [""])
    states = attention.passed_again(backbone, level, text, Capture(states=(site,))).states[site]
    probabilities = states.probabilities()[0].mT.unflatten(-1, states.grid)
    _, columns = token_groups(backbone.tokens(attention.prompt))
    return Heads(site, level, by_token(probabilities, columns))
