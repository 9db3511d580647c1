"""Worlds of boxes and cylinders on a plane whose every distance is known, and pictures of them.

Written for the tests alone: rays are met with the shapes by formula, so that depth is exact, and the
same shapes answer later where a gripper would touch them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.training.scenes.depth_sensor import DepthSensor, sense

Array = NDArray[np.float64]
CAMERA = CameraIntrinsics(640, 480, 600.0, 600.0, 319.5, 239.5)


@dataclass(frozen=True)
class Shape:
    """Stands upright, turned about the vertical; `size` are full edges, a cylinder's first two are its diameter."""

    kind: str  # box, cylinder
    base: tuple[float, float, float]  # middle of the bottom, world frame (z up), metres
    size: tuple[float, float, float]
    yaw: float = 0.0

    def local(self, world: Array) -> Array:
        """World points (N, 3) in the shape's frame, origin in the middle of the bottom."""
        return self.turn(world - np.array(self.base))

    def turn(self, directions: Array) -> Array:
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return directions @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def contains(self, world: Array, margin: float = 0.0) -> NDArray[np.bool_]:
        """Whether world points (N, 3) are inside, grown by `margin`."""
        p = self.local(world)
        upright = (p[:, 2] > -margin) & (p[:, 2] < self.size[2] + margin)
        if self.kind == "box":
            return upright & (np.abs(p[:, :2]) < np.array(self.size[:2]) / 2 + margin).all(axis=1)
        return upright & (np.hypot(p[:, 0], p[:, 1]) < self.size[0] / 2 + margin)

    def hit(self, origin: Array, rays: Array) -> Array:
        """Ray parameter (N,) of the first surface; inf where there is none. One origin (3,), or one per ray."""
        o, d = self.local(np.atleast_2d(origin)), self.turn(np.atleast_2d(rays))
        d = np.where(np.abs(d) < 1e-12, 1e-12, d)
        if self.kind == "box":
            low = np.array([-self.size[0] / 2, -self.size[1] / 2, 0.0])
            near, far = _slab(o, d, low, low + np.array(self.size))
            enter, leave = near.max(axis=1), far.min(axis=1)
        else:
            near, far = _slab(o[:, 2:], d[:, 2:], np.zeros(1), np.array(self.size[2:]))
            a = d[:, 0] ** 2 + d[:, 1] ** 2
            b = o[:, 0] * d[:, 0] + o[:, 1] * d[:, 1]
            root = b * b - a * (o[:, 0] ** 2 + o[:, 1] ** 2 - (self.size[0] / 2) ** 2)
            with np.errstate(invalid="ignore"):
                enter = np.maximum(near[:, 0], (-b - np.sqrt(root)) / a)
                leave = np.minimum(far[:, 0], (-b + np.sqrt(root)) / a)
        with np.errstate(invalid="ignore"):
            return np.where((enter < leave) & (enter > 0), enter, np.inf)

    def normal(self, world: Array) -> Array:
        """Outward normal (3,), world frame, of the surface nearest to a point (3,) on it."""
        p = self.local(world[None])[0]
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        world_from_shape = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        gaps = [abs(p[2]), abs(p[2] - self.size[2])]
        if self.kind == "box":
            for axis in range(2):
                gaps += [abs(p[axis] + self.size[axis] / 2), abs(p[axis] - self.size[axis] / 2)]
            local = np.array([[0, 0, -1], [0, 0, 1], [-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]], float)
            return world_from_shape @ local[int(np.argmin(gaps))]
        gaps.append(abs(np.hypot(p[0], p[1]) - self.size[0] / 2))
        radial = np.array([p[0], p[1], 0.0]) / max(np.hypot(p[0], p[1]), 1e-9)
        return world_from_shape @ [np.array([0, 0, -1.0]), np.array([0, 0, 1.0]), radial][int(np.argmin(gaps))]


def _slab(o: Array, d: Array, low: Array, high: Array) -> tuple[Array, Array]:
    a, b = (low - o) / d, (high - o) / d
    return np.minimum(a, b), np.maximum(a, b)


@dataclass(frozen=True, eq=False)
class Wall:
    """The half-space behind `point`, seen from the side to which `normal` points; world frame."""

    point: tuple[float, float, float]
    normal: tuple[float, float, float]

    def hit(self, origin: Array, rays: Array) -> Array:
        n = np.array(self.normal)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ((np.array(self.point) - origin) @ n) / (rays @ n)
        return np.where(t > 0, t, np.inf)


@dataclass(frozen=True, eq=False)
class World:
    """Shapes on the ground z = 0, seen by one camera."""

    shapes: tuple[Shape, ...]
    world_from_camera: Array  # (4, 4), optical frame
    camera: CameraIntrinsics = CAMERA
    walls: tuple[Wall, ...] = ()
    ground: bool = True
    extra: tuple[Shape, ...] = field(default=())  # seen, but not labelled

    def render(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Exact depth (H, W), inf where nothing is, and what is seen: i + 1 for shape i, 0 elsewhere."""
        c = self.camera
        x, y = np.meshgrid((np.arange(c.width) - c.cx) / c.fx, (np.arange(c.height) - c.cy) / c.fy)
        rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1) @ self.world_from_camera[:3, :3].T
        origin = self.world_from_camera[:3, 3]
        depth = np.full(x.size, np.inf)
        if self.ground:
            with np.errstate(divide="ignore"):
                t = -origin[2] / rays[:, 2]
            depth = np.where(t > 0, t, np.inf)
        ids = np.zeros(x.size, np.intp)
        for i, thing in enumerate((*self.shapes, *self.walls, *self.extra)):
            t = thing.hit(origin, rays)
            ids[t < depth] = i + 1 if i < len(self.shapes) else 0
            depth = np.minimum(depth, t)
        return depth.reshape(x.shape).astype(np.float32), ids.reshape(x.shape)

    def frame(self, seed: int | None = 0, stamp_ns: int = 0) -> tuple[RgbdFrame, NDArray[np.intp]]:
        """A frame with sensor noise (none without a seed), and the ids (H, W) of what is seen."""
        exact, ids = self.render()
        palette = np.random.default_rng(7).integers(60, 220, (len(self.shapes) + 1, 3)).astype(np.uint8)
        rgb = palette[ids]
        if seed is None:
            depth = np.where(np.isfinite(exact), exact, 0).astype(np.float32)
        else:
            rng = np.random.default_rng(seed)
            far = np.where(np.isfinite(exact), exact, np.float32(1e6))
            depth = sense(rng, far, rgb, self.camera.fx, DepthSensor())
        return RgbdFrame(rgb, depth, self.camera, stamp_ns, "camera"), ids

    def to_world(self, points: Array) -> Array:
        """Camera points (N, 3) in the world."""
        return points @ self.world_from_camera[:3, :3].T + self.world_from_camera[:3, 3]


def look(eye: tuple[float, float, float], at: tuple[float, float, float]) -> Array:
    """world_from_camera (4, 4) of a camera at `eye` that looks at `at`, upright."""
    z = np.array(at, float) - np.array(eye, float)
    z /= np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    out = np.eye(4)
    out[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    out[:3, 3] = eye
    return out
