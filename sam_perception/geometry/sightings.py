"""Where objects were last seen, and what depth shows there now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.geometry.camera import ray_grid
from sam_perception.geometry.depth import depth_evidence, depth_valid, quantile
from sam_perception.scene import DepthEvidence, Placement, Track


@dataclass(frozen=True, eq=False)
class _Sighting:
    """The mask is cropped to `window` of an image of `shape`."""

    shape: tuple[int, int]
    window: tuple[slice, slice]
    mask: NDArray[np.bool_]
    depth_m: float  # median, NaN without valid depth


class Sightings:
    """The place of each object in the last frame in which it was visible."""

    def __init__(self) -> None:
        self._places: dict[int, _Sighting] = {}

    def remember(
        self, frame: RgbdFrame, tracks: Sequence[Track], settings: GeometryConfig, resting: Collection[int] = ()
    ) -> dict[int, Placement]:
        """Take the places of the visible ones among `tracks`; objects that are not among them are forgotten.

        The masks of those `resting` are of an earlier frame: their places stand.

        Returns:
            By object id, where depth puts the visible ones in this frame.
        """
        known = {track.id for track in tracks}
        self._places = {i: place for i, place in self._places.items() if i in known}
        seen: list[int] = []
        for track in tracks:
            if track.state.visible and track.id not in resting:
                self._places[track.id] = _sighting(frame, track, settings)
                seen.append(track.id)
        placed = ((i, _placement(self._places[i], frame.intrinsics)) for i in seen)
        return {i: placement for i, placement in placed if placement is not None}

    def evidence(self, frame: RgbdFrame, settings: GeometryConfig) -> dict[int, DepthEvidence]:
        """What `frame` shows at each object's place; nothing for places in an image of another size."""
        shape = (frame.height, frame.width)
        return {
            object_id: depth_evidence(frame.depth_m[place.window], place.mask, place.depth_m, settings)
            for object_id, place in self._places.items()
            if place.shape == shape
        }

    def forget(self, object_id: int) -> None:
        """Forget one object's place, if there is one."""
        self._places.pop(object_id, None)

    def clear(self) -> None:
        """Forget all places."""
        self._places.clear()


def _sighting(frame: RgbdFrame, track: Track, settings: GeometryConfig) -> _Sighting:
    x, y, width, height = track.roi
    window = (slice(y, y + height), slice(x, x + width))
    mask = track.mask[window].copy()  # a view would keep the whole frame's masks alive
    depths = frame.depth_m[window][mask]
    depths = depths[depth_valid(depths, settings)]
    middle = quantile(depths, 0.5) if depths.size else float("nan")
    return _Sighting((frame.height, frame.width), window, mask, middle)


def _placement(place: _Sighting, camera: CameraIntrinsics) -> Placement | None:
    """The middle of the mask at the median of its depth; None without depth, or outside what the lens model covers."""
    if not np.isfinite(place.depth_m):
        return None
    down, across = (np.count_nonzero(place.mask, axis=axis) for axis in (1, 0))
    v = place.window[0].start + _median_index(down)
    u = place.window[1].start + _median_index(across)
    ray = ray_grid(camera)[:, v, u]
    if not np.isfinite(ray).all():
        return None
    x, y = (float(c) * place.depth_m for c in ray)
    return Placement((x, y, place.depth_m), place.depth_m * float(np.sqrt(down.sum() / (camera.fx * camera.fy))))


def _median_index(counts: NDArray[np.intp]) -> int:
    """The median, rounded down, of numbers of which `counts` has how often each occurs."""
    below = np.cumsum(counts)
    middle = np.searchsorted(below, ((below[-1] - 1) // 2, below[-1] // 2), side="right")
    return int(middle.sum()) // 2
