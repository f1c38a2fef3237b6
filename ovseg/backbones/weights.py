"""Weights under a short name, and seeded randomness."""

import hashlib

import torch


def fingerprint(network: torch.nn.Module) -> str:
    """A short name for a network's weights: the same for the same weights on any device, in any precision up to rounding.

    From the shape of every tensor and, rounded to three digits, the sum of its sizes.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {float(tensor.double().abs().sum()):.3g}".encode())
    return total.hexdigest()[:12]


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator of this seed; drawn on the CPU unless said otherwise, so that every device sees the same noise."""
    return torch.Generator(device).manual_seed(seed)
