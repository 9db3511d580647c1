"""Random stages: what stands where, how it moves, and how the camera does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics
from sam_perception.training.scenes import bodies, events, layout, motion, patterns, things
from sam_perception.training.scenes.bodies import Body, affine, turn
from sam_perception.training.scenes.materials import Materials
from sam_perception.training.scenes.render import Actor, Light, Stage
from sam_perception.training.scenes.values import SceneOptions

Poses = NDArray[np.float64]  # (T, 4, 4)


@dataclass(frozen=True, eq=False)
class Mover:
    """A body with its motion, not yet numbered."""

    body: Body
    poses: Poses
    labelled: bool = True

    def center(self, t: int) -> NDArray[np.float64]:
        """(3,) world, the middle of its box at frame t."""
        return np.asarray((self.poses[t] @ [0.0, 0.0, self.body.half_extent_m[2], 1.0])[:3])


@dataclass(frozen=True, eq=False)
class View:
    """The camera of a clip."""

    intrinsics: CameraIntrinsics
    world_from_camera: Poses
    ticks: NDArray[np.float64]  # (T,)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.ticks)


def random_intrinsics(rng: np.random.Generator, options: SceneOptions) -> CameraIntrinsics:
    """A normal to wide lens; 4:3 and 16:9 pictures are often squeezed into a square."""
    w, h = options.width, options.height
    focal = rng.uniform(0.7, 1.35)
    # Networks see pictures resized to a square, so pixels are seldom square there.
    stretch = rng.choice([1.0, 4 / 3, 16 / 9], p=[0.35, 0.5, 0.15]) if w == h else 1.0
    cx, cy = (w - 1) / 2 + rng.normal(0, 0.01) * w, (h - 1) / 2 + rng.normal(0, 0.01) * h
    return CameraIntrinsics(w, h, float(focal * w), float(focal * w * stretch), float(cx), float(cy))


def random_light(rng: np.random.Generator, d: float) -> Light:
    """A lamp somewhere above, with its own tint, and light from all around."""
    towards = rng.normal(0, 1, 3) * [1, 1, 0] + [0, 0, rng.uniform(0.6, 2.5)]
    towards /= np.linalg.norm(towards)
    strength = rng.uniform(0.1, 0.75)
    warm = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    around = np.float32(rng.uniform(0.85, 1.05) - strength)
    return Light(
        towards,
        warm * np.float32(strength / max(float(towards[2]), 0.5)),
        np.exp(rng.normal(0, 0.05, 3)).astype(np.float32) * around,
        np.full(3, around * rng.uniform(0.35, 0.8), np.float32),
        float(rng.uniform(0.2, 0.95)) if rng.random() < 0.3 + 0.5 * d else 0.0,
        float(rng.choice([0.002, 0.008, 0.02, 0.04])),
        float(rng.uniform(0.0, 0.55)),
    )


def _speed(rng: np.random.Generator, d: float) -> float:
    """Typical picture motion per tick as a share of the picture's width; mostly slow, sometimes fast."""
    return float(rng.choice([0.0, 0.0015, 0.004, 0.012], p=[0.25, 0.3, 0.3, 0.15]) * (0.3 + 0.7 * d))


def table_stage(rng: np.random.Generator, options: SceneOptions, kit: Materials) -> tuple[list[Mover], View, set[int]]:
    """Household things on a table in a room, some of them moved."""
    d, camera = options.difficulty, random_intrinsics(rng, options)
    count = int(rng.integers(1 + (d > 0.5), 3 + round(d * (options.max_objects + 3))))
    distance = rng.uniform(0.45, 1.3)
    piled = rng.random() < 0.45  # as on a crowded desk; else loosely
    spread = distance * (rng.uniform(0.1, 0.25) if piled else rng.uniform(0.2, 0.42)) / (camera.fx / camera.width)
    table, top = layout.table(rng, kit, d)
    placed = layout.arrange(rng, layout.gather(rng, kit, count, things.HOUSEHOLD), spread, d if piled else 0.5 * d)
    elevation, azimuth = np.deg2rad(rng.uniform(18, 75)), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    target = np.append(rng.normal(0, spread * 0.3, 2), 0.05)
    view = _view(rng, options, camera, target + direction * distance, target)
    still = np.tile(np.eye(4), (options.frames, 1, 1))
    table_pose = affine((*rng.normal(0, 0.15, 2), 0.0), turn((0, 0, 1), rng.uniform(0, 6.28)))
    movers = [Mover(table, still @ table_pose, False)]
    if d > 0.1:
        movers.append(Mover(layout.room(rng, kit, d, -0.75), still @ affine(rotation=turn((0, 0, 1), azimuth)), False))
        for p in layout.furniture(rng, kit, azimuth, -0.75):
            movers.append(Mover(dataclasses.replace(p.body, kind="room"), still @ p.world_from_body, False))
    moving = rng.random() < 0.7
    for p in placed:
        movers.append(_on_table(rng, p, view, d, distance / camera.fx * camera.width, moving))
    return movers, view, {top}


def _on_table(
    rng: np.random.Generator, placed: layout.Placed, view: View, d: float, width_m: float, moving: bool
) -> Mover:
    """A thing at rest, or pushed, turned or lifted. `width_m`: how much of the table the picture spans."""
    labelled = rng.random() < 0.9
    pose = placed.world_from_body
    if not moving or rng.random() > 0.4:
        return Mover(placed.body, np.tile(pose, (view.frames, 1, 1)), labelled)
    path = motion.drift(rng, view.ticks, _speed(rng, d) * width_m * 2)
    if rng.random() < 0.5:
        path[:, 2] = 0
    else:
        path[:, 2] = np.abs(path[:, 2])
    poses = motion.moved(pose, path)
    if rng.random() < 0.5:
        angles = rng.normal(0, 0.06) * d * (view.ticks - view.ticks[0])
        poses[:, :3, :3] = motion.spin(np.array([0, 0, 1.0]), angles)[:, :3, :3] @ pose[:3, :3]
    return Mover(placed.body, poses, labelled)


def _view(
    rng: np.random.Generator, options: SceneOptions, camera: CameraIntrinsics, eye: NDArray[np.float64],
    target: NDArray[np.float64],
) -> View:  # fmt: skip
    ticks = np.arange(options.frames, dtype=np.float64) * options.stride
    d, distance = options.difficulty, float(np.linalg.norm(eye - target))
    speed = _speed(rng, d) * distance
    eyes = eye + motion.drift(rng, ticks, speed)
    targets = target + motion.drift(rng, ticks, speed * 0.6)
    if rng.random() < 0.3 * d:
        targets = targets + motion.shake(rng, options.frames, 0.008 * distance * rng.random())
    eyes[:, 2] = np.maximum(eyes[:, 2], 0.06) if target[2] < 0.5 else eyes[:, 2]
    roll = rng.normal(0, 0.06) + np.cumsum(rng.normal(0, 0.004 * d, options.frames))
    poses = np.stack([motion.look_at(e, g, float(r)) for e, g, r in zip(eyes, targets, roll, strict=True)])
    return View(camera, poses, ticks)


def flying_stage(rng: np.random.Generator, options: SceneOptions, kit: Materials) -> tuple[list[Mover], View, set[int]]:
    """Things of any size and pose before a backdrop, at several depths, each on its own way."""
    d, camera = options.difficulty, random_intrinsics(rng, options)
    eye = np.array([0.0, 0.0, 1.5])
    view = _view(rng, options, camera, eye, eye + np.array([2.0, 0, 0]))
    far = rng.uniform(2.5, 5.0)
    still = np.tile(affine((far, 0, 1.5)), (options.frames, 1, 1))
    movers = [Mover(layout.backdrop(rng, kit, d, far * 1.6), still, False)]
    count = int(rng.integers(1, 3 + round(d * options.max_objects)))
    for body in layout.gather(rng, kit, count, things.ANYTHING):
        movers.append(_flying(rng, body, view, d))
    for _ in range(rng.binomial(4, 0.25 * d)):  # poles in front
        movers.append(_pole(rng, kit, view))
    return movers, view, set()


def _flying(rng: np.random.Generator, body: Body, view: View, d: float) -> Mover:
    camera = view.intrinsics
    depth = rng.uniform(0.5, 2.2)
    share = np.exp(rng.uniform(np.log(0.09 if d > 0.3 else 0.25), np.log(0.75)))  # of the picture's width
    width_m = depth / camera.fx * camera.width
    height_m = depth / camera.fy * camera.height
    scale = share * width_m / (2 * max(body.half_extent_m))
    if rng.random() < 0.5:  # upright, seen a little from above
        rotation = turn((0, 1, 0), rng.uniform(-0.5, 0.15)) @ turn((0, 0, 1), rng.uniform(0, 2 * np.pi))
    else:
        rotation = turn(rng.normal(0, 1, 3), rng.uniform(0, np.pi))
    spin = motion.spin(rng.normal(0, 1, 3), rng.normal(0, 0.08) * d * view.ticks)
    stretch = np.ones((view.frames, 3)) * rng.uniform(0.75, 1.3, 3)
    if rng.random() < 0.3 * d:
        stretch *= 1 + 0.12 * np.sin(np.outer(view.ticks, rng.uniform(0.1, 0.8, 3)) + rng.uniform(0, 6, 3))
    y, z = rng.uniform(-0.48, 0.48) * width_m, rng.uniform(-0.48, 0.48) * height_m
    path = motion.drift(rng, view.ticks, _speed(rng, d) * width_m * 1.5)
    middle = affine((0, 0, -body.half_extent_m[2]))
    poses = np.empty((view.frames, 4, 4))
    for t in range(view.frames):
        place = np.array([depth, y, 1.5 + z]) + path[t]
        place[0] = max(place[0], 0.35)
        turned = spin[t, :3, :3] @ rotation * (scale * stretch[t])
        poses[t] = affine((place[0], place[1], place[2]), turned) @ middle
    return Mover(body, poses, rng.random() < 0.92)


def _pole(rng: np.random.Generator, kit: Materials, view: View) -> Mover:
    """A thin upright or slanted post near the camera: it splits what is behind it."""
    depth = rng.uniform(0.4, 1.2)
    r = depth * rng.uniform(0.006, 0.04)
    material = kit.add(patterns.surface(rng, kit.texture_px // 2, 0.3), 0.3)
    post = Body((bodies.rod((0, 0, -2), (0, 0, 2), r, material),), (r, r, 0.0), False, "pole")
    y = rng.uniform(-0.5, 0.5) * depth
    slant = turn((1, 0, 0), rng.normal(0, 0.25))
    return Mover(post, np.tile(affine((depth, y, 1.5), slant), (view.frames, 1, 1)), False)


def random_stage(rng: np.random.Generator, options: SceneOptions) -> tuple[Stage, int]:
    """A stage and the number of its labelled objects (instances 1 to N)."""
    # About as many texels on a large object as it has pixels.
    kit = Materials(64 if options.width <= 160 else 128 if options.width <= 384 else 256)
    on_table = rng.random() < (0.7 if options.difficulty > 0.1 else 0.5)
    make = table_stage if on_table else flying_stage
    movers, view, grounds = make(rng, options, kit)
    light = random_light(rng, options.difficulty)
    movers = events.add(rng, options, kit, movers, view)
    actors, used = [], 0
    for mover in movers:
        number = 0
        if mover.labelled and used < options.max_objects:
            used += 1
            number = used
        actors.append(Actor(mover.body, mover.poses, number))
    stage = Stage(
        tuple(actors), kit.atlas(), view.intrinsics, view.world_from_camera, view.ticks, light, frozenset(grounds)
    )
    return stage, used
