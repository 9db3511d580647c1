"""Our tracker against transformers' session on equal weights: frames per second against the number of objects."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sam_perception.benchmarks.contenders import ours, theirs
from sam_perception.benchmarks.pictures import pictures
from sam_perception.benchmarks.timing import Took, clock_of, timed

WARM_UP = 17  # frames until every memory and every object pointer is there


@dataclass(frozen=True)
class Race:
    """Medians over the same frames, which both sides had in turn."""

    model: str
    objects: int
    ours_ms: float
    theirs_ms: float
    # CPU time of the process; where a GPU does the work, that of the host alone
    ours_cpu_ms: float = float("nan")
    theirs_cpu_ms: float = float("nan")

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.theirs_ms / self.ours_ms

    @property
    def cpu_ratio(self) -> float:
        """How many times less CPU time ours takes: on a busy machine steadier than wall time."""
        return self.theirs_cpu_ms / self.ours_cpu_ms if self.ours_cpu_ms else float("nan")


def race(
    name: str,
    model: Any,
    objects: Sequence[int],
    frames: int,
    *,
    warm_up: int = WARM_UP,
    backend: Any = None,
    on_frame: Callable[[], object] = lambda: None,
    on_row: Callable[[Race], object] = lambda _: None,
) -> list[Race]:
    """Measure both sides for each number of objects, frame by frame in turn.

    So what else runs on the machine hits both; only ratios mean something on another machine.

    Args:
        name: of the model.
        model: what both sides run.
        objects: numbers of objects.
        frames: measured.
        warm_up: frames before them.
        backend: what our side runs instead, such as the model compiled.
        on_frame: called after each frame.
        on_row: is given each result as soon as it is there.
    """
    clock, found = clock_of(model.device), []
    for count in objects:
        sides = (ours(model if backend is None else backend, count), theirs(model, count))
        spent: tuple[list[Took], list[Took]] = ([], [])
        for picture in pictures(warm_up + frames):
            for step, times in zip(sides, spent, strict=True):
                times.append(timed(clock, lambda: step(picture)))  # noqa: B023 - called at once
            on_frame()
        kept = [times[warm_up:] for times in spent]
        medians = [statistics.median(took.ms for took in times) for times in kept]
        found.append(Race(name, count, *medians, *(statistics.median(took.cpu_ms for took in times) for times in kept)))
        on_row(found[-1])
    return found
