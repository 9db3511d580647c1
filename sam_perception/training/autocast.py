"""The number format that a training step computes in."""

from __future__ import annotations

import torch


def mixed(device_type: str, *, enabled: bool = True) -> torch.autocast:
    """Autocast to bfloat16, where the device computes faster in it than in float32.

    A CPU without instructions for it emulates them: an AVX2 machine multiplied matrices 35 times slower in bfloat16.

    Args:
        device_type: "cpu" or "cuda".
        enabled: False: float32 whatever the device.
    """
    return torch.autocast(device_type, torch.bfloat16, enabled=enabled and has_bfloat16(device_type))


def has_bfloat16(device_type: str) -> bool:
    """True where a device computes in bfloat16 by instructions of its own."""
    # What torch asks itself before it takes oneDNN's bfloat16 kernels.
    return device_type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
