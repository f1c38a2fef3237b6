"""Off-the-shelf segmenters that find the objects of given names in a picture; they label what a diffusion network draws.

The released code of Grounded Diffusion uses a Mask R-CNN; here it is any instance segmenter that `transformers` loads
(MaskFormer, Mask2Former, OneFormer), or a UperNet or SegFormer, whose connected regions are the instances.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ovseg.backbones.weights import check_tokenizer, loading, read_whole
from ovseg.maths.maps import resize
from ovseg.pretrained.frozen import Frozen
from ovseg.types import BACKGROUND

MIN_SCORE = 0.5  # of an instance
MIN_SHARE = 1 / 1000  # of the picture; smaller connected regions are taken for noise
OTHER_WORDS = {  # names that data sets have for the same class
    "aeroplane": "airplane", "plane": "airplane", "motorcycle": "motorbike", "couch": "sofa", "dining table": "diningtable",
    "pottedplant": "potted plant", "tvmonitor": "tv", "tv monitor": "tv", "tv/monitor": "tv", "television": "tv",
    "people": "person", "hair dryer": "hair drier", "cellphone": "cell phone", "doughnut": "donut",
}  # fmt: skip


@dataclass(frozen=True)
class Instance:
    """One object: its label in the detector's words, the detector's score (0 to 1), and its pixels."""

    label: str
    score: float
    mask: Bool[np.ndarray, "h w"]


class Detector(Frozen, ABC):
    """A frozen segmenter from a repository of the hub or a local folder."""

    def __init__(self, source: str, model: torch.nn.Module, device: torch.device | str) -> None:
        self.source, self.device = source, torch.device(device)
        self._model = model.to(self.device).eval().requires_grad_(False)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it can find, in its own words."""
        return tuple(self._model.config.id2label.values())

    def knows(self, word: str) -> bool:
        """Whether a word is one of its labels, in its own words or in those of another data set."""
        return plain(word) in {plain(label) for label in self.labels}

    @abstractmethod
    def instances(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[Instance, ...]:
        """The objects in an RGB picture, highest score first."""

    def masks(
        self, image: UInt8[np.ndarray, "h w 3"], words: Sequence[str], single: bool = False
    ) -> dict[str, Bool[np.ndarray, "h w"]]:
        """For each word that is in an RGB picture the pixels of all its objects; a word that is not there has no entry.

        Args:
            single: the object of the highest score alone, as in the released code of Grounded Diffusion, in place of all.
        """
        masks: dict[str, np.ndarray] = {}
        by_word = {plain(word): word for word in words}
        for item in self.instances(image):
            word = by_word.get(plain(item.label))
            if word in masks and not single:
                masks[word] = masks[word] | item.mask
            elif word is not None:
                masks.setdefault(word, item.mask)
        return masks


class InstanceDetector(Detector):
    """A network that predicts masks with a class each: MaskFormer and its descendants, trained on COCO's instances."""

    def __init__(self, source: str, device: torch.device | str) -> None:
        super().__init__(source, read_whole(transformers.AutoModelForUniversalSegmentation, source), device)
        self._processor = transformers.AutoImageProcessor.from_pretrained(source)

    @torch.inference_mode()
    def instances(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[Instance, ...]:
        inputs = self._processor(images=image, return_tensors="pt").to(self.device)
        result = self._processor.post_process_instance_segmentation(
            self._model(**inputs), threshold=MIN_SCORE, target_sizes=[image.shape[:2]], return_binary_maps=True
        )[0]
        maps = [] if result["segmentation"] is None else result["segmentation"]
        objects = [
            Instance(self._model.config.id2label[item["label_id"]], float(item["score"]), mask.cpu().numpy() > 0.5)
            for item, mask in zip(result["segments_info"], maps, strict=False)
        ]
        return tuple(sorted(objects, key=lambda item: -item.score))


class PromptedDetector(Detector):
    """A OneFormer, which is told in words that instances are asked for."""

    TASK = "the task is instance"

    def __init__(self, source: str, device: torch.device | str) -> None:
        super().__init__(source, read_whole(transformers.AutoModelForUniversalSegmentation, source), device)
        # The file of class names lies in another repository; the model's own configuration has them, too.
        self._processor = transformers.AutoImageProcessor.from_pretrained(source, class_info_file=None)
        if Path(source).is_dir():
            check_tokenizer(Path(source))
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        task = tokenizer(self.TASK, padding="max_length", max_length=self._model.config.task_seq_len, return_tensors="pt")
        self._task = (task.input_ids * task.attention_mask).to(self.device)

    @torch.inference_mode()
    def instances(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[Instance, ...]:
        inputs = self._processor(images=image, task_inputs=["instance"], return_tensors="pt").to(self.device)
        result = self._model(pixel_values=inputs["pixel_values"], task_inputs=self._task)
        scores, labels = result.class_queries_logits[0].softmax(-1)[:, :-1].max(-1)  # the last label is "nothing"
        masks = resize(result.masks_queries_logits, image.shape[:2])[0] > 0
        objects = [
            Instance(self._model.config.id2label[int(labels[k])], float(scores[k]), masks[k].cpu().numpy())
            for k in (scores >= MIN_SCORE).nonzero().flatten().tolist()
            if masks[k].any()
        ]
        return tuple(sorted(objects, key=lambda item: -item.score))


class SemanticDetector(Detector):
    """A UperNet or SegFormer: every pixel has a label, and each connected region of one is an instance.

    Pictures are prepared as the folder's preprocessor_config.json says. This project's own segmenters have no such file:
    they read pictures at their own size, from -1 to 1.
    """

    def __init__(self, source: str, device: torch.device | str) -> None:
        super().__init__(source, read_whole(transformers.AutoModelForSemanticSegmentation, source).float(), device)
        try:
            self._processor = transformers.AutoImageProcessor.from_pretrained(source)
        except OSError:
            if not Path(source).is_dir():
                raise
            self._processor = None

    @torch.inference_mode()
    def probabilities(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "n labels h w"]:
        """The probability of every label, in the order of `labels`, at every pixel of RGB pictures of one size."""
        if self._processor:
            pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self.device)
        else:
            pixels = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        logits = self._model(pixels).logits.float()
        return resize(logits, images[0].shape[:2]).softmax(1)

    def instances(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[Instance, ...]:
        likely = self.probabilities([image])[0].cpu().numpy()
        chosen, objects = likely.argmax(0), []
        for number, label in self._model.config.id2label.items():
            if label == BACKGROUND:  # most networks have none: the first label of ADE20K's is "wall"
                continue
            count, regions = cv2.connectedComponents((chosen == number).astype(np.uint8))
            for region in range(1, count):
                mask = regions == region
                score = float(likely[number][mask].mean())
                if mask.mean() >= MIN_SHARE and score >= MIN_SCORE:
                    objects.append(Instance(label, score, mask))
        return tuple(sorted(objects, key=lambda item: -item.score))


def load_detector(source: str, device: torch.device | str = "cpu") -> Detector:
    """A detector from a repository of the hub or a local folder.

    Raises:
        ValueError: it cannot be loaded, or is no segmenter of a known kind.
    """
    kinds = {
        "maskformer": InstanceDetector,
        "mask2former": InstanceDetector,
        "oneformer": PromptedDetector,
        "segformer": SemanticDetector,
        "upernet": SemanticDetector,
    }
    with loading(f"The detector at {source}"):
        kind = transformers.AutoConfig.from_pretrained(source).model_type
        if kind in kinds:
            return kinds[kind](source, device)
    raise ValueError(f"The detector must be a {', '.join(kinds)}, but {source} is a {kind}.")


def plain(word: str) -> str:
    """A class name in lower case, with single spaces, and with one word for what data sets name differently."""
    lower = re.sub(r"[\s_-]+", " ", word.strip().lower())
    return OTHER_WORDS.get(lower, lower)
