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
_DEEP_M = 0.018  # and at least this far beyond the front
_RIM_M = 0.005  # what is this close to the extremes is where the fingers will touch
_LEAST_LEVEL = 8  # points at the height of the fingers
_PAIRS = 16
_PAIR_POINTS = 110
_MIN_WIDTH_M = 0.004


@dataclass(frozen=True, eq=False)
class Candidates:
    """K poses of one kind."""

    kind: GraspKind
    rotations: Array  # (K, 3, 3) columns: approach, closing, their cross product
    tips: Array  # (K, 3) middle between the finger tips, up to a shift along the closing direction


def _candidates(kind: GraspKind, approach: Array, closing: Array, tips: Array) -> Candidates:
    """Candidates of approaches, closing directions and tips, (K, 3) each."""
    return Candidates(kind, np.stack([approach, closing, np.cross(approach, closing)], axis=2), tips)


def _none(kind: GraspKind) -> Candidates:
    return Candidates(kind, np.zeros((0, 3, 3)), np.zeros((0, 3)))


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
        return _none(GraspKind.TOP_DOWN)
    up, heights = space.support.normal, space.support.height_m(space.own)
    top = float(np.percentile(heights, 99.0))
    distance = float(np.linalg.norm(space.own.mean(axis=0)))
    if space.support.offset_m - top < _LEAST_ELEVATION * distance:
        return _none(GraspKind.TOP_DOWN)
    sides = _footprint_axes(space, up)
    across = _unit(np.cross(up, space.view))
    ahead = np.cross(up, across)
    turns = [np.cos(yaw) * across + np.sin(yaw) * ahead for yaw in _YAWS]
    closing = np.stack([sides[:, 0], sides[:, 1], ahead, *turns])
    along = np.cross(-up, closing)
    b = space.own @ along.T.astype(np.float32)  # (P, K)
    low, high = b.min(axis=0), b.max(axis=0)
    tips = []
    for shift in _SHIFTS:
        place = 0.5 * (low + high) + shift * (high - low)
        under_palm = np.abs(b - place) < gripper.palm_thickness_m / 2
        highest = np.where(under_palm, heights[:, None], 0.0).max(axis=0)
        height = np.maximum(clearance_m, highest + clearance_m - gripper.finger_depth_m)
        tips.append(place[:, None] * along + (height - space.support.offset_m)[:, None] * up)
    count = len(_SHIFTS) * len(closing)
    closings = np.concatenate([closing] * len(_SHIFTS))
    return _candidates(GraspKind.TOP_DOWN, np.tile(-up, (count, 1)), closings, np.concatenate(tips))


def side(space: Space, gripper: Gripper, clearance_m: float) -> Candidates:
    """Along the ground, from the side that is seen; the tips reach a little beyond the widest place that is seen."""
    if space.support is None:
        return _none(GraspKind.SIDE)
    up, heights = space.support.normal, space.support.height_m(space.own)
    ahead = space.view - (space.view @ up) * up
    if float(np.linalg.norm(ahead)) < 0.2:  # seen from above: no side is seen
        return _none(GraspKind.SIDE)
    ahead = _unit(ahead)
    right = np.cross(ahead, up)
    sides = _footprint_axes(space, up)
    turned = [np.cos(turn) * ahead + np.sin(turn) * right for turn in _SIDE_TURNS]
    approach = np.stack([*turned, *(s * np.sign(s @ ahead) for s in sides.T if abs(s @ ahead) > 0.5)])
    closing = np.cross(up, approach)
    a, c = (space.own @ v.T.astype(np.float32) for v in (approach, closing))  # (P, K)
    top = float(np.percentile(heights, 99.0))
    tips = []
    for part in _SIDE_HEIGHTS:
        level = np.abs(heights - part * top) < gripper.finger_width_m / 2
        if np.count_nonzero(level) < _LEAST_LEVEL:
            continue
        ahead_of, across = a[level], c[level]
        front = np.partition(ahead_of, 2, axis=0)[2]  # two readings may be stray
        low, high = across.min(axis=0), across.max(axis=0)
        rim = (across < low + _RIM_M) | (across > high - _RIM_M)
        wanted = np.maximum(np.where(rim, ahead_of, -np.inf).max(axis=0) + _BEYOND_M, front + _DEEP_M)
        reach = np.minimum(wanted, front + gripper.finger_depth_m - clearance_m)
        height = part * top - space.support.offset_m
        tips.append(reach[:, None] * approach + (0.5 * (low + high))[:, None] * closing + height * up)
    if not tips:
        return _none(GraspKind.SIDE)
    approaches, closings = (np.concatenate([v] * len(tips)) for v in (approach, closing))
    return _candidates(GraspKind.SIDE, approaches, closings, np.concatenate(tips))


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
    best = np.argpartition(-worst, _PAIRS, axis=None)[:_PAIRS] if worst.size > _PAIRS else np.arange(worst.size)
    limit = 1.0 / np.sqrt(1.0 + friction * friction)  # cosine of the friction cone's half angle
    i, j = np.unravel_index(best[worst.ravel()[best] >= limit], worst.shape)
    closing = np.repeat(direction[i, j], 3, axis=0)
    up = -space.view if space.support is None else space.support.normal
    wishes = np.stack([space.view, -up, _unit(space.view - up)])
    approach = np.tile(wishes, (len(i), 1))
    approach = approach - np.einsum("ki,ki->k", approach, closing)[:, None] * closing
    length = np.linalg.norm(approach, axis=1)
    good = length > 0.5
    approach = approach[good] / length[good, None]
    middle = np.repeat(0.5 * (points[i] + points[j]), 3, axis=0)[good]
    return _candidates(GraspKind.ANTIPODAL, approach, closing[good], middle + _BEYOND_M * approach)
