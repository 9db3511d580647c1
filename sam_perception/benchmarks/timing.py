"""Clocks: wall time on the host, events on a GPU, and CPU time, which others' work changes least."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Clock(Protocol):
    """Marks moments, and says what lies between them."""

    def mark(self) -> Any:
        """A moment, in the order in which the device works."""

    def finish(self) -> None:
        """Wait until all marks so far have been reached."""

    def between_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks that have been reached."""


class HostClock:
    """For work that is done when its call returns."""

    def mark(self) -> float:
        """Seconds."""
        return time.perf_counter()

    def finish(self) -> None:
        """Nothing to wait for."""

    def between_ms(self, start: float, end: float) -> float:
        """Milliseconds between two marks."""
        return 1e3 * (end - start)


class EventClock:
    """For work that is queued for a GPU: events in its queue, which the host does not wait for.

    Args:
        put_event: puts a new event at the end of the queue and returns it.
        synchronize: waits for the queue.
    """

    def __init__(self, put_event: Callable[[], Any], synchronize: Callable[[], Any]) -> None:
        self._put_event, self._synchronize = put_event, synchronize

    def mark(self) -> Any:
        """An event at the end of the queue."""
        return self._put_event()

    def finish(self) -> None:
        """Wait for the queue to be worked off."""
        self._synchronize()

    def between_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events."""
        return float(start.elapsed_time(end))


def clock_of(device: Any) -> Clock:
    """The clock for work on a torch device; on a GPU its own queue, whichever GPU is the current one."""
    if device.type != "cuda":
        return HostClock()
    import torch

    def put_event() -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        return event

    return EventClock(put_event, lambda: torch.cuda.synchronize(device))


@dataclass(frozen=True)
class Took:
    """One call."""

    ms: float  # by the device's clock
    cpu_ms: float  # CPU time of this process, all threads


def timed(clock: Clock, work: Callable[[], Any]) -> Took:
    """What `work` takes, until the device is through with it."""
    clock.finish()
    cpu_s = time.process_time()
    start = clock.mark()
    work()
    end = clock.mark()
    cpu_s = time.process_time() - cpu_s
    clock.finish()
    return Took(clock.between_ms(start, end), 1e3 * cpu_s)


def timed_ms(clock: Clock, work: Callable[[], Any]) -> float:
    """Milliseconds that `work` takes, until the device is through with it."""
    return timed(clock, work).ms


@dataclass(frozen=True)
class Cost:
    """What a call costs on one core."""

    name: str
    least_ms: float  # the nearest that can be seen to what an idle machine takes
    median_ms: float


def cpu_cost_of_all(name: str, works: Sequence[Callable[[], Any]], repeats: int = 30) -> Cost:
    """The sum of what several calls cost, each for itself: the shorter a call, the surer one finds it undisturbed."""
    costs = [cpu_cost(name, work, repeats) for work in works]
    return Cost(name, sum(cost.least_ms for cost in costs), sum(cost.median_ms for cost in costs))


def cpu_cost(name: str, work: Callable[[], Any], repeats: int = 30) -> Cost:
    """CPU time of this thread in `work`, after one call that warms up: others' work counts only by worn caches."""
    work()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(1e3 * (time.thread_time() - start))
    return Cost(name, min(times), statistics.median(times))
