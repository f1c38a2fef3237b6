"""The pocket CLIP: an image tower trained to agree with the pipeline's own text encoder.

The text encoder is that of the diffusion model and stays as it is, so both speak of the same words; the image tower and
the two projections are trained (the reverse of Zhai et al. 2022, "LiT", which locks the image tower).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

from ovseg.files import whole_folder
from ovseg.pocket.captions import describe, describe_ground
from ovseg.pocket.data import ScenePictures
from ovseg.pocket.open_clip_export import export_open_clip, load_open_clip
from ovseg.pocket.tokenizer import tokenize
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget, Training, autocast, batch_size, save_whole, some_patches, trainable
from ovseg.pocket.world import LABELS, THINGS, WorldScene, scene
from ovseg.words.classes import indefinite

BATCH = 128
SCENES = 3  # times as many as other networks see: after thirty looks at each it knew them, and new ones less well
KINDS = (0.4, 0.4, 0.2)  # shares of captions: the scene's own, of one of its things alone, of its stuff alone


def build_tower(size: int = 128) -> CLIPVisionConfig:
    """The image tower: a ViT of 16 px patches, with OpenAI's `quick_gelu`."""
    return CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=5, num_attention_heads=3, image_size=size, patch_size=16
    )


def build_clip(text_encoder: CLIPTextModel, size: int = 128) -> CLIPModel:
    """The image tower of `build_tower` beside this text encoder, which is not trained."""
    width = text_encoder.config.hidden_size
    model = CLIPModel(CLIPConfig(text_config=text_encoder.config, vision_config=build_tower(size), projection_dim=width))
    model.text_model.load_state_dict(text_encoder.state_dict())
    model.text_model.requires_grad_(False)
    return model


def clip_loss(
    model: CLIPModel, pictures: Float[Tensor, "b 3 h w"], ids: Int[Tensor, "b tokens"], fits: Bool[Tensor, "b b"]
) -> Float[Tensor, ""]:
    """InfoNCE in both directions (Radford et al. 2021, section 2.3) with every caption that fits as a positive.

    Args:
        ids: of the captions' tokens.
        fits: whether the caption of column j is true of the picture of row i. In a small world "a cat" is true of many
            pictures of a batch: counted as negatives, most pairs that the loss parts would belong together.
    """
    image = F.normalize(model.visual_projection(model.vision_model(pixel_values=pictures).pooler_output).float(), dim=-1)
    text = F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output).float(), dim=-1)
    logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
    by_row, by_column = fits.float() / fits.sum(1, keepdim=True), fits.float() / fits.sum(0, keepdim=True)
    rows, columns = -(by_row * logits.log_softmax(1)).sum(1), -(by_column * logits.log_softmax(0)).sum(0)
    return (rows.mean() + columns.mean()) / 2


def name_prompts() -> list[str]:
    """The prompt of each of `LABELS`: "a photo of a cat", but "a photo of grass"."""
    return [f"a photo of {indefinite(name) if name in THINGS else name}" for name in LABELS]


class CaptionedBatches:
    """Random batches of pictures with one caption each, and which caption fits which picture; a function of the step."""

    def __init__(self, pictures: ScenePictures, tokenizer: CLIPTokenizer) -> None:
        self.pictures, self.tokenizer = pictures, tokenizer
        self.shown = _bits([{*t, *s} for t, s in zip(pictures.things, pictures.stuff, strict=True)])

    def draw(self, step: int, device: str) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b tokens"], Bool[Tensor, "b b"]]:
        """Pictures, token ids of their captions, and `fits`, as `clip_loss` takes them."""
        rng = np.random.default_rng([2, step])
        rows = rng.integers(0, len(self.pictures.images), batch_size(BATCH, device))
        captions, named = zip(*(self._caption(rng, int(row)) for row in rows), strict=True)
        wanted = _bits(named)
        fits = (self.shown[rows][:, None] & wanted[None, :]) == wanted[None, :]
        return (
            to_tensor(self.pictures.mirrored(rows, rng), device),
            tokenize(self.tokenizer, captions).to(device),
            torch.from_numpy(fits).to(device),
        )

    def _caption(self, rng: np.random.Generator, row: int) -> tuple[str, set[str]]:
        """A caption, and labels that it names; of a scene's own caption the things, since it may leave out the stuff."""
        things, stuff = self.pictures.things[row], self.pictures.stuff[row]
        kind = rng.choice(3, p=KINDS)
        if kind == 0:
            return self.pictures.captions[row], set(things)
        one = things[int(rng.integers(len(things)))]
        ground = stuff[int(rng.integers(len(stuff)))]
        return (describe(rng, (one,), ()), {one}) if kind == 1 else (describe_ground(rng, (ground,)), {ground})


def _bits(sets: list[set[str]] | tuple[set[str], ...]) -> np.ndarray:
    """Each set of labels as one number (n,), with a bit for each label."""
    return np.array([sum(1 << LABELS.index(name) for name in names) for names in sets], np.int64)


def mean_average_precision(model: CLIPModel, tokenizer: CLIPTokenizer, device: str, count: int) -> float:
    """Zero-shot: average precision of the val scenes, ranked by their cosine with a label's prompt, mean over labels."""
    scenes = [scene("val", index) for index in range(count)]
    with torch.no_grad():
        pictures = to_tensor(np.stack([s.image for s in scenes]), device)
        image = model.get_image_features(pixel_values=pictures).pooler_output
        text = model.get_text_features(input_ids=tokenize(tokenizer, name_prompts()).to(device)).pooler_output
    scores = (F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T).cpu().numpy()
    return average_precision(scores, labels_held(scenes))


def labels_held(scenes: Sequence[WorldScene]) -> Bool[np.ndarray, "n labels"]:
    """Which of `LABELS` each scene shows."""
    return np.array([[name in s.things or name in s.stuff for name in LABELS] for s in scenes])


def average_precision(scores: Float[np.ndarray, "n k"], truth: Bool[np.ndarray, "n k"]) -> float:
    """Average precision of each column of scores, mean over the columns that are true somewhere."""
    from sklearn.metrics import average_precision_score  # here, as it takes a second to import

    there = truth.any(0)
    return float(average_precision_score(truth[:, there], scores[:, there]))


def train_clip(budget: Budget, start: Path | None = None) -> bool:
    """Train (or go on training) CLIP beside the text encoder of `root/denoiser/pipeline`, or of the pipeline `start`.

    Where a CLIP lies beside `start`, as in the shipped bundle, its image tower is trained further. Once finished, writes
    `root/clip/clip`, which transformers loads, and `root/clip/open_clip`, which open_clip loads.

    Raises:
        ValueError: there is no text encoder.
    """
    torch.manual_seed(0)
    device, size, out = budget.device, budget.size, budget.root / "clip"
    source = start or budget.root / "denoiser" / "pipeline"
    if not (source / "text_encoder").is_dir():
        raise ValueError(f"CLIP needs the text encoder in {source}, which is not there: run `train denoiser` first.")
    pictures = budget.pictures(SCENES)
    tokenizer = CLIPTokenizer.from_pretrained(source / "tokenizer")
    model = build_clip(CLIPTextModel.from_pretrained(source / "text_encoder", dtype=torch.float32), size)
    if start and (start.parent / "open_clip").is_dir():
        load_open_clip(model, start.parent / "open_clip")
    training = Training(trainable(model, device), out, budget.minutes, learning_rate=1e-3, ema=0.998, piece=budget.piece)
    batches, embeddings = CaptionedBatches(pictures, tokenizer), model.vision_model.embeddings
    for step in training:
        picture, ids, fits = batches.draw(step, device)
        with autocast(device), some_patches(embeddings, training):
            loss = clip_loss(training.module, picture, ids, fits)
        training.update(loss, len(picture))
        if step % 300 == 299:
            print(f"mAP on val: {mean_average_precision(training.averaged.module, tokenizer, device, 128):.3f}", flush=True)
    if not training.finished:
        return False
    best = training.averaged.module.eval()
    processor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    save_whole(out / "clip", best, tokenizer, processor)
    with whole_folder(out / "open_clip") as folder:
        export_open_clip(best, tokenizer, folder)
    figure = mean_average_precision(best, tokenizer, device, budget.tested)
    print(f"mAP on {budget.tested} val scenes: {figure:.3f}")
    return True
