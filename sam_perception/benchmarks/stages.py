"""Where the time of a step goes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sam_perception.benchmarks.pictures import boxes, pictures
from sam_perception.benchmarks.race import WARM_UP
from sam_perception.benchmarks.timing import Clock, clock_of
from sam_perception.segmentation import StreamingTracker
from sam_perception.segmentation.backend import backend_of

# Parts of the network by the backend's names for them. `prepare` is memory attention before it looks at an
# object, `project` the memory encoder before it looks at a mask: once per frame however many objects there are.
STAGES = {
    "encode_image": "image encoder",
    "prepare": "memory attention",
    "recall": "memory attention",
    "decode": "mask decoder",
    "project": "memory encoder",
    "memorise": "memory encoder",
}
REST = "picture in, masks out, bookkeeping"


class StagedBackend:
    """A backend that marks the beginning and the end of each of its parts."""

    is_backend = True

    def __init__(self, backend: Any, clock: Clock) -> None:
        self._backend, self._clock = backend, clock
        self.marks: list[tuple[str, Any, Any]] = []  # stage, start, end

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        stage = STAGES.get(name)
        if stage is None:
            return value

        def marked(*args: Any, **options: Any) -> Any:
            start = self._clock.mark()
            answer = value(*args, **options)
            self.marks.append((stage, start, self._clock.mark()))
            return answer

        return marked


@dataclass(frozen=True)
class Shares:
    """Medians per frame."""

    model: str
    objects: int
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def total_ms(self) -> float:
        """Of all stages."""
        return sum(self.stages_ms.values())


def shares(
    name: str, model: Any, objects: int, frames: int, *, warm_up: int = WARM_UP, backend: Any = None,
    on_frame: Callable[[], object] = lambda: None,
) -> Shares:  # fmt: skip
    """Time each part of a step of `frames` frames with `objects` objects; `backend`, if given, runs the model."""
    clock = clock_of(model.device)
    staged = StagedBackend(backend_of(model if backend is None else backend), clock)
    tracker = StreamingTracker(staged, max_objects=objects)
    for prompt in boxes(objects):
        tracker.prompt(prompt)
    spent: dict[str, list[float]] = {stage: [] for stage in (*STAGES.values(), REST)}
    for number, picture in enumerate(pictures(warm_up + frames)):
        staged.marks.clear()
        clock.finish()
        start = clock.mark()
        tracker.step(picture)
        end = clock.mark()
        clock.finish()
        on_frame()
        if number < warm_up:
            continue
        frame = dict.fromkeys(spent, 0.0)
        for stage, begun, ended in staged.marks:
            frame[stage] += clock.between_ms(begun, ended)
        frame[REST] = clock.between_ms(start, end) - sum(frame.values())
        for stage, took_ms in frame.items():
            spent[stage].append(took_ms)
    return Shares(name, objects, {stage: statistics.median(times) for stage, times in spent.items()})
