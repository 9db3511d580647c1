"""Arrays from the host to the device without waiting for it, and back with one wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def upload(values: NDArray[Any] | Sequence[int] | Sequence[bool], device: torch.device) -> torch.Tensor:
    """A copy of `values` on the device, of numpy's type for them.

    From ordinary memory a copy to a GPU makes the host wait until the GPU has caught up; from
    page-locked memory it takes its place in the queue.
    """
    tensor = torch.from_numpy(np.array(values))
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def download(tensor: torch.Tensor) -> NDArray[Any]:
    """`tensor` on the host, by way of page-locked memory, to which a GPU writes without a detour.

    The only place where the host waits for the GPU. On a CPU the array shares the tensor's memory.
    """
    if tensor.device.type != "cuda":
        local: NDArray[Any] = tensor.cpu().numpy()
        return local
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    # Copied once more, so that the same page-locked memory serves the next frame however long this one's is kept.
    copied: NDArray[Any] = host.numpy().copy()
    return copied
