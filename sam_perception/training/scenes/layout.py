"""Where things stand: tables with things in clutter, and things that fly before a backdrop."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes import bodies, patterns, things
from sam_perception.training.scenes.bodies import Body, affine, turn
from sam_perception.training.scenes.materials import Materials

_LIFT_M = 0.0004  # surfaces that coincide would flicker
_LYING = frozenset({"can", "bottle", "mug", "carton"})


@dataclass(frozen=True, eq=False)
class Placed:
    """A body at rest."""

    body: Body
    world_from_body: NDArray[np.float64]  # (4, 4)
    half_extent_m: NDArray[np.float64]  # (3,) of its box in its own yaw
    yaw_rad: float
    flat_top: bool

    @property
    def center(self) -> NDArray[np.float64]:
        """(3,) world, metres."""
        corner = self.world_from_body @ np.array([0, 0, self.body.half_extent_m[2], 1.0])
        return np.asarray(corner[:3])

    @property
    def top_m(self) -> float:
        """Height of its upper side."""
        return float(self.center[2] + self.half_extent_m[2])

    def reach_m(self, direction: NDArray[np.float64]) -> float:
        """Half its width along a horizontal unit direction."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        along, across = abs(direction[0] * c + direction[1] * s), abs(direction[1] * c - direction[0] * s)
        return float(self.half_extent_m[0] * along + self.half_extent_m[1] * across)

    @property
    def radius_m(self) -> float:
        """Of the ball around it."""
        return float(np.linalg.norm(self.half_extent_m))


def stand(body: Body, x: float, y: float, z: float, yaw_rad: float, lying: bool = False, tilt_rad: float = 0) -> Placed:
    """The body on a support at height z; `lying` on its side; `tilt_rad` as if leaning on something."""
    a, b, c = body.half_extent_m
    rest, half = np.eye(4), np.array([a, b, c])
    if lying:
        rest = affine((0, 0, b), turn((1, 0, 0), np.pi / 2)) @ affine((0, 0, -c))
        half = np.array([a, c, b])
    z += _LIFT_M
    pose = affine((x, y, z), turn((0, 0, 1), yaw_rad)) @ rest
    if tilt_rad:
        edge = affine((0, float(half[1]), 0))
        lean = edge @ affine(rotation=turn((1, 0, 0), -tilt_rad)) @ np.linalg.inv(edge)
        pose = affine((x, y, z), turn((0, 0, 1), yaw_rad)) @ lean @ rest
    flat = (body.flat_top and not lying and not tilt_rad) or (lying and body.kind == "carton")
    return Placed(body, pose, half, yaw_rad, flat)


def _clear(spot: NDArray[np.float64], radius: float, others: list[Placed]) -> bool:
    return all(np.hypot(*(o.center[:2] - spot)) > 0.85 * (radius + np.hypot(*o.half_extent_m[:2])) for o in others)


def arrange(rng: np.random.Generator, wanted: list[Body], spread_m: float, clutter: float) -> list[Placed]:
    """Put bodies on the plane z = 0: apart, side by side, or stacked; `clutter` 0 to 1."""
    placed: list[Placed] = []
    main_yaw = rng.uniform(0, 2 * np.pi)
    for body in wanted:
        choice = rng.random()
        lying = body.kind in _LYING and rng.random() < 0.2
        yaw = main_yaw + rng.normal(0, 0.08) if rng.random() < 0.4 else rng.uniform(0, 2 * np.pi)
        supports = [p for p in placed if p.flat_top and p.radius_m > 0.6 * body.radius_m]
        if supports and choice < 0.4 * clutter:
            placed.append(_on_top(rng, body, supports[rng.integers(len(supports))], yaw, lying))
        elif placed and choice < 0.8 * clutter:
            placed.append(_beside(rng, body, placed[rng.integers(len(placed))], yaw, lying))
        else:
            spot = rng.uniform(-1, 1, 2) * spread_m
            for _ in range(12):
                if _clear(spot, body.radius_m, placed):
                    break
                spot = rng.uniform(-1, 1, 2) * spread_m
            placed.append(stand(body, spot[0], spot[1], 0.0, yaw, lying))
    return placed


def _on_top(rng: np.random.Generator, body: Body, base: Placed, yaw: float, lying: bool) -> Placed:
    offset = turn((0, 0, 1), base.yaw_rad)[:2, :2] @ (rng.uniform(-0.6, 0.6, 2) * base.half_extent_m[:2])
    if rng.random() < 0.5:
        yaw = base.yaw_rad + rng.normal(0, 0.15) + rng.choice([0, np.pi / 2])
    x, y = base.center[:2] + offset
    tilt = float(rng.uniform(0.05, 0.45)) if rng.random() < 0.12 else 0.0
    return stand(body, x, y, base.top_m, yaw, lying, tilt)


def _beside(rng: np.random.Generator, body: Body, other: Placed, yaw: float, lying: bool) -> Placed:
    aligned = rng.random() < 0.6
    if aligned:
        yaw = other.yaw_rad
    angle = other.yaw_rad + rng.integers(4) * np.pi / 2 if aligned else rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    trial = stand(body, 0, 0, 0, yaw, lying)
    gap = max(rng.normal(0.0, 0.012), 0.0)
    x, y = other.center[:2] + direction * (trial.reach_m(direction) + other.reach_m(direction) + gap)
    if aligned:  # shifted along the common side
        across = np.array([-direction[1], direction[0]])
        x, y = np.array([x, y]) + across * rng.uniform(-0.7, 0.7) * other.reach_m(across)
    return stand(body, x, y, 0.0, yaw, lying)


def _muted(rng: np.random.Generator, picture: patterns.Picture) -> patterns.Picture:
    """Walls and furniture are mostly paler and greyer than the things people buy."""
    if rng.random() < 0.2:
        return picture
    saturation, contrast = rng.uniform(0.0, 0.5), rng.uniform(0.3, 1.0)
    pale = rng.uniform(0, 0.6) * (rng.random() < 0.6)
    mean = float(picture[::8, ::8].mean())
    # Towards its grey, then its mean, then white: one linear map of the colour.
    mix = np.full((3, 4), (1 - saturation) / 3)
    mix[:, :3] += saturation * np.eye(3)
    mix[:, :3] *= contrast * (1 - pale)
    mix[:, 3] = (1 - contrast) * mean * (1 - pale) + 235 * pale
    return np.asarray(cv2.transform(picture, mix), np.uint8)


def table(rng: np.random.Generator, kit: Materials, d: float) -> tuple[Body, int]:
    """A table top with its upper side at z = 0, and that side's material."""
    size = kit.texture_px * 4
    half_x, half_y = (rng.uniform(0.5, 1.2, 2) if rng.random() < 0.7 else rng.uniform(2, 4, 2)) if d > 0.1 else (4, 4)
    kind = rng.random()
    if kind < 0.45:
        picture = patterns.wood(rng, size)
    elif kind < 0.7 or d < 0.3:
        picture = _muted(rng, patterns.surface(rng, size, 0.0))
    else:
        picture = _muted(rng, patterns.surface(rng, size, 0.8 * d))
    gloss = float(rng.choice([0, 0, 0.25]))
    top = kit.add(picture, 2 * max(half_x, half_y), gloss=gloss)
    sheet = bodies.plate(affine((0, 0, 0), None, (half_x, half_y, 1)), top)
    parts = [sheet]
    if half_x < 1.3 and rng.random() < 0.6:
        edge = kit.add_picture(patterns.surface(rng, 32, 0.1))
        first = kit.add(edge, 1.0)
        for _ in range(5):
            kit.add(edge, 1.0)
        thick = rng.uniform(0.01, 0.03)
        parts.append(bodies.box(affine((0, 0, -thick - 0.001), None, (half_x, half_y, thick)), first))
    return Body(tuple(parts), (half_x, half_y, 0.0), True, "room"), top


def room(rng: np.random.Generator, kit: Materials, d: float, floor_m: float) -> Body:
    """A floor and four walls around the origin."""
    size = kit.texture_px * 2
    parts = []
    floor = kit.add(_muted(rng, patterns.surface(rng, size, 0.6 * d)), 2.0)
    reach = rng.uniform(2.2, 5.0)
    parts.append(bodies.plate(affine((0, 0, floor_m), None, (reach, reach, 1)), floor, repeat=float(reach)))
    shared = patterns.leaves(rng, size) if rng.random() < 0.35 * d else patterns.surface(rng, size, 0.15)
    for k in range(4):
        own = rng.random() < 0.45 * d
        picture = patterns.leaves(rng, size) if own else shared
        wall = kit.add(_muted(rng, picture), 3.0)
        facing = turn((0, 0, 1), k * np.pi / 2) @ turn((1, 0, 0), np.pi / 2)
        offset = turn((0, 0, 1), k * np.pi / 2) @ np.array([0, reach, floor_m + 1.5])
        parts.append(bodies.plate(affine(tuple(offset), facing, (reach, 1.5, 1)), wall, repeat=max(1.0, reach / 2)))
    parts.append(
        bodies.plate(affine((0, 0, floor_m + 3), None, (reach, reach, 1)), kit.add(patterns.flat(rng, 16), 3.0))
    )
    return Body(tuple(parts), (reach, reach, 1.5), False, "room")


def furniture(rng: np.random.Generator, kit: Materials, azimuth_rad: float, floor_m: float) -> list[Placed]:
    """Cupboards, shelves and crates behind the table, as seen by a camera at `azimuth_rad`."""
    out = []
    for _ in range(int(rng.integers(0, 5))):
        x, y, z = rng.uniform(0.15, 0.9, 3)
        body = things.carton(rng, kit, (float(x), float(y), float(z)))
        angle = azimuth_rad + np.pi + rng.normal(0, 0.6)
        away = rng.uniform(1.3, 2.2)
        out.append(stand(body, np.cos(angle) * away, np.sin(angle) * away, floor_m, rng.uniform(0, 6.28)))
    return out


def backdrop(rng: np.random.Generator, kit: Materials, d: float, reach_m: float) -> Body:
    """A photograph-like sheet that stands across the x axis, facing the origin."""
    if d < 0.3:
        picture = patterns.surface(rng, kit.texture_px * 2, 0.0)
    else:
        maker = (patterns.leaves, patterns.leaves, patterns.clouds, patterns.mottle)[rng.integers(4)]
        size = kit.texture_px * (4 if rng.random() < 0.7 * d else 2)
        picture = maker(rng, size) if size > kit.texture_px * 2 else patterns.surface(rng, size, 0.5)
    facing = turn((0, 0, 1), -np.pi / 2) @ turn((1, 0, 0), np.pi / 2)
    return Body(
        (bodies.plate(affine((0, 0, 0), facing, (reach_m, reach_m, 1)), kit.add(picture, reach_m)),),
        (0.1, reach_m, reach_m), False, "room",
    )  # fmt: skip


def gather(rng: np.random.Generator, kit: Materials, count: int, choices: things.Choices) -> list[Body]:
    """Things for a scene; some are look-alikes of an earlier one."""
    out: list[Body] = []
    for _ in range(count):
        if out and rng.random() < 0.14:
            out.append(out[rng.integers(len(out))])
        else:
            out.append(things.random_thing(rng, kit, choices))
    return out
