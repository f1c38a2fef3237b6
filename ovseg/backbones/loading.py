"""Reading a saved pipeline from a local folder or the hub, part by part, so that each is known to be whole."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ovseg.backbones.weights import (
    WEIGHT_FILE,
    check_complete,
    check_file,
    check_padding,
    check_tokenizer,
    loading,
    split_revision,
)
from ovseg.files import read_json

Configs = dict[str, dict[str, Any]]
"""For each part of a pipeline what its configuration says; that of a scheduler with its `_class_name`."""


def pipeline_folder(
    kind: type[DiffusionPipeline], source: str, variant: str | None, unread: dict[str, Any]
) -> tuple[Path, Configs]:
    """The folder of a saved pipeline, fetched from the hub where it is a repository, and its configurations.

    Args:
        variant: which of a repository's files are read.
        unread: what is not read from the source, such as a safety checker.

    Raises:
        ValueError: the folder or repository cannot be read, or lacks a part.
    """
    folder = Path(source)
    if not folder.is_dir():
        repository, revision = split_revision(source)
        with loading(f"The backbone at {repository}, a {kind.__name__},", repository):
            told = {"variant": variant, "revision": revision, "use_safetensors": True, **unread}
            folder = Path(kind.download(repository, **told))
    return folder, configs_of(folder, unread)


def read_config(folder: Path) -> dict[str, Any]:
    """What a network in a folder is configured with.

    Raises:
        ValueError: its configuration is not there or cannot be read.
    """
    check_file(folder / "config.json")
    return read_json(folder / "config.json")


def side_of(latent_side: int, codec: Mapping[str, Any]) -> int:
    """The side of a picture in pixels, from that of its latent and what the codec is configured with."""
    return latent_side * 2 ** (len(codec["block_out_channels"]) - 1)


def configs_of(folder: Path, unread: Mapping[str, Any]) -> Configs:
    """What the parts of a saved pipeline are configured with, but for what is not read of it.

    Raises:
        ValueError: it lacks a part's configuration or a tokenizer.
    """
    index, configs = read_json(folder / "model_index.json"), {}
    for part, named in index.items():
        if part in unread or part == "feature_extractor" or not isinstance(named, list) or None in named:
            continue
        if part.startswith("tokenizer"):
            check_tokenizer(folder / part)
            check_padding(folder / part)
        else:
            file = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
            check_file(file)
            configs[part] = {"_library": named[0], "_class_name": named[1], **read_json(file)}
    return configs


def read_pipeline(
    kind: type[DiffusionPipeline],
    folder: Path,
    configs: Configs,
    dtype: torch.dtype,
    variant: str | None,
    unread: dict[str, Any],
    *,
    encodes: bool = True,
) -> DiffusionPipeline:
    """A pipeline from the folder that `pipeline_folder` gave, safetensors only; its codec is in half precision where safe.

    Args:
        encodes: whether its text encoders are read.

    Raises:
        ValueError: it cannot be read as such a pipeline, or a network lacks tensors.
    """
    networks = {}
    for part, config in configs.items():
        if part.startswith("text_encoder") and not encodes:
            networks[part] = None
        elif part != "scheduler":
            precision = torch.promote_types(dtype, torch.float32) if part == "vae" else dtype
            networks[part] = _network(folder / part, config, precision, variant)
    with loading(f"The backbone at {folder}, a {kind.__name__},"):
        pipeline = kind.from_pretrained(folder, **networks, **unread)
    for part in networks:
        if part.startswith("text_encoder") and networks[part] is not None:
            _check_vocabulary(folder, part, pipeline)
    # Where its config forces float32, half precision is too coarse for it.
    if not pipeline.vae.config.get("force_upcast"):
        pipeline.vae.to(dtype)
    return pipeline


def _network(folder: Path, config: dict[str, Any], dtype: torch.dtype, variant: str | None) -> torch.nn.Module:
    with loading(f"The part {folder.name} of the backbone at {folder.parent}"):
        kind = getattr(import_module(config["_library"]), config["_class_name"])
        halves = {".fp16" in path.name for path in folder.iterdir() if WEIGHT_FILE.fullmatch(path.name)}
        read = "fp16" if halves == {True} else variant if True in halves else None
        network, info = kind.from_pretrained(
            folder, dtype=dtype, variant=read, use_safetensors=True, output_loading_info=True
        )
    check_complete(str(folder), info["missing_keys"])
    return network


def _check_vocabulary(folder: Path, part: str, pipeline: DiffusionPipeline) -> None:
    tokenizer, encoder = part.replace("text_encoder", "tokenizer"), getattr(pipeline, part)
    highest, rows = max(getattr(pipeline, tokenizer).get_vocab().values()), encoder.config.vocab_size
    if highest >= rows:
        raise ValueError(
            f"The {tokenizer} in {folder} must number its tokens below {rows}, which its {part} has, but one is {highest}."
        )


T5 = ("text_encoder_3", "tokenizer_3")
"""The parts of Stable Diffusion 3 that may be left out, larger than all the rest."""


def parts_left_out(folder: Path) -> dict[str, None]:
    """T5 is read where the folder has it; else diffusers has to be told that it is not there."""
    return {} if (folder / T5[0]).is_dir() else dict.fromkeys(T5)
