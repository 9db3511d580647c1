"""Things that happen to an object: hidden for a few frames, out of the picture and back, carried."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes import bodies, motion, patterns, things
from sam_perception.training.scenes.bodies import Body, affine
from sam_perception.training.scenes.materials import Materials
from sam_perception.training.scenes.values import SceneOptions

if TYPE_CHECKING:
    from sam_perception.training.scenes.scenarios import Mover, View


def add(
    rng: np.random.Generator, options: SceneOptions, kit: Materials, movers: list[Mover], view: View
) -> list[Mover]:
    """The movers with random events worked in; none in the easiest clips or in single pictures."""
    d = options.difficulty
    objects = [k for k, m in enumerate(movers) if m.labelled]
    if options.frames < 3 or not objects or d < 0.15:
        return movers
    out = list(movers)
    if rng.random() < 0.25 * d:
        k = objects[rng.integers(len(objects))]
        out[k] = _leaves_and_returns(rng, out[k], view)
    for _ in range(rng.binomial(1 + options.frames // 12, 0.45 * d)):
        k = objects[rng.integers(len(objects))]
        cover = _cover(rng, kit, out[k], view)
        if cover is not None:
            out.append(cover)
    if rng.random() < 0.22 * d:
        k = objects[rng.integers(len(objects))]
        out.append(_arm(rng, kit, out[k], view, d))
    return out


def _axes(view: View, t: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return view.world_from_camera[t][:3, :3], view.world_from_camera[t][:3, 3]


def _leaves_and_returns(rng: np.random.Generator, mover: Mover, view: View) -> Mover:
    away = motion.away_and_back(rng, view.frames)
    poses = mover.poses.copy()
    side = rng.choice([-1.0, 1.0])
    camera = view.intrinsics
    for t in range(view.frames):
        axes, eye = _axes(view, t)
        depth = max(float((mover.center(t) - eye) @ axes[:, 2]), 0.2)
        poses[t, :3, 3] += axes[:, 0] * side * away[t] * depth * camera.width / camera.fx * 1.1
    return dataclasses.replace(mover, poses=poses)


def _extent_m(mover: Mover, t: int) -> float:
    half = np.asarray(mover.body.half_extent_m)
    return float(np.linalg.norm(mover.poses[t][:3, :3] @ half))


def _cover(rng: np.random.Generator, kit: Materials, mover: Mover, view: View) -> Mover | None:
    """Something that passes between the camera and the object, hiding all of it for 2 to 8 frames."""
    away = motion.away_and_back(rng, view.frames)  # 1: in front
    middle = int(np.argmax(away))
    axes, eye = _axes(view, middle)
    depth = float((mover.center(middle) - eye) @ axes[:, 2])
    radius = _extent_m(mover, middle)
    near = depth * rng.uniform(0.5, 0.75)
    half = radius * near / max(depth - radius, 0.1) * rng.uniform(1.05, 1.35) + 0.01
    if depth < 0.3 or depth - radius < near + 0.1 * depth or half * 2 > near:
        return None
    body = _board(rng, kit, half)
    roll, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(-0.35, 0.35, 2)
    angle = rng.uniform(0, 2 * np.pi)
    side = np.array([np.cos(angle), np.sin(angle), 0.0])
    gap = (half * 1.5 + radius * near / depth) * rng.uniform(1.1, 2.2)
    passing = rng.random() < 0.6
    poses = np.empty((view.frames, 4, 4))
    spin = bodies.turn((0, 0, 1), roll) @ bodies.turn((1, 0, 0), tilt[0]) @ bodies.turn((0, 1, 0), tilt[1])
    for t in range(view.frames):
        axes, eye = _axes(view, t)
        seen = axes.T @ (mover.center(t) - eye)
        place = seen * (near / max(float(seen[2]), 0.1))
        direction = -1.0 if passing and t > middle else 1.0
        place = place + side * direction * gap * (1 - away[t])
        poses[t] = affine(tuple(axes @ place + eye), axes @ spin)
    return dataclasses.replace(mover, body=body, poses=poses, labelled=bool(rng.random() < 0.5))


def _board(rng: np.random.Generator, kit: Materials, half: float) -> Body:
    """A flat thing large enough to hide a ball of radius `half`, its broad side along the camera's axis."""
    kind = rng.random()
    if kind < 0.5:
        carton = things.carton(rng, kit, (half * 2 * rng.uniform(1, 1.4), half * rng.uniform(0.1, 0.6), half * 2.1))
        upright = affine((0, 0, 0), bodies.turn((1, 0, 0), np.pi / 2)) @ affine((0, 0, -half * 1.05))
        part = dataclasses.replace(carton.parts[0], body_from_part=upright @ carton.parts[0].body_from_part)
        return Body((part,), (half, half, 0.0), False, "board")
    material = kit.add(patterns.surface(rng, kit.texture_px, 0.4), half * 3)
    wide = half * rng.uniform(1.0, 1.3)
    if kind < 0.75:
        part = bodies.ellipsoid(affine((0, 0, 0), None, (wide, half * 1.05, half * 0.4)), material)
    else:  # like a sleeve or a trunk: much longer than wide
        part = bodies.rod((0, -half * 4, 0), (0, half * 4, 0), half, material)
    return Body((part,), (half, half, 0.0), False, "board")


def _arm(rng: np.random.Generator, kit: Materials, mover: Mover, view: View, d: float) -> Mover:
    """A forearm with fingers, or a gripper, that reaches into the picture towards an object."""
    tone = kit.add(patterns.surface(rng, kit.texture_px // 2, 0.15), 0.2, gloss=float(rng.choice([0, 0.4])))
    sleeve = kit.add(patterns.surface(rng, kit.texture_px // 2, 0.4), 0.3)
    r = _extent_m(mover, 0) * rng.uniform(0.2, 0.45)
    parts = [
        bodies.rod((0, 0, r * 3), (0, 0, r * 9), r, tone),
        bodies.rod((0, 0, r * 8), (0, 0, r * 40), r * 1.4, sleeve),
    ]
    for k in range(int(rng.integers(2, 5))):
        spread = (k - 1) * r * rng.uniform(0.7, 1.1)
        knuckle = np.array([spread, rng.normal(0, 0.2) * r, r * 1.8])
        parts.append(bodies.rod((spread * 0.6, 0, r * 3), knuckle, r * 0.3, tone))
        parts.append(bodies.rod(knuckle, knuckle * [0.8, 1, 0] + [0, r * 0.5, 0], r * 0.27, tone))
    body = Body(tuple(parts), (r, r, r * 10), False, "arm")
    axes, _ = _axes(view, 0)
    angle = rng.uniform(0, 2 * np.pi)
    outward = axes @ np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.7, -0.2)])
    outward = outward / np.linalg.norm(outward)
    reach = r * rng.uniform(0.5, 6)
    path = motion.drift(rng, view.ticks, _extent_m(mover, 0) * 0.1 * d)
    poses = np.empty((view.frames, 4, 4))
    rotation = bodies.align_z(outward)
    for t in range(view.frames):
        tip = mover.center(t) + outward * reach + path[t]
        poses[t] = affine((tip[0], tip[1], tip[2]), rotation)
    return dataclasses.replace(mover, body=body, poses=poses, labelled=False)
