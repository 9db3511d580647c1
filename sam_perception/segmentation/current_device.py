"""The GPU that CUDA takes for the current one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one for a block, of this thread; nothing happens for any other device.

    torch's own kernels find their device by their tensors. What takes the current one instead is streams,
    the recording of CUDA graphs, and libraries below: with `device: cuda:1` they would be on `cuda:0`.
    """
    return nullcontext() if device.type != "cuda" or device.index is None else torch.cuda.device(device.index)
