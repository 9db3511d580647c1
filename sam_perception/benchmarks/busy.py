"""Whether the device idles while the host makes up its mind."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.benchmarks.contenders import Step, ours
from sam_perception.benchmarks.pictures import pictures
from sam_perception.benchmarks.race import WARM_UP
from sam_perception.benchmarks.timing import clock_of, timed_ms


@dataclass(frozen=True)
class Busy:
    """One step, picture in to masks out."""

    model: str
    objects: int
    step_ms: float  # by the device's clock, without a profiler; median
    busy_ms: float  # of it, kernels and copies run, by torch.profiler; mean

    @property
    def share(self) -> float:
        """Of a step in which the device works; in the rest it waits for the host."""
        return self.busy_ms / self.step_ms


def busy(name: str, model: Any, objects: int, frames: int, *, warm_up: int = WARM_UP, backend: Any = None) -> Busy:
    """Compare the time of a step with the time in which something runs on the device.

    The profiler slows the host and not the kernels: it sees other frames than those that are timed. On a
    CPU operators stand for kernels; they are the host's own work, and slowed as well.
    """
    clock = clock_of(model.device)
    step = ours(model if backend is None else backend, objects)
    clip = pictures(warm_up + 2 * frames)
    for picture in clip[:warm_up]:
        step(picture)
    step_ms = statistics.median(timed_ms(clock, lambda p=p: step(p)) for p in clip[warm_up : warm_up + frames])  # type: ignore[misc]
    return Busy(name, objects, step_ms, profiled_ms(step, clip[warm_up + frames :], model.device))


def profiled_ms(step: Step, clip: Sequence[NDArray[np.uint8]], device: Any) -> float:
    """Milliseconds per picture in which at least one kernel or copy of `step` runs; on a CPU, one operator."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        for picture in clip:
            step(picture)
        if on_gpu:
            torch.cuda.synchronize(device)
    events = profiler.events() or ()
    return union_ms(intervals(events, device)) / len(clip)


def intervals(events: Iterable[Any], device: Any) -> list[tuple[float, float]]:
    """Microseconds from when to when each of the profiler's events ran on a device; no ranges that code has named."""
    kind = device.type.upper()
    own = [e for e in events if e.device_type.name == kind and not e.is_user_annotation]
    if device.type == "cuda":
        own = [e for e in own if device.index is None or e.device_index == device.index]
    else:
        own = [e for e in own if e.name.startswith("aten::")]
    return [(float(e.time_range.start), float(e.time_range.end)) for e in own]


def union_ms(spans: Iterable[tuple[float, float]]) -> float:
    """Milliseconds covered by spans in microseconds; what runs at once counts once."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / 1e3
