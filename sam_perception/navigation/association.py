"""The same ids for the same obstacles from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sam_perception.config import NavigationConfig

_NEVER = 1e6


@dataclass(frozen=True, eq=False)
class Extent:
    """Where a segment is, as an axis-aligned box in the frame that segments are compared in."""

    low_m: NDArray[np.float64]  # (3,)
    high_m: NDArray[np.float64]  # (3,)
    group: str  # only segments of one group can be the same


def extent_of(points: NDArray[np.floating], group: str) -> Extent:
    """Extent of points (N, 3), N >= 1."""
    return Extent(points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64), group)


@dataclass(frozen=True, eq=False)
class _Known:
    id: int
    extent: Extent
    unseen: int


class Association:
    """Gives segments ids that stay the same as long as the segments are seen.

    Segments of two frames are the same if their boxes overlap or are near each other and their middles
    are no farther apart than their size and `match_distance_m` explain; each segment is matched at most
    once, so that the sum of distances is least (Hungarian method). Without the camera's motion this
    is all that is known: a camera that jumps, or things that swap places between two frames, get
    new or swapped ids. Ids count up and are never used again.
    """

    def __init__(self, settings: NavigationConfig) -> None:
        self._settings = settings
        self._known: list[_Known] = []
        self._next_id = 1

    def reconfigure(self, settings: NavigationConfig) -> None:
        """Use other settings from the next frame on."""
        self._settings = settings

    def assign(self, extents: Sequence[Extent]) -> list[int]:
        """An id for each segment of this frame, in their order."""
        costs = self._costs(extents)
        ids = [0] * len(extents)
        if costs.size:
            for row, column in zip(*linear_sum_assignment(costs), strict=True):
                if costs[row, column] < _NEVER:
                    ids[column] = self._known[row].id
        for i, known_id in enumerate(ids):
            if known_id == 0:
                ids[i], self._next_id = self._next_id, self._next_id + 1
        seen = {i: _Known(i, e, 0) for i, e in zip(ids, extents, strict=True)}
        lost = [_Known(k.id, k.extent, k.unseen + 1) for k in self._known if k.id not in seen]
        self._known = [*seen.values(), *(k for k in lost if k.unseen <= self._settings.forget_frames)]
        return ids

    def _costs(self, extents: Sequence[Extent]) -> NDArray[np.float64]:
        """(K, N) cost of each known segment being each of these."""
        if not self._known or not extents:
            return np.zeros((0, 0))
        low_a, high_a = (
            np.stack(v)[:, None] for v in zip(*((k.extent.low_m, k.extent.high_m) for k in self._known), strict=True)
        )
        low_b, high_b = (np.stack(v)[None, :] for v in zip(*((e.low_m, e.high_m) for e in extents), strict=True))
        gap = np.linalg.norm(np.maximum(np.maximum(low_a - high_b, low_b - high_a), 0.0), axis=2)
        apart = np.linalg.norm(0.5 * (low_a + high_a - low_b - high_b), axis=2)
        sizes = np.linalg.norm(high_a - low_a, axis=2) + np.linalg.norm(high_b - low_b, axis=2)
        limit = self._settings.match_distance_m
        groups = np.array([k.extent.group for k in self._known])[:, None] == np.array([e.group for e in extents])
        possible = groups & (gap <= limit) & (apart <= limit + 0.5 * sizes)
        return np.where(possible, gap + 0.25 * apart, _NEVER)
