"""The grounding module of Grounded Diffusion: which pixels of a picture a word means, from the network's features.

Ziyi Li, Qinye Zhou, Xiaoyun Zhang, Ya Zhang, Yanfeng Wang, Weidi Xie: Open-vocabulary Object Segmentation with Diffusion
Models; ICCV 2023, arXiv 2301.05221. Layers as in its released code; all widths follow from the features that a backbone
gives, so the module of Stable Diffusion 1.x has 18.8 million parameters and a small backbone's is small.

Differs from the released code, with the same result unless said:
- The 1x1 convolutions come before the resizing, and the product with a word's vector before the last enlargement.
- Pictures of a batch are independent; the code mixes the rows of guidance of several, and is right for one picture alone.
- With `independent` words do not attend to each other, which gives other masks: those of a word do not depend on which
  other words are asked for. The default is the code's way.
- The normalisation uses the statistics of training, or with `own` those of the picture itself, as the code does, which
  never leaves training mode. The vectors of its spectral norm then go on moving a little; here they stand.
- Where a network has no features on the latent grid, as a transformer with patches, the finest are enlarged to twice their
  own grid, and one more block of convolutions follows.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from ovseg.backbones.base import Backbone, Capture, Text
from ovseg.backbones.weights import check_complete, name_of_weights
from ovseg.files import as_json, read_json, whole_folder, write_whole
from ovseg.maths.maps import resize

EPSILON, MOMENTUM = 1e-4, 0.1  # of the batch statistics; the spectral norm has the same epsilon
COPY_BYTES = 128 * 2**20  # of features that are converted to the module's precision at a time
PATCH = 4  # sides of the squares of fused features that become one token


@dataclass(frozen=True)
class GroundingSize:
    """Widths of the module.

    Raises:
        ValueError: `fused` and `channels` have different strides.
    """

    # For each stride of the latent grid the channels of its features, both rows of guidance together
    channels: Mapping[int, int]
    text: int  # width of the text encoder's states
    fused: Mapping[int, int]  # for each stride the channels that its features are reduced to
    model: int = 512  # width of the decoder
    heads: int = 8
    feed_forward: int = 2048
    layers: int = 3

    def __post_init__(self) -> None:
        if set(self.channels) != set(self.fused):
            raise ValueError(f"fused must have the strides of channels, {set(self.channels)}, but got {set(self.fused)}.")


SD1_FUSED = {8: 16, 4: 32, 2: 64, 1: 128}  # the released widths


class SegmentationBlock(nn.Module):
    """Two rounds of batch statistics, ReLU and a spectrally normalised 3x3 convolution, around a shortcut.

    The shortcut starts behind the first ReLU, as in the released code, which overwrites its input there.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, EPSILON, MOMENTUM, affine=False) for _ in range(2))
        self.convolutions = nn.ModuleList(
            spectral_norm(nn.Conv2d(channels, channels, 3, padding=1), eps=EPSILON) for _ in range(2)
        )

    def forward(self, features: Float[Tensor, "b c y x"], own: bool = False) -> Float[Tensor, "b c y x"]:
        """Other features of the same shape; with `own` normalised by their own statistics, also outside of training."""
        start = F.relu(self._normed(0, features, own))
        return start + self.convolutions[1](F.relu(self._normed(1, self.convolutions[0](start), own)))

    def _normed(self, number: int, features: Float[Tensor, "b c y x"], own: bool) -> Float[Tensor, "b c y x"]:
        return F.batch_norm(features, None, None, training=True, eps=EPSILON) if own else self.norms[number](features)


class DecoderLayer(nn.Module):
    """Words attend to each other, then to the picture; normalised before each step, attention without biases."""

    def __init__(self, size: GroundingSize) -> None:
        super().__init__()
        attention = {"embed_dim": size.model, "num_heads": size.heads, "bias": False, "batch_first": True}
        self.among_words, self.at_picture = nn.MultiheadAttention(**attention), nn.MultiheadAttention(**attention)
        self.norms = nn.ModuleList(nn.LayerNorm(size.model) for _ in range(3))
        self.feed_forward = nn.Sequential(
            nn.Linear(size.model, size.feed_forward), nn.ReLU(), nn.Linear(size.feed_forward, size.model)
        )

    def forward(
        self, words: Float[Tensor, "b n d"], picture: Float[Tensor, "b t d"], mask: Bool[Tensor, "n n"] | None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n t"]]:
        """The words' new states, and the attention that they pay to the picture's tokens.

        `mask` is true where a word must not attend to another.
        """
        normed = self.norms[0](words)
        words = words + self.among_words(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        answer, attention = self.at_picture(self.norms[1](words), picture, picture)
        words = words + answer
        return words + self.feed_forward(self.norms[2](words)), attention


class GroundingModule(nn.Module):
    """From the features of one pass and the states of words to one map of mask logits for each word."""

    def __init__(self, size: GroundingSize, independent: bool = False) -> None:
        super().__init__()
        self.size, self.independent = size, independent
        self.strides = tuple(sorted(size.channels, reverse=True))  # coarsest first
        self.reduce = nn.ModuleDict(
            {str(s): nn.Conv2d(size.channels[s], size.fused[s], 1, bias=False) for s in self.strides}
        )
        widths = [sum(size.fused[s] for s in self.strides[: k + 1]) for k in range(len(self.strides))]
        self.width = widths[-1]
        enlarged = widths[-1:] * (self.strides[-1] > 1)
        self.blocks = nn.ModuleList(SegmentationBlock(width) for width in (*widths[1:], *enlarged))
        self.tokens = nn.Linear(self.width * PATCH * PATCH, size.model, bias=False)
        self.query = nn.Linear(size.text, size.model, bias=False)
        self.layers = nn.ModuleList(DecoderLayer(size) for _ in range(size.layers))
        self.vector = nn.Sequential(
            nn.Linear(size.model, size.model), nn.ReLU(), nn.Linear(size.model, size.model), nn.ReLU(),
            nn.Linear(size.model, self.width),
        )  # fmt: skip

    def levels(
        self, features: Mapping[int, Float[Tensor, "b _c _y _x"]], own: bool = False
    ) -> list[Float[Tensor, "b _w _y _x"]]:
        """The fused features after each stride, coarsest first; `own` as in the blocks.

        The last are on the latent grid, or where no features are, on twice the finest grid.
        """
        fused, levels = None, []
        for number, stride in enumerate(self.strides):
            reduced = self._reduced(stride, features[stride])
            if stride > 1:  # such a level enters at twice its own grid
                next_finer = features.get(stride // 2)
                doubled = [2 * side for side in reduced.shape[-2:]]
                reduced = resize(reduced, doubled if next_finer is None else next_finer.shape[-2:])
            if fused is None:
                fused = reduced
            else:
                if fused.shape[-2:] != reduced.shape[-2:]:
                    fused = resize(fused, reduced.shape[-2:])
                fused = self.blocks[number - 1](torch.cat([fused, reduced], 1), own)
            levels.append(fused)
        if self.strides[-1] > 1:
            levels[-1] = self.blocks[-1](fused, own)
        return levels

    def _reduced(self, stride: int, features: Float[Tensor, "b _c y x"]) -> Float[Tensor, "b _w y x"]:
        """The 1x1 convolution of one stride, in the module's precision.

        Features of another precision stay as they are but for a part of the batch at a time, also while training: their
        copies are made again on the way back. For Stable Diffusion's features they would have 136 MB for each picture.
        """
        convolution = self.reduce[str(stride)]
        dtype = convolution.weight.dtype
        if features.dtype == dtype:
            return convolution(features)
        rows = max(1, COPY_BYTES // (features[0].numel() * dtype.itemsize))
        keeps_nothing = {"use_reentrant": False, "preserve_rng_state": False}
        return torch.cat(
            [checkpoint(lambda part: convolution(part.to(dtype)), part, **keeps_nothing) for part in features.split(rows)]
        )

    def read(
        self, fused: Float[Tensor, "b w y x"], words: Float[Tensor, "b n d"], apart: bool = False
    ) -> tuple[Float[Tensor, "b n y x"], Float[Tensor, "b n t"]]:
        """Logits on the latent grid, and the last layer's attention to the picture's tokens.

        With `apart` words do not attend to each other, even if the module was trained with words that do.
        """
        height, width = fused.shape[-2:]  # of which neither need be a multiple of a patch's side
        patches = F.unfold(F.pad(fused, (0, -width % PATCH, 0, -height % PATCH)), PATCH, stride=PATCH).transpose(1, 2)
        picture, state, attention = self.tokens(patches), self.query(words), None
        mask = ~torch.eye(words.shape[1], dtype=torch.bool, device=words.device) if self.independent or apart else None
        for layer in self.layers:
            state, attention = layer(state, picture, mask)
        return torch.einsum("bnw,bwyx->bnyx", self.vector(state), fused), attention

    def forward(
        self, features: Mapping[int, Float[Tensor, "b _c _y _x"]], words: Float[Tensor, "b n d"], hw: Sequence[int]
    ) -> Float[Tensor, "b n h w"]:
        """Mask logits at a picture's size.

        Args:
            features: by stride the outputs of the network's blocks, in channels; first those without the sentence, then
                those with it, as `step_features` gives them.
            words: the text encoder's state of each word.
        """
        return resize(self.read(self.levels(features)[-1], words)[0], hw)


QUERY = "a photograph of a {}"  # the released code's sentence, whose state at the word is the query


@dataclass(frozen=True)
class WordMaps:
    """What the module makes of words in a picture, on the latent grid."""

    logits: Float[Tensor, "n y x"]
    attention: Float[Tensor, "n _py _px"]  # what each word pays to squares of `PATCH` x `PATCH` places
    levels: tuple[Float[Tensor, "_w _y _x"], ...]  # the fused features of each stride, coarsest first


class Grounding:
    """A trained grounding module from its folder.

    `training` is what the folder says of the training: `split`, `seen`, `backbone` and more.

    Raises:
        ValueError: there is none, or it is damaged.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        try:
            config = read_json(folder / "config.json")
            weights = load_file(folder / "model.safetensors")
            self.training: dict[str, Any] = config["training"]
            self.module = GroundingModule(_size_from(config["size"]), config["independent"])
            lack = self.module.load_state_dict({name: weight.float() for name, weight in weights.items()}, strict=False)
        except (OSError, SafetensorError, LookupError, TypeError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).rstrip(".")
            raise ValueError(f"A grounding module must be in {folder}, but reading it failed: {reason}.") from error
        check_complete(str(folder), lack.missing_keys)
        self.folder = folder
        self.module.to(device).eval().requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights."""
        return name_of_weights(self.folder)

    @torch.inference_mode()
    def look(
        self,
        features: Mapping[int, Float[Tensor, "1 _c _y _x"]],
        words: Float[Tensor, "n d"],
        apart: bool,
        own: bool = False,
    ) -> WordMaps:
        """Mask logits of each word.

        Args:
            apart: words do not attend to each other; else each attends to the others, as in the released code.
            own: features are normalised by the picture's own statistics, as in the released code; else by those of training.

        Raises:
            ValueError: the features or the words are those of another backbone.
        """
        size, channels = self.module.size, {stride: maps.shape[1] for stride, maps in features.items()}
        if channels != dict(size.channels) or words.shape[1] != size.text:
            raise ValueError(
                f"The features must have the channels that the module was made for, {dict(size.channels)}, and the words"
                f" {size.text}, but the backbone gives {channels} and {words.shape[1]}."
            )
        device = next(self.module.parameters()).device
        levels = self.module.levels({stride: maps.to(device) for stride, maps in features.items()}, own)
        logits, attention = self.module.read(levels[-1], words[None].to(device, torch.float32), apart)
        grid = [-(-side // PATCH) for side in levels[-1].shape[-2:]]
        return WordMaps(logits[0], attention[0].unflatten(1, grid), tuple(level[0] for level in levels))


def save_grounding(module: GroundingModule, folder: Path, training: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write a module as `Grounding` reads it; `training` says how and on what it was trained."""
    weights = {
        name: weight.detach().cpu().to(dtype if weight.is_floating_point() else weight.dtype).contiguous()
        for name, weight in module.state_dict().items()
    }
    write_whole(folder / "model.safetensors", save(weights), lasting=True)
    config = {"size": asdict(module.size), "independent": module.independent, "training": dict(training)}
    write_whole(folder / "config.json", as_json(config), lasting=True)


def copy_grounding(source: Path, folder: Path) -> None:
    """Copy a saved module to `folder`, in place of what is there; a stop leaves what is there, or nothing."""
    with whole_folder(folder) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)


def _size_from(config: Mapping[str, Any]) -> GroundingSize:
    by_stride = {name: {int(s): width for s, width in config[name].items()} for name in ("channels", "fused")}
    return GroundingSize(**{**config, **by_stride})


def step_features(
    backbone: Backbone, latent: Float[Tensor, "1 _c _y _x"], sentence: str, timestep: int, seed: int
) -> dict[int, Float[Tensor, "1 _c _y _x"]]:
    """The features that the module reads, by stride: the outputs of all blocks in one pass on a noised latent.

    They are one after the other in channels: first all those without the sentence, then all those with it.
    """
    return features_of_pair(backbone, latent, sentence_pair(backbone, sentence), timestep, seed)


def sentence_pair(backbone: Backbone, sentence: str) -> Text:
    """The two rows of the pass: no sentence, and the sentence."""
    return backbone.encode_text(["", sentence], ["", ""])


def features_of_pair(
    backbone: Backbone, latent: Float[Tensor, "1 _c _y _x"], pair: Text, timestep: int, seed: int
) -> dict[int, Float[Tensor, "1 _c _y _x"]]:
    """As `step_features`, with the rows of `sentence_pair`."""
    trace = backbone.trace(latent, pair, timestep, Capture(features=backbone.feature_strides), seed)
    return {stride: maps.flatten(0, 1)[None] for stride, maps in trace.features.items()}
