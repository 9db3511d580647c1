"""Dominant planes of a cloud: seeded RANSAC and least squares; what each plane is, `plane_kinds` tells.

RANSAC after Fischler and Bolles, "Random sample consensus" (1981), in numpy: all hypotheses are scored
at once on a sample of the points, which takes a fraction of the time of Open3D's `segment_plane`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.geometry.depth import depth_sigma_m

Points = NDArray[np.float32]
Mask = NDArray[np.bool_]

_HYPOTHESES = 192
_SCORED = 1200  # points on which hypotheses are compared
_FITTED = 12_000  # points a plane is fitted to at most
_SEED = 20_07
# Depth noise widens a plane's tolerance by this many standard deviations.
_NOISE_SIGMAS = 3.0
_FLOOR_M = 1e-3  # noise that even the nearest readings have
# A first guess is off by a few tolerances at its far end; the last width leaves out low things on the plane.
_WIDTHS = (3.0, 2.0, 1.5, 1.0, 1.0, 0.6)


@dataclass(frozen=True, eq=False)
class Found:
    """A plane and the points that lie on it."""

    normal: NDArray[np.float64]  # (3,) towards the camera
    offset_m: float
    inliers: Mask  # (N,)


def plane_tolerance_m(points: Points, tolerance_m: float, settings: GeometryConfig) -> NDArray[np.float32]:
    """(N,) distance up to which each point counts as lying on a plane: more where depth is noisier."""
    noise = _NOISE_SIGMAS * depth_sigma_m(points[:, 2], settings)
    return np.asarray(np.maximum(noise, tolerance_m), np.float32)


def fit_plane(
    points: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> tuple[NDArray[np.float64], float]:
    """Normal (3,) and offset of the plane of least (weighted) squared distances from points (N, 3), N >= 3.

    The normal points to the origin's side, so that the offset is not negative.
    """
    weight = np.ones(len(points), np.float32) if weights is None else weights.astype(np.float32)
    total = float(weight.sum(dtype=np.float64))
    mean = (weight @ points).astype(np.float64) / total
    centred = points - mean.astype(points.dtype)
    scatter = ((centred * weight[:, None]).T @ centred).astype(np.float64)
    normal = np.linalg.eigh(scatter)[1][:, 0]
    offset = -float(normal @ mean)
    return (-normal, -offset) if offset < 0 else (normal, offset)


def find_planes(
    points: Points,
    tolerance_m: NDArray[np.float32],
    previous: Sequence[tuple[NDArray[np.float64], float]] = (),
    *,
    min_share: float,
    max_planes: int,
) -> list[Found]:
    """Planes that hold at least `min_share` of the points (N, 3), each point on one plane at most.

    The `previous` frame's planes (normal, offset) take part in the search as hypotheses, so that
    planes stay the same ones for as long as they are not beaten; one of them needs only half of
    `min_share`, so that a plane near the limit does not come and go. The seed is fixed: equal input gives
    equal output.
    """
    found: list[Found] = []
    free = np.ones(len(points), np.bool_)
    rng = np.random.default_rng(_SEED)
    old = list(previous)
    while len(found) < max_planes and np.count_nonzero(free) >= 3:
        normals, offsets = _hypotheses(points[free], old, rng)
        best = _best(points[free], tolerance_m[free], normals, offsets, rng)
        here = _refine(points, tolerance_m, free, normals[best], float(offsets[best]))
        known = best < len(old)
        if known:
            del old[best]
        least = max(3.0, min_share * len(points) * (0.5 if known else 1.0))
        if here is not None and np.count_nonzero(here.inliers) >= least:
            found.append(here)
            free &= ~here.inliers
        elif not known:
            break
    return found


def _hypotheses(
    points: Points, previous: Sequence[tuple[NDArray[np.float64], float]], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normals (H, 3) and offsets (H,): the previous planes, then planes through three points each."""
    # Points come in the image's order. Half of the triples are of neighbours: small planes are hit by those.
    count, near = len(points), _HYPOTHESES // 2
    triples = rng.integers(0, count, (_HYPOTHESES, 3))
    reach = max(2, count // 12)
    triples[:near, 1:] = np.clip(triples[:near, :1] + rng.integers(-reach, reach, (near, 2)), 0, count - 1)
    corners = points[triples].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # Three points on a line give a plane of no direction, on which few points lie.
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    offsets = -np.einsum("ij,ij->i", normals, corners[:, 0])
    degenerate = np.linalg.norm(normals, axis=1) < 0.5
    offsets[degenerate] = np.inf
    if previous:
        normals = np.concatenate([np.stack([normal for normal, _ in previous]), normals])
        offsets = np.concatenate([[offset for _, offset in previous], offsets])
    return normals, offsets


def _best(
    points: Points,
    tolerance_m: NDArray[np.float32],
    normals: NDArray[np.float64],
    offsets: NDArray[np.float64],
    rng: np.random.Generator,
) -> int:
    """The hypothesis on which most of a sample of the points lie."""
    some = rng.integers(0, len(points), min(len(points), _SCORED))
    distances = np.abs(points[some] @ normals.T.astype(np.float32) + offsets.astype(np.float32))
    return int(np.count_nonzero(distances < 1.5 * tolerance_m[some, None], axis=0).argmax())


def _refine(
    points: Points, tolerance_m: NDArray[np.float32], free: Mask, normal: NDArray[np.float64], offset: float
) -> Found | None:
    """Refit to the free points within ever smaller multiples of the tolerance; None when they run out."""
    cloud, tolerance = points[free], tolerance_m[free]
    thin = max(1, len(cloud) // _FITTED)
    few, few_tolerance = cloud[::thin], tolerance[::thin]
    for width in _WIDTHS:
        distance = np.abs(few @ normal.astype(np.float32) + np.float32(offset))
        near = distance < np.float32(width) * few_tolerance
        if np.count_nonzero(near) < 3:
            return None
        sigma = np.maximum(few_tolerance[near], np.float32(_FLOOR_M))
        normal, offset = fit_plane(few[near], 1.0 / (sigma * sigma))
    inliers = np.zeros(len(points), np.bool_)
    inliers[free] = np.abs(cloud @ normal.astype(np.float32) + np.float32(offset)) < tolerance
    return Found(normal, offset, inliers)


def plane_axes(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 2) two orthonormal directions along a plane with this normal (3,)."""
    helper = np.eye(3)[int(np.abs(normal).argmin())]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)], axis=1)
