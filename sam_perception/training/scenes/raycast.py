"""Where rays meet primitives.

Every primitive lives in the cube [-1, 1]^3 of its own frame; an affine matrix gives it size and
place. Rays keep the camera's scale (z = 1), so that the ray parameter *is* the depth along the
optical axis in whatever frame the intersection is computed.

Each function takes the camera's centre `o` (3,) and the rays `d` (3, N) in the primitive's frame
and returns a `Hit`. Quadrics: Goldman, "Intersection of a ray with a quadric", Graphics Gems;
boxes: Kay and Kajiya's slabs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FAR = np.float32(1e6)  # no hit
_TINY = np.float32(1e-9)
_NEAR_M = np.float32(0.02)


@dataclass(frozen=True, eq=False)
class Hit:
    """The first surface along each of N rays."""

    depth: Floats  # (N,) metres; FAR where there is none
    face: Union[int, NDArray[np.uint16]]  # which side of the primitive, see each function
    u: Floats  # (N,) 0 to 1 over the face, to the right
    v: Floats  # (N,) 0 to 1 over the face, downward
    normal: Floats  # (3, N) in the primitive's frame, any length, towards the viewer


def _safe(d: Floats) -> Floats:
    return np.where(np.abs(d) < _TINY, _TINY, d)


def _first(*candidates: Floats) -> Floats:
    nearest = candidates[0]
    for t in candidates[1:]:
        nearest = np.minimum(nearest, t)
    return nearest


def _valid(t: Floats, inside: NDArray[np.bool_]) -> Floats:
    return np.where(inside & (t > _NEAR_M), t, FAR)


def box(o: Floats, d: Floats) -> Hit:
    """The cube. Faces: 0 and 1 are -x and +x, 2 and 3 -y and +y, 4 and 5 -z and +z."""
    d = _safe(d)
    middle, half = -o[:, None] / d, 1.0 / np.abs(d)
    near = middle - half
    far = middle + half
    t = np.maximum(np.maximum(near[0], near[1]), near[2])
    hit = (t < np.minimum(np.minimum(far[0], far[1]), far[2])) & (t > _NEAR_M)
    x_face, z_face = near[0] == t, near[2] == t
    y_face = ~(x_face | z_face)
    p = o[:, None] + t * d
    side = np.where(d < 0, np.float32(1), np.float32(-1))  # which of the two faces of each axis
    normal = side * np.stack([x_face & ~z_face, y_face, z_face])
    face = np.where(z_face, 4 + (side[2] > 0), np.where(x_face, side[0] > 0, 2 + (side[1] > 0)))
    u = np.where(z_face, p[0], np.where(x_face, p[1] * side[0], -p[0] * side[1]))
    v = np.where(z_face, -p[1], -p[2])
    return Hit(np.where(hit, t, FAR), face.astype(np.uint16), u * 0.5 + 0.5, v * 0.5 + 0.5, normal)


def frustum(o: Floats, d: Floats, low: float, high: float, is_open: bool) -> Hit:
    """A round body along z, of radius `low` at z = -1 and `high` at z = 1.

    Faces: 0 outside, 1 top, 2 bottom, 3 inside. `is_open` leaves out the top, so that the inside
    shows, and raises the bottom by the thickness of a cup's.
    """
    mean, slope = np.float32((high + low) / 2), np.float32((high - low) / 2)
    d = _safe(d)
    r0 = mean + slope * o[2]
    a = d[0] * d[0] + d[1] * d[1] - (slope * d[2]) ** 2
    b = o[0] * d[0] + o[1] * d[1] - slope * r0 * d[2]
    c = o[0] * o[0] + o[1] * o[1] - r0 * r0
    a = _safe(a)
    disc = b * b - a * c
    root = np.sqrt(np.maximum(disc, 0))
    sides = []
    for t in ((-b - root) / a, (root - b) / a):
        z = o[2] + t * d[2]
        sides.append(_valid(t, (disc > 0) & (np.abs(z) <= 1) & (mean + slope * z >= 0)))
    caps = []
    for level, radius in ((1.0, high), (-0.93 if is_open else -1.0, low)):
        t = (np.float32(level) - o[2]) / d[2]
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        caps.append(_valid(t, x * x + y * y <= np.float32(radius * radius)))
    side, (top, bottom) = _first(*sides), caps
    if is_open:
        top = np.full_like(top, FAR)
    t = _first(side, top, bottom)
    x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
    normal = np.stack([x, y, -slope * (mean + slope * z)])
    inner = (normal * d).sum(axis=0) > 0
    cap = side > t
    sign = np.where(top <= bottom, np.float32(1), np.float32(-1))
    normal = np.where(inner, -normal, normal)
    normal[:, cap] = 0
    normal[2, cap] = -np.sign(d[2][cap])
    face = np.where(cap, np.where(sign > 0, 1, 2), np.where(inner, 3, 0)).astype(np.uint16)
    u = np.where(cap, x * 0.5 + 0.5, np.arctan2(y, x) * np.float32(0.5 / np.pi) + 0.5)
    v = np.where(cap, y * 0.5 + 0.5, 0.5 - 0.5 * z)
    return Hit(t, face, u, v, normal)


def ellipsoid(o: Floats, d: Floats, low: float, high: float) -> Hit:
    """The unit sphere, or the shell of it with z from `low` to `high`. Faces: 0 outside, 1 inside."""
    a = (d * d).sum(axis=0)
    b = (o[:, None] * d).sum(axis=0)
    c = np.float32(o @ o - 1)
    disc = b * b - a * c
    root = np.sqrt(np.maximum(disc, 0))
    t = (-b - root) / a
    z = o[2] + t * d[2]
    if low <= -1 and high >= 1:
        t = _valid(t, disc > 0)
        face: Union[int, NDArray[np.uint16]] = 0
    else:
        back = (root - b) / a
        z_back = o[2] + back * d[2]
        t = _valid(t, (disc > 0) & (z >= low) & (z <= high))
        back = _valid(back, (disc > 0) & (z_back >= low) & (z_back <= high))
        face = (back < t).astype(np.uint16)
        t = np.minimum(t, back)
    normal = o[:, None] + t * d
    u = np.arctan2(normal[1], normal[0]) * np.float32(0.5 / np.pi) + 0.5
    v = np.clip(0.5 - 0.5 * normal[2], 0, 1)
    if not isinstance(face, int):
        normal = np.where(face == 1, -normal, normal)
    return Hit(t, face, u, v, normal)


def capsule(o: Floats, d: Floats, ratio: float) -> Hit:
    """A rounded rod along z of radius 1, its ends' centres at z = -ratio and ratio. Face 0."""
    half = np.float32(ratio)
    a = _safe(d[0] * d[0] + d[1] * d[1])
    b = o[0] * d[0] + o[1] * d[1]
    c = np.float32(o[0] * o[0] + o[1] * o[1] - 1)
    disc = b * b - a * c
    t = (-b - np.sqrt(np.maximum(disc, 0))) / a
    z = o[2] + t * d[2]
    end = np.clip(z, -half, half)
    # Rays that leave the cylinder's length can only meet the ball at that end.
    oz = o[2] - end
    a_ball = a + d[2] * d[2]
    b_ball = b + oz * d[2]
    disc_ball = b_ball * b_ball - a_ball * (c + oz * oz)
    t_ball = (-b_ball - np.sqrt(np.maximum(disc_ball, 0))) / a_ball
    on_side = np.abs(z) <= half
    t = np.where(on_side, t, t_ball)
    t = _valid(t, (disc > 0) & (on_side | (disc_ball > 0)))
    p = o[:, None] + t * d
    u = np.arctan2(p[1], p[0]) * np.float32(0.5 / np.pi) + 0.5
    v = np.clip(0.5 - 0.5 * p[2] / (half + 1), 0, 1)
    p[2] -= np.clip(p[2], -half, half)
    return Hit(t, 0, u, v, p)


def plate(o: Floats, d: Floats, outline: NDArray[np.bool_] | None) -> Hit:
    """The square z = 0, or the part of it where `outline` (S, S) is set. Face 0, both sides alike."""
    dz = _safe(d[2])
    t = -o[2] / dz
    u = (o[0] + t * d[0]) * 0.5 + 0.5
    v = 0.5 - (o[1] + t * d[1]) * 0.5
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    if outline is not None:
        size = outline.shape[0]
        with np.errstate(invalid="ignore"):
            index = (np.where(inside, v, 0) * size).astype(np.intp) * size + (np.where(inside, u, 0) * size).astype(
                np.intp
            )
        inside &= outline.ravel()[index]
    normal = np.zeros_like(d)
    normal[2] = -np.sign(dz)
    return Hit(_valid(t, inside), 0, u, v, normal)
