"""Operations in a step that make the host wait for the device."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Their result, or its size, is needed on the host before anything else can be queued.
_WAITING = frozenset({
    "_local_scalar_dense", "nonzero", "nonzero_static", "equal", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "histc",
})  # fmt: skip


class WaitingOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, while it is active, operations that would wait for a GPU; works on any device.

    Copies between devices cannot be told on a CPU: `count_waits` sees those on a GPU.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at one operation and let it pass."""
        name = func.overloadpacket.__name__
        counted = name == "repeat_interleave" and "Tensor" in func._overloadname  # not by a number
        if name in _WAITING or counted:
            self.counts[name] += 1
        elif name in ("index", "index_put", "index_put_") and _has_mask(args[1]):
            self.counts[f"{name} by a mask"] += 1
        elif name == "_to_copy" and _leaves_gpu(args[0], kwargs or {}):
            self.counts["copy to the host"] += 1
        return func(*args, **(kwargs or {}))


def _has_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _leaves_gpu(tensor: Any, options: dict[str, Any]) -> bool:
    wanted = options.get("device")
    return tensor.device.type != "cpu" and wanted is not None and torch.device(wanted).type == "cpu"


def waiting_operations(work: Callable[[], Any]) -> dict[str, int]:
    """Operations in `work` that make the host wait, by name."""
    with WaitingOperations() as seen:
        work()
    return dict(seen.counts)


def cuda_waits(work: Callable[[], Any]) -> int:
    """How often torch itself says that the host waited for the GPU; a step should once, for its masks."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)
