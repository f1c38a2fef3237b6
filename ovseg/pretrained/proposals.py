"""Masks of the objects in a picture of any class: by MaskCut, or by CutLER where it is installed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from ovseg.maths.cuts import mask_cut, sharpen

if TYPE_CHECKING:
    from ovseg.pretrained.dino import Dino

Proposals = Callable[[UInt8[np.ndarray, "H W 3"]], tuple[Bool[np.ndarray, "H W"], ...]]
"""Masks of a picture's objects, none or several."""


def by_maskcut(dino: "Dino", objects: int = 3, alike: float = 0.15) -> Proposals:
    """Normalised cuts on DINO's keys (Wang et al. 2023, "CutLER", section 3.2), with edges by a CRF.

    Args:
        objects: most masks of a picture; the published 3.
        alike: cosine above which two patches belong together; the published 0.15.
    """

    def masks(image: UInt8[np.ndarray, "H W 3"]) -> tuple[Bool[np.ndarray, "H W"], ...]:
        sharp = (sharpen(mask, image, dino.device) for mask in mask_cut(dino.keys([image])[0], objects, alike))
        return tuple(mask for mask in sharp if mask is not None)

    return masks


class Cutler:
    """CutLER's Cascade Mask R-CNN (Wang et al. 2023, arXiv 2301.11320) through detectron2, which is not installed with us.

    Its code and weights are licensed CC BY-NC-SA 4.0: not for commercial use. Nothing of it is part of this project.

    Args:
        folder: a checkout of facebookresearch/CutLER's `cutler` folder with `cutler_cascade_final.pth` in it.
        least: score of a mask that is kept; OVDiff's 0.35.

    Raises:
        ValueError: detectron2 or a file is missing; the sentence says which.
    """

    CONFIG = Path("model_zoo/configs/CutLER-ImageNet/cascade_mask_rcnn_R_50_FPN.yaml")

    def __init__(self, folder: Path, device: str = "cpu", least: float = 0.35) -> None:
        weights = folder / "cutler_cascade_final.pth"
        for path in (weights, folder / self.CONFIG):
            if not path.is_file():
                raise ValueError(f"CutLER needs {path}, which is not there; its licence is CC BY-NC-SA 4.0.")
        try:
            from detectron2.config import get_cfg
            from detectron2.engine import DefaultPredictor
        except ImportError as error:
            raise ValueError(f"CutLER needs detectron2, which cannot be imported here: {error}") from error
        config = get_cfg()
        # Keys that CutLER's own code adds to detectron2's.
        config.set_new_allowed(True)
        config.merge_from_file(str(folder / self.CONFIG))
        config.MODEL.WEIGHTS, config.MODEL.DEVICE = str(weights), device
        config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = least
        self._predict = DefaultPredictor(config)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> tuple[Bool[np.ndarray, "H W"], ...]:
        """The masks of an RGB picture."""
        with torch.inference_mode():
            instances = self._predict(image[:, :, ::-1])["instances"]  # detectron2 takes BGR
        return tuple(instances.pred_masks.cpu().numpy().astype(bool))
