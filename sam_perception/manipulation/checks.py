"""What is between the fingers, how well it is held, and what the gripper would touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.manipulation.gripper import Gripper, gripper_boxes
from sam_perception.manipulation.space import Space

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BINS = 5  # across the fingers' width
_CONTACT_M = 0.004  # points this close to the extreme are in contact
_FACING = 0.5  # cosine; a normal turned farther from the closing direction is another face's
_MARGIN_M = 0.002  # around fingers and palm
_STRAY = 1  # points that may lie inside: single wrong readings
_SUPPORT_M = 0.002  # room between gripper and support
_AWAY = 0.12  # cosine; a closing direction this little along the line of sight still has both ends in sight


@dataclass(frozen=True, eq=False)
class Held:
    """What K grasps have between their fingers, in the directions of each gripper."""

    shift_m: Array  # (K,) along the closing direction, to the middle of what is held
    width_m: Array  # (K,) its extent there; 0 where there is nothing
    depth_m: Array  # (K,) how far it reaches in from the tips
    filled: Array  # (K,) share of the fingers' width with something on both sides
    slant: Array  # (K,) largest tangent of the angle between closing direction and surface normal


def local(points: NDArray[np.float32], rotations: Array, tips: Array) -> NDArray[np.float32]:
    """Points (N, 3) in each gripper's frame: (K, N, 3)."""
    turned = np.asarray(points @ rotations.astype(np.float32))
    at: NDArray[np.float32] = np.einsum("ki,kij->kj", tips, rotations)[:, None].astype(np.float32)
    return turned - at


def held(space: Space, rotations: Array, tips: Array, gripper: Gripper) -> Held:
    """Measure what lies between the fingers, wherever that is along the closing direction."""
    p = local(space.own, rotations, tips)
    half = gripper.finger_width_m / 2
    inside = (p[..., 0] < 0) & (p[..., 0] > -gripper.finger_depth_m) & (np.abs(p[..., 2]) < half)
    y = p[..., 1]
    low = np.where(inside, y, np.inf).min(axis=1)
    high = np.where(inside, y, -np.inf).max(axis=1)
    some = inside.any(axis=1)
    low, high = np.where(some, low, 0.0), np.where(some, high, 0.0)
    depth = -np.where(inside, p[..., 0], 0.0).min(axis=1)
    filled, slope = _profile(p, inside, half)
    turned = np.einsum("nj,kj->kn", space.normals, rotations[:, :, 1].astype(np.float32))
    tilt = np.maximum(
        _tilt(inside & (y < low[:, None] + _CONTACT_M), -turned),
        _tilt(inside & (y > high[:, None] - _CONTACT_M), turned),
    )
    return Held(0.5 * (low + high), high - low, depth, filled, np.maximum(slope, tilt))


def _profile(p: NDArray[np.float32], inside: Mask, half: float) -> tuple[Array, Array]:
    """Share of the bins across the fingers that are filled, and the steepest slope of both outlines over them."""
    edges = np.linspace(-half, half, _BINS + 1)
    middles = 0.5 * (edges[1:] + edges[:-1])
    count = len(p)
    low, high = np.full((count, _BINS), np.nan), np.full((count, _BINS), np.nan)
    for i in range(_BINS):
        here = inside & (p[..., 2] >= edges[i]) & (p[..., 2] < edges[i + 1])
        some = here.any(axis=1)
        low[some, i] = np.where(here[some], p[some, :, 1], np.inf).min(axis=1)
        high[some, i] = np.where(here[some], p[some, :, 1], -np.inf).max(axis=1)
    known = np.isfinite(low)
    number = known.sum(axis=1)
    z = np.where(known, middles, 0.0)
    mean_z = z.sum(axis=1) / np.maximum(number, 1)
    centred = np.where(known, middles - mean_z[:, None], 0.0)
    spread = np.maximum((centred**2).sum(axis=1), 1e-9)
    slopes = [np.abs((centred * np.where(known, side, 0.0)).sum(axis=1)) / spread for side in (low, high)]
    # Two bins say nothing about a slope.
    return number / _BINS, np.where(number >= 3, np.maximum(*slopes), 0.0)


def _tilt(contact: Mask, facing: NDArray[np.float32]) -> Array:
    """Median tangent of the contact's normals against the closing direction; 0 where no face there is seen."""
    seen = contact & (facing > _FACING)
    cosine = np.where(seen, facing, np.nan)
    out = np.zeros(len(contact))
    for k in np.flatnonzero(seen.sum(axis=1) >= 3):
        median = min(float(np.nanmedian(cosine[k])), 1.0)
        out[k] = np.sqrt(1.0 - median * median) / median
    return out


def touches_own(space: Space, rotations: Array, tips: Array, gripper: Gripper) -> Mask:
    """(K,) whether the palm would hit the object."""
    p = local(space.own, rotations, tips)
    return np.asarray(_in_palm(p, gripper).sum(axis=1) > _STRAY)


def touches_others(space: Space, rotations: Array, tips: Array, widths: Array, gripper: Gripper) -> Mask:
    """(K,) whether fingers, palm, or the fingers while they close would meet anything but the object."""
    if len(space.others) == 0:
        return np.zeros(len(tips), np.bool_)
    p = local(space.others, rotations, tips)
    beside = np.abs(p[..., 1]) < (widths / 2 + gripper.finger_thickness_m + _MARGIN_M)[:, None]
    fingers = (
        (p[..., 0] < _MARGIN_M)
        & (p[..., 0] > -gripper.finger_depth_m)
        & (np.abs(p[..., 2]) < gripper.finger_width_m / 2 + _MARGIN_M)
    )
    return np.asarray(((beside & fingers) | _in_palm(p, gripper)).sum(axis=1) > _STRAY)


def _in_palm(p: NDArray[np.float32], gripper: Gripper) -> Mask:
    x = p[..., 0] + gripper.finger_depth_m
    return np.asarray(
        (x < _MARGIN_M)
        & (x > -gripper.palm_depth_m)
        & (np.abs(p[..., 1]) < gripper.palm_width_m / 2 + _MARGIN_M)
        & (np.abs(p[..., 2]) < gripper.palm_thickness_m / 2 + _MARGIN_M)
    )


def touches_support(space: Space, rotations: Array, tips: Array, widths: Array, gripper: Gripper) -> Mask:
    """(K,) whether any corner of the gripper comes closer than 2 mm to what the object stands on."""
    if space.support is None or len(tips) == 0:
        return np.zeros(len(tips), np.bool_)
    lowest = np.full(len(tips), np.inf)
    for k, width in enumerate(widths):
        for part in gripper_boxes(gripper, float(width)):
            corners = np.stack(np.meshgrid(*zip(part.low_m, part.high_m, strict=True)), axis=-1).reshape(-1, 3)
            heights = space.support.height_m(corners @ rotations[k].T + tips[k])
            lowest[k] = min(lowest[k], float(heights.min()))
    return lowest < _SUPPORT_M


def unseen_ends(rotations: Array, tips: Array, measured: Held) -> Array:
    """(K,) +1 or -1: the end along the closing direction at which the object may go on unseen; 0 where at neither.

    Behind a silhouette an object can go on along the line of sight. That leads beyond the
    end that is seen if the line of sight and the way out of that end point to the same side.
    """
    closing = rotations[:, :, 1]
    slope = []
    for end in (1.0, -1.0):
        contact = tips + (0.5 * end * measured.width_m)[:, None] * closing
        contact = contact / np.maximum(np.linalg.norm(contact, axis=1, keepdims=True), 1e-9)
        slope.append(end * np.einsum("ki,ki->k", contact, closing))
    out = np.where(slope[0] > _AWAY, 1.0, 0.0)
    return np.asarray(np.where(slope[1] > np.maximum(_AWAY, slope[0]), -1.0, out))


def unseen_shares(space: Space, rotations: Array, tips: Array, widths: Array, gripper: Gripper) -> Array:
    """(K, 2) share of each finger's volume, the one at +y first, that the camera does not see."""
    if len(tips) == 0:
        return np.zeros((0, 2))
    x = -gripper.finger_depth_m * np.array([0.05, 0.35, 0.65])
    y = gripper.finger_thickness_m * np.array([0.1, 0.9])
    z = gripper.finger_width_m * np.array([-0.45, 0.0, 0.45])
    samples = np.stack(np.meshgrid(x, y, z), axis=-1).reshape(-1, 3)
    fingers = np.stack([samples, samples * [1, -1, 1]])[None].repeat(len(tips), axis=0)  # (K, 2, S, 3)
    fingers[:, 0, :, 1] += widths[:, None] / 2
    fingers[:, 1, :, 1] -= widths[:, None] / 2
    points = np.einsum("kfsi,kji->kfsj", fingers, rotations) + tips[:, None, None]
    return np.asarray(space.unseen(points.reshape(-1, 3)).reshape(len(tips), 2, -1).mean(axis=2))
