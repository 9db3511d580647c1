"""Grasps across the rim of what is open at the top: one finger inside a mug or bowl, the other outside.

A mouth is known by what is seen in it: the inner wall, which faces the axis, or the bottom, below a rim of
level height with nothing across it. All that is measured is what is seen: the wall where its rim is seen,
and how far down the inside is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.geometry.planes import plane_axes
from sam_perception.manipulation.checks import local
from sam_perception.manipulation.grasps import Grasps
from sam_perception.manipulation.gripper import Gripper
from sam_perception.manipulation.space import Space
from sam_perception.scene import GraspKind, Plane

Array = NDArray[np.float64]

_BAND_M = 0.008  # below its top a rim is looked at
_MOUTH = 0.7  # of the rim's radius: within, nothing may be as high as the rim
_LEAST_MOUTH_M = 0.03  # diameter
_DEEP_M = 0.015  # so far below the rim the inside must be seen
_INWARD = 0.3  # cosine between an inner wall's normal and the way to the axis
_LEVEL = 0.7  # cosine between a bottom's normal and up
_LEAST_INSIDE = 12  # points seen of the inside
_LID_SHARE = 0.04  # of the points at the rim's height may lie within the mouth: handles, stray readings
_DIRECTIONS = 24
_LEAST_RIM = 0.5  # of the directions must show the rim
_THICKEST_M = 0.03  # walls
_REACH_M = 0.02  # along the closing direction, to each side of the rim: what belongs to the wall
_GRIPS_M = (0.02, 0.014, 0.01)  # how far the tips go below the rim
_LEAST_HELD = 8  # points between the fingers
_STRAY = 1
_MARGIN_M = 0.001
_BINS = 5


@dataclass(frozen=True, eq=False)
class _Mouth:
    """A rim seen from above, in the support's plane."""

    axes: Array  # (3, 2)
    centre: Array  # (2,)
    top_m: float  # height of the rim above the support
    angles: Array  # (D,) directions in which the rim is seen
    radii: Array  # (D,)


def rim_grasps(space: Space, gripper: Gripper, clearance_m: float) -> Grasps | None:
    """Grasps across the rim, measured; None where no mouth is seen.

    Kept are those with room for both fingers: none of the object's visible points is in them.
    """
    mouth = None if space.support is None else _find_mouth(space, space.support)
    if mouth is None or space.support is None:
        return None
    up = space.support.normal
    rotations, tips, widths, depths, filled, slants = [], [], [], [], [], []
    for angle, radius in zip(mouth.angles, mouth.radii, strict=True):
        outward = mouth.axes @ np.array([np.cos(angle), np.sin(angle)])
        rotation = np.stack([-up, outward, np.cross(-up, outward)], axis=1)
        flat = mouth.axes @ (mouth.centre + radius * np.array([np.cos(angle), np.sin(angle)]))
        for grip_m in _GRIPS_M:
            height = mouth.top_m - grip_m
            if height < clearance_m:
                continue
            found = _across(space, rotation, flat + (height - space.support.offset_m) * up, gripper, clearance_m)
            if found is not None:
                tip, width, depth, share, slant = found
                rotations.append(rotation)
                tips.append(tip)
                widths.append(width)
                depths.append(depth)
                filled.append(share)
                slants.append(slant)
                break
    if not tips:
        return None
    count, wall = len(tips), np.array(widths)
    zeros = np.zeros(count)
    return Grasps(
        kinds=np.full(count, GraspKind.TOP_DOWN.value),
        rotations=np.array(rotations),
        tips=np.array(tips),
        object_widths=wall,
        widths=wall + 2 * clearance_m,
        depths=np.array(depths),
        filled=np.array(filled),
        slants=np.array(slants),
        away=zeros,
        unseen=zeros,
        palm_unseen=zeros,
        rims=np.ones(count, np.bool_),
    )


def _find_mouth(space: Space, support: Plane) -> _Mouth | None:
    axes = plane_axes(support.normal)
    heights = support.height_m(space.fine)
    top = float(np.percentile(heights, 99.0))
    flat = space.fine @ axes.astype(np.float32)
    band = flat[heights > top - _BAND_M].astype(np.float32)
    if len(band) < _DIRECTIONS:
        return None
    (x, y), _ = cv2.minEnclosingCircle(cv2.convexHull(band))
    centre = np.array([x, y], np.float64)
    away = band - centre
    radius = np.hypot(*away.T)
    middle = float(np.median(radius))
    lid = np.count_nonzero(radius < _MOUTH * middle) > _LID_SHARE * len(band)
    if lid or 2 * middle < _LEAST_MOUTH_M:
        return None
    if _seen_inside(space, support, axes, centre, middle, top) < _LEAST_INSIDE:
        return None
    turn = np.arctan2(away[:, 1], away[:, 0])
    sector = ((turn + np.pi) * (_DIRECTIONS / (2 * np.pi))).astype(int) % _DIRECTIONS
    seen = np.flatnonzero(np.bincount(sector, minlength=_DIRECTIONS) >= 2)
    if len(seen) < _LEAST_RIM * _DIRECTIONS:
        return None
    # The outermost of a direction: the handle's own top and stray readings lie within or are few.
    radii = np.array([float(np.percentile(radius[sector == i], 80.0)) for i in seen])
    angles = np.asarray((seen + 0.5) * (2 * np.pi / _DIRECTIONS) - np.pi, np.float64)
    return _Mouth(axes, centre, top, angles, radii)


def _seen_inside(space: Space, support: Plane, axes: Array, centre: Array, radius: float, top: float) -> int:
    """Points of the inner wall or the bottom, well below the rim."""
    heights = support.height_m(space.own)
    to_axis = centre - space.own.astype(np.float64) @ axes
    distance = np.maximum(np.linalg.norm(to_axis, axis=1), 1e-6)
    normals = space.normals.astype(np.float64)
    inward = np.einsum("ij,ij->i", normals @ axes, to_axis / distance[:, None]) > _INWARD
    level = normals @ support.normal > _LEVEL
    return int(np.count_nonzero((heights < top - _DEEP_M) & (distance < radius) & (inward | level)))


def _across(
    space: Space, rotation: Array, tip: Array, gripper: Gripper, clearance_m: float
) -> tuple[Array, float, float, float, float] | None:
    """Tip, moved to the wall's middle; the wall's width, depth in the grip, filled share and slant. None: no room."""
    p = local(space.fine, rotation[None], tip[None])
    x, y, z = p.x[0], p.y[0], p.z[0]
    half = gripper.finger_width_m / 2
    beside = np.abs(z) < half
    wall = beside & (x < 0) & (np.abs(y) < _REACH_M)
    if np.count_nonzero(wall) < _LEAST_HELD:
        return None
    low, high = float(y[wall].min()), float(y[wall].max())
    width, middle = high - low, 0.5 * (low + high)
    opening = width + 2 * clearance_m
    if width > _THICKEST_M or opening > gripper.max_opening_m:
        return None
    fingers = (np.abs(z) < half + _MARGIN_M) & (x < _MARGIN_M) & (x > -gripper.finger_depth_m)
    away = np.abs(y - middle)
    fingers &= (away > opening / 2 - _MARGIN_M) & (away < opening / 2 + gripper.finger_thickness_m + _MARGIN_M)
    if np.count_nonzero(fingers) > _STRAY:
        return None
    bins = np.unique(np.clip(((z[wall] + half) * (_BINS / (2 * half))).astype(int), 0, _BINS - 1))
    moved = tip + middle * rotation[:, 1]
    return moved, width, float(-x[wall].min()), len(bins) / _BINS, _slope(x[wall], y[wall])


def _slope(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """How much the wall leans: tangent of its angle to the approach, by least squares."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    return abs(float(centred @ (y - y.mean()))) / max(spread, 1e-9)
