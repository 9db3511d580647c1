"""Where a gripper could close: poses to be judged, not yet known to be good.

A candidate is a rotation with the columns approach, closing and their cross product, and the place of
the finger tips' middle; the place along the closing direction is corrected later, when it is known what lies between
the fingers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.geometry.planes import plane_axes
from sam_perception.manipulation.gripper import Gripper
from sam_perception.manipulation.space import Space
from sam_perception.scene import GraspKind

Array = NDArray[np.float64]

_YAWS = np.deg2rad(np.arange(0.0, 180.0, 15.0))
_SHIFTS = (0.0, -0.25, 0.25)  # along the fingers' width, in parts of the object's extent
_SIDE_TURNS = np.deg2rad([0.0, -20.0, 20.0, -40.0, 40.0, -60.0, 60.0])  # away from the line of sight
_SIDE_HEIGHTS = (0.5, 0.7, 0.35)  # in parts of the object's height
_LEAST_ELEVATION = 0.17  # sine of 10 degrees: seen flatter than this, the top is not seen
_BEYOND_M = 0.008  # tips reach this far beyond the contacts
_PAIRS = 20
_PAIR_POINTS = 140
_MIN_WIDTH_M = 0.004


@dataclass(frozen=True, eq=False)
class Candidates:
    """K poses of one kind."""

    kind: GraspKind
    rotations: Array  # (K, 3, 3) columns: approach, closing, their cross product
    tips: Array  # (K, 3) middle between the finger tips, up to a shift along the closing direction


def _stack(kind: GraspKind, poses: list[tuple[Array, Array, Array]]) -> Candidates:
    """Candidates of (approach, closing, tip) triples."""
    if not poses:
        return Candidates(kind, np.zeros((0, 3, 3)), np.zeros((0, 3)))
    x, y, tips = (np.stack(part) for part in zip(*poses, strict=True))
    return Candidates(kind, np.stack([x, y, np.cross(x, y)], axis=2), tips)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def _footprint_axes(space: Space, up: Array) -> Array:
    """(3, 2) directions of the sides of the least rectangle around the object, seen from above."""
    axes = plane_axes(up)
    _, _, angle = cv2.minAreaRect((space.own @ axes.astype(np.float32)).astype(np.float32))
    turn = np.deg2rad(angle)
    first = np.cos(turn) * axes[:, 0] + np.sin(turn) * axes[:, 1]
    return np.stack([first, np.cross(up, first)], axis=1)


def top_down(space: Space, gripper: Gripper, clearance_m: float) -> Candidates:
    """From above: the tips as low as the finger's depth and the support allow.

    None where the camera is not above the object's top: then the top is not seen, nor how far it reaches.
    """
    if space.support is None:
        return _stack(GraspKind.TOP_DOWN, [])
    up, heights = space.support.normal, space.support.height_m(space.own)
    top = float(np.percentile(heights, 99.0))
    distance = float(np.linalg.norm(space.own.mean(axis=0)))
    if space.support.offset_m - top < _LEAST_ELEVATION * distance:
        return _stack(GraspKind.TOP_DOWN, [])
    sides = _footprint_axes(space, up)
    across = _unit(np.cross(up, space.view))
    closings = [sides[:, 0], sides[:, 1], across, np.cross(up, across)]
    closings += [np.cos(yaw) * across + np.sin(yaw) * np.cross(up, across) for yaw in _YAWS[1:]]
    poses = []
    for closing in closings:
        along = np.cross(-up, closing)
        b = space.own @ along.astype(np.float32)
        low, high = float(b.min()), float(b.max())
        for shift in _SHIFTS:
            place = 0.5 * (low + high) + shift * (high - low)
            under_palm = np.abs(b - place) < gripper.palm_thickness_m / 2
            if not under_palm.any():
                continue
            highest = float(np.percentile(heights[under_palm], 99.0))
            tip = max(clearance_m, highest + clearance_m - gripper.finger_depth_m)
            origin = place * along + (tip - space.support.offset_m) * up
            poses.append((-up, closing, origin))
    return _stack(GraspKind.TOP_DOWN, poses)


def side(space: Space, gripper: Gripper, clearance_m: float) -> Candidates:
    """Along the ground, from the side that is seen; the tips reach a little beyond the widest place that is seen."""
    if space.support is None:
        return _stack(GraspKind.SIDE, [])
    up, heights = space.support.normal, space.support.height_m(space.own)
    ahead = space.view - (space.view @ up) * up
    if float(np.linalg.norm(ahead)) < 0.2:  # seen from above: no side is seen
        return _stack(GraspKind.SIDE, [])
    ahead = _unit(ahead)
    right = np.cross(ahead, up)
    sides = _footprint_axes(space, up)
    approaches = [np.cos(turn) * ahead + np.sin(turn) * right for turn in _SIDE_TURNS]
    approaches += [s * np.sign(s @ ahead) for s in sides.T if abs(s @ ahead) > 0.5]
    top = float(np.percentile(heights, 99.0))
    poses = []
    for approach in approaches:
        closing = np.cross(up, approach)
        a, c = (space.own @ v.astype(np.float32) for v in (approach, closing))
        for part in _SIDE_HEIGHTS:
            level = np.abs(heights - part * top) < gripper.finger_width_m / 2
            if np.count_nonzero(level) < 8:
                continue
            front = float(np.percentile(a[level], 1.0))
            low, high = float(c[level].min()), float(c[level].max())
            rim = level & ((c < low + 0.005) | (c > high - 0.005))
            wanted = max(float(a[rim].max()) + _BEYOND_M, front + 0.018)
            tip = min(wanted, front + gripper.finger_depth_m - clearance_m)
            origin = tip * approach + 0.5 * (low + high) * closing + (part * top - space.support.offset_m) * up
            poses.append((approach, closing, origin))
    return _stack(GraspKind.SIDE, poses)


def antipodal(space: Space, gripper: Gripper, friction: float) -> Candidates:
    """On pairs of opposite patches of the visible surface, each within the other's friction cone.

    Both contacts are seen, so their distance is known. After Chen and Burdick, "Finding antipodal point grasps on
    irregularly shaped objects" (1993), on points with normals instead of outlines.
    """
    stride = max(1, len(space.own) // _PAIR_POINTS)
    points, normals = space.own[::stride].astype(np.float64), space.normals[::stride].astype(np.float64)
    between = points[None] - points[:, None]  # from i to j
    width = np.linalg.norm(between, axis=2)
    direction = between / np.maximum(width, 1e-9)[..., None]
    inward = -np.einsum("ik,ijk->ij", normals, direction)
    outward = np.einsum("jk,ijk->ij", normals, direction)
    worst = np.minimum(inward, outward)
    worst[(width < _MIN_WIDTH_M) | (width > gripper.max_opening_m)] = -1.0
    worst[np.tril_indices(len(points))] = -1.0
    best = np.argsort(-worst, axis=None, kind="stable")[:_PAIRS]
    limit = 1.0 / np.sqrt(1.0 + friction * friction)  # cosine of the friction cone's half angle
    poses = []
    toward = [space.view]
    if space.support is not None:
        toward += [-space.support.normal, _unit(space.view - space.support.normal)]
    for i, j in zip(*np.unravel_index(best, worst.shape), strict=True):
        if worst[i, j] < limit:
            break
        closing = direction[i, j]
        for wish in toward:
            approach = wish - (wish @ closing) * closing
            if np.linalg.norm(approach) > 0.5:
                approach = _unit(approach)
                poses.append((approach, closing, 0.5 * (points[i] + points[j]) + _BEYOND_M * approach))
    return _stack(GraspKind.ANTIPODAL, poses)
