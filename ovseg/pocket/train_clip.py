"""The pocket CLIP: an image tower trained to agree with the pipeline's own text encoder.

The text encoder is that of the diffusion model and stays as it is, so both speak of the same words; the image tower and
the two projections are trained (the reverse of Zhai et al. 2022, "LiT", which locks the image tower).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from ovseg.pocket.captions import describe, describe_ground
from ovseg.pocket.data import ScenePictures, rendered
from ovseg.pocket.open_clip_export import export_open_clip
from ovseg.pocket.tokenizer import tokenize
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Training, batch_size, some_patches, trainable
from ovseg.pocket.world import LABELS, THINGS, WorldScene, scene
from ovseg.words.classes import indefinite

BATCH = 128
KINDS = (0.4, 0.4, 0.2)  # shares of captions: the scene's own, one of its things alone, its stuff alone


def build_tower(size: int = 128) -> CLIPVisionConfig:
    """The image tower: a ViT of 16 px patches, with OpenAI's `quick_gelu`."""
    return CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=5, num_attention_heads=3, image_size=size, patch_size=16
    )


def build_clip(text_encoder: CLIPTextModel, size: int = 128) -> CLIPModel:
    """`build_tower` beside this text encoder."""
    width = text_encoder.config.hidden_size
    model = CLIPModel(CLIPConfig(text_config=text_encoder.config, vision_config=build_tower(size), projection_dim=width))
    model.text_model.load_state_dict(text_encoder.state_dict())
    model.text_model.requires_grad_(False)
    return model


def clip_loss(model: CLIPModel, pictures: Tensor, ids: Tensor, fits: Tensor) -> Tensor:
    """InfoNCE in both directions (Radford et al. 2021, section 2.3) with every caption that fits as a positive.

    Args:
        pictures: (b, 3, h, w).
        ids: token ids (b, tokens).
        fits: bool (b, b); whether the caption of column j is true of the picture of row i. A cat fits many pictures of
            a small world: without this, most of what the loss pushes apart belongs together.
    """
    image = F.normalize(model.visual_projection(model.vision_model(pixel_values=pictures).pooler_output).float(), dim=-1)
    text = F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output).float(), dim=-1)
    logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
    by_row, by_column = fits.float() / fits.sum(1, keepdim=True), fits.float() / fits.sum(0, keepdim=True)
    rows, columns = -(by_row * logits.log_softmax(1)).sum(1), -(by_column * logits.log_softmax(0)).sum(0)
    return (rows.mean() + columns.mean()) / 2


def name_prompts() -> list[str]:
    """ "a photo of" every label of the world, in their order: "a cat", but "grass"."""
    return [f"a photo of {indefinite(name) if name in THINGS else name}" for name in LABELS]


class CaptionedBatches:
    """Random batches of pictures with one caption each, and which caption fits which picture; a function of the step."""

    def __init__(self, pictures: ScenePictures, tokenizer: CLIPTokenizer) -> None:
        self.pictures, self.tokenizer = pictures, tokenizer
        self.held = _bits([{*t, *s} for t, s in zip(pictures.things, pictures.stuff, strict=True)])

    def draw(self, step: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (b, 3, h, w), token ids (b, tokens), and `fits` as `clip_loss` wants it."""
        rng = np.random.default_rng([2, step])
        rows = rng.integers(0, len(self.pictures.images), batch_size(BATCH, device))
        captions, named = zip(*(self._caption(rng, row) for row in rows), strict=True)
        said = _bits(named)
        fits = (self.held[rows][:, None] & said[None, :]) == said[None, :]
        return (
            to_tensor(self.pictures.images[rows], device),
            tokenize(self.tokenizer, captions).to(device),
            torch.from_numpy(fits).to(device),
        )

    def _caption(self, rng: np.random.Generator, row: int) -> tuple[str, set[str]]:
        """A caption, and the labels that it surely names."""
        things, stuff = self.pictures.things[row], self.pictures.stuff[row]
        kind = rng.choice(3, p=KINDS)
        if kind == 0:
            return self.pictures.captions[row], set(things)
        one = things[int(rng.integers(len(things)))]
        ground = stuff[int(rng.integers(len(stuff)))]
        return (describe(rng, (one,), ()), {one}) if kind == 1 else (describe_ground(rng, (ground,)), {ground})


def _bits(sets: list[set[str]] | tuple[set[str], ...]) -> np.ndarray:
    return np.array([sum(1 << LABELS.index(name) for name in names) for names in sets], np.int64)


def mean_average_precision(model: CLIPModel, tokenizer: CLIPTokenizer, device: str, count: int = 256) -> float:
    """Zero-shot: val scenes ranked by their cosine with `name_prompts`; average precision, mean over all labels."""
    scenes = [scene("val", index) for index in range(count)]
    with torch.no_grad():
        pictures = to_tensor(np.stack([s.image for s in scenes]), device)
        image = model.get_image_features(pixel_values=pictures).pooler_output
        text = model.get_text_features(input_ids=tokenize(tokenizer, name_prompts()).to(device)).pooler_output
    scores = (F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T).cpu().numpy()
    return average_precision(scores, labels_held(scenes))


def labels_held(scenes: list[WorldScene]) -> np.ndarray:
    """Which of `LABELS` each scene holds, bool (n, labels)."""
    return np.array([[name in s.things or name in s.stuff for name in LABELS] for s in scenes])


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Average precision of each column of scores (n, k) against bool truth (n, k), mean over the columns that occur."""
    precisions = []
    for column in range(truth.shape[1]):
        ranked = truth[np.argsort(-scores[:, column], kind="stable"), column]
        if ranked.any():
            precisions.append((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())
    return float(np.mean(precisions))


def train_clip(
    root: Path, minutes: float, device: str = "cpu", scenes: int = 24000, size: int = 128, piece: float | None = None,
    start: Path | None = None,
) -> None:  # fmt: skip
    """Train (or go on training) CLIP on the text encoder of `root/denoiser/pipeline`, or of `start` if given.

    Leaves `root/clip/clip`, as transformers loads it, and `root/clip/open_clip`, as open_clip does.

    Raises:
        ValueError: there is no text encoder to train on.
    """
    torch.manual_seed(0)
    out, source = root / "clip", start or root / "denoiser" / "pipeline"
    if not (source / "text_encoder").is_dir():
        raise ValueError(f"CLIP needs the text encoder in {source}, which is not there: run `train denoiser` first.")
    pictures = rendered(root / "scenes", "train", scenes, size)
    tokenizer = CLIPTokenizer.from_pretrained(source / "tokenizer")
    model = build_clip(CLIPTextModel.from_pretrained(source / "text_encoder", dtype=torch.float32), size)
    training = Training(trainable(model, device), out, minutes, learning_rate=1e-3, ema=0.998, piece=piece)
    batches, embeddings = CaptionedBatches(pictures, tokenizer), model.vision_model.embeddings
    for step in training:
        picture, ids, fits = batches.draw(step, device)
        with torch.autocast(torch.device(device).type, torch.bfloat16), some_patches(embeddings, training):
            loss = clip_loss(training.module, picture, ids, fits)
        training.update(loss, len(picture))
        if step % 300 == 299:
            print(f"mAP on val: {mean_average_precision(training.averaged.module, tokenizer, device, 128):.3f}", flush=True)
    if not training.finished:
        return
    best = training.averaged.module.eval()
    best.save_pretrained(out / "clip")
    tokenizer.save_pretrained(out / "clip")
    processor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor.save_pretrained(out / "clip")
    export_open_clip(best, tokenizer, out / "open_clip")
    print(f"mAP on 256 val scenes: {mean_average_precision(best, tokenizer, device):.3f}")
