"""Captions of pictures: BLIP (Li et al. 2022, arXiv 2201.12086) and BLIP-2 (Li et al. 2023, arXiv 2301.12597)."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers  # its classes are named below as text, since naming one in code would import its network
from jaxtyping import UInt8

from ovseg.backbones.weights import check_tokenizer, loading, read_whole
from ovseg.pretrained.frozen import Frozen

WHOLE = 20  # tokens of a sentence that `go_on` gives: the library's default for BLIP
LONGEST = 30  # tokens of a caption: LAVIS's default
ARCHITECTURES = {"blip": "BlipForConditionalGeneration", "blip-2": "Blip2ForConditionalGeneration"}


@dataclass(frozen=True)
class CaptionerSpec:
    """A row of the table: where the weights are, and one sentence for the page."""

    source: str
    title: str


CAPTIONERS: dict[str, CaptionerSpec] = {
    "blip2": CaptionerSpec("Salesforce/blip2-opt-2.7b", "BLIP-2 with OPT-2.7B; 15 GB in float32, half of it in float16."),
    "blip-large": CaptionerSpec("Salesforce/blip-image-captioning-large", "BLIP large; 1.9 GB."),
    "blip-base": CaptionerSpec("Salesforce/blip-image-captioning-base", "BLIP base; 1 GB, a .bin file."),
}


class Captioner(Frozen):
    """A frozen captioner.

    Args:
        source: a repository of the hub or a local folder, with its processor.

    Raises:
        ValueError: it cannot be loaded, or is neither a BLIP nor a BLIP-2.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.source, self.device, self.dtype = source, torch.device(device), dtype
        with loading(f"The captioner {source}"):
            kind = transformers.AutoConfig.from_pretrained(source).model_type
        if kind not in ARCHITECTURES:
            raise ValueError(f"The captioner must be one of {', '.join(ARCHITECTURES)}, but {source} is {kind}.")
        if Path(source).is_dir():
            check_tokenizer(Path(source))
        with loading(f"The captioner {source}"):
            self._processor = transformers.AutoProcessor.from_pretrained(source)
            model = read_whole(getattr(transformers, ARCHITECTURES[kind]), source, dtype)
        self._model = model.to(self.device).eval().requires_grad_(False)
        self._splits_words = kind == "blip"

    def go_on(self, image: UInt8[np.ndarray, "h w 3"], prefix: str = "") -> str:
        """The sentence that begins with `prefix`, greedily and with `WHOLE` tokens at most, those of the prefix included.

        These are the defaults of the captioner's own library, with which DiffSegmenter's released code captions.
        """
        # The start token counts, the end token of the prefix does not.
        own = max(len(self._processor.tokenizer(prefix).input_ids) - 1, 0)
        return self.caption(image, prefix, beams=1, longest=max(WHOLE - own, 1))

    def describe(self, image: UInt8[np.ndarray, "h w 3"], beginning: str = "", least: int = 0) -> str:
        """What comes after `beginning` in a sentence with so many tokens at least and `LONGEST` at most, all of it counted.

        So LAVIS describes pictures, which FreeSeg-Diff's released code uses; without a beginning as `caption`.
        """
        own = max(len(self._processor.tokenizer(beginning).input_ids) - 1, 0) if beginning else 0
        sentence = self.caption(image, beginning, longest=max(LONGEST - own, 1), shortest=max(least - own, 0))
        return without(sentence, beginning)

    @torch.inference_mode()
    def caption(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        prefix: str = "",
        *,
        beams: int = 3,
        longest: int = LONGEST,
        shortest: int = 0,
    ) -> str:
        """One sentence on an RGB picture, without a full stop.

        Args:
            prefix: how the sentence begins; it is part of the answer.
            beams: width of the beam search; 1 is greedy.
            longest, shortest: how many tokens are added to the prefix at most, and at least.
        """
        inputs = self._processor(images=image, text=prefix, return_tensors="pt").to(self.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        least = {"min_new_tokens": shortest} if shortest else {}
        tokens = self._model.generate(**inputs, num_beams=beams, max_new_tokens=longest, do_sample=False, **least)
        text = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
        return as_sentence(rejoined(text) if self._splits_words else text, prefix)


def rejoined(text: str) -> str:
    """Hyphens, apostrophes and commas where BERT's tokenizer, which BLIP has, sets spaces around them.

    "a man ' s t - shirt , red" becomes "a man's t-shirt, red".
    """
    text = re.sub(r"(?<=\w) ?' ?(s|t|d|m|re|ve|ll)\b", r"'\1", text)
    text = re.sub(r"(?<=s) ' (?=\w)", "' ", text)
    return re.sub(r" (?=[,.;:!?])", "", re.sub(r"(?<=\w) - (?=\w)", "-", text))


def without(sentence: str, beginning: str) -> str:
    """A sentence of `as_sentence` without its beginning."""
    return sentence.removeprefix(beginning.strip()).strip()


def as_sentence(text: str, prefix: str) -> str:
    """A captioner's answer as one sentence that begins with the prefix, letter for letter, without a full stop.

    Some models answer with the whole sentence, some with what follows the prefix. A tokenizer may give the prefix back in
    lower case, without accents or with other spaces: it is still the prefix.
    """
    answer, beginning = " ".join(text.split()).rstrip(" ."), prefix.strip()
    length = _length_of(beginning, answer)
    rest = f" {answer}" if length is None else answer[length:]
    return f"{beginning}{rest}".strip()


def _length_of(beginning: str, answer: str) -> int | None:
    """How many characters of the answer are the beginning, but for spaces, accents and case; None where it is not there."""
    wanted, place = "".join(map(_letters, beginning)), 0
    for length, character in enumerate(answer):
        if place == len(wanted):
            return length
        letters = _letters(character)
        if not wanted.startswith(letters, place):
            return None
        place += len(letters)
    return len(answer) if place == len(wanted) else None


def _letters(character: str) -> str:
    """A character in lower case and without accents; nothing for a space or an accent."""
    apart = unicodedata.normalize("NFD", character.lower())
    return "".join(letter for letter in apart if not letter.isspace() and not unicodedata.combining(letter))
