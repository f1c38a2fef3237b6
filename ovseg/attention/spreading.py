"""Self-attention at one stride, by which maps are spread over whole objects: its sites, and what people see of it."""

from collections.abc import Iterator

from ovseg.backbones.base import Backbone, Capture, Site, Text
from ovseg.layer_attention import all_heads
from ovseg.models import Models
from ovseg.types import Evidence, Scene


def spreading_sites(backbone: Backbone, stride: int) -> tuple[Site, ...]:
    """The self-attention at a stride, which maps are multiplied by.

    Raises:
        ValueError: there is none; the sentence calls the stride `refine_stride`, as methods do.
    """
    selves = [site for site in backbone.sites if site.kind == "self"]
    if sites := tuple(site for site in selves if site.stride == stride):
        return sites
    strides = ", ".join(str(stride) for stride in sorted({site.stride for site in selves}))
    raise ValueError(f"refine_stride must be one of {strides}, where this backbone has self-attention, but got {stride}.")


def affinity_evidence(models: Models, scene: Scene, text: Text, timestep: float, stride: int) -> Iterator[Evidence]:
    """What each place attends to in the pass of the first prompt, which is run again for it; nothing without such layers."""
    sites = tuple(site for site in models.backbone.sites if site.kind == "self" and site.stride == stride)
    if sites:
        trace = models.backbone.trace(scene.latent, text[:1], timestep, Capture(states=sites), seed=scene.seed)
        attended = all_heads([trace.states[site].kept() for site in sites])
        title = f"Self-attention from any point, with the prompt “{text.prompts[0]}”"
        yield Evidence(title, "affinity", group="Self-attention", affinity=attended)
