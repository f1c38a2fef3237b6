"""Reading a saved pipeline from a local folder or the hub."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ovseg.backbones.weights import loading, weight_files


def read_pipeline(
    kind: type[DiffusionPipeline], source: str, dtype: torch.dtype, variant: str | None, parts: dict[str, Any]
) -> DiffusionPipeline:
    """A pipeline from a local folder or the hub, safetensors only; its codec is in half precision where that is safe.

    Args:
        variant: which of a repository's files are read where the precision is float16.
        parts: what is not read from the source, such as a safety checker.

    Raises:
        ValueError: the folder or repository cannot be read as such a pipeline.
    """
    with loading(f"The backbone at {source}, a {kind.__name__},"):
        pipeline = kind.from_pretrained(
            source,
            dtype={"vae": torch.promote_types(dtype, torch.float32), "default": dtype},
            variant=_variant(source, variant, dtype),
            use_safetensors=True,
            **parts,
        )
    if not pipeline.vae.config.force_upcast:  # else half precision is too coarse for it; diffusers' own default is true
        pipeline.vae.to(dtype)
    return pipeline


def _variant(source: str, variant: str | None, dtype: torch.dtype) -> str | None:
    """Which files are read: the given variant in float16, and in a folder that has no others "fp16" in any precision."""
    for denoiser in (Path(source) / "unet", Path(source) / "transformer"):
        if denoiser.is_dir():
            return "fp16" if all(".fp16" in path.name for path in weight_files(denoiser)) else None
    return variant if dtype == torch.float16 else None
