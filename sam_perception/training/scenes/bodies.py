"""Bodies: rigid or articulated sets of primitives, with the pose of each part at each moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes import raycast
from sam_perception.training.scenes.raycast import Floats, Hit

Matrix = NDArray[np.float64]  # (4, 4)
Cast = Callable[[Floats, Floats], Hit]

_CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
_ANGLES = np.arange(8) * (np.pi / 4)
_RING = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
HULL_POINTS = 16


def affine(
    translation: tuple[float, float, float] = (0, 0, 0),
    rotation: NDArray[np.float64] | None = None,
    scale: tuple[float, float, float] = (1, 1, 1),
) -> Matrix:
    """(4, 4) matrix that scales, then turns, then moves."""
    out = np.eye(4)
    out[:3, :3] = (np.eye(3) if rotation is None else rotation) * np.asarray(scale, np.float64)
    out[:3, 3] = translation
    return out


def turn(axis: NDArray[np.float64] | tuple[float, float, float], angle_rad: float) -> NDArray[np.float64]:
    """(3, 3) rotation about an axis (Rodrigues)."""
    a = np.asarray(axis, np.float64)
    x, y, z = a / np.linalg.norm(a)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle_rad) * k + (1 - np.cos(angle_rad)) * (k @ k))


def align_z(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation that takes z to this direction."""
    z = direction / np.linalg.norm(direction)
    helper = np.array([1.0, 0, 0]) if abs(z[0]) < 0.9 else np.array([0, 1.0, 0])
    y = np.cross(z, helper)
    y /= np.linalg.norm(y)
    return np.stack([np.cross(y, z), y, z], axis=1)


@dataclass(frozen=True, eq=False)
class Swing:
    """A part that swings about a point of its body, as a leg does."""

    anchor: NDArray[np.float64]  # (3,) body frame, metres
    axis: tuple[float, float, float]
    amplitude_rad: float
    rate_rad: float  # per tick
    phase_rad: float

    def matrix(self, tick: float) -> Matrix:
        """(4, 4) body_from_body motion at a tick."""
        rotation = turn(self.axis, self.amplitude_rad * np.sin(self.rate_rad * tick + self.phase_rad))
        out = np.eye(4)
        out[:3, :3] = rotation
        out[:3, 3] = self.anchor - rotation @ self.anchor
        return out


@dataclass(frozen=True, eq=False)
class Part:
    """One primitive of a body."""

    cast: Cast
    body_from_part: Matrix
    material: int  # of face 0; the others follow
    hull: NDArray[np.float64]  # (HULL_POINTS, 3) whose convex hull covers the primitive, part frame
    swing: Swing | None = None
    repeat: float = 1.0  # how often the texture lies along each side, mirrored at the seams

    def pose(self, tick: float) -> Matrix:
        """body_from_part at a tick."""
        return self.body_from_part if self.swing is None else self.swing.matrix(tick) @ self.body_from_part


@dataclass(frozen=True, eq=False)
class Body:
    """Something that moves as one. Its frame: z up, the origin under its middle, on the ground."""

    parts: tuple[Part, ...]
    half_extent_m: tuple[float, float, float]  # x, y, z of its bounding box, centred at (0, 0, z)
    flat_top: bool = False  # other things can stand on it
    kind: str = ""
    tags: frozenset[str] = field(default_factory=frozenset)

    @property
    def radius_m(self) -> float:
        """Of the upright cylinder around it."""
        return float(np.hypot(*self.half_extent_m[:2]))


def _rings(low: float, high: float, bottom: float = -1.0, top: float = 1.0) -> NDArray[np.float64]:
    out = np.empty((HULL_POINTS, 3))
    # The octagon around a circle, not in it: hulls must cover.
    cover = 1.0 / np.cos(np.pi / 8)
    out[:8, :2], out[8:, :2] = _RING * low * cover, _RING * high * cover
    out[:8, 2], out[8:, 2] = bottom, top
    return out


_GOLDEN = (1 + 5**0.5) / 2
_ICOSAHEDRON = np.array(
    [np.roll([0, a, b * _GOLDEN], k) for a in (-1, 1) for b in (-1, 1) for k in range(3)], np.float64
)
# Its inner ball has 0.7947 of the outer one's radius.
_BALL_HULL = np.resize(_ICOSAHEDRON / (0.7946 * np.hypot(1, _GOLDEN)), (HULL_POINTS, 3))
_CUBE_HULL = np.concatenate([_CUBE, _CUBE])


def box(pose: Matrix, material: int, **more: float) -> Part:
    """A cuboid; six materials from `material`: -x, +x, -y, +y, -z, +z."""
    return Part(raycast.box, pose, material, _CUBE_HULL, **more)  # type: ignore[arg-type]


def frustum(pose: Matrix, material: int, low: float = 1.0, high: float = 1.0, is_open: bool = False) -> Part:
    """A cylinder or cone's stump; four materials: outside, top, bottom, inside."""
    return Part(partial(raycast.frustum, low=low, high=high, is_open=is_open), pose, material, _rings(low, high))


def ellipsoid(pose: Matrix, material: int, low: float = -1.0, high: float = 1.0, swing: Swing | None = None) -> Part:
    """An ellipsoid or a shell of it; two materials: outside, inside."""
    # A bowl's hull narrows downward; a ball's is an icosahedron around it.
    hull = _BALL_HULL if low <= -1 and high >= 1 else _rings(0.75 if low <= -1 else 1.0, 1.0, low, high)
    return Part(partial(raycast.ellipsoid, low=low, high=high), pose, material, hull, swing)


def capsule(pose: Matrix, material: int, ratio: float, swing: Swing | None = None) -> Part:
    """A rounded rod, see `rod` for one between two points; one material."""
    return Part(partial(raycast.capsule, ratio=ratio), pose, material, _rings(1, 1, -ratio - 1, ratio + 1), swing)


def rod(
    start: NDArray[np.float64] | tuple[float, float, float],
    end: NDArray[np.float64] | tuple[float, float, float],
    radius_m: float,
    material: int,
    swing: Swing | None = None,
) -> Part:
    """A rounded rod between two points of the body."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    span = b - a
    half = max(float(np.linalg.norm(span)) / 2, 1e-4)
    middle = (a + b) / 2
    pose = affine((middle[0], middle[1], middle[2]), align_z(span), (radius_m, radius_m, radius_m))
    return capsule(pose, material, half / radius_m, swing)


def plate(pose: Matrix, material: int, outline: NDArray[np.bool_] | None = None, repeat: float = 1.0) -> Part:
    """A thin sheet, perhaps cut out; one material."""
    hull = _CUBE_HULL * np.array([1, 1, 0])
    return Part(partial(raycast.plate, outline=outline), pose, material, hull, None, repeat)
