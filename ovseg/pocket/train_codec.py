"""The image codec of the pocket bundle: a small `AutoencoderKL`, trained on crops of scenes."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from ovseg.pocket.data import rendered
from ovseg.pocket.training import Training, batch_size

CROP, BATCH = 64, 16
KL_WEIGHT, GRADIENT_WEIGHT = 1e-3, 0.5


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


def to_tensor(images: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 (b, h, w, 3) to float (b, 3, h, w) in [-1, 1]."""
    return torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 127.5 - 1


def codec_loss(codec: AutoencoderKL, pictures: Tensor) -> Tensor:
    """L1, plus L1 of the finite differences for crisp edges, plus a weak pull of the latents to unit normals."""
    posterior = codec.encode(pictures).latent_dist
    out = codec.decode(posterior.sample()).sample.float()
    error = out - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    kl = 0.5 * (posterior.mean.pow(2) + posterior.var - 1 - posterior.logvar).float().mean()
    return error.abs().mean() + GRADIENT_WEIGHT * edges + KL_WEIGHT * kl


def peak_signal_to_noise(codec: AutoencoderKL, images: np.ndarray, device: torch.device | str) -> float:
    """PSNR in dB of whole pictures through the codec, from the mean squared error over all of them."""
    errors = []
    with torch.no_grad():
        for start in range(0, len(images), 16):
            pictures = to_tensor(images[start : start + 16], device)
            out = codec.decode(codec.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
            errors.append(((out - pictures) / 2).pow(2).mean(dim=(1, 2, 3)))
    return float(-10 * torch.cat(errors).mean().log10())


def crops(images: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` random CROP x CROP windows of random pictures, half of them mirrored."""
    size, out = images.shape[1], np.empty((count, CROP, CROP, 3), np.uint8)
    for k in range(count):
        top, left = rng.integers(0, size - CROP + 1, 2)
        window = images[rng.integers(len(images)), top : top + CROP, left : left + CROP]
        out[k] = window[:, ::-1] if rng.random() < 0.5 else window
    return out


def train_codec(
    root: Path, minutes: float, device: str = "cpu", scenes: int = 24000, size: int = 128, piece: float | None = None
) -> None:
    """Train (or go on training) the codec; leaves its checkpoint, a sample picture and `vae` in `root/codec`."""
    torch.manual_seed(0)
    out = root / "codec"
    pictures = rendered(root / "scenes", "train", scenes, size).images
    held_out = rendered(root / "scenes", "val", 128, size).images
    codec = build_codec().to(device)
    training = Training(codec, out, minutes, learning_rate=2e-3, ema=0.995, piece=piece)
    for step in training:
        rng = np.random.default_rng([1, step])
        batch = to_tensor(crops(pictures, rng, batch_size(BATCH, device)), device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = codec_loss(codec, batch)
        training.update(loss, len(batch))
        if step % 500 == 499:
            print(f"PSNR on val scenes: {peak_signal_to_noise(training.averaged.module, held_out[:32], device):.2f} dB")
    if not training.finished:
        return
    best = training.averaged.module.eval()
    best.register_to_config(scaling_factor=round(1 / _latent_deviation(best, pictures[:256], device), 4))
    best.save_pretrained(out / "vae")
    print(f"PSNR on 128 val scenes: {peak_signal_to_noise(best, held_out, device):.2f} dB")
    _save_sample(best, held_out[:6], out / "sample.png", device)


def _latent_deviation(codec: AutoencoderKL, images: np.ndarray, device: str) -> float:
    with torch.no_grad():
        return float(codec.encode(to_tensor(images, device)).latent_dist.mean.std())


def _save_sample(codec: AutoencoderKL, images: np.ndarray, path: Path, device: str) -> None:
    with torch.no_grad():
        out = codec(to_tensor(images, device)).sample.clamp(-1, 1)
    decoded = ((out + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    Image.fromarray(np.concatenate([np.concatenate(images, 1), np.concatenate(decoded, 1)])).save(path)
