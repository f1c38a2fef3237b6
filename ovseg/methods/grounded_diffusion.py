"""Open-vocabulary Object Segmentation with Diffusion Models (Grounded Diffusion).

Ziyi Li, Qinye Zhou, Xiaoyun Zhang, Ya Zhang, Yanfeng Wang, Weidi Xie; ICCV 2023; arXiv 2301.05221.

A small trained module reads the network's features near the end of a generation, and gives a mask for any word. It is
trained on some classes only; it can find others because the network's features and its text encoder know them.

Differs from the paper and its released code:
- The features are those of one pass on the finished latent, noised to the capture step, not of the sampler's own last
  step: the noise of step 1 has a standard deviation of 0.03. So a given picture is segmented as a generated one is.
- The query's sentence is always the module's own; the code takes a word of the visitor's prompt for it.
- The module is in evaluation mode: a picture's masks do not depend on what was segmented before.
- Words may be asked for one by one (`words="alone"`); in the code each sees the others.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import query_states
from ovseg.maths.maps import principal
from ovseg.methods.base import Method, Prepared
from ovseg.models import Models
from ovseg.pretrained.grounding import QUERY, Grounding, WordMaps, step_features
from ovseg.progress import Report, Stages, silent
from ovseg.types import Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, prompt_of, rows_of


@dataclass(frozen=True)
class GroundedDiffusion(Method):
    """The grounding module on one pass, with the values of the released code."""

    name: ClassVar[str] = "grounded-diffusion"
    title: ClassVar[str] = "Grounded Diffusion"
    needs: ClassVar[tuple[str, ...]] = ("grounding",)
    paper: ClassVar[Paper] = Paper(
        title="Open-vocabulary Object Segmentation with Diffusion Models",
        authors="Ziyi Li, Qinye Zhou, Xiaoyun Zhang, Ya Zhang, Yanfeng Wang, Weidi Xie",
        venue="ICCV 2023",
        arxiv="2301.05221",
        code="https://github.com/Lipurple/Grounded-Diffusion",
    )

    threshold: float = knob(
        0.5,
        "Probability that a pixel needs to belong to a class. The released code uses 0.5.",
        label="Background threshold",
        group="main",
        step=0.01,
    )
    timestep: int = knob(
        1,
        "How much noise is added to the picture before the network looks at it. The released code uses 1; a figure of the"
        " paper finds 5 best.",
        label="Noise level",
        group="main",
        high=999,
        step=1,
    )
    module: str = knob(
        "S1",
        "Which trained module is used: the name of the class split that it was trained on, or the path of a folder.",
        label="Trained module",
        group="main",
    )
    words: Literal["together", "alone"] = knob(
        "together",
        "Whether the module looks at all words of a picture together, as in the released code, or at each word alone.",
        label="Words",
    )

    def prepare(
        self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent
    ) -> "PreparedGroundedDiffusion":
        """Load the module and encode each phrase in its sentence.

        Raises:
            ValueError: there is no such module, or it is another backbone's.
        """
        stages, (phrases, _) = Stages(report), rows_of(classes)
        with stages.stage("encoding the words"):
            module = models.grounding(self.module)
            states = query_states(models.backbone, phrases, QUERY)
        return PreparedGroundedDiffusion(models, classes, self, module, states, timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedGroundedDiffusion(Prepared):
    """Grounded Diffusion with its module and the text encoder's state of each phrase."""

    method: GroundedDiffusion
    module: Grounding
    states: Float[Tensor, "n d"]

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene into the classes; what is below the threshold for all of them is background.

        Raises:
            ValueError: the timestep is outside the noise schedule, or the module does not fit the backbone's features.
        """
        method, stages, (phrases, owners) = self.method, Stages(report), rows_of(self.classes)
        with stages.stage("reading the network's features"):
            sentence = scene.caption or prompt_of(self.names)
            features = step_features(self.models.backbone, scene.latent, sentence, method.timestep, scene.seed)
        with stages.stage("finding the words", 0.7):
            word_maps = self.module.look(features, self.states, apart=method.words == "alone")
        likely = word_maps.logits.sigmoid()
        of_class = [[k for k, owner in enumerate(owners) if owner == number] for number in range(len(self.classes))]
        return Segmentation.from_scores(
            scene.image, self.names, torch.stack([likely[rows].amax(0) for rows in of_class]), method.threshold,
            evidence=lambda: _evidence(word_maps, phrases, [self.names[owner] for owner in owners]), timings=stages.timings,
        )  # fmt: skip


def _evidence(maps: WordMaps, phrases: list[str], names: list[str]) -> tuple[Evidence, ...]:
    """The fused features as colours, and for each phrase its logits and the attention of its query."""
    items = [
        Evidence(
            f"Fused down to {level.shape[1]} x {level.shape[2]}: the three strongest components", "images",
            images=(principal(level),), group="Features",
        )
        for level in maps.levels
    ]  # fmt: skip
    for phrase, name, logits, attention in zip(phrases, names, maps.logits, maps.attention, strict=True):
        items.append(Evidence(f"{phrase}: logits", "heat", map=logits.cpu().numpy(), group="Logits", label=name))
        items.append(
            Evidence(f"{phrase}: attention of its query", "heat", map=attention.cpu().numpy(), group="Queries", label=name)
        )
    return tuple(items)
