"""Whether the CPU computes with numbers that are too small to be normal ones."""

from __future__ import annotations

import torch


def denormals() -> bool:
    """True where torch's results of less than 1.2e-38 are not zero, in this thread."""
    return bool((torch.tensor(1e-30) * 1e-10 != 0).item())
