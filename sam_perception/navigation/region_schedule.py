"""When pictures are cut up for obstacles: at a rate, and a little of it with every frame."""

from __future__ import annotations

from collections.abc import Callable, Generator

from sam_perception.frame import RgbdFrame
from sam_perception.navigation.obstacles import ObstacleMap
from sam_perception.navigation.things import ClusterView
from sam_perception.scene import Regions

Search = Generator[float, None, Regions]

_ROUNDING = 1e-6


class RegionSchedule:
    """Cuts up one picture per period, by as many steps with each frame as are due, and tells an `ObstacleMap`.

    By stamps alone, so that equal recordings give equal obstacles. A picture's regions come about a
    period after it, and what they say about its clusters is carried to where these are by then.

    Args:
        search: cuts a frame up in steps, of which each says what share is done.
    """

    def __init__(self, search: Callable[[RgbdFrame], Search]) -> None:
        self._search = search
        self._under_way: tuple[Search, ClusterView] | None = None
        self._begun_ns: int | None = None

    def reset(self) -> None:
        """Begin anew with the next frame."""
        self._under_way = self._begun_ns = None

    def advance(self, frame: RgbdFrame, obstacles: ObstacleMap, rate_hz: float) -> None:
        """After `obstacles` was updated with the frame: the steps that are due now.

        Raises:
            PerceptionError: what the search raises; the next one begins after a period.
        """
        stamp_ns = frame.stamp_ns
        view = obstacles.view
        if self._under_way is None:
            waited = self._begun_ns is None or (stamp_ns - self._begun_ns) * 1e-9 * rate_hz >= 1.0
            if not waited or view is None:
                return
            self._under_way, self._begun_ns = (self._search(frame), view), stamp_ns
        search, seen = self._under_way
        due = 0.0 if self._begun_ns is None else (stamp_ns - self._begun_ns) * 1e-9 * rate_hz
        try:
            while True:
                if next(search) >= due - _ROUNDING:
                    return
        except StopIteration as end:
            regions: Regions = end.value
            self._under_way = None
            obstacles.learn(seen, [region.mask for region in regions.regions])
        except Exception:
            self._under_way = None
            raise
