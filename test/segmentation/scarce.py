"""A network for which memory runs out, and a tracker that is guarded against that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sam_perception.config import TrackerConfig
from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.segmentation.guarded import GuardedTracker
from sam_perception.segmentation.memory_ladder import Place
from sam_perception.segmentation.network import Network

SIZE = 64
PROMPTS = [BoxPrompt(7, (15, 15, 35, 40), label="mug"), PointPrompt(3, [(35, 39)]), BoxPrompt(9, (30, 30, 55, 60))]
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 3.81 GiB"


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


class Scarce:
    """A network with room for so many objects at a time; fails as CUDA does where there are more."""

    is_backend = True

    def __init__(self, model: Any) -> None:
        self.network = Network(model)
        self.room = 100
        self.encodings = 100  # pictures that it has room for
        self.broken: Exception | None = None
        self.largest = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def encode_image(self, pixels: torch.Tensor) -> Any:
        if self.encodings <= 0:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        self.encodings -= 1
        return self.network.encode_image(pixels)

    def _enter(self, rows: int) -> None:
        if rows > self.room:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        self.largest = max(self.largest, rows)
        if self.broken is not None:
            raise self.broken

    def recall(self, prepared: Any, bank: Any, slots: Any, frame: int) -> Any:
        self._enter(len(slots))
        return self.network.recall(prepared, bank, slots, frame)

    def decode(self, seen: Any, features: Any, clicks: Any = None, previous: Any = None, *, fresh: bool = False) -> Any:
        self._enter(len(seen) if clicks is None else len(clicks.points))
        return self.network.decode(seen, features, clicks, previous, fresh=fresh)

    def memorise(self, projected: Any, decoded: Any, prompted: Any) -> Any:
        self._enter(len(prompted))
        return self.network.memorise(projected, decoded, prompted)


def guarded(load: Callable[[Place], Any], *places: Place, clock: Clock | None = None, **settings: Any) -> Any:
    tracker = GuardedTracker(load, 4, TrackerConfig(**settings), places, clock or Clock())
    for prompt in PROMPTS:
        tracker.prompt(prompt)
    return tracker
