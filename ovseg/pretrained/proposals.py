"""Masks of the objects in a picture of any class: by MaskCut, or by CutLER where it is installed."""

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from ovseg.assets import variable
from ovseg.files import file_checksum
from ovseg.maths.cuts import mask_cut, sharpen

if TYPE_CHECKING:
    from ovseg.pretrained.dino import Dino

Proposals = Callable[[UInt8[np.ndarray, "H W 3"]], tuple[Bool[np.ndarray, "H W"], ...]]
"""Masks of a picture's objects, none or several."""


def by_maskcut(dino: "Dino") -> Proposals:
    """Normalised cuts on DINO's keys (Wang et al. 2023, "CutLER", section 3.2), with edges by a CRF."""

    def masks(image: UInt8[np.ndarray, "H W 3"]) -> tuple[Bool[np.ndarray, "H W"], ...]:
        sharp = (sharpen(mask, image, dino.device) for mask in mask_cut(dino.keys([image])[0]))
        return tuple(mask for mask in sharp if mask is not None)

    return masks


def cutler_folder() -> Path:
    """The folder that `OVSEG_CUTLER` names.

    Raises:
        ValueError: that is not set.
    """
    folder = variable("OVSEG_CUTLER")
    if folder is None:
        raise ValueError(
            "CutLER needs its folder in the variable OVSEG_CUTLER, but that is not set: its licence (CC BY-NC-SA 4.0, not"
            " for commercial use) keeps it out of this project. Fetch it yourself, or take masks=maskcut."
        )
    return Path(folder)


class CutlerWeights:
    """The file of CutLER's weights in the folder that `OVSEG_CUTLER` names."""

    @cached_property
    def fingerprint(self) -> str:
        """The first digits of the file's SHA-256.

        Raises:
            ValueError: the variable is not set, or there is no such file.
        """
        path = cutler_folder() / "cutler_cascade_final.pth"
        if not path.is_file():
            raise ValueError(f"CutLER needs {path}, which is not there; its licence is CC BY-NC-SA 4.0.")
        return file_checksum(path)[:12]


LEAST_SCORE = 0.35  # of a mask that is kept: OVDiff's


class Cutler:
    """CutLER's Cascade Mask R-CNN (Wang et al. 2023, arXiv 2301.11320) through detectron2, which is not installed with us.

    Its code and weights are licensed CC BY-NC-SA 4.0: not for commercial use. Nothing of it is part of this project. Its
    network is in a registry of its own, so that it is built by its own `modeling` package, not by detectron2's.

    Args:
        folder: a checkout of facebookresearch/CutLER's `cutler` folder with `cutler_cascade_final.pth` in it.

    Raises:
        ValueError: detectron2 or a file is missing; the sentence says which, and where it is to be had.
    """

    CONFIG = Path("model_zoo/configs/CutLER-ImageNet/cascade_mask_rcnn_R_50_FPN.yaml")

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        weights = folder / "cutler_cascade_final.pth"
        for path in (weights, folder / self.CONFIG, folder / "modeling", folder / "config"):
            if not path.exists():
                raise ValueError(f"CutLER needs {path}, which is not there; {WHERE}")
        try:
            from detectron2.checkpoint import DetectionCheckpointer
            from detectron2.config import get_cfg
            from detectron2.data.transforms import ResizeShortestEdge
        except ImportError as error:
            raise ValueError(f"CutLER needs detectron2, which cannot be imported here ({error}); {WHERE}") from error
        config, cutler, modeling = get_cfg(), *_modules_of(folder, ("config", "modeling"))
        cutler.add_cutler_config(config)
        config.merge_from_file(str(folder / self.CONFIG))
        config.MODEL.WEIGHTS, config.MODEL.DEVICE = str(weights), device
        config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = LEAST_SCORE
        if device == "cpu":  # whose statistics cannot be shared between processes
            config.MODEL.RESNETS.NORM = config.MODEL.FPN.NORM = "BN"
        self._model, self._is_rgb = modeling.build_model(config).eval(), config.INPUT.FORMAT == "RGB"
        DetectionCheckpointer(self._model).load(str(weights))
        short = config.INPUT.MIN_SIZE_TEST
        self._resize = ResizeShortestEdge([short, short], config.INPUT.MAX_SIZE_TEST)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> tuple[Bool[np.ndarray, "H W"], ...]:
        """The masks of an RGB picture."""
        pixels = image if self._is_rgb else image[:, :, ::-1]
        larger = self._resize.get_transform(pixels).apply_image(pixels)
        given = {"image": torch.from_numpy(np.ascontiguousarray(larger.transpose(2, 0, 1), np.float32))}
        with torch.inference_mode():
            (answer,) = self._model([{**given, "height": image.shape[0], "width": image.shape[1]}])
        return tuple(answer["instances"].pred_masks.cpu().numpy().astype(bool))


WHERE = (
    "please clone https://github.com/facebookresearch/CutLER, put its cutler_cascade_final.pth (see its README) into the"
    " folder cutler, name that folder in OVSEG_CUTLER, and run `pip install"
    " 'git+https://github.com/facebookresearch/detectron2.git'`. CutLER's licence is CC BY-NC-SA 4.0."
)


def _modules_of(folder: Path, names: Sequence[str]) -> list[ModuleType]:
    """Packages of a folder whose names are too general to leave the folder on the path.

    Raises:
        ValueError: another package of the name is loaded already.
    """
    sys.path.insert(0, str(folder))
    try:
        modules = [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
    for module in modules:
        if not str(module.__file__).startswith(str(folder)):
            raise ValueError(f"CutLER needs its own package {module.__name__!r}, but {module.__file__} is loaded already.")
    return modules
