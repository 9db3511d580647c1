"""Oriented boxes around clouds."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from sam_perception.scene import OrientedBox

Matrix = NDArray[np.float64]

_DIRECTIONS = 64  # in which the farthest points are looked for
_BLOCK = 8  # of them at once
_SAMPLE = 8000  # points among which they are looked for
_RIM_SAMPLE, _INNER_SAMPLE = 2000, 1500  # the same where the rim is known: of it, and of all points
_NORMALS = 16  # hull faces tried as the box's base, largest first
# Edges are compared with this much added, relative to the largest, so that among flat boxes,
# all of volume zero, the one of least area wins, and among lines the shortest.
_THICKNESS = 1e-3
_ROUNDING = 1e-3  # of a volume from single-precision rectangles


def oriented_box(points: NDArray[np.floating], rim: NDArray[np.bool_] | None = None) -> OrientedBox:
    """A box of nearly least volume that contains all points (N, 3), N >= 1, in their frame and unit.

    A least box has a face flush with the convex hull (O'Rourke 1985: two adjacent ones with
    an edge each). So each large face of the hull is tried as base, and the principal axes,
    which serve planes and lines too; on each base the rectangle of least area closes the box.
    The hull is that of the farthest points in 64 directions among about 8000, or among
    the rim's and a few others, as corners are on the rim of what is seen; that saves much time and costs
    one per cent of volume on average. The box's extent is then taken from all points.

    The axes are right-handed and ordered by length, the longest first; the first two point so
    that their largest component is positive. Equal points always give an equal box. Points that
    lie on a plane, on a line or in one place give edges of length zero, not an error.

    Args:
        points: (N, 3).
        rim: (N,) which of them border on a pixel that is not among them, where they come from an image.
    """
    # One row per coordinate: numpy's minima and products over long rows are ten times faster.
    cloud = np.array(np.asarray(points).T, dtype=np.float64, order="C")
    origin = cloud.mean(axis=1, keepdims=True)
    cloud -= origin
    axes = _least_axes(_extremes(_sampled(cloud, rim)))
    along = np.einsum("ji,jn->in", axes, cloud)
    low, high = along.min(axis=1), along.max(axis=1)
    order = np.argsort(low - high, kind="stable")
    rotation = _right_handed(axes[:, order])
    signs = np.sign((rotation * axes[:, order]).sum(axis=0))
    middle = signs * 0.5 * (low + high)[order]
    return OrientedBox(origin[:, 0] + rotation @ middle, rotation, (high - low)[order])


@lru_cache(maxsize=1)
def _directions() -> Matrix:
    """Unit vectors (K, 3) spread evenly over half of the sphere, on a golden spiral."""
    i = np.arange(_DIRECTIONS)
    z = (i + 0.5) / _DIRECTIONS
    angle = i * np.pi * (3.0 - np.sqrt(5.0))
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def _sampled(cloud: Matrix, rim: NDArray[np.bool_] | None) -> Matrix:
    """Some of the points (3, N), evenly taken, among which the farthest are looked for."""
    if rim is None:
        return cloud[:, :: max(1, cloud.shape[1] // _SAMPLE)]
    border = np.flatnonzero(rim)
    taken = np.zeros(cloud.shape[1], np.bool_)
    taken[border[:: 1 + border.size // _RIM_SAMPLE]] = True
    taken[:: max(1, cloud.shape[1] // _INNER_SAMPLE)] = True
    return cloud.take(np.flatnonzero(taken), axis=1)


def _extremes(sample: Matrix) -> Matrix:
    """The farthest of the points (3, N) in each direction and against it, (V, 3)."""
    # float32 halves the time of the largest product here; which of two equally far points
    # is taken does not matter, as the extent is measured on all of them. In blocks, a product is too
    # small for the BLAS to spread over threads, which wait for each other while the models compute.
    points, found = sample.astype(np.float32), []
    for block in np.split(_directions().astype(np.float32), _DIRECTIONS // _BLOCK):
        along = block @ points
        found += [along.argmin(axis=1), along.argmax(axis=1)]
    farthest: Matrix = sample[:, np.unique(np.concatenate(found))].T
    return farthest


def _principal_axes(extremes: Matrix) -> Matrix:
    """Directions (3, 3) of the points' variances, the largest first, as rows."""
    centred = extremes - extremes.mean(axis=0)
    axes: Matrix = np.linalg.eigh(centred.T @ centred)[1].T[::-1]
    return axes


def _bases(extremes: Matrix) -> tuple[Matrix, Matrix]:
    """Directions (K, 3) to try as the normal of the box's base, and the area (K,) of the hull seen along each.

    The shadow of a convex body has the area that its faces have across the light, added up and
    halved (Cauchy). Without a hull nothing is known of it: zero.
    """
    principal = _principal_axes(extremes)
    try:
        hull = ConvexHull(extremes)
    except (QhullError, ValueError):  # flat, straight, or too few points: the principal axes are all there is
        return principal, np.zeros(len(principal))
    a, b, c = (extremes[hull.simplices[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    faces = hull.equations[:, :3]
    normals = np.concatenate([principal, faces[np.argsort(-area, kind="stable")[:_NORMALS]]])
    return normals, 0.5 * np.abs(normals @ faces.T) @ area


def _least_axes(extremes: Matrix) -> Matrix:
    """Axes (3, 3, columns) of the least box on any of the base normals."""
    normals, shadows = _bases(extremes)
    first = np.cross(normals, np.eye(3)[np.abs(normals).argmin(axis=1)])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normals, first)
    points = np.ascontiguousarray(extremes.T)
    tried, angles = _rectangles(points, normals, first, second, shadows)
    first, second, normals = first[tried], second[tried], normals[tried]
    x = np.cos(angles) * first + np.sin(angles) * second
    axes = np.stack([x, np.cross(normals, x), normals], axis=2)
    along = axes.transpose(0, 2, 1) @ points
    edges = along.max(axis=2) - along.min(axis=2)
    volumes = np.prod(edges + _THICKNESS * edges.max(axis=1, keepdims=True), axis=1)
    # Rounding must not choose between boxes of equal volume.
    best: Matrix = axes[np.flatnonzero(volumes <= volumes.min() * (1.0 + 1e-9))[0]]
    return best


def _rectangles(
    points: Matrix, normals: Matrix, first: Matrix, second: Matrix, shadows: Matrix
) -> tuple[NDArray[np.intp], Matrix]:
    """Which bases (B,) may carry the least box, ascending, and the turn (B, 1), radians, of each one's rectangle.

    A box is no smaller than its height times its base's shadow, so that bases whose shadow alone is
    too much need no rectangle; those that promise least come first.
    """
    scale = float(np.abs(points).max()) or 1.0
    on_planes = np.stack([first @ points, second @ points], axis=2) / scale
    along = normals @ points / scale
    heights = along.max(axis=1) - along.min(axis=1)
    least, tried = np.inf, {}
    flat = on_planes.astype(np.float32)
    promised = heights * (shadows / scale / scale)  # not by its square, which is zero for very small clouds
    for base in np.argsort(promised, kind="stable"):
        if promised[base] > least:
            break
        _, (width, height), degrees = cv2.minAreaRect(flat[base])
        tried[int(base)] = degrees
        thickness = _THICKNESS * max(width, height, heights[base])
        volume = (width + thickness) * (height + thickness) * (heights[base] + thickness)
        least = min(least, volume * (1.0 + _ROUNDING))
    bases = sorted(tried)
    return np.array(bases, np.intp), np.deg2rad(np.array([tried[b] for b in bases]))[:, None]


def _right_handed(axes: Matrix) -> Matrix:
    """Orthonormal axes with their signs fixed: see `oriented_box`."""
    x, y = (axes[:, i] * (1.0 if axes[np.abs(axes[:, i]).argmax(), i] > 0 else -1.0) for i in range(2))
    return np.stack([x, y, np.cross(x, y)], axis=1)
