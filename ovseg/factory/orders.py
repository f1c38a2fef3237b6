"""Orders of pictures: prompts of one or two classes. An order depends on its number and on the first seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovseg.words.classes import prompt_of


@dataclass(frozen=True)
class Order:
    """A picture to be generated: its number in the set, the classes in its prompt, the prompt, and the seed."""

    number: int
    words: tuple[str, ...]
    prompt: str
    seed: int

    def start_of(self, number: int) -> int:
        """The character of the prompt at which the class of this number, counted from 0, begins."""
        return len(prompt_of(self.words[: number + 1])) - len(self.words[number])


def order(number: int, classes: Sequence[str], pairs: float, first_seed: int) -> Order:
    """The order of this number: one class, or with probability `pairs` two different ones.

    The released code of Grounded Diffusion has one half of each kind, and may take the same class twice.

    Raises:
        ValueError: there is no class, or only one and pairs are wanted, or `pairs` is not from 0 to 1.
    """
    if not 0 <= pairs <= 1:
        raise ValueError(f"The share of pairs must be from 0 to 1, but got {pairs}.")
    if len(classes) < (2 if pairs else 1):
        raise ValueError(f"There must be a class, and two for pairs, but got {', '.join(classes) or 'none'}.")
    rng = np.random.default_rng([first_seed, number])
    count = 2 if rng.random() < pairs else 1
    words = tuple(classes[int(k)] for k in rng.permutation(len(classes))[:count])
    return Order(number, words, prompt_of(words), first_seed + number)
