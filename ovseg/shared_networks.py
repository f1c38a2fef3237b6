"""What the networks of several backbones share: those beside the diffusion networks, and the memory of their device."""

import threading
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ovseg.maths.live_memory import memory_of

PARTS = ("clip", "captioner", "dino", "grounding", "segmenter")  # the networks that go with the backbone
OTHER = "other"  # a network that goes with none
ROOM = 0.6  # share of a device's memory that diffusion networks may take together; the rest is to work in


@cache
def short_name(backbone: str) -> str:
    """A backbone's name; of a local folder, and of a LoRA's file behind a plus sign, the last part of its path."""
    return "+".join(Path(part).absolute().name for part in backbone.split("+"))


def device_named(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ValueError: torch cannot use it here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"The device must be one that torch can use here, but {name!r} is not: {reason}") from error
    return device


class SharedNetworks:
    """The networks beside the diffusion networks, each loaded once for all members. Pickled, nothing is loaded.

    `members` are the `Models` of several backbones, the usual one first; empty where there is one alone.
    """

    def __init__(self) -> None:
        self.members: list[Any] = []
        self.lock = threading.RLock()  # one diffusion network is loaded at a time
        self._loaded: dict[tuple[str, Hashable], Any] = {}
        self._locks = {part: threading.Lock() for part in (*PARTS, OTHER)}

    def __reduce__(self) -> tuple:
        return SharedNetworks, (), {"members": self.members}

    def once(self, part: str, source: Hashable, load: Callable[[], Any]) -> Any:
        """The network of this source, loaded on first use; of one of `PARTS`, or of `OTHER`, one is loaded at a time."""
        with self._locks[part]:
            if (part, source) not in self._loaded:
                self._loaded[part, source] = load()
            return self._loaded[part, source]

    def has(self, part: str, source: Hashable) -> bool:
        """Whether the network of this source has been loaded."""
        return (part, source) in self._loaded

    def loaded(self, part: str, source: Hashable) -> Any:
        """The network of this source, if it has been loaded; where it is being loaded, this waits for it."""
        with self._locks[part]:
            return self._loaded.get((part, source))

    def have_room(self, members: Iterable[Any]) -> bool:
        """Whether the diffusion networks of these have room in their device's memory together."""
        taken = sum(member.checkpoint.taken(member.dtype) for member in members)
        return taken * 1e9 <= ROOM * memory_of(self.members[0].device)

    def make_room(self, coming: Any) -> None:
        """Let the others' diffusion networks go where one that comes has no room beside them."""
        others = [member for member in self.members if member is not coming and member.is_loaded]
        if others and not self.have_room((coming, *others)):
            for member in others:
                member.release()
