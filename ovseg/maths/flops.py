"""Counting arithmetic: torch's own counter, with the attention that it leaves out, and what a device can do at most."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product shows a device's speed: 17 GFLOP, 1.1 TFLOP
TRIES = 4  # of which the first warms up


def flop_counter() -> FlopCounterMode:
    """Counts floating-point operations while it is active, two for each multiply-add: products, convolutions, attention."""
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # torch's counter knows those of CUDA alone
    attention = {on_cpu: lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)}
    return FlopCounterMode(display=False, custom_mapping=attention)


@torch.no_grad()
def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large product of two square matrices, the best of a few tries."""
    side = SIDES.get(device.type, SIDES["cpu"])
    one, other = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min([seconds_of(lambda: one @ other, device) for _ in range(TRIES)][1:])


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes on a device, until it is done there."""
    settle(device)
    begun = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - begun


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
