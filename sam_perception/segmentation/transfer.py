"""Small arrays from the host to the device, without waiting for it."""

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
