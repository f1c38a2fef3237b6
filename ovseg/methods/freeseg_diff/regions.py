"""Where things are: clusters of a network's features."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ovseg.backbones import Capture
from ovseg.backbones.base import Text
from ovseg.maths.cluster import agglomerate, kmeans, library_kmeans
from ovseg.maths.maps import box_of, resize
from ovseg.methods.freeseg_diff.settings import Settings
from ovseg.models import Models
from ovseg.reading.recipe import crossing_named, crossing_of
from ovseg.types import Scene


def features_of(models: Models, settings: Settings, scene: Scene, nothing: Text) -> Float[Tensor, "c y x"]:
    """What is clustered, on the grid of `grid_stride`; with the empty prompt the diffusion network looks at the picture."""
    hw = tuple(max(1, round(side / settings.grid_stride)) for side in scene.latent.shape[-2:])
    if settings.features == "pixels":
        pixels = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float()
        return F.interpolate(pixels, hw, mode="area")[0].to(models.device)
    if settings.features == "diffusion":
        features = _queries(models, settings, scene, nothing)
    elif settings.features == "clip":
        features = models.clip_named(settings.clip).dense([scene.image], "keys")[0]
    else:
        features = models.dino.keys([scene.image])[0]
    return resize(features[None], hw)[0]


def _queries(models: Models, settings: Settings, scene: Scene, nothing: Text) -> Tensor:
    """Queries (channels, y, x) of the layers that are read, one after the other."""
    backbone = models.backbone
    at_stride = tuple(site for site in crossing_of(backbone) if site.stride == settings.query_stride)
    sites = crossing_named(backbone, settings.layers) if settings.layers else at_stride
    total = 0.0
    for draw in range(settings.draws):
        trace = backbone.trace(scene.latent, nothing, settings.timestep, Capture(queries=sites), scene.seed + draw)
        grid = next(iter(trace.queries.values())).shape[-2:]
        total = total + torch.cat([resize(queries, grid)[0] for queries in trace.queries.values()]) / settings.draws
    return total.float()


def clusters_of(features: Float[Tensor, "c y x"], settings: Settings, words: int) -> Int[Tensor, "y x"]:
    """The cluster of each place, numbered from 0; `words` is how many classes may be found."""
    points = features.flatten(1).T
    count = words + 2 if settings.adaptive else settings.clusters
    if settings.algorithm == "agglomerative":
        return agglomerate(points, count).reshape(features.shape[1:])
    labels, _ = (library_kmeans if settings.algorithm == "scikit-learn" else kmeans)(points, count)
    return labels.reshape(features.shape[1:])


def masks_of(clusters: Int[Tensor, "y x"], image_hw: tuple[int, int]) -> list[Bool[Tensor, "H W"]]:
    """Where each cluster is in the picture, on the CPU."""
    grown = F.interpolate(clusters[None, None].float(), image_hw, mode="nearest")[0, 0].long().cpu()
    return [grown == k for k in range(int(grown.max()) + 1)]


def picture_of(
    image: UInt8[np.ndarray, "H W 3"], inside: Bool[np.ndarray, "H W"], tight: bool
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of one cluster, black outside it; cut to the box around it if `tight`."""
    shown = np.where(inside[..., None], image, 0).astype(np.uint8)
    if not tight or not inside.any():
        return shown
    return np.ascontiguousarray(shown[box_of(inside)])
