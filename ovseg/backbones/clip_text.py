"""How the families of diffusers' pipelines read prompts: CLIP's tokens, its states, and phrases by character offsets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float, Integer
from torch import Tensor
from transformers import BatchEncoding

from ovseg.backbones.base import Phrases
from ovseg.backbones.phrases import QUOTES, columns_between, phrase_at
from ovseg.backbones.text import Text, Token
from ovseg.backbones.weights import check_finite
from ovseg.limits import quoted

TEXT_ROWS = 256  # prompts that the text encoder is given at once


@dataclass(frozen=True)
class Encoded:
    """Prompts as the denoiser reads them, a row each; the fields are those of `Text`."""

    embeddings: Float[Tensor, "b t d"]
    conditions: Mapping[str, Tensor]
    token_of: Integer[Tensor, "b t"] | None = None


class ClipText(ABC):
    """The part of a `Backbone` that reads prompts, with the first tokenizer of a pipeline."""

    pipeline: DiffusionPipeline

    @abstractmethod
    def _encoded(self, prompts: Sequence[str]) -> Encoded:
        """Prompts that fit, as the family's text encoders read them."""

    @torch.no_grad()
    def encode_text(
        self,
        prompts: Sequence[str],
        phrases: Phrases,
        emphasis: float = 1.0,
        emphasised: Sequence[str] | None = None,
        *,
        starts: Sequence[int | None] | None = None,
    ) -> Text:
        """Encode prompts; find each phrase's tokens, and strengthen tokens as compel's "+" does.

        Args:
            phrases: for each prompt a phrase in it, "" for none, or several phrases.
            emphasis: 1.21 is compel's "++": embedding = empty + emphasis * (embedding - empty) at the tokens.
            emphasised: for each phrase the part to emphasise, the last one of its kind; the whole phrase if not given.
            starts: for each phrase the character at which it begins; its first occurrence where that is None.

        Raises:
            ValueError: a prompt does not fit the text encoder, or a phrase is not in its prompt.
        """
        self._check_length(*prompts)
        offsets, encoded = self._tokenise(prompts).offset_mapping.tolist(), self._encoded(prompts)
        check_finite("The text encoder's states", encoded.embeddings.dtype, encoded.embeddings)
        wanted = [(row, phrase) for row, own in enumerate(phrases) for phrase in ((own,) if isinstance(own, str) else own)]
        places = [
            phrase_at(prompts[row], phrase, start) if phrase else (0, 0)
            for (row, phrase), start in zip(wanted, starts or [None] * len(wanted), strict=True)
        ]
        spans = tuple(columns_between(offsets[row], *place) for (row, _), place in zip(wanted, places, strict=True))
        rows = tuple(row for row, _ in wanted)
        text = Text(tuple(prompts), encoded.embeddings, spans, rows, encoded.conditions, encoded.token_of)
        if emphasis == 1.0:
            return text
        embeddings, empty = text.embeddings.clone(), self._encoded([""]).embeddings[0]
        for number, ((row, phrase), (begin, stop)) in enumerate(zip(wanted, places, strict=True)):
            if emphasised is not None and phrase:
                begin += phrase.rindex(emphasised[number])
                stop = begin + len(emphasised[number])
            at = text.columns(row, columns_between(offsets[row], begin, stop))
            embeddings[row, at] = empty[at] + emphasis * (embeddings[row, at] - empty[at])
        return replace(text, embeddings=embeddings)

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder takes all of a prompt."""
        return self._tokens_of(prompt) <= self._room

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        """What each token of the encoded prompt reads.

        Raises:
            ValueError: the prompt does not fit the text encoder.
        """
        self._check_length(prompt)
        encoding = self._tokenise([prompt])
        offsets, ids = encoding.offset_mapping[0].tolist(), encoding.input_ids[0].tolist()
        end_of_words = ids.index(self.pipeline.tokenizer.eos_token_id)
        kinds = ["start", *["word"] * (end_of_words - 1), "end", *["padding"] * (len(ids) - end_of_words - 1)]
        return tuple(
            Token(prompt[begin:end].strip().lower(), kind, begin, end) if kind == "word" else Token("", kind)
            for kind, (begin, end) in zip(kinds, offsets, strict=True)
        )

    def _tokenise(self, prompts: Sequence[str]) -> BatchEncoding:
        plain = [prompt.translate(QUOTES) for prompt in prompts]
        return self.pipeline.tokenizer(
            plain, padding="max_length", max_length=self._room, return_offsets_mapping=True, return_tensors="pt"
        )

    @property
    def _room(self) -> int:
        """Tokens that the text encoder takes, its first and its last one included."""
        return self.pipeline.text_encoder.config.max_position_embeddings

    def _check_length(self, *prompts: str) -> None:
        for prompt in prompts:
            if (tokens := self._tokens_of(prompt)) > self._room:
                raise ValueError(
                    f"The prompt must fit {self._room} tokens, but it has {tokens}; please shorten it: {quoted(prompt)}."
                )

    def _tokens_of(self, prompt: str) -> int:
        return len(self.pipeline.tokenizer(prompt.translate(QUOTES), verbose=False).input_ids)
