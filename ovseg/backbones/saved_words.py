"""Encoded prompts in a file, in place of a text encoder: some are several times as large as the network that draws."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Integer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ovseg.files import write_whole
from ovseg.limits import quoted


@dataclass(frozen=True)
class Encoded:
    """Prompts as the denoiser reads them, a row each; the fields are those of `Text`."""

    embeddings: Float[Tensor, "b t d"]
    conditions: Mapping[str, Tensor]
    token_of: Integer[Tensor, "b t"] | None = None

    def named(self) -> dict[str, Tensor]:
        """All of it under names: conditions have a dot before theirs."""
        token_of = {} if self.token_of is None else {"token_of": self.token_of}
        return {"embeddings": self.embeddings, **token_of, **{f".{name}": rows for name, rows in self.conditions.items()}}

    @classmethod
    def of_names(cls, tensors: Mapping[str, Tensor]) -> "Encoded":
        """What `named` names."""
        conditions = {name[1:]: rows for name, rows in tensors.items() if name.startswith(".")}
        return cls(tensors["embeddings"], conditions, tensors.get("token_of"))


@dataclass(frozen=True)
class SavedWords:
    """Prompts that were encoded once, by the backbone whose weights have the name `of`."""

    of: str
    prompts: tuple[str, ...]
    encoded: Encoded

    def rows(self, prompts: Sequence[str]) -> Encoded:
        """Some of the prompts.

        Raises:
            ValueError: one was not saved.
        """
        if missing := [prompt for prompt in prompts if prompt not in self.prompts]:
            raise ValueError(
                f"Without its text encoder a backbone reads the {len(self.prompts)} prompts alone that were saved, but got"
                f" {quoted(missing[0])}; `python -m ovseg words save` saves those of other classes and methods."
            )
        chosen = [self.prompts.index(prompt) for prompt in prompts]
        return Encoded.of_names({name: rows[chosen] for name, rows in self.encoded.named().items()})

    def save(self, path: Path) -> None:
        """Write them to a file of safetensors."""
        about = {"of": self.of, "prompts": json.dumps(self.prompts, ensure_ascii=False)}
        write_whole(path, save({name: rows.contiguous().cpu() for name, rows in self.encoded.named().items()}, about))

    @classmethod
    def read(cls, path: Path, device: torch.device | str, dtype: torch.dtype) -> "SavedWords":
        """Read them from a file; numbers come in this precision.

        Raises:
            ValueError: the file is no such one.
        """
        try:
            with safe_open(path, "pt", device=str(device)) as file:
                about, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            exact = {name: rows.to(dtype) if rows.is_floating_point() else rows for name, rows in tensors.items()}
            return cls(about["of"], tuple(json.loads(about["prompts"])), Encoded.of_names(exact))
        except (SafetensorError, KeyError, OSError) as error:
            raise ValueError(f"{path} must be a file of `python -m ovseg words save`, but is not: {error}.") from error
