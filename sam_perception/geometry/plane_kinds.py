"""What each plane is: ground, table, wall or something else, by gravity, height and size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.config import NavigationConfig
from sam_perception.errors import ConfigError
from sam_perception.geometry.planes import Found, Points, plane_axes
from sam_perception.scene import Plane, PlaneKind, SurfaceLabel

Vector = NDArray[np.float64]

LEVEL_M = 0.1  # horizontal planes closer than this are one level: warped depth, books on a table
_PARALLEL_DEG = 8.0
_UPRIGHT_DEG = 12.0
_TABLE_AREA_M2 = 0.12  # smaller horizontal planes are lids of boxes and books
_WALL_EXTENT_M = 0.6  # smaller upright planes are sides of things
_BEHIND_SHARE = 0.1  # of the points may lie behind a wall (doors, windows); behind a thing's side lie more
_OUTLINED = 4000  # points an outline is computed from at most


def up_axis(settings: NavigationConfig) -> Vector:
    """(3,) unit vector of `up_x`, `up_y`, `up_z`, in the camera's optical frame.

    Raises:
        ConfigError: all three are zero.
    """
    up = np.array([settings.up_x, settings.up_y, settings.up_z])
    length = float(np.linalg.norm(up))
    if length < 1e-6:
        raise ConfigError("navigation.up_x, up_y and up_z are all zero: give the direction of up, 0 -1 0 if level")
    return np.asarray(up / length)


def horizontal_plane(found: Sequence[Found], up: Vector, up_tolerance_deg: float) -> int | None:
    """Index of the largest plane whose normal lies within the tolerance of `up` (3,): what is horizontal."""
    candidates = [i for i, f in enumerate(found) if angle_deg(f.normal, up) <= up_tolerance_deg]
    return max(candidates, key=lambda i: np.count_nonzero(found[i].inliers), default=None)


def ground_plane(
    points: Points, found: Sequence[Found], up: Vector, up_tolerance_deg: float, told: Sequence[SurfaceLabel] = ()
) -> int | None:
    """Index of the ground in this frame alone; None where nothing is horizontal.

    The largest horizontal plane, unless another one lies at least 0.1 m lower. `up` (3,) is known to
    within `up_tolerance_deg`. Where labels say of horizontal planes that they are floor, it is the
    largest of those; `told` has, for each plane, what they say.
    """
    floors = [i for i, label in enumerate(told) if label is SurfaceLabel.FLOOR]
    chosen = horizontal_plane([found[i] for i in floors], up, up_tolerance_deg)
    if chosen is not None:
        return floors[chosen]
    largest = horizontal_plane(found, up, up_tolerance_deg)
    if largest is None:
        return None
    levels = _levels_m(points, found, found[largest].normal, found[largest].offset_m)
    lowest = min(levels, key=lambda i: levels[i])
    return lowest if levels[lowest] <= -LEVEL_M else largest


def describe_planes(
    points: Points,
    found: Sequence[Found],
    ground: int | None,
    unseen_ground: tuple[Vector, float] | None = None,
    told: Sequence[SurfaceLabel] = (),
) -> list[Plane]:
    """Tell tables and walls apart, by normal and height above the ground.

    `ground` is the index of the ground among `found`; where it is known but not seen in this frame,
    `unseen_ground` is its normal and offset. Horizontal planes at least 0.1 m above it are TABLEs if they are
    large enough to be one. An upright plane is a WALL if it is large and next to nothing is seen behind it, or
    if labels say so, which are in `told` for each plane; one that they call floor is none.
    """
    base = unseen_ground if ground is None else (found[ground].normal, found[ground].offset_m)
    levels = {} if base is None else _levels_m(points, found, *base)
    planes = []
    for i, f in enumerate(found):
        on, label = points[f.inliers], told[i] if told else SurfaceLabel.UNKNOWN
        outline, area, extent = _outline(on, f.normal, f.offset_m)
        kind = PlaneKind.OTHER
        if i == ground:
            kind = PlaneKind.GROUND
        elif levels.get(i, 0.0) >= LEVEL_M and area >= _TABLE_AREA_M2:
            kind = PlaneKind.TABLE
        elif base is not None and _is_wall(points, f, base[0], extent, label):
            kind = PlaneKind.WALL
        distance = on.astype(np.float64) @ f.normal + f.offset_m
        share = float(np.count_nonzero(f.inliers)) / max(len(points), 1)
        planes.append(Plane(f.normal, f.offset_m, kind, share, float(np.sqrt(np.mean(distance**2))), outline))
    return planes


def _levels_m(points: Points, found: Sequence[Found], normal: Vector, offset_m: float) -> dict[int, float]:
    """Mean height of each plane parallel to a horizontal one, above that one."""
    levels = {}
    for i, f in enumerate(found):
        if angle_deg(f.normal, normal) <= _PARALLEL_DEG:
            mean = points[f.inliers].mean(axis=0, dtype=np.float64)
            levels[i] = float(mean @ normal + offset_m)
    return levels


def _is_wall(points: Points, plane: Found, vertical: Vector, extent_m: float, told: SurfaceLabel) -> bool:
    if abs(angle_deg(plane.normal, vertical) - 90.0) > _UPRIGHT_DEG:
        return False
    if told is not SurfaceLabel.UNKNOWN:
        return told is SurfaceLabel.WALL
    if extent_m < _WALL_EXTENT_M:
        return False
    behind = points @ plane.normal.astype(np.float32) + np.float32(plane.offset_m) < -0.05
    return bool(np.count_nonzero(behind & ~plane.inliers) <= _BEHIND_SHARE * len(points))


def angle_deg(a: Vector, b: Vector) -> float:
    """Angle between two unit vectors (3,)."""
    return float(np.degrees(np.arccos(np.clip(a @ b, -1.0, 1.0))))


def _outline(points: Points, normal: Vector, offset: float) -> tuple[NDArray[np.float64], float, float]:
    """Convex outline (K, 3) of points on a plane, its area and its longest extent along the plane's axes."""
    axes = plane_axes(normal)
    flat = (points[:: max(1, len(points) // _OUTLINED)] @ axes.astype(np.float32)).astype(np.float32)
    hull = cv2.convexHull(flat)
    area, rectangle = float(cv2.contourArea(hull)), cv2.minAreaRect(hull)
    return hull[:, 0].astype(np.float64) @ axes.T - offset * normal, area, float(max(rectangle[1]))
