"""What both denoisers share: latents of scenes with captions, training in stages of two sizes, a sheet of what they draw."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline, StableDiffusionPipeline
from jaxtyping import Bool, Float, Float16, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import CLIPTokenizer

from ovseg.backbones import BACKBONES
from ovseg.files import whole_array
from ovseg.pocket.captions import describe_ground
from ovseg.pocket.data import rendered
from ovseg.pocket.tokenizer import tokenize
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget, Training, autocast, batch_size, save_whole

WORDS_ONLY_SHARE = 0.7  # of the rows; see `words_alone`
UNCONDITIONAL_SHARE = 0.1  # of captions, replaced by the empty one, for classifier-free guidance
GROUND_SHARE = 0.12  # of captions, replaced by one that names the stuff alone: a scene's own begins with its things

SAMPLE_PROMPTS = (
    "a photo of a cat", "a photo of a car on road", "a photo of a tree on grass under sky", "a photo of a boat on water",
    "a photo of a bus", "a photo of a sheep and a house", "a photo of a cat and a car", "a photo of an apple on wood",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A part of the training on pictures of one size."""

    name: str
    time: float  # share of the minutes
    side: float  # of the pictures, as a share of the full size
    batch: int  # samples of a step on a CPU
    scenes: int  # factor on the number of scenes that the budget asks for
    zoom: float  # of the things, see `world.scene`
    recolour: float = 0.0  # share of the things in other colours, as there


def encoded(
    folder: Path, vae: AutoencoderKL, images: UInt8[np.ndarray, "n size size 3"], device: str, what: str = ""
) -> Float16[np.ndarray, "n 4 y x"]:
    """Scaled latents of all pictures: the first call with a codec writes them to a file, later calls map it.

    Args:
        what: tells other pictures of the same size and number apart.
    """
    weights = b"".join(tensor.detach().cpu().numpy().tobytes() for tensor in vae.state_dict().values())
    path = folder / f"latents-{images.shape[1]}px-{len(images)}{what}-{hashlib.sha256(weights).hexdigest()[:8]}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    edge = images.shape[1] // 2 ** (len(vae.config.block_out_channels) - 1)
    vae = vae.to(device)
    with whole_array(path, np.float16, (len(images), 4, edge, edge)) as latents:
        for start in range(0, len(images), 64):
            with torch.no_grad(), autocast(device):
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

    def draw(
        self, step: int, device: str
    ) -> tuple[Float[Tensor, "b 4 y x"], Int[Tensor, "b tokens"], Int[np.ndarray, " b"]]:
        """Latents, the token ids of a caption of each, and the latents' numbers."""
        rng, count = np.random.default_rng([3, step]), batch_size(self.batch, device)
        rows, kind = rng.integers(0, len(self.latents), count), torch.from_numpy(rng.random(count))[:, None]
        ids = torch.where(kind < 1 - GROUND_SHARE, self.ids[rows], self.ground_ids[rows])
        ids = torch.where(kind < UNCONDITIONAL_SHARE, self.empty, ids)
        return torch.from_numpy(self.latents[rows]).to(device).float(), ids.to(device), rows


def words_alone(
    encode: Callable[[Tensor], Tensor], ids: Int[Tensor, "b t"], empty: Int[Tensor, " t"], end: int, rows: Bool[Tensor, " b"]
) -> Float[Tensor, "b t w"]:
    """States of prompts in which, in some rows, the tokens after the words carry no information.

    A causal encoder lets the end token and the padding see all words before them. Without this treatment a denoiser attends
    to those many tokens and hardly to the words (74 % of the U-Net's attention after 50 000 samples), and the words'
    attention maps, which this project is about, are poor. In most rows these tokens therefore get the states that they have
    in the empty prompt, so that the network must attend to the words.

    Args:
        encode: from token ids to states.
        empty: token ids of the empty prompt.
        end: id of the token that ends a prompt.
        rows: in which this is done.
    """
    states, neutral = encode(ids), encode(empty[None])
    after_words = (ids == end).cumsum(1) > 0
    return torch.where((after_words & rows[:, None])[..., None], neutral, states)


def latent_batches(budget: Budget, parts: StableDiffusionPipeline, stage: Stage) -> LatentBatches:
    """The training data of a stage: its scenes, rendered and encoded by the first run."""
    count, size = budget.scenes * stage.scenes, round(budget.size * stage.side)
    pictures = rendered(budget.root / "scenes", "train", count, size, zoom=stage.zoom, recolour=stage.recolour)
    what = f"-recolour-{round(100 * stage.recolour)}" * bool(stage.recolour)
    latents = encoded(budget.root / "denoiser", parts.vae, pictures.images, budget.device, what)
    grounds = [describe_ground(np.random.default_rng([4, row]), stuff) for row, stuff in enumerate(pictures.stuff)]
    return LatentBatches(latents, pictures.captions, grounds, parts.tokenizer, stage.batch)


Loss = Callable[[int, Tensor, Tensor, np.ndarray], Tensor]
"""That of a step, from its number and what is drawn for it."""


def train_stages(
    painter: nn.Module,
    parts: StableDiffusionPipeline,
    stages: Sequence[Stage],
    rate: float,
    budget: Budget,
    *,
    out: Path,
    loss_in: Callable[[nn.Module, Stage, LatentBatches], Loss],
    optimizers_of: Callable[[nn.Module, float], Sequence[Optimizer]] = lambda _module, _rate: (),
) -> nn.Module | None:
    """Train (or go on training) a painter in stages, whose learning rates are one straight line from `rate` to 0.

    Args:
        parts: whose codec and tokenizer make the training data.
        loss_in: begins a stage with the painter that is trained in it.
        optimizers_of: as `Training` takes them, for a painter and its stage's first learning rate.

    Returns:
        The trained painter; None where a stage is left. A piece trains one stage at most.
    """
    done = 0.0
    for stage in stages:
        painter, first, last = painter.to(budget.device), rate * (1 - done), rate * (1 - done - stage.time)
        training = Training(
            painter, out / stage.name, budget.minutes * stage.time, first, last_rate=last, piece=budget.piece,
            optimizers=optimizers_of(painter, first),
        )  # fmt: skip
        if not training.finished:
            batches = latent_batches(budget, parts, stage)
            loss_of = loss_in(painter, stage, batches)
            for step in training:
                torch.manual_seed(step)
                drawn = batches.draw(step, budget.device)
                with autocast(budget.device):
                    loss = loss_of(step, *drawn)
                training.update(loss, len(drawn[0]))
            if not training.finished or (budget.piece and stage is not stages[-1]):
                return None
        painter, done = training.averaged.module.eval(), done + stage.time
    return painter


def keep_pipeline(
    pipeline: StableDiffusionPipeline | StableDiffusion3Pipeline,
    out: Path,
    name: str,
    max_sequence_length: int | None = None,
) -> None:
    """Write `out/pipeline`, and `out/samples.png`, a sheet of eight pictures that it draws.

    Args:
        name: of the row whose guidance suits it.
        max_sequence_length: rows in T5's place, for a pipeline of Stable Diffusion 3.
    """
    save_whole(out / "pipeline", pipeline)
    options = {} if max_sequence_length is None else {"max_sequence_length": max_sequence_length}
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(SAMPLE_PROMPTS))]
    images = pipeline(
        list(SAMPLE_PROMPTS),
        generator=generators,
        num_inference_steps=30,
        guidance_scale=BACKBONES[name].guidance,
        output_type="np",
        **options,
    ).images
    rows = [np.concatenate(list(images[k : k + 4]), 1) for k in range(0, len(images), 4)]
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(out / "samples.png")
