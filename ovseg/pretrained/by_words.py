"""What networks of the hub that are told phrases share: how they are loaded, named, and how long a phrase may be."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import transformers

from ovseg.backbones.weights import loading, read_whole, say_download
from ovseg.limits import quoted
from ovseg.pretrained.frozen import Frozen


class PhraseNetwork(Frozen, ABC):
    """A frozen network of transformers with its processor.

    Args:
        source: a repository of the hub, or a local folder.

    Raises:
        ValueError: it cannot be loaded; where its terms have not been agreed to, the sentence says so.
    """

    title: ClassVar[str]
    gigabytes: ClassVar[float]
    processor: ClassVar[str]
    """The class in transformers, as that of `network`."""
    network: ClassVar[str]

    def __init__(self, source: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.source, self.device, self.dtype = source, torch.device(device), dtype
        say_download(source, self.gigabytes)
        with loading(f"{self.title} at {source}", source):
            self._processor = getattr(transformers, self.processor).from_pretrained(source)
            model = read_whole(getattr(transformers, self.network), source, dtype)
        self._model = model.to(self.device).eval().requires_grad_(False)

    @abstractmethod
    def encode(self, phrases: Sequence[str]) -> Any:
        """The phrases as the network reads them.

        Raises:
            ValueError: a phrase is too long.
        """

    def check_room(self, phrases: Sequence[str], tokens: int) -> None:
        """Raise ValueError unless the longest of the phrases, of so many tokens, fits."""
        room = self._model.config.text_config.max_position_embeddings
        if tokens > room:
            raise ValueError(
                f"A phrase must have {room} tokens at most for {self.title}, but one of {quoted(phrases)} has more."
            )
