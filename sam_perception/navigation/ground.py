"""Which plane is the ground, held from frame to frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.geometry.moved import moved_plane
from sam_perception.geometry.plane_kinds import LEVEL_M, angle_deg, describe_planes, ground_plane
from sam_perception.geometry.planes import Found, Points
from sam_perception.scene import Plane, PlaneKind, SurfaceLabel

Vector = NDArray[np.float64]

# Turning a camera leaves its distance from a plane as it is, so that this tells planes apart best: two
# levels are LEVEL_M apart at least.
_SAME_OFFSET_M = 0.6 * LEVEL_M
_SAME_DEG = 15.0
_SIZE_M = 0.06  # a plane e times as large counts as much against being the same one as this difference in offset
_LEAST_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class _Known:
    id: int
    normal: Vector  # (3,)
    offset_m: float
    points: float  # on it, as a share of all


class GroundTracker:
    """Gives planes ids, and lets the ground change only for a reason that lasts.

    In each frame by itself the ground is the lowest horizontal plane in view, so that a floor of which
    now a little more and now a little less is seen beside a table would make the table ground in one
    frame and table in the next. So the ground stays the plane that it was until `switch_frames` frames
    in a row say otherwise. While it is out of sight its place is known from the planes
    that are above it and still in sight; where none of them is, the frame alone decides.
    """

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self._ground_id = 0
        self._above_m: dict[int, float] = {}  # heights above the ground of planes parallel to it
        self._against = 0  # frames in a row in which another plane would be the ground
        self._next_id = 1

    def forget(self) -> None:
        """Take the next frame for itself; ids are not used again."""
        self._known, self._ground_id, self._above_m, self._against = [], 0, {}, 0

    def expected(self, camera_from_before: NDArray[np.float64] | None = None) -> list[tuple[Vector, float]]:
        """Normals and offsets of the last frame's planes in this frame: hypotheses for `find_planes`.

        `camera_from_before` (4, 4) is the camera's motion since then, if it is known.
        """
        if camera_from_before is not None:
            self._known = [
                _Known(k.id, *moved_plane(k.normal, k.offset_m, camera_from_before), k.points) for k in self._known
            ]
        return [(k.normal, k.offset_m) for k in self._known]

    def update(
        self,
        points: Points,
        found: Sequence[Found],
        up: Vector,
        up_tolerance_deg: float,
        switch_frames: int,
        told: Sequence[SurfaceLabel] = (),
    ) -> tuple[Plane, ...]:
        """The planes of this frame (found among points (N, 3)) with ids and kinds.

        `told` is, for each of them, what the labels of its pixels say; empty: there are none.

        A ground that is known but out of sight is the last of them: no share of the points, no outline.
        """
        ids = self._ids(found)
        alone = ground_plane(points, found, up, up_tolerance_deg, told)
        ground = ids.index(self._ground_id) if self._ground_id in ids else None
        if ground is not None and angle_deg(found[ground].normal, up) > up_tolerance_deg:
            ground, self._ground_id = None, 0
        unseen = self._unseen_ground(found, ids) if ground is None and self._ground_id else None
        against = alone is not None and ids[alone] != self._ground_id
        self._against = self._against + 1 if against else 0
        if (ground is None and unseen is None) or self._against >= switch_frames:
            ground, unseen, self._against = alone, None, 0
            self._ground_id = 0 if alone is None else ids[alone]
        planes = describe_planes(points, found, ground, unseen, told)
        named = [dataclasses.replace(plane, id=i) for plane, i in zip(planes, ids, strict=True)]
        if unseen is not None:
            nothing = np.zeros((0, 3))
            named.append(Plane(*unseen, PlaneKind.GROUND, 0.0, float("nan"), nothing, self._ground_id))
        self._remember(points, found, named)
        return tuple(named)

    def _ids(self, found: Sequence[Found]) -> list[int]:
        """The id of each plane: of the last frame's that it continues (most alike first), or a new one."""
        pairs = sorted(
            (_unlike_m(f, k), i, j)
            for i, f in enumerate(found)
            for j, k in enumerate(self._known)
            if abs(f.offset_m - k.offset_m) < _SAME_OFFSET_M and angle_deg(f.normal, k.normal) < _SAME_DEG
        )
        ids = [0] * len(found)
        for _, i, j in pairs:
            if ids[i] == 0 and self._known[j].id not in ids:
                ids[i] = self._known[j].id
        for i, plane_id in enumerate(ids):
            if plane_id == 0:
                ids[i], self._next_id = self._next_id, self._next_id + 1
        return ids

    def _unseen_ground(self, found: Sequence[Found], ids: Sequence[int]) -> tuple[Vector, float] | None:
        for f, plane_id in zip(found, ids, strict=True):
            if plane_id in self._above_m:
                return f.normal, f.offset_m + self._above_m[plane_id]
        return None

    def _remember(self, points: Points, found: Sequence[Found], planes: Sequence[Plane]) -> None:
        self._known = [_Known(p.id, p.normal, p.offset_m, p.inlier_share) for p in planes]
        ground = next((p for p in planes if p.kind is PlaneKind.GROUND), None)
        if ground is None:
            self._above_m = {}
        elif ground.inlier_share > 0:  # heights above a ground that is seen
            tables = [(p.id, f) for p, f in zip(planes, found, strict=False) if p.kind is PlaneKind.TABLE]
            self._above_m = {i: float(ground.height_m(points[f.inliers]).mean()) for i, f in tables}


def _unlike_m(found: Found, known: _Known) -> float:
    share = max(float(np.mean(found.inliers)), _LEAST_SHARE)
    size = abs(float(np.log(share / max(known.points, _LEAST_SHARE))))
    return abs(found.offset_m - known.offset_m) + _SIZE_M * size
