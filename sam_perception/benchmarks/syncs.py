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
    "_local_scalar_dense", "nonzero", "nonzero_static", "equal", "allclose", "masked_select", "_unique", "_unique2",
    "unique_dim", "unique_consecutive", "bincount", "histc",
})  # fmt: skip


class WaitingOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, while it is active, operations that would wait for a GPU; works on any device.

    Copies between the host and a device are seen where there are any: on a GPU, or on torch's "meta" device, which
    has shapes and no numbers. Not seen: what no operation is called for, `tolist()` on a CPU and a tensor that is
    made of a list on the device; `cuda_waits` counts those.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at one operation and let it pass."""
        name, options = func.overloadpacket.__name__, kwargs or {}
        if name not in _WAITING:
            # Under inference_mode what is made of other operations arrives whole, and `item()` would hide in it.
            with self:
                answer = func.decompose(*args, **options)
            if answer is not NotImplemented:
                return answer
        counted = name == "repeat_interleave" and "Tensor" in func._overloadname  # not by a number
        if name in _WAITING or counted:
            self.counts[name] += 1
        elif name in ("index", "index_put", "index_put_") and _has_mask(args[1]):
            self.counts[f"{name} by a mask"] += 1
        elif name in ("index", "index_put", "index_put_") and _from_host(args[0], args[1]):
            self.counts[f"{name} by a tensor on the host"] += 1
        elif (wait := _copy_wait(name, args, options)) is not None:
            self.counts[wait] += 1
        return func(*args, **options)


def _has_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _from_host(tensor: Any, indices: Any) -> bool:
    """Whether indices on the host are first copied to where the tensor lies; torch does so without a word."""
    away = tensor.device.type != "cpu"
    return away and any(index is not None and index.device.type == "cpu" and index.ndim for index in indices)


def _copy_wait(name: str, args: Any, options: dict[str, Any]) -> str | None:
    """The name of a copy between host and device for which the host waits."""
    if name == "_to_copy":
        source, target = args[0].device.type, torch.device(options.get("device") or args[0].device).type
        queued = options.get("non_blocking", False)
    elif name == "copy_":
        source, target = args[1].device.type, args[0].device.type
        queued = args[2] if len(args) > 2 else options.get("non_blocking", False)
        if args[1].ndim == 0 and source == "cpu":  # a number goes along with the kernel
            return None
    else:
        return None
    if (source == "cpu") == (target == "cpu"):
        return None
    if target == "cpu":  # queued or not: nobody can read it without waiting
        return "copy to the host"
    return None if queued and args[0 if name == "_to_copy" else 1].is_pinned() else "copy from the host"


def waiting_operations(work: Callable[[], Any]) -> dict[str, int]:
    """Operations in `work` that make the host wait, by name."""
    with WaitingOperations() as seen:
        work()
    return dict(seen.counts)


def cuda_waits(work: Callable[[], Any]) -> int:
    """How often torch itself says that the host waited for the current GPU; a step should once, for its masks."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)
