"""A pipeline of full size without its numbers (torch's meta device): what it would take, where it cannot be run."""

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer

from ovseg.backbones.base import Capture, Sampling
from ovseg.backbones.families import family_of
from ovseg.backbones.text import Text
from ovseg.doctor.pipelines import NAMES, Published, network_of
from ovseg.maths.flops import flop_counter

if TYPE_CHECKING:
    from ovseg.backbones.diffusers_backbone import DiffusersBackbone  # which takes seconds to import

UNREAD = {"safety_checker", "feature_extractor", "image_encoder", "text_encoder_3", "tokenizer_3"}
"""Parts of a pipeline that are made without."""


def on_meta(published: Published, dtype: torch.dtype) -> "DiffusersBackbone":
    """The pipeline as a backbone on torch's meta device: every tensor has a shape and no numbers."""
    parts: dict[str, Any] = {name: said for name, said in published.index.items() if not isinstance(said, tuple)}
    for part, config in published.parts.items():
        if part == "scheduler":
            settings = {name: value for name, value in config.items() if name not in NAMES}
            parts[part] = getattr(import_module(config["_library"]), config["_class_name"]).from_config(settings)
        else:
            with torch.device("meta"):
                parts[part] = network_of(config, dtype)
    with tempfile.TemporaryDirectory() as folder:
        for part, (_, write) in published.tokenizers.items():
            write(Path(folder) / part)
            parts[part] = AutoTokenizer.from_pretrained(Path(folder) / part)
    family = family_of(published.kind)
    unread = dict.fromkeys(UNREAD & family.kind.__init__.__annotations__.keys())
    backbone = family(family.kind(**unread | parts), "meta", "meta")
    backbone.fingerprint = "without numbers"
    return backbone


def gigabytes_of(published: Published, dtype: torch.dtype) -> float:
    """What the weights of all networks take."""
    with torch.device("meta"):
        networks = [network_of(config, dtype) for part, config in published.parts.items() if part != "scheduler"]
    return sum(weight.numel() for network in networks for weight in network.parameters()) * dtype.itemsize / 1e9


def _text(backbone: "DiffusersBackbone") -> Text:
    """An encoded prompt; that of an encoder whose code looks at numbers has the shape that the denoiser takes."""
    try:
        return backbone.encode_text(["a photo of a cat"], ["cat"])
    except RuntimeError:
        columns = len(backbone.tokens("a photo of a cat"))
        states = torch.empty(1, columns, backbone.network.config["joint_attention_dim"], device="meta")
        order = torch.arange(columns, device="meta")[None]
        return Text(("",), states.to(backbone.dtype), ((),), token_of=order)


def counted(backbone: "DiffusersBackbone") -> Iterator[str]:
    """Lines on the size of each network, and on the largest pass: one row, on a picture of training, to the last block."""
    for part, weights in backbone.weights.items():
        yield f"{part}: {weights / 1e6:,.1f} M weights, {weights * backbone.dtype.itemsize / 1e9:.2f} GB"
    channels, *grid = backbone.latent_shape(backbone.square_hw())
    text = _text(backbone)
    latent = torch.empty(1, channels, *grid, device="meta", dtype=backbone.dtype)
    capture, timestep = Capture(features=backbone.feature_strides), backbone.timesteps(Sampling(2, 1.0))[-1]
    with flop_counter() as count:
        trace = backbone.trace_noised(latent, text, timestep, capture)
    shapes = ", ".join(f"{tuple(maps.shape[1:])} at stride {stride}" for stride, maps in trace.features.items())
    places = {site: backbone.keys(site, tuple(grid)) for site in backbone.sites}
    taken = backbone.row_bytes(tuple(grid), capture) / 1e9
    yield f"a row of a pass: {count.get_total_flops() / 1e12:.2f} TFLOP, at most about {taken:.1f} GB of activations"
    yield f"its blocks' outputs: {shapes}"
    yield f"{len(backbone.sites)} sites, of which the largest attends to {max(places.values()):,} places and words"
