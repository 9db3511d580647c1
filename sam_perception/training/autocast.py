"""The number format that a training step computes in."""

from __future__ import annotations

import platform

import torch


def mixed(device_type: str, *, enabled: bool = True) -> torch.autocast:
    """Autocast to bfloat16, where the device computes faster in it than in float32.

    A CPU without instructions for it emulates them: an AVX2 machine multiplied matrices 35 times slower in bfloat16
    than in float32, one with AVX-512 but not AVX512_BF16 four times.

    Args:
        device_type: "cpu" or "cuda".
        enabled: False: float32 whatever the device.
    """
    return torch.autocast(device_type, torch.bfloat16, enabled=enabled and has_bfloat16(device_type))


def has_bfloat16(device_type: str) -> bool:
    """True where a device computes in bfloat16 by instructions of its own."""
    if device_type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        # Not what torch asks itself before it takes oneDNN's bfloat16 kernels: any AVX-512 is enough for those.
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
