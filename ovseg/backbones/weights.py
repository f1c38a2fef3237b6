"""Weights under a short name, and seeded randomness."""

import hashlib

import torch


def fingerprint(network: torch.nn.Module) -> str:
    """A short name for a network's weights: the same on any device, and in any precision up to rounding.

    Made from the name and shape of every tensor and the sum of its absolute values, rounded to three digits.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {float(tensor.double().abs().sum()):.3g}".encode())
    return total.hexdigest()[:12]


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator of this seed; on the CPU by default, so that all devices get the same noise."""
    return torch.Generator(device).manual_seed(seed)
