"""What is between the fingers, how well it is held, and what the gripper would touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.manipulation.gripper import Gripper
from sam_perception.manipulation.space import Space

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BINS = 5  # across the fingers' width
_CONTACT_M = 0.006  # points this close to the extreme are in contact
_FACING = 0.5  # cosine; a normal turned farther from the closing direction is another face's
_SHARPNESS = 24
_UNSEEN_SLANT = 0.15  # taken for a contact whose face is not seen
_MARGIN_M = 0.002  # around the fingers
_PALM_MARGIN_M = 0.005  # around the palm: more, as it comes near the unseen backs of other things
_STRAY = 1  # points that may lie inside: single wrong readings
_SUPPORT_M = 0.002  # room between gripper and support
_THIRDS = np.array([-0.45, 0.0, 0.45])
_FIFTHS = np.array([-0.48, -0.24, 0.0, 0.24, 0.48])
_AWAY = 0.12  # cosine; a closing direction this little along the line of sight still has both ends in sight


@dataclass(frozen=True, eq=False)
class Held:
    """What K grasps have between their fingers, in the directions of each gripper."""

    shift_m: Array  # (K,) along the closing direction, to the middle of what is held
    width_m: Array  # (K,) its extent there; 0 where there is nothing
    depth_m: Array  # (K,) how far it reaches in from the tips
    filled: Array  # (K,) share of the fingers' width with something on both sides
    slant: Array  # (K,) largest tangent of the angle between closing direction and surface normal


@dataclass(frozen=True, eq=False)
class Local:
    """N points in each of K grippers' frames, (K, N) each, metres."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]


def local(points: NDArray[np.float32], rotations: Array, tips: Array) -> Local:
    """Points (N, 3) in the frames of K grippers."""
    at = np.einsum("ki,kij->kj", tips, rotations).astype(np.float32)
    axes = rotations.astype(np.float32)
    x, y, z = (axes[:, :, i] @ points.T - at[:, i, None] for i in range(3))
    return Local(x, y, z)


def held(space: Space, rotations: Array, tips: Array, gripper: Gripper) -> Held:
    """Measure what lies between the fingers, wherever that is along the closing direction."""
    p = local(space.own, rotations, tips)
    inside, low, high = _between(p, gripper)
    filled, slope = _profile(p, inside, gripper.finger_width_m / 2)
    turned = rotations[:, :, 1].astype(np.float32) @ space.normals.T
    tilt = np.maximum(
        _tilt(inside & (p.y < low[:, None] + _CONTACT_M), -turned),
        _tilt(inside & (p.y > high[:, None] - _CONTACT_M), turned),
    )
    depth = -np.where(inside, p.x, 0.0).min(axis=1)
    return Held(0.5 * (low + high), high - low, depth, filled, np.maximum(slope, tilt))


def width_held(space: Space, rotations: Array, tips: Array, gripper: Gripper) -> tuple[Array, Array]:
    """(K,) shift and width as `held` has them, on many more points: for the few grasps that are worth it."""
    _, low, high = _between(local(space.fine, rotations, tips), gripper)
    return 0.5 * (low + high), high - low


def _between(p: Local, gripper: Gripper) -> tuple[Mask, Array, Array]:
    """Which points are between the fingers, and from where to where they reach along the closing direction."""
    inside = (p.x < 0) & (p.x > -gripper.finger_depth_m) & (np.abs(p.z) < gripper.finger_width_m / 2)
    some = inside.any(axis=1)
    low = np.where(some, np.where(inside, p.y, np.inf).min(axis=1), 0.0)
    high = np.where(some, np.where(inside, p.y, -np.inf).max(axis=1), 0.0)
    return inside, low.astype(np.float64), high.astype(np.float64)


def _profile(p: Local, inside: Mask, half: float) -> tuple[Array, Array]:
    """Share of the bins across the fingers that are filled, and the steepest slope of both outlines over them."""
    edges = np.linspace(-half, half, _BINS + 1)
    low, high = np.empty((len(p.y), _BINS)), np.empty((len(p.y), _BINS))
    for i in range(_BINS):
        here = inside & (p.z >= edges[i]) & (p.z < edges[i + 1])
        low[:, i] = np.where(here, p.y, np.inf).min(axis=1)
        high[:, i] = np.where(here, p.y, -np.inf).max(axis=1)
    known = np.isfinite(low)
    number = known.sum(axis=1)
    z = np.where(known, 0.5 * (edges[1:] + edges[:-1]), 0.0)
    centred = np.where(known, z - z.sum(axis=1, keepdims=True) / np.maximum(number, 1)[:, None], 0.0)
    spread = np.maximum((centred**2).sum(axis=1), 1e-9)
    slopes = [np.abs((centred * np.where(known, side, 0.0)).sum(axis=1)) / spread for side in (low, high)]
    # Two bins say nothing about a slope.
    return number / _BINS, np.where(number >= 3, np.maximum(*slopes), 0.0)


def _tilt(contact: Mask, facing: NDArray[np.float32]) -> Array:
    """Tangent of the contact's normal against the closing direction.

    The normals at a contact are averaged with weights in favour of those that face the finger: a round
    thing meets it with those, and the rest of what is near turns away.
    """
    seen = contact & (facing > _FACING)
    weight = np.where(seen, facing, 0.0) ** _SHARPNESS
    cosine = (weight * facing).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    cosine = np.clip(cosine, _FACING, 1.0)
    # A single point may be a neighbouring face's.
    return np.asarray(np.where(seen.sum(axis=1) >= 2, np.sqrt(1.0 - cosine * cosine) / cosine, _UNSEEN_SLANT))


def touches_own(space: Space, rotations: Array, tips: Array, gripper: Gripper) -> Mask:
    """(K,) whether the palm would hit the object."""
    p = local(space.own, rotations, tips)
    return np.asarray(_in_palm(p, gripper).sum(axis=1) > _STRAY)


def touches_others(space: Space, rotations: Array, tips: Array, widths: Array, gripper: Gripper) -> Mask:
    """(K,) whether fingers, palm, or the fingers while they close would meet anything but the object."""
    if len(space.others) == 0:
        return np.zeros(len(tips), np.bool_)
    p = local(space.others, rotations, tips)
    beside = np.abs(p.y) < (widths / 2 + gripper.finger_thickness_m + _MARGIN_M)[:, None]
    fingers = (p.x < _MARGIN_M) & (p.x > -gripper.finger_depth_m)
    fingers &= np.abs(p.z) < gripper.finger_width_m / 2 + _MARGIN_M
    return np.asarray(((beside & fingers) | _in_palm(p, gripper)).sum(axis=1) > _STRAY)


def _in_palm(p: Local, gripper: Gripper) -> Mask:
    behind = -gripper.finger_depth_m
    inside = (p.x < behind + _PALM_MARGIN_M) & (p.x > behind - gripper.palm_depth_m)
    inside &= np.abs(p.y) < gripper.palm_width_m / 2 + _PALM_MARGIN_M
    inside &= np.abs(p.z) < gripper.palm_thickness_m / 2 + _PALM_MARGIN_M
    return np.asarray(inside)


def touches_support(space: Space, rotations: Array, tips: Array, widths: Array, gripper: Gripper) -> Mask:
    """(K,) whether fingers or palm come closer than 2 mm to what the object stands on."""
    if space.support is None or len(tips) == 0:
        return np.zeros(len(tips), np.bool_)
    up = np.einsum("kij,i->kj", rotations, space.support.normal)  # in the gripper's frame
    height = space.support.height_m(tips)
    outer, half = widths / 2 + gripper.finger_thickness_m, gripper.finger_width_m / 2
    back = gripper.finger_depth_m + gripper.palm_depth_m
    # Heights are linear, so that a box is lowest in one of its corners.
    fingers = np.minimum(0.0, -gripper.finger_depth_m * up[:, 0]) - outer * np.abs(up[:, 1]) - half * np.abs(up[:, 2])
    palm = np.minimum(-gripper.finger_depth_m * up[:, 0], -back * up[:, 0])
    palm -= 0.5 * (gripper.palm_width_m * np.abs(up[:, 1]) + gripper.palm_thickness_m * np.abs(up[:, 2]))
    return np.asarray(height + np.minimum(fingers, palm) < _SUPPORT_M)


def unseen_ends(rotations: Array, tips: Array, measured: Held) -> Array:
    """(K,) how much the object may go on unseen beyond one end of the closing direction; 0 where it cannot.

    Behind a silhouette an object can go on along the line of sight. That leads beyond the
    end that is seen if the line of sight and the way out of that end point to the same side. The value is the
    cosine between the two, negative for the end at -y.
    """
    closing = rotations[:, :, 1]
    cosine = []
    for end in (1.0, -1.0):
        contact = tips + (0.5 * end * measured.width_m)[:, None] * closing
        contact = contact / np.maximum(np.linalg.norm(contact, axis=1, keepdims=True), 1e-9)
        cosine.append(end * np.einsum("ki,ki->k", contact, closing))
    away = np.where(cosine[0] > cosine[1], cosine[0], -cosine[1])
    return np.asarray(np.where(np.abs(away) > _AWAY, away, 0.0))


def unseen_shares(space: Space, rotations: Array, tips: Array, widths: Array, gripper: Gripper) -> tuple[Array, Array]:
    """(K,) shares of the fingers' and of the palm's volume that the camera does not see."""
    if len(tips) == 0:
        return np.zeros(0), np.zeros(0)
    deep, thick, wide = gripper.finger_depth_m, gripper.finger_thickness_m, gripper.finger_width_m
    finger = _lattice(-deep * np.array([0.05, 0.35, 0.65]), thick * np.array([0.1, 0.9]), wide * _THIRDS)
    palm_x = -deep - gripper.palm_depth_m * np.array([0.05, 0.6])
    palm = _lattice(palm_x, gripper.palm_width_m * _FIFTHS, gripper.palm_thickness_m * _THIRDS)
    samples = np.concatenate([finger, finger * [1, -1, 1], palm])[None].repeat(len(tips), axis=0)
    side = np.sign(samples[0, : 2 * len(finger), 1])
    samples[:, : 2 * len(finger), 1] += 0.5 * side * widths[:, None]
    points = np.einsum("ksi,kji->ksj", samples, rotations) + tips[:, None]
    unseen = space.unseen(points.reshape(-1, 3)).reshape(len(tips), -1)
    return unseen[:, : 2 * len(finger)].mean(axis=1), unseen[:, 2 * len(finger) :].mean(axis=1)


def _lattice(x: Array, y: Array, z: Array) -> Array:
    return np.stack(np.meshgrid(x, y, z), axis=-1).reshape(-1, 3)
