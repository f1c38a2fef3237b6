"""What can be turned in FreeSeg-Diff."""

from dataclasses import dataclass
from typing import Literal

from ovseg.limits import quoted
from ovseg.methods.knobs import captioner_name, clip_name, noise_level, noise_samples, read_layers, sampled_latent
from ovseg.models import Models
from ovseg.reading.recipe import crossing_named
from ovseg.types import knob


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of FreeSeg-Diff, with the values of the released code."""

    words: Literal["caption", "classes"] = knob(
        "caption",
        "Which of the given classes may be found: those that the caption of the picture speaks of, as in the released code,"
        " or all of them.",
        label="Classes that may be found",
        group="main",
    )
    vocabulary: Literal["closed", "open"] = knob(
        "closed",
        "Closed: only the given classes, as in the released code's evaluation. Open, which is what its code does by itself:"
        " the nouns of the caption join them. Without classes it is always open.",
        label="Vocabulary",
        group="main",
    )
    captioner: str = captioner_name("describes the picture", "blip-base", "BLIP base")
    beginning: str = knob(
        "",
        "How the captioner's sentence begins; it is taken off again. The released code begins every caption with"
        " “a picture of ”.",
        label="Beginning of the caption",
    )
    least_tokens: int = knob(
        0,
        "How many tokens a caption has at least, those of its beginning included. The released code asks for 10.",
        label="Least length of the caption",
        high=30,
    )
    every_vote: bool = knob(
        False,
        "Take words from the caption as the released code does. Closed, every noun counts as often as it comes up, also the"
        " parts of compounds, and the noun of each adjective once more; open, these nouns join the classes as they are"
        " written, and with each adjective: brown dog, dog, kitchen, floor. Otherwise each thing counts once.",
        label="Every noun votes",
    )
    clip: str = clip_name("names the clusters", "ViT-B/32")
    squashed: bool = knob(
        False,
        "Give pictures to the networks as the released code does: squashed to a square for the diffusion network, and cut to"
        " a middle square of whole pixels for CLIP. Otherwise the diffusion network sees their aspect.",
        label="Square for the diffusion network",
    )
    sampled: bool = sampled_latent("a squashed picture's")
    features: Literal["diffusion", "clip", "dino", "pixels"] = knob(
        "diffusion",
        "What is clustered: queries of the diffusion network, as in the released code, keys of CLIP or of DINO, or the"
        " colours of the picture.",
        label="Features that are clustered",
    )
    timestep: int = noise_level(0, "The released code uses 0.", "more")
    draws: int = noise_samples("; the features are averaged over them")
    query_stride: int = knob(
        4,
        "Which cross-attention layers give the features: 4 means those of the 16 x 16 grid where the latent has 64 x 64, as"
        " in the released code.",
        label="Stride of the features",
        low=1,
        high=8,
    )
    layers: tuple[int, ...] = read_layers("all of that stride", "all of the stride")
    grid_stride: int = knob(
        2,
        "How fine the clusters are: 2 means a 32 x 32 grid where the latent has 64 x 64, as in the released code.",
        label="Stride of the clusters",
        low=1,
        high=8,
    )
    clusters: int = knob(
        4,
        "How many parts the picture is cut into before they get names. The released code uses 4.",
        label="Clusters",
        group="main",
        low=2,
        high=20,
    )
    adaptive: bool = knob(
        False,
        "Take as many clusters as there are words to find, and two more, instead of a fixed number. This is not in the"
        " released code.",
        label="Clusters by the number of words",
    )
    algorithm: Literal["k-means", "scikit-learn", "agglomerative"] = knob(
        "k-means",
        "How places are put together to clusters: by k-means, by scikit-learn's k-means, which the released code uses and"
        " which starts from other places, or by joining the nearest, which it offers.",
        label="Clustering",
    )
    crop: Literal["whole", "tight"] = knob(
        "whole",
        "What CLIP sees of a cluster: the whole picture with black outside the cluster, as in the released code, or only the"
        " box around the cluster.",
        label="What CLIP sees",
    )
    template: str = knob(
        "{}",
        "The prompt by which CLIP is asked for a word; {} is replaced by the word. The released code uses the word alone.",
        label="CLIP's prompt",
    )
    ensemble: bool = knob(
        False,
        "Average seven prompts that CLIP's authors chose, instead of that one prompt. This is not in the released code.",
        label="Several prompts for CLIP",
    )
    one_each: bool = knob(
        True,
        "Give each class at most one cluster, as the released code does. Otherwise a class may have several.",
        label="One cluster for each class",
        group="main",
    )
    refinement: Literal["crf", "pamr", "pamr-max", "none"] = knob(
        "crf",
        "What moves the edges of the masks to those of the picture. The released code uses a CRF, once for each mask; as an"
        " option it has PAMR with each mask divided by its highest value, which is pamr-max.",
        label="Refinement of the edges",
        group="main",
    )

    refine_side: int = knob(
        0,
        "Longest side, in pixels, at which edges are refined: masks of a larger picture are refined on a smaller copy and"
        " enlarged. 0 refines at the picture's own size, as the released code does.",
        high=1024,
        step=16,
        label="Longest side for the refinement",
    )

    def check(self, models: Models) -> None:
        """Raise ValueError unless the settings are in their ranges and fit the backbone."""
        if self.template.count("{}") != 1:
            raise ValueError(f"The template must hold {{}} once, where the word goes, but got {quoted(self.template)}.")
        if self.draws < 1 or self.clusters < 1:
            raise ValueError(f"draws and clusters must be 1 or more, but got {self.draws} and {self.clusters}.")
        if obstacle := self.unfit(models):
            raise ValueError(obstacle)
        crossing_named(models.backbone, self.layers)  # refuses what the backbone does not have
        if self.grid_stride < 1:
            raise ValueError(f"grid_stride must be 1 or more, but got {self.grid_stride}.")

    def unfit(self, models: Models) -> str:
        """Why the backbone has no features of this stride; empty where it has."""
        known = models.backbone.strides
        if self.query_stride in known:
            return ""
        return f"query_stride must be one of this backbone's, {', '.join(map(str, known))}, but got {self.query_stride}."
