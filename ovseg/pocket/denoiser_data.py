"""What both denoisers learn from: latents of scenes with captions, in stages of two sizes; and a sheet of what they draw."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline, StableDiffusionPipeline
from jaxtyping import Float, Float16, Int, UInt8
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from ovseg.backbones import BACKBONES
from ovseg.files import whole_array
from ovseg.pocket.captions import describe_ground
from ovseg.pocket.data import rendered
from ovseg.pocket.tokenizer import tokenize
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget, batch_size

UNCONDITIONAL_SHARE = 0.1  # of captions, replaced by the empty one, for classifier-free guidance
GROUND_SHARE = 0.12  # of captions, replaced by one that names the stuff alone: a scene's own begins with its things

SAMPLE_PROMPTS = (
    "a photo of a cat", "a photo of a car on road", "a photo of a tree on grass under sky", "a photo of a boat on water",
    "a photo of a bus", "a photo of a sheep and a house", "a photo of a cat and a car", "a photo of an apple on wood",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A part of the training on pictures of one size.

    Args:
        time: share of the minutes.
        side: of the pictures, as a share of the full size.
        batch: samples of a step on a CPU.
        scenes: factor on the number of scenes that the budget asks for.
        zoom: of the things, see `world.scene`.
    """

    name: str
    time: float
    side: float
    batch: int
    scenes: int
    zoom: float


def encoded(
    folder: Path, vae: AutoencoderKL, images: UInt8[np.ndarray, "n size size 3"], device: str
) -> Float16[np.ndarray, "n 4 y x"]:
    """Scaled latents of all pictures: the first call with a codec writes them to a file, later calls map it."""
    weights = b"".join(tensor.detach().cpu().numpy().tobytes() for tensor in vae.state_dict().values())
    path = folder / f"latents-{images.shape[1]}px-{len(images)}-{hashlib.sha256(weights).hexdigest()[:8]}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    edge = images.shape[1] // 2 ** (len(vae.config.block_out_channels) - 1)
    vae = vae.to(device)
    with whole_array(path, np.float16, (len(images), 4, edge, edge)) as latents:
        for start in range(0, len(images), 64):
            with torch.no_grad(), torch.autocast(torch.device(device).type, torch.bfloat16):
                mean = vae.encode(to_tensor(images[start : start + 64], device)).latent_dist.mean
            latents[start : start + 64] = (mean.float() * vae.config.scaling_factor).cpu().numpy()
            if start % 3200 == 0:
                print(f"encoding scenes: {start}/{len(images)}", flush=True)
    return np.load(path, mmap_mode="r")


class LatentBatches:
    """Random batches of latents with the token ids of captions; the same for the same step.

    Most captions are the scenes' own; some name only the stuff, and some are empty.

    Args:
        grounds: for each latent, a caption that names only its stuff.
        batch: samples of a step on a CPU.
    """

    def __init__(
        self,
        latents: Float16[np.ndarray, "n 4 y x"],
        captions: Sequence[str],
        grounds: Sequence[str],
        tokenizer: CLIPTokenizer,
        batch: int,
    ) -> None:
        self.latents, self.batch = latents, batch
        self.ids, self.ground_ids = tokenize(tokenizer, captions), tokenize(tokenizer, grounds)
        self.empty = tokenize(tokenizer, [""])

    def rows(self, step: int, device: str) -> Int[np.ndarray, " b"]:
        """The numbers of the latents that a step sees."""
        return self._drawn(step, device)[0]

    def draw(self, step: int, device: str) -> tuple[Float[Tensor, "b 4 y x"], Int[Tensor, "b tokens"]]:
        """Latents, and the token ids of a caption of each."""
        rows, kind = self._drawn(step, device)
        ids = torch.where(kind < 1 - GROUND_SHARE, self.ids[rows], self.ground_ids[rows])
        ids = torch.where(kind < UNCONDITIONAL_SHARE, self.empty, ids)
        return torch.from_numpy(self.latents[rows]).to(device).float(), ids.to(device)

    def _drawn(self, step: int, device: str) -> tuple[Int[np.ndarray, " b"], Float[Tensor, "b 1"]]:
        """The rows of a step, and for each a number from 0 to 1 that chooses its caption."""
        rng, count = np.random.default_rng([3, step]), batch_size(self.batch, device)
        return rng.integers(0, len(self.latents), count), torch.from_numpy(rng.random(count))[:, None]


def latent_batches(budget: Budget, parts: StableDiffusionPipeline, stage: Stage) -> LatentBatches:
    """The training data of a stage: its scenes, rendered and encoded by the first run."""
    count, size = budget.scenes * stage.scenes, round(budget.size * stage.side)
    pictures = rendered(budget.root / "scenes", "train", count, size, zoom=stage.zoom)
    latents = encoded(budget.root / "denoiser", parts.vae, pictures.images, budget.device)
    grounds = [describe_ground(np.random.default_rng([4, row]), stuff) for row, stuff in enumerate(pictures.stuff)]
    return LatentBatches(latents, pictures.captions, grounds, parts.tokenizer, stage.batch)


def save_samples(
    pipeline: StableDiffusionPipeline | StableDiffusion3Pipeline, path: Path, max_sequence_length: int | None = None
) -> None:
    """One sheet of eight pictures.

    Args:
        max_sequence_length: rows in T5's place, for a pipeline of Stable Diffusion 3.
    """
    options = {} if max_sequence_length is None else {"max_sequence_length": max_sequence_length}
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(SAMPLE_PROMPTS))]
    images = pipeline(
        list(SAMPLE_PROMPTS),
        generator=generators,
        num_inference_steps=30,
        guidance_scale=BACKBONES["pocket"].guidance,
        output_type="np",
        **options,
    ).images
    rows = [np.concatenate(list(images[k : k + 4]), 1) for k in range(0, len(images), 4)]
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(path)
