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
    """Stands upright, turned about the vertical; `size` are full edges, a cylinder's first two are its diameter.

    A cup is a cylinder with a hole from above: its size is diameter, thickness of wall and bottom, height.
    """

    kind: str  # box, cylinder, cup
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
        away = np.hypot(p[:, 0], p[:, 1])
        solid = upright & (away < self.size[0] / 2 + margin)
        if self.kind == "cup":
            solid &= (away > self._inner - margin) | (p[:, 2] < self.size[1] + margin)
        return solid

    @property
    def _inner(self) -> float:
        """Radius of a cup's hole."""
        return self.size[0] / 2 - self.size[1]

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
            first = np.where((enter < leave) & (enter > 0), enter, np.inf)
        return self._through_the_mouth(o, d, first) if self.kind == "cup" else first

    def _through_the_mouth(self, o: Array, d: Array, first: Array) -> Array:
        """Where rays go in through a cup's mouth, or begin in its hole: where they meet the inside."""
        o, d = np.broadcast_arrays(o, d)
        top, bottom, inner = self.size[2], self.size[1], self._inner
        with np.errstate(invalid="ignore"):
            at = o + np.where(np.isfinite(first), first, 0.0)[:, None] * d
        begins = (np.hypot(o[:, 0], o[:, 1]) < inner) & (o[:, 2] > bottom) & (o[:, 2] < top)
        goes_in = np.isfinite(first) & (np.abs(at[:, 2] - top) < 1e-9) & (np.hypot(at[:, 0], at[:, 1]) < inner)
        start = np.where((begins | ~goes_in)[:, None], o, at)
        a = d[:, 0] ** 2 + d[:, 1] ** 2
        b = start[:, 0] * d[:, 0] + start[:, 1] * d[:, 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            wall = (-b + np.sqrt(b * b - a * (start[:, 0] ** 2 + start[:, 1] ** 2 - inner**2))) / a
            end = np.minimum(wall, np.where(d[:, 2] < 0, (bottom - start[:, 2]) / d[:, 2], np.inf))
            out = start[:, 2] + end * d[:, 2] > top  # over the rim
        inside = np.where(out, np.inf, end + np.where(begins | ~goes_in, 0.0, first))
        return np.where(begins | goes_in, inside, first)

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
        away = np.hypot(p[0], p[1])
        gaps.append(abs(away - self.size[0] / 2))
        radial = np.array([p[0], p[1], 0.0]) / max(away, 1e-9)
        normals = [np.array([0, 0, -1.0]), np.array([0, 0, 1.0]), radial]
        if self.kind == "cup":
            gaps += [abs(away - self._inner), abs(p[2] - self.size[1]) if away < self._inner else np.inf]
            normals += [-radial, np.array([0, 0, 1.0])]
        return world_from_shape @ normals[int(np.argmin(gaps))]


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
