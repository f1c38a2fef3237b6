"""Open-vocabulary Object Segmentation with Diffusion Models (Grounded Diffusion).

Ziyi Li, Qinye Zhou, Xiaoyun Zhang, Ya Zhang, Yanfeng Wang, Weidi Xie; ICCV 2023; arXiv 2301.05221.

A small trained module reads the network's features near the end of a generation, and says of any word which pixels it
means. It was shown some classes only; the others it knows because the network knows their words.

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

from ovseg.backbones.base import query_states
from ovseg.maths.maps import principal
from ovseg.methods.base import Method
from ovseg.models import Models
from ovseg.pretrained.grounding import QUERY, Looked, step_features
from ovseg.progress import Report, Stages, silent
from ovseg.types import Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, prompt_of, rows_of


@dataclass(frozen=True)
class GroundedDiffusion(Method):
    """The grounding module on one pass, with the values of the released code."""

    name: ClassVar[str] = "grounded-diffusion"
    title: ClassVar[str] = "Grounded Diffusion"
    names_the_generated: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("grounding",)
    paper: ClassVar[Paper] = Paper(
        title="Open-vocabulary Object Segmentation with Diffusion Models",
        authors="Ziyi Li, Qinye Zhou, Xiaoyun Zhang, Ya Zhang, Yanfeng Wang, Weidi Xie",
        venue="ICCV 2023",
        arxiv="2301.05221",
        code="https://github.com/Lipurple/Grounded-Diffusion",
    )

    threshold: float = knob(0.5, "Probability from which a pixel belongs to a class; the code's 0.5.", step=0.01)
    timestep: int = knob(1, "Noise level of the pass; the code's 1, the paper's figure finds 5 best.", high=999, step=1)
    module: str = knob("S1", "The trained module: a class split that it was trained on, or a folder of one's own.")
    words: Literal["together", "alone"] = knob(
        "together", "Whether the words of a picture see each other in the module, as in the code, or are asked for alone."
    )

    def segment(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent) -> Segmentation:
        """Segment a scene into the classes; what is below the threshold for all of them is background.

        Raises:
            ValueError: there is no such module, it is another backbone's, or the timestep is outside the noise schedule.
        """
        stages, (phrases, owners) = Stages(report), rows_of(classes)
        with stages.stage("looking at the picture in the making"):
            sentence = scene.caption or prompt_of([word.name for word in classes])
            features = step_features(models.backbone, scene.latent, sentence, self.timestep, scene.seed)
        with stages.stage("reading the words in it", 0.7):
            states = query_states(models.backbone, phrases, QUERY)
            looked = models.grounding(self.module).look(features, states, apart=self.words == "alone")
        likely = looked.logits.sigmoid()
        scores = torch.stack(
            [likely[[k for k, owner in enumerate(owners) if owner == number]].amax(0) for number in range(len(classes))]
        )
        return Segmentation.from_scores(
            scene.image, tuple(word.name for word in classes), scores, self.threshold,
            _evidence(looked, phrases, [classes[owner].name for owner in owners]), stages.timings,
        )  # fmt: skip


def _evidence(looked: Looked, phrases: list[str], names: list[str]) -> tuple[Evidence, ...]:
    """The fused features as colours, and for each phrase its logits and what its query looked at."""
    items = [
        Evidence(
            f"Fused down to {level.shape[1]} x {level.shape[2]}: the three strongest components", "images",
            images=(principal(level),), group="Features",
        )
        for level in looked.levels
    ]  # fmt: skip
    for phrase, name, logits, attention in zip(phrases, names, looked.logits, looked.attention, strict=True):
        items.append(Evidence(f"{phrase}: logits", "heat", map=logits.cpu().numpy(), group="Logits", label=name))
        items.append(
            Evidence(f"{phrase}: where its query looked", "heat", map=attention.cpu().numpy(), group="Queries", label=name)
        )
    return tuple(items)
