"""Oriented boxes around clouds."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from sam_perception.scene import OrientedBox

Matrix = NDArray[np.float64]

_DIRECTIONS = 192  # in which the farthest points are looked for
_BLOCK = 8  # of them at once
_SAMPLE = 8000  # points among which they are looked for
_NORMALS = 48  # hull faces tried as the box's base, largest first
# Edges are compared with this much added, relative to the largest, so that among flat boxes,
# all of volume zero, the one of least area wins, and among lines the shortest.
_THICKNESS = 1e-3


def oriented_box(points: NDArray[np.floating]) -> OrientedBox:
    """A box of nearly least volume that contains all points (N, 3), N >= 1, in their frame and unit.

    A least box has a face flush with the convex hull (O'Rourke 1985: two adjacent ones with
    an edge each). So each large face of the hull is tried as base, and the principal axes,
    which serve planes and lines too; on each base the rectangle of least area closes the box.
    The hull is that of the farthest points in 192 directions among about 8000, which saves much
    time and costs about a per cent of volume; the box's extent is then taken from all points.

    The axes are right-handed and ordered by length, the longest first; the first two point so
    that their largest component is positive. Equal points always give an equal box. Points that
    lie on a plane, on a line or in one place give edges of length zero, not an error.
    """
    # One row per coordinate: numpy's minima and products over long rows are ten times faster.
    cloud = np.array(np.asarray(points).T, dtype=np.float64, order="C")
    origin = cloud.mean(axis=1, keepdims=True)
    cloud -= origin
    axes = _least_axes(_extremes(cloud))
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


def _extremes(cloud: Matrix) -> Matrix:
    """The farthest points (V, 3) in each direction and against it, of every k-th point of a large cloud (3, N)."""
    sample = cloud[:, :: max(1, cloud.shape[1] // _SAMPLE)]
    # float32 halves the time of the largest product here; which of two equally far points
    # is taken does not matter, as the extent is measured on all of them. In blocks, a product is too
    # small for the BLAS to spread over threads, which wait for each other while the models compute.
    points, found = sample.astype(np.float32), []
    for block in np.split(_directions().astype(np.float32), _DIRECTIONS // _BLOCK):
        along = block @ points
        found += [along.argmin(axis=1), along.argmax(axis=1)]
    farthest: Matrix = sample[:, np.unique(np.concatenate(found))].T
    return farthest


def _base_normals(extremes: Matrix) -> Matrix:
    """Directions (K, 3) to try as the normal of the box's base."""
    principal = np.linalg.svd(extremes - extremes.mean(axis=0), full_matrices=True)[2]
    try:
        hull = ConvexHull(extremes)
    except (QhullError, ValueError):  # flat, straight, or too few points: the principal axes are all there is
        return np.asarray(principal)
    a, b, c = (extremes[hull.simplices[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    largest = np.argsort(-area, kind="stable")[:_NORMALS]
    return np.concatenate([principal, hull.equations[largest, :3]])


def _least_axes(extremes: Matrix) -> Matrix:
    """Axes (3, 3, columns) of the least box on any of the base normals."""
    normals = _base_normals(extremes)
    helpers = np.eye(3)[np.abs(normals).argmin(axis=1)]
    first = np.cross(normals, helpers)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    angles = _rectangle_angles(extremes, first, np.cross(normals, first))
    x = np.cos(angles) * first + np.sin(angles) * np.cross(normals, first)
    axes = np.stack([x, np.cross(normals, x), normals], axis=2)
    edges = np.ptp(extremes @ axes, axis=1)
    volumes = np.prod(edges + _THICKNESS * edges.max(axis=1, keepdims=True), axis=1)
    # Rounding must not choose between boxes of equal volume.
    best: Matrix = axes[np.flatnonzero(volumes <= volumes.min() * (1.0 + 1e-9))[0]]
    return best


def _rectangle_angles(extremes: Matrix, first: Matrix, second: Matrix) -> Matrix:
    """Turn (K, 1), radians, of the least rectangle around the points on each plane (K, 3), (K, 3)."""
    scale = float(np.abs(extremes).max()) or 1.0
    on_planes = np.stack([first @ extremes.T, second @ extremes.T], axis=2) / scale
    degrees = [cv2.minAreaRect(on_plane)[2] for on_plane in on_planes.astype(np.float32)]
    angles: Matrix = np.deg2rad(np.array(degrees, dtype=np.float64))[:, None]
    return angles


def _right_handed(axes: Matrix) -> Matrix:
    """Orthonormal axes with their signs fixed: see `oriented_box`."""
    x, y = (axes[:, i] * (1.0 if axes[np.abs(axes[:, i]).argmax(), i] > 0 else -1.0) for i in range(2))
    return np.stack([x, y, np.cross(x, y)], axis=1)
