"""What a step costs at least: its floating-point operations and bytes, at the rates that this machine reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sam_perception.benchmarks.contenders import Step, ours, theirs
from sam_perception.benchmarks.pictures import pictures
from sam_perception.benchmarks.race import WARM_UP
from sam_perception.benchmarks.timing import clock_of, timed_ms

_SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices whose product is timed
_COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 31}
_REPEATS = 7


@dataclass(frozen=True)
class Rates:
    """What the device was measured to reach."""

    flops: float  # per second, matrix products in the model's format
    bytes: float  # per second, read and written


@dataclass(frozen=True)
class Limit:
    """One frame's least cost."""

    model: str
    objects: int
    ours_flop: float
    theirs_flop: float
    weight_bytes: int  # read once per frame
    compute_ms: float  # ours_flop at the measured rate
    memory_ms: float  # weight_bytes at the measured rate

    @property
    def least_ms(self) -> float:
        """No arrangement of the same operations is faster."""
        return max(self.compute_ms, self.memory_ms)


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Time a large matrix product and a large copy; the best of several."""
    clock, side = clock_of(device), _SIDE[device.type]
    left = torch.randn(side, side, device=device, dtype=dtype)
    source = torch.zeros(_COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_ms = min(timed_ms(clock, lambda: left @ left) for _ in range(_REPEATS))
    copy_ms = min(timed_ms(clock, lambda: target.copy_(source)) for _ in range(_REPEATS))
    return Rates(2 * side**3 / product_ms * 1e3, 2 * source.numel() / copy_ms * 1e3)


def operations(step: Step, *, warm_up: int = WARM_UP) -> float:
    """Floating-point operations of one frame once all memories are there: products, convolutions, attention."""
    *before, last = pictures(warm_up + 1)
    for picture in before:
        step(picture)
    # Attention spelt out: the counter does not know every fused kernel.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step(last)
    return float(counter.get_total_flops())


def limit(name: str, model: Any, objects: int, rates: Rates, *, warm_up: int = WARM_UP) -> Limit:
    """Count both sides' operations, and what ours would take at the measured rates."""
    ours_flop = operations(ours(model, objects), warm_up=warm_up)
    theirs_flop = operations(theirs(model, objects), warm_up=warm_up)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return Limit(
        name,
        objects,
        ours_flop,
        theirs_flop,
        weights,
        compute_ms=1e3 * ours_flop / rates.flops,
        memory_ms=1e3 * weights / rates.bytes,
    )
