"""How the families of diffusers' pipelines read prompts: CLIP's tokens, its states, and phrases by character offsets."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from transformers import BatchEncoding

from ovseg.backbones.base import Phrases
from ovseg.backbones.phrases import QUOTES, columns_between, phrase_at
from ovseg.backbones.saved_words import Encoded, SavedWords
from ovseg.backbones.text import Text, Token
from ovseg.backbones.weights import check_finite
from ovseg.limits import quoted

TEXT_ROWS = 256  # prompts that the text encoder is given at once


class ClipText(ABC):
    """The part of a `Backbone` that reads prompts, with the first tokenizer of a pipeline; its docstrings hold here."""

    pipeline: DiffusionPipeline
    device: torch.device
    ignores_case: ClassVar[bool] = True
    words: SavedWords | None = None
    """What is read in place of the text encoders."""
    _heard: dict[str, Encoded] | None = None

    @abstractmethod
    def _alone(self, part: str) -> None:
        """Let the text encoders be the only networks on the device, where there is room for some alone."""

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
        self._check_length(*prompts)
        self._alone("text")
        offsets, encoded = self._tokenise(prompts).offset_mapping.tolist(), self._states_of(prompts)
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
        embeddings, empty = text.embeddings.clone(), self._states_of([""]).embeddings[0]
        for number, ((row, phrase), (begin, stop)) in enumerate(zip(wanted, places, strict=True)):
            if emphasised is not None and phrase:
                begin += phrase.rindex(emphasised[number])
                stop = begin + len(emphasised[number])
            at = text.columns(row, columns_between(offsets[row], begin, stop))
            embeddings[row, at] = empty[at] + emphasis * (embeddings[row, at] - empty[at])
        return replace(text, embeddings=embeddings)

    def _states_of(self, prompts: Sequence[str]) -> Encoded:
        if self.words is not None:
            return self.words.rows(prompts)
        encoded = self._encoded(prompts)
        if self._heard is not None:
            for number, prompt in enumerate(prompts):
                self._heard[prompt] = Encoded.of_names(
                    {name: rows[number : number + 1] for name, rows in encoded.named().items()}
                )
        return encoded

    @contextmanager
    def hearing(self) -> Iterator[dict[str, Encoded]]:
        """All prompts that are encoded during the block, a row each."""
        self._heard = {}
        try:
            yield self._heard
        finally:
            self._heard = None

    def fits(self, prompt: str) -> bool:
        return self._tokens_of(prompt) <= self._room

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        self._check_length(prompt)
        encoding = self._tokenise([prompt])
        offsets = encoding.offset_mapping[0].tolist()
        said = str.lower if self.ignores_case else str
        return tuple(
            Token(said(prompt[begin:end].strip()), kind, begin, end) if kind == "word" else Token("", kind)
            for kind, (begin, end) in zip(self._kinds(encoding), offsets, strict=True)
        )

    def _kinds(self, encoding: BatchEncoding) -> list[str]:
        """The kind of each token of a single prompt."""
        ids = encoding.input_ids[0].tolist()
        end_of_words = ids.index(self.pipeline.tokenizer.eos_token_id)
        return ["start", *["word"] * (end_of_words - 1), "end", *["padding"] * (len(ids) - end_of_words - 1)]

    def _tokenise(self, prompts: Sequence[str], tokenizer: str = "tokenizer") -> BatchEncoding:
        plain = [prompt.translate(QUOTES) for prompt in prompts]
        return getattr(self.pipeline, tokenizer)(
            plain, padding="max_length", max_length=self._room, return_offsets_mapping=True, return_tensors="pt"
        )

    def _pooled(self, prompts: Sequence[str], told: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """States and pooled states of prompts, as a pipeline with two CLIP text encoders makes them.

        Args:
            told: what its `encode_prompt` is called with besides.

        Raises:
            ValueError: the two tokenizers do not agree, so that a column would be two tokens.
        """
        plain = [prompt.translate(QUOTES) for prompt in prompts]
        first, second = (self._tokenise(prompts, name).offset_mapping for name in ("tokenizer", "tokenizer_2"))
        if not torch.equal(first, second):
            raise ValueError("The two CLIP tokenizers of the backbone must cut a prompt into the same tokens, but do not.")
        parts = []
        for begin in range(0, len(plain), TEXT_ROWS):
            states, _, pooled, _ = self.pipeline.encode_prompt(
                plain[begin : begin + TEXT_ROWS], device=self.device, do_classifier_free_guidance=False, **told
            )
            parts.append((states, pooled))
        states, pooled = (torch.cat(part) for part in zip(*parts, strict=True))
        return states, pooled

    @property
    def _room(self) -> int:
        """Tokens that the text encoder takes, its first and its last one included."""
        encoder, tokenizer = self.pipeline.text_encoder, self.pipeline.tokenizer
        return tokenizer.model_max_length if encoder is None else encoder.config.max_position_embeddings

    def _check_length(self, *prompts: str) -> None:
        for prompt in prompts:
            if (tokens := self._tokens_of(prompt)) > self._room:
                raise ValueError(
                    f"The prompt must fit {self._room} tokens, but it has {tokens}; please shorten it: {quoted(prompt)}."
                )

    def _tokens_of(self, prompt: str) -> int:
        return len(self.pipeline.tokenizer(prompt.translate(QUOTES), verbose=False).input_ids)
