"""CLIP (Radford et al. 2021, arXiv 2103.00020) through open_clip: how well a text fits a picture."""

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import open_clip
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from ovseg.backbones.outputs import outputs_of
from ovseg.backbones.weights import check_finite, check_tokenizer, loading, name_of_weights
from ovseg.files import read_json
from ovseg.limits import quoted
from ovseg.maths.maps import enlarged
from ovseg.pretrained.prompt_tree import encode_tree, shares_prefixes
from ovseg.pretrained.templates import TEMPLATES

LOCAL = "local-dir:"
Picture = UInt8[np.ndarray, "_h _w 3"]
"""RGB; pictures of one call may have different shapes."""
KEPT_SUBSETS = 16  # sets of prompts whose embeddings are kept
TEXT_ROWS = 256  # prompts that the text network is given at once
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Colour statistics with which OVDiff's released code gives pictures to CLIP."""


class Clip:
    """A frozen CLIP.

    Args:
        source: "local-dir:FOLDER" with an open_clip checkpoint, or "NAME/TAG" of open_clip's table of pretrained models.

    Raises:
        ValueError: there is no such model, or its weights can be neither found nor fetched.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.source, self.device, self.dtype = source, torch.device(device), dtype
        name, tag = _name_and_tag(source)
        if source.startswith(LOCAL):
            folder = Path(source.removeprefix(LOCAL))
            if "hf_tokenizer_name" in read_json(folder / "open_clip_config.json").get("model_cfg", {}).get("text_cfg", {}):
                check_tokenizer(folder)
        with loading(f"The CLIP {source}"):
            model, self._preprocess = open_clip.create_model_from_pretrained(name, tag)
            self._tokenizer = open_clip.get_tokenizer(name)
        self._model = model.to(self.device, dtype).eval().requires_grad_(False)
        self._subsets: dict[tuple[str, ...], Tensor] = {}
        self._towers: dict[int, nn.Module] = {}

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights, the same in every precision."""
        if self.source.startswith(LOCAL):
            return name_of_weights(self.source.removeprefix(LOCAL))
        place = open_clip.get_pretrained_cfg(*_name_and_tag(self.source)).get("hf_hub", "")
        # The repository may have a file's name behind it; a tag without a repository is one fixed file elsewhere.
        return name_of_weights("/".join(place.split("/")[:2])) if place else self.source

    @property
    def scale(self) -> float:
        """What cosines are multiplied by to become logits."""
        return float(self._model.logit_scale.exp())

    @torch.inference_mode()
    def image_embeddings(
        self, images: Sequence[Picture], squashed: int = 0, *, floored: bool = False
    ) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures; each is resized and cropped as the checkpoint's authors did.

        Args:
            squashed: pixels of the side of a square to which each is brought first, so that nothing is cropped off, and
                from there plainly to the network's; 0 for no such square.
            floored: a middle square that would begin at half a pixel begins at the whole one before it, as in
                transformers; else at the even one.
        """
        pictures = [Image.fromarray(image) for image in images]
        if squashed:
            squares = [picture.resize((squashed, squashed), Image.Resampling.LANCZOS) for picture in pictures]
            tower = self._model.visual
            batch = torch.stack([self._squashed(np.asarray(one), tower.image_size, False, True) for one in squares])
        else:
            batch = torch.stack([self._preprocess(self._middle_of(p) if floored else p) for p in pictures])
        vectors = self._model.encode_image(batch.to(self.device, self.dtype)).float()
        check_finite("CLIP's vectors of pictures", self.dtype, vectors)
        return torch.nn.functional.normalize(vectors, dim=-1)

    def _middle_of(self, picture: Image.Image) -> Image.Image:
        side = self._model.visual.image_size[0]
        width, height = (side * length // min(picture.size) for length in picture.size)
        left, top = (width - side) // 2, (height - side) // 2
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        return resized.crop((left, top, left + side, top + side))

    @torch.inference_mode()
    def text_embeddings(self, prompts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of prompts.

        Raises:
            ValueError: a prompt does not fit the text tower.
        """
        tokens = self._tokens(prompts).to(self.device)
        vectors = torch.cat([self._model.encode_text(part).float() for part in tokens.split(TEXT_ROWS)])
        check_finite("CLIP's vectors of words", self.dtype, vectors)
        return torch.nn.functional.normalize(vectors, dim=-1)

    def subset_embeddings(self, prompts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of many prompts that begin alike, such as "a cat and a dog" and "a cat and a dog and a tree".

        Equal to `text_embeddings` up to rounding; what they share is computed once, and the last sets of prompts are kept.
        """
        key = tuple(prompts)
        if key not in self._subsets:
            if len(self._subsets) >= KEPT_SUBSETS:
                self._subsets.pop(next(iter(self._subsets)), None)
            self._subsets[key] = self._embed_subsets(key)
        return self._subsets[key]

    @torch.inference_mode()
    def _embed_subsets(self, prompts: tuple[str, ...]) -> Tensor:
        tower = getattr(self._model, "text", self._model)
        if not shares_prefixes(tower):
            return self.text_embeddings(prompts)
        tokens = self._tokens(prompts)
        rows = [row[: stop + 1] for row, stop in zip(tokens.tolist(), _ends(tower, tokens), strict=True)]
        states, projection = encode_tree(tower, rows), tower.text_projection
        answers = projection(states) if isinstance(projection, nn.Module) else states @ projection
        return torch.nn.functional.normalize(answers.float(), dim=-1)

    def _tokens(self, prompts: Sequence[str]) -> Int[Tensor, "n t"]:
        """Each prompt's tokens; with one place more than there is room for, since a tokenizer cuts off without a word."""
        room = self._model.context_length
        nothing, *rows = self._tokenizer(["", *prompts], context_length=room + 1)
        filler = {int(nothing[1]), int(nothing[-1])}  # the end and what follows it
        for prompt, row in zip(prompts, rows, strict=True):
            if not set(row[room - 1 :].tolist()) <= filler:
                raise ValueError(f"CLIP's prompts must fit {room} tokens, but this one does not: {quoted(prompt)}.")
        return torch.stack(rows)[:, :room]

    @torch.inference_mode()
    def word_states(self, words: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of words alone: the mean of the text network's last states at the word's own tokens, on the CPU.

        DiffSegmenter's released filter compares words so, in the states of CLIP ViT-L/14.

        Raises:
            ValueError: the text network is no transformer of open_clip's own.
        """
        tower = getattr(self._model, "text", self._model)
        if not hasattr(tower, "ln_final"):
            raise ValueError(f"Words need a text transformer of open_clip's own, but {self.source} has another.")
        tokens = self._tokens(words).to(self.device)
        with outputs_of(tower.ln_final) as states:
            self._model.encode_text(tokens)
        rows = [state[1:stop].mean(0) for state, stop in zip(states[0], _ends(tower, tokens), strict=True)]
        return torch.nn.functional.normalize(torch.stack(rows).float().cpu(), dim=-1)

    def class_embeddings(self, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Float[Tensor, "n d"]:
        """Unit vectors of names: the mean over templates, each with a {} for the name (Radford et al., section 3.1.4)."""
        prompts = [template.replace("{}", name) for name in names for template in templates]
        rows = self.text_embeddings(prompts).reshape(len(names), len(templates), -1)
        return torch.nn.functional.normalize(rows.mean(1), dim=-1)

    def probabilities(self, images: Sequence[Picture], prompts: Sequence[str]) -> Float[Tensor, "images prompts"]:
        """For every picture a softmax over prompts (Radford et al., section 3.1.2)."""
        return (self.scale * self.similarity(images, prompts)).softmax(1)

    @torch.inference_mode()
    def dense(
        self,
        images: Sequence[Picture],
        kind: Literal["keys", "values"],
        layer: int = -1,
        *,
        side: int = 0,
        imagenet: bool = False,
        bilinear: bool = False,
    ) -> Float[Tensor, "n d y x"]:
        """Features of every patch, from a layer's attention; the class token is left out.

        "keys" are the keys: OVDiff takes those of layer -2. "values" are the values sent through the rest of the tower, so
        that they can be compared with words (Zhou et al. 2022, "MaskCLIP", section 3.2); they are the last layer's.

        Args:
            images: each is squashed to the tower's square, not cropped to it, so that the features cover all of it.
            layer: whose keys; counted from the end if negative.
            side: pixels of the square's side, rounded down to whole patches; the tower's own if 0. The embeddings of
                places are resized to it, as `enlarged` does, so that there are more patches.
            imagenet: colours have ImageNet's mean and deviation, not CLIP's own.
            bilinear: squash by bilinear resizing without antialiasing.

        Raises:
            ValueError: the picture tower is no vision transformer, or the side is less than a patch.
        """
        tower = self._tower(side)
        block = tower.transformer.resblocks[layer]
        with outputs_of(block.ln_1) as states:
            tower(torch.stack([self._squashed(image, tower.image_size, imagenet, bilinear) for image in images]))
        width, rows = block.attn.embed_dim, {"keys": 1, "values": 2}[kind]
        part = slice(rows * width, (rows + 1) * width)
        features = nn.functional.linear(states[0], block.attn.in_proj_weight[part], block.attn.in_proj_bias[part])
        if kind == "values":
            features = tower.ln_post(block.attn.out_proj(features)) @ tower.proj
        grid = features[:, 1:].float().unflatten(1, tuple(tower.grid_size))
        return grid.permute(0, 3, 1, 2)

    def _tower(self, side: int) -> nn.Module:
        """The picture network for squares of this side: itself, or a shallow copy with embeddings of more or less places."""
        tower = self._model.visual
        if not hasattr(tower, "transformer"):
            raise ValueError(f"Dense features need a vision transformer, but {self.source} is none.")
        patch_h, patch_w = tower.patch_size
        if not side or (side, side) == tuple(tower.image_size):
            return tower
        if side < max(patch_h, patch_w):
            raise ValueError(f"The side must be one patch of {max(patch_h, patch_w)} pixels or more, but got {side}.")
        if side not in self._towers:
            other, grid = copy.copy(tower), (side // patch_h, side // patch_w)
            own, places = tower.positional_embedding[:1], tower.positional_embedding[1:]
            square = places.T.unflatten(1, tuple(tower.grid_size))[None].float()
            square = enlarged(square, grid)[0].flatten(1).T
            other._parameters = dict(tower._parameters)
            other.positional_embedding = nn.Parameter(torch.cat([own, square.to(own)]), requires_grad=False)
            other.grid_size, other.image_size = grid, (grid[0] * patch_h, grid[1] * patch_w)
            self._towers[side] = other
        return self._towers[side]

    def _squashed(self, image: np.ndarray, side_hw: tuple[int, int], imagenet: bool, bilinear: bool) -> Tensor:
        if not bilinear:
            image = np.asarray(Image.fromarray(image).resize(side_hw[::-1], Image.Resampling.BICUBIC))
        pixels = torch.tensor(image, dtype=torch.float32).permute(2, 0, 1) / 255
        if bilinear:
            pixels = nn.functional.interpolate(pixels[None], tuple(side_hw), mode="bilinear", align_corners=False)[0]
        colours = IMAGENET if imagenet else self._model.visual.preprocess_cfg
        mean, std = (torch.tensor(colours[name])[:, None, None] for name in ("mean", "std"))
        return ((pixels - mean) / std).to(self.device, self.dtype)

    def similarity(self, images: Sequence[Picture], prompts: Sequence[str]) -> Float[Tensor, "images prompts"]:
        """Cosines of every picture with every prompt."""
        return self.image_embeddings(images) @ self.text_embeddings(prompts).T


def _ends(tower: nn.Module, tokens: Tensor) -> list[int]:
    """The place of the end token in each row of token ids."""
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", "argmax"))
    end = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
    return ((tokens == end).int() if pool == "eos" else tokens).argmax(1).tolist()


def _name_and_tag(source: str) -> tuple[str, str | None]:
    if source.startswith(LOCAL):
        if not (Path(source.removeprefix(LOCAL)) / "open_clip_config.json").is_file():
            raise ValueError(f"The CLIP {source} must be a folder with open_clip_config.json, but there is none.")
        return source, None
    name, _, tag = source.partition("/")
    if (name, tag) not in open_clip.list_pretrained():
        raise ValueError(f"The CLIP must be {LOCAL}FOLDER or NAME/TAG of open_clip's table, but got {quoted(source)}.")
    return name, tag
