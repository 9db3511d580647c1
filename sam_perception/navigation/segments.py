"""What one obstacle is: box, nearest point, height, and how much of it is not known."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.geometry import depth_sigma_m, oriented_box
from sam_perception.geometry.grid import PixelGrid
from sam_perception.geometry.planes import plane_axes
from sam_perception.scene import ObstacleKind, ObstacleSegment, OrientedBox, Plane

_PATCH_M = 0.04  # readings this close to the nearest one's ray tell how much depth scatters
_LEAST_PATCH = 6
_MEASURED = 3000  # points a box is computed from at most
_TOP_PERCENTILE = 99.0  # of the heights: above are stray readings


def segment_of(
    grid: PixelGrid,
    rgb: NDArray[np.uint8],
    at: NDArray[np.intp],
    kind: ObstacleKind,
    ground: Plane | None,
    settings: GeometryConfig,
) -> ObstacleSegment:
    """The segment of the grid's pixels with flat indices `at` (N,), N >= 1, all with depth; its id is 0 yet."""
    points = grid.points.reshape(-1, 3)[at]
    nearest = nearest_point(points, settings)
    return ObstacleSegment(
        id=0,
        kind=kind,
        points=points,
        colors=rgb.reshape(-1, 3)[grid.index.ravel()[at]],
        box=upright_box(points, ground),
        nearest_point_m=nearest,
        distance_m=float(np.linalg.norm(nearest)),
        ground_distance_m=ground_distance_m(nearest, ground),
        height_m=float("nan") if ground is None else top_m(ground.height_m(points)),
        unknown_share=_unknown_share(grid, at),
    )


def top_m(heights_m: NDArray[np.floating]) -> float:
    """Height of the top of things with points at these heights (N,)."""
    return float(np.percentile(heights_m, _TOP_PERCENTILE))


def nearest_point(points: NDArray[np.float32], settings: GeometryConfig) -> NDArray[np.float64]:
    """The point (3,) of a surface (N, 3) that is nearest to the camera.

    The nearest *reading* of many is too near, by as much as the smallest of so many draws from a normal
    distribution is below its mean; that is added. The readings that compete are those within three
    standard deviations of it. The noise is `depth_noise_m`'s, or what the readings around scatter
    about a plane, if that is less.
    """
    distance = np.linalg.norm(points, axis=1)
    first = int(distance.argmin())
    ray = points[first].astype(np.float64) / float(distance[first])
    sigma = min(float(depth_sigma_m(float(points[first, 2]), settings)), _scatter_m(points, ray))
    competing = int(np.count_nonzero(distance < distance[first] + np.float32(3.0 * sigma)))
    return np.asarray(ray * (float(distance[first]) + sigma * _extreme(competing)), np.float64)


def _extreme(count: int) -> float:
    """Expected largest of `count` draws from a standard normal distribution (Cramer 1946, 28.6), roughly."""
    if count < 2:
        return 0.0
    root = np.sqrt(2.0 * np.log(count))
    return float(max(root - (np.log(np.log(count)) + np.log(4 * np.pi)) / (2.0 * root), 0.5))


def _scatter_m(points: NDArray[np.float32], ray: NDArray[np.float64]) -> float:
    """Standard deviation about a plane of the readings within 4 cm of the ray, along it; 0 for a few."""
    along = points @ ray.astype(np.float32)
    across = points - along[:, None] * ray.astype(np.float32)
    beside = (np.einsum("ij,ij->i", across, across) < _PATCH_M**2) & (along < along.min() + 3 * _PATCH_M)
    if np.count_nonzero(beside) < _LEAST_PATCH:
        return 0.0
    centred = points[beside].astype(np.float64)
    centred -= centred.mean(axis=0)
    return float(np.linalg.svd(centred, compute_uv=False)[2] / np.sqrt(len(centred)))


def ground_distance_m(point: NDArray[np.float64], ground: Plane | None) -> float:
    """Distance along the ground from the camera's foot to the point's (3,); NaN without ground."""
    if ground is None:
        return float("nan")
    return float(np.linalg.norm(point - (point @ ground.normal) * ground.normal))


def upright_box(points: NDArray[np.float32], ground: Plane | None) -> OrientedBox:
    """A box around points (N, 3): standing upright on the ground, its third axis up, where that is known."""
    if ground is None:
        return oriented_box(points)
    up, axes = ground.normal, plane_axes(ground.normal)
    sample = points[:: max(1, len(points) // _MEASURED)]
    _, _, angle = cv2.minAreaRect((sample @ axes.astype(np.float32)).astype(np.float32))
    turn = np.deg2rad(angle)
    first = np.cos(turn) * axes[:, 0] + np.sin(turn) * axes[:, 1]
    rotation = np.stack([first, np.cross(up, first), up], axis=1)
    along = points @ rotation.astype(np.float32)
    low, high = along.min(axis=0).astype(np.float64), along.max(axis=0).astype(np.float64)
    return OrientedBox(rotation @ (0.5 * (low + high)), rotation, high - low)


def _unknown_share(grid: PixelGrid, at: NDArray[np.intp]) -> float:
    """Pixels without usable depth within the convex outline of those at `at`, as a share of the outline."""
    rows, columns = np.divmod(at, grid.valid.shape[1])
    top, left = int(rows.min()), int(columns.min())
    window = (slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1))
    hull = cv2.convexHull(np.stack([columns - left, rows - top], axis=1).astype(np.int32))
    outline = np.zeros(grid.valid[window].shape, np.uint8)
    cv2.fillConvexPoly(outline, hull, 1)
    inside = outline.view(np.bool_)
    return float(np.count_nonzero(inside & ~grid.valid[window]) / np.count_nonzero(inside))


def hole_segments(
    grid: PixelGrid, targets: NDArray[np.bool_], ground: Plane | None, min_hole_px: int, max_depth_m: float
) -> list[ObstacleSegment]:
    """An UNKNOWN segment without points for each large hole in depth that lies over the ground.

    Glass, black and shiny things return no depth, nor does what only one imager of a stereo camera
    sees. All that is known is that it lies somewhere along these rays, at most where they meet the
    ground; the nearest such place is the segment's nearest point, where a thing that stands on the
    ground would have its foot.
    """
    if ground is None:
        return []
    x, y = grid.rays
    falling = ground.normal[0] * x + ground.normal[1] * y + ground.normal[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -ground.offset_m / falling
        holes = ~grid.valid & ~targets & (depth > 0) & (depth < max_depth_m)
    # Chains of single pixels along the edges of things are no holes.
    opened = cv2.morphologyEx(holes.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    found = []
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] * grid.step**2 < min_hole_px:
            continue
        here = labels == label
        feet = np.stack([x[here] * depth[here], y[here] * depth[here], depth[here]], axis=1).astype(np.float64)
        distances = np.linalg.norm(feet, axis=1)
        nearest = feet[int(distances.argmin())]
        found.append(
            ObstacleSegment(
                id=0,
                kind=ObstacleKind.UNKNOWN,
                points=np.zeros((0, 3), np.float32),
                colors=np.zeros((0, 3), np.uint8),
                box=None,
                nearest_point_m=nearest,
                distance_m=float(distances.min()),
                ground_distance_m=ground_distance_m(nearest, ground),
                height_m=float("nan"),
                unknown_share=1.0,
            )
        )
    return found
