"""Encoded prompts, their tokens, and the phrases that are looked for in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor


@dataclass(frozen=True)
class Token:
    """What one token of an encoded prompt reads.

    Args:
        text: the piece of the prompt, in lower case where the encoder makes no difference; "" for what is no piece of it.
        kind: "word" for a piece of the prompt; "start", "end" and "padding" for what the encoder adds.
        begin: number of the piece's first character in the prompt; `end` is that of the character behind its last one.
    """

    text: str
    kind: Literal["start", "word", "end", "padding"]
    begin: int = 0
    end: int = 0


@dataclass(frozen=True)
class Text:
    """Encoded prompts, one row each, with any number of phrases in each.

    Args:
        embeddings: the text encoder's states, on the backbone's device; the first columns are the tokens, in order.
        spans: for each phrase its tokens; empty for a prompt without a phrase.
        row_of: for each phrase the row that it is in, in order; one phrase for each row if not given.
        conditions: what the network is told of each prompt besides, such as pooled states, a row each.
        token_of: for each column the token that it reads, or -1 for none, where there are more columns than tokens.
        riders: how many of the last columns ride along: they attend to the places and to one another, and nothing attends to
            them, so that the picture does not change.
    """

    prompts: tuple[str, ...]
    embeddings: Float[Tensor, "b t d"]
    spans: tuple[tuple[int, ...], ...]
    row_of: tuple[int, ...] = ()
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    token_of: Integer[Tensor, "b t"] | None = None
    riders: int = 0

    def with_riders(self, states: Float[Tensor, "r d"]) -> "Text":
        """The same with states that ride along in every row."""
        rows, columns, _ = self.embeddings.shape
        own = self.token_of
        if own is None:
            own = torch.arange(columns, device=self.embeddings.device).expand(rows, -1)
        none = own.new_full((rows, len(states)), -1)
        embeddings = torch.cat([self.embeddings, states.to(self.embeddings).expand(rows, -1, -1)], 1)
        return replace(self, embeddings=embeddings, token_of=torch.cat([own, none], 1), riders=len(states))

    @property
    def tokens(self) -> int:
        """How many tokens a row has; what a network attends to of words has a column for each."""
        return self.embeddings.shape[1] if self.token_of is None else int(self.token_of.max()) + 1

    @cached_property
    def slots(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """For each phrase its row, and its number among the row's phrases."""
        rows = self.row_of or tuple(range(len(self.spans)))
        return rows, tuple(rows[:k].count(row) for k, row in enumerate(rows))

    def packed(self, values: Float[Tensor, "p ..."]) -> Float[Tensor, "b k ..."]:
        """Values of all phrases by row; where a row has fewer phrases than another, zeros are behind its last."""
        rows, numbers = (list(part) for part in self.slots)
        by_row = values.new_zeros(len(self.prompts), max(numbers) + 1, *values.shape[1:])
        by_row[rows, numbers] = values
        return by_row

    def unpacked(self, by_row: Float[Tensor, "b k ..."]) -> Float[Tensor, "p ..."]:
        """Values by row as those of all phrases, one after the other: what `packed` packs."""
        rows, numbers = (list(part) for part in self.slots)
        return by_row[rows, numbers]

    def columns(self, row: int, tokens: tuple[int, ...]) -> list[int]:
        """All columns of a row that read one of some tokens."""
        if self.token_of is None:
            return list(tokens)
        return [column for column, token in enumerate(self.token_of[row].tolist()) if token in tokens]

    def indicators(self) -> Float[Tensor, "p tokens"]:
        """For each phrase how often it names each token."""
        counts = torch.zeros(len(self.spans), self.tokens)
        for number, span in enumerate(self.spans):
            for token in span:
                counts[number, token] += 1
        return counts.to(self.embeddings)

    def __getitem__(self, rows: slice) -> "Text":
        chosen = range(len(self.prompts))[rows]
        phrases = [k for k, row in enumerate(self.slots[0]) if row in chosen]
        return replace(
            self,
            prompts=self.prompts[rows],
            embeddings=self.embeddings[rows],
            spans=tuple(self.spans[k] for k in phrases),
            row_of=tuple(chosen.index(self.row_of[k]) for k in phrases) if self.row_of else (),
            conditions={name: values[rows] for name, values in self.conditions.items()},
            token_of=None if self.token_of is None else self.token_of[rows],
        )

    def repeated(self, rows: int) -> "Text":
        """A single prompt as that many rows, without a copy."""
        (prompt,) = self.prompts
        return Text(
            (prompt,) * rows,
            self.embeddings.expand(rows, -1, -1),
            self.spans * rows,
            tuple(row for row in range(rows) for _ in self.spans),
            {name: values.expand(rows, *values.shape[1:]) for name, values in self.conditions.items()},
            None if self.token_of is None else self.token_of.expand(rows, -1),
        )

    def split(self, rows: int) -> Iterator["Text"]:
        """Consecutive parts of at most `rows` rows."""
        for start in range(0, len(self.prompts), rows):
            yield self[start : start + rows]
