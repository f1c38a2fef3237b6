"""Diffusion networks behind four verbs. `checkpoints.py` is their table, `families.py` says which pipelines can be read."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ovseg.backbones.base import Ablation, Backbone, Capture, Site, Text, Trace
from ovseg.backbones.checkpoints import BACKBONES, Checkpoint
from ovseg.backbones.counting import counting
from ovseg.backbones.families import family_of, load_pipeline, pipeline_class_of
from ovseg.backbones.saved_words import SavedWords
from ovseg.backbones.weights import gigabytes_in, say_download
from ovseg.limits import quoted

__all__ = [
    "BACKBONES", "Ablation", "Backbone", "Capture", "Checkpoint", "Site", "Text", "Trace", "counting", "find_checkpoint",
    "load_backbone", "pipeline_class_of",
]  # fmt: skip


def find_checkpoint(name: str) -> Checkpoint:
    """A row of the table, or a local folder of a checkpoint of a known family given by its path.

    Args:
        name: of the row, or the path; with a plus sign and the path of a file behind it, that with the file's LoRA.

    Raises:
        ValueError: neither, or the folder's configurations cannot be read.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if Path(name).is_dir():
        return _row_of(Path(name))
    base, _, lora = name.rpartition("+")
    if base in BACKBONES or (base and Path(base).is_dir()):
        if not Path(lora).is_file():
            raise ValueError(f"The LoRA behind the backbone {base} must be a file, but got {quoted(lora)}.")
        row = find_checkpoint(base)
        return replace(row, title=f"{row.title} with {Path(lora).stem}", lora=lora, prototypes="")
    raise ValueError(
        f"The backbone must be one of {', '.join(BACKBONES)} or a local diffusers folder, but got {quoted(name)}."
    )


def _row_of(folder: Path) -> Checkpoint:
    """The row of a local folder, with what its family tells from its configurations."""
    title, about = f"Local checkpoint {folder.name}", "What this checkpoint was trained on."
    row = Checkpoint(str(folder), title, about, gigabytes=gigabytes_in(folder))
    return replace(row, **family_of(pipeline_class_of(folder)).traits(folder))


def load_backbone(
    name: str, device: torch.device | str, dtype: torch.dtype, *, offload: bool = False, words: str = ""
) -> Backbone:
    """Load a backbone's weights onto a device.

    Args:
        offload: its parts stay in the computer's memory, and come onto the device for their own passes alone.
        words: a file of encoded prompts, in whose place no text encoder is read.

    Raises:
        ValueError: the name is unknown, its weights cannot be loaded, or it has no parts, no LoRA and no saved words.
    """
    checkpoint = find_checkpoint(name)
    is_pipeline = getattr(checkpoint.load, "func", checkpoint.load) is load_pipeline
    if (checkpoint.lora or offload or words) and not is_pipeline:
        raise ValueError(f"A LoRA, offloading and saved words need a pipeline of diffusers, but {name} is none.")
    say_download(checkpoint.source, checkpoint.download(dtype))
    load = partial(checkpoint.load, encodes=False) if words else checkpoint.load
    backbone = load(checkpoint.source, name, "cpu" if offload else device, dtype)
    if checkpoint.lora:
        backbone.add_lora(Path(checkpoint.lora))
    if offload:
        backbone.offload(device)
    if words:
        backbone.words = SavedWords.read(Path(words), device, dtype)
        if backbone.words.of != backbone.fingerprint:
            raise ValueError(
                f"The words in {words} must be of {name}, but are of another backbone; --words NAME=FILE says which one"
                " reads them."
            )
    return backbone
