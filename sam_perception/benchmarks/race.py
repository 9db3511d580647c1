"""Our tracker against transformers' session on equal weights: frames per second against the number of objects."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sam_perception.benchmarks.contenders import ours, theirs
from sam_perception.benchmarks.pictures import pictures
from sam_perception.benchmarks.timing import clock_of, timed_ms

WARM_UP = 17  # frames until every memory and every object pointer is there


@dataclass(frozen=True)
class Race:
    """Medians over the same frames, which both sides had in turn."""

    model: str
    objects: int
    ours_ms: float
    theirs_ms: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.theirs_ms / self.ours_ms


def race(
    name: str,
    model: Any,
    objects: Sequence[int],
    frames: int,
    *,
    warm_up: int = WARM_UP,
    on_frame: Callable[[], object] = lambda: None,
) -> list[Race]:
    """Measure both sides for each number of objects, frame by frame in turn.

    So what else runs on the machine hits both; only ratios mean something on another machine.
    """
    clock, found = clock_of(model.device), []
    for count in objects:
        sides = (ours(model, count), theirs(model, count))
        spent: tuple[list[float], list[float]] = ([], [])
        for picture in pictures(warm_up + frames):
            for step, times in zip(sides, spent, strict=True):
                times.append(timed_ms(clock, lambda: step(picture)))  # noqa: B023 - called at once
            on_frame()
        medians = [statistics.median(times[warm_up:]) for times in spent]
        found.append(Race(name, count, *medians))
    return found
