"""Off-the-shelf segmenters that find the objects of given names in a picture; they label what a diffusion network draws.

The released code of Grounded Diffusion uses a Mask R-CNN; here it is any instance segmenter that `transformers` loads
(MaskFormer, Mask2Former, OneFormer), or a UperNet or SegFormer, whose connected regions are the instances.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
import transformers
from jaxtyping import Bool
from torch import Tensor

from ovseg.backbones.weights import fingerprint
from ovseg.maths.maps import resize

SURE = 0.5  # score from which an instance counts; masks are cut at this probability as well
LEAST = 1 / 1000  # of the picture: smaller connected regions are specks
OTHER_WORDS = {  # what data sets call the same thing
    "aeroplane": "airplane", "plane": "airplane", "motorcycle": "motorbike", "couch": "sofa", "dining table": "diningtable",
    "pottedplant": "potted plant", "tvmonitor": "tv", "tv monitor": "tv", "television": "tv", "people": "person",
}  # fmt: skip


@dataclass(frozen=True)
class Instance:
    """One object that was found: its label in the detector's words, how sure the detector is (0 to 1), and its pixels."""

    label: str
    score: float
    mask: Bool[np.ndarray, "h w"]


class Detector(ABC):
    """A frozen segmenter with one verb.

    Args:
        source: a repository of the hub, or a local folder.
    """

    def __init__(self, source: str, model: torch.nn.Module, device: torch.device | str) -> None:
        self.source, self.device = source, torch.device(device)
        self._model = model.to(self.device).eval().requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights."""
        return fingerprint(self._model)

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can find."""
        return tuple(self._model.config.id2label.values())

    def knows(self, word: str) -> bool:
        """Whether a word is one of its labels, in its words or those of another data set."""
        return plain(word) in {plain(label) for label in self.labels}

    @abstractmethod
    def instances(self, image: np.ndarray) -> tuple[Instance, ...]:
        """What is found in an RGB uint8 picture (H, W, 3), surest first."""

    def masks(self, image: np.ndarray, words: Sequence[str], single: bool = False) -> dict[str, Bool[np.ndarray, "h w"]]:
        """The pixels of each of the words that are found; words that are not are left out.

        Args:
            single: take a word's surest instance alone, as the released code of Grounded Diffusion does, in place of all.
        """
        found: dict[str, np.ndarray] = {}
        by_word = {plain(word): word for word in words}
        for item in self.instances(image):
            word = by_word.get(plain(item.label))
            if word in found and not single:
                found[word] = found[word] | item.mask
            elif word is not None:
                found.setdefault(word, item.mask)
        return found


class InstanceDetector(Detector):
    """A network that predicts masks with a class each: MaskFormer and its descendants, trained on COCO's instances."""

    def __init__(self, source: str, device: torch.device | str) -> None:
        super().__init__(source, transformers.AutoModelForUniversalSegmentation.from_pretrained(source), device)
        self._processor = transformers.AutoImageProcessor.from_pretrained(source)

    @torch.inference_mode()
    def instances(self, image: np.ndarray) -> tuple[Instance, ...]:
        """What is found in an RGB uint8 picture (H, W, 3), surest first."""
        inputs = self._processor(images=image, return_tensors="pt").to(self.device)
        told = self._processor.post_process_instance_segmentation(
            self._model(**inputs), threshold=SURE, target_sizes=[image.shape[:2]], return_binary_maps=True
        )[0]
        maps = [] if told["segmentation"] is None else told["segmentation"]
        found = [
            Instance(self._model.config.id2label[item["label_id"]], float(item["score"]), mask.cpu().numpy() > 0.5)
            for item, mask in zip(told["segments_info"], maps, strict=False)
        ]
        return tuple(sorted(found, key=lambda item: -item.score))


class SemanticDetector(Detector):
    """A UperNet or SegFormer: every pixel has a label, and each connected region of one is an instance. Label 0 is the
    background."""

    def __init__(self, source: str, device: torch.device | str) -> None:
        super().__init__(source, transformers.AutoModelForSemanticSegmentation.from_pretrained(source).float(), device)

    @torch.inference_mode()
    def probabilities(self, images: Sequence[np.ndarray]) -> Tensor:
        """Of every label in every pixel of pictures of one size, background first: (n, labels, H, W)."""
        pixels = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        logits = self._model(pixels).logits.float()
        return resize(logits, pixels.shape[2:]).softmax(1)

    def instances(self, image: np.ndarray) -> tuple[Instance, ...]:
        """What is found in an RGB uint8 picture (H, W, 3), surest first."""
        likely = self.probabilities([image])[0].cpu().numpy()
        chosen, found = likely.argmax(0), []
        for number, label in list(self._model.config.id2label.items())[1:]:
            count, regions = cv2.connectedComponents((chosen == number).astype(np.uint8))
            for region in range(1, count):
                mask = regions == region
                score = float(likely[number][mask].mean())
                if mask.mean() >= LEAST and score >= SURE:
                    found.append(Instance(label, score, mask))
        return tuple(sorted(found, key=lambda item: -item.score))


def load_detector(source: str, device: torch.device | str = "cpu") -> Detector:
    """A detector from a repository of the hub or a local folder.

    Raises:
        ValueError: it cannot be loaded, or is no segmenter of a known kind.
    """
    kinds = {
        "maskformer": InstanceDetector,
        "mask2former": InstanceDetector,
        "segformer": SemanticDetector,
        "upernet": SemanticDetector,
    }
    try:
        kind = transformers.AutoConfig.from_pretrained(source).model_type
        if kind in kinds:
            return kinds[kind](source, device)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"The detector at {source} must be on disk or on the hub, but loading it failed: {reason}"
        ) from error
    raise ValueError(f"The detector must be a {', '.join(kinds)}, but {source} is a {kind}.")


def plain(word: str) -> str:
    """A class name as all data sets would write it."""
    lower = re.sub(r"[\s_-]+", " ", word.strip().lower())
    return OTHER_WORDS.get(lower, lower)
