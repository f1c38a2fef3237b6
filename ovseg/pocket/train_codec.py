"""The image codec of the pocket bundle: a small `AutoencoderKL`, trained on crops of scenes."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from ovseg.pocket.data import rendered
from ovseg.pocket.training import Budget, Training, autocast, batch_size, save_whole

CROP, BATCH = 64, 16  # pixels of a side, and crops of a step on a CPU
KL_WEIGHT, GRADIENT_WEIGHT = 1e-3, 0.5  # of the terms of `codec_loss`
TESTED = 128  # val scenes that are rendered to measure the codec


def build_codec() -> AutoencoderKL:
    """Stride 4, four latent channels: 128 px pictures become 32 x 32 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
    )


def to_tensor(images: UInt8[np.ndarray, "b h w 3"], device: torch.device | str) -> Float[Tensor, "b 3 h w"]:
    """Pictures as the networks take them, in [-1, 1]."""
    return torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 127.5 - 1


def codec_loss(codec: AutoencoderKL, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """L1 of the colours, L1 of their finite differences for sharp edges, and a small KL term of the latents."""
    posterior = codec.encode(pictures).latent_dist
    out = codec.decode(posterior.sample()).sample.float()
    error = out - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    kl = 0.5 * (posterior.mean.pow(2) + posterior.var - 1 - posterior.logvar).float().mean()
    return error.abs().mean() + GRADIENT_WEIGHT * edges + KL_WEIGHT * kl


def reconstructed(
    codec: AutoencoderKL, images: UInt8[np.ndarray, "n h w 3"], device: torch.device | str
) -> Float[np.ndarray, "n h w 3"]:
    """Whole pictures through the codec, 0 to 255."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), 16):
            latents = codec.encode(to_tensor(images[start : start + 16], device)).latent_dist.mean
            parts.append((codec.decode(latents).sample.clamp(-1, 1) + 1) * 127.5)
    return torch.cat(parts).permute(0, 2, 3, 1).cpu().numpy()


def peak_signal_to_noise(images: UInt8[np.ndarray, "n h w 3"], decoded: Shaped[np.ndarray, "n h w 3"]) -> float:
    """PSNR in dB of pictures that went through a codec, from the mean squared error over all of them."""
    return float(-10 * np.log10((((decoded.astype(np.float64) - images) / 255) ** 2).mean()))


def crops(
    images: UInt8[np.ndarray, "n size size 3"], rng: np.random.Generator, count: int
) -> UInt8[np.ndarray, "count crop crop 3"]:
    """`count` random windows of random pictures, `CROP` pixels a side, half of them mirrored."""
    size, out = images.shape[1], np.empty((count, CROP, CROP, 3), np.uint8)
    for k in range(count):
        top, left = rng.integers(0, size - CROP + 1, 2)
        window = images[rng.integers(len(images)), top : top + CROP, left : left + CROP]
        out[k] = window[:, ::-1] if rng.random() < 0.5 else window
    return out


def train_codec(budget: Budget) -> bool:
    """Train (or go on training) the codec; once finished, writes `vae` and a sample picture to `root/codec`."""
    torch.manual_seed(0)
    out, device = budget.root / "codec", budget.device
    pictures = budget.pictures().images
    held_out = rendered(budget.root / "scenes", "val", TESTED, budget.size).images
    codec = build_codec().to(device)
    training = Training(codec, out, budget.minutes, learning_rate=2e-3, ema=0.995, piece=budget.piece)
    for step in training:
        rng = np.random.default_rng([1, step])
        batch = to_tensor(crops(pictures, rng, batch_size(BATCH, device)), device)
        with autocast(device):
            loss = codec_loss(codec, batch)
        training.update(loss, len(batch))
        if step % 500 == 499:
            seen = held_out[:32]
            psnr = peak_signal_to_noise(seen, reconstructed(training.averaged.module, seen, device))
            print(f"PSNR on val scenes: {psnr:.2f} dB")
    if not training.finished:
        return False
    best = training.averaged.module.eval()
    with torch.no_grad():
        deviation = float(best.encode(to_tensor(pictures[:256], device)).latent_dist.mean.std())
    best.register_to_config(scaling_factor=round(1 / deviation, 4))
    save_whole(out / "vae", best)
    decoded = reconstructed(best, held_out, device)
    print(f"PSNR on {TESTED} val scenes: {peak_signal_to_noise(held_out, decoded):.2f} dB")
    rows = [np.concatenate(row[:6], 1) for row in (held_out, decoded.round().astype(np.uint8))]
    Image.fromarray(np.concatenate(rows)).save(out / "sample.png")
    return True
