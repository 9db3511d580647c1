"""The demo's scene: a table with a mug, a box, a bottle and a book, and what happens there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics
from sam_perception.training.scenes import layout, motion, patterns, things
from sam_perception.training.scenes.bodies import Body, affine, plate, turn
from sam_perception.training.scenes.materials import Materials
from sam_perception.training.scenes.render import Actor, Light, Stage

LABELS = ("mug", "box", "bottle", "book")  # of instances 1 to 4
# The mug goes from the left, behind the box, to the right; the book is pushed earlier.
_MUG_START, _MUG_END, _MUG_Y = -0.2, 0.26, 0.14  # metres on the table
_MUG_LEAVES, _MUG_ARRIVES = 0.27, 0.62  # shares of the clip
_BOOK_PUSH = np.array([-0.045, 0.02, 0.0])  # metres
_BOOK_LEAVES, _BOOK_ARRIVES = 0.08, 0.24


def demo_stage(seed: int, width: int, height: int, frames: int) -> Stage:
    """The stage; `seed` changes colours and prints, not what happens."""
    rng = np.random.default_rng([seed, 1])
    kit = Materials(256)
    actors = [Actor(_table(rng, kit), _still(affine(), frames))]
    actors.append(Actor(layout.room(rng, kit, 0.25, -0.75), _still(affine(), frames)))
    actors += _objects(rng, kit, frames)
    actors += _clutter(rng, kit, frames)
    focal = 0.96 * width  # as a RealSense D435's colour camera
    camera = CameraIntrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    towards = np.array([-0.45, -0.35, 0.85])
    light = Light(
        towards / np.linalg.norm(towards),
        np.array([0.72, 0.7, 0.66], np.float32),
        np.array([0.5, 0.52, 0.56], np.float32),
        np.array([0.34, 0.34, 0.34], np.float32),
        0.75,
        0.006,
        0.22,
    )
    grounds = frozenset({actors[0].body.parts[0].material})
    ticks = np.arange(frames, dtype=np.float64)
    return Stage(tuple(actors), kit.atlas(), camera, _camera_path(ticks), ticks, light, grounds)


def _still(pose: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    return np.tile(pose, (frames, 1, 1))


def _camera_path(ticks: NDArray[np.float64]) -> NDArray[np.float64]:
    """A camera on an arm that sways by two centimetres."""
    poses = []
    for tick in ticks:
        sway = np.array([0.02 * np.sin(tick * 0.09), 0.012 * np.sin(tick * 0.07 + 1), 0.012 * np.sin(tick * 0.11)])
        target = np.array([0.01, 0.0, 0.05]) + 0.4 * sway[[1, 0, 2]]
        poses.append(motion.look_at(np.array([0.0, -0.66, 0.44]) + sway, target, 0.006 * np.sin(tick * 0.13)))
    return np.stack(poses)


def _table(rng: np.random.Generator, kit: Materials) -> Body:
    picture = patterns.wood(rng, 1024)
    pale = 0.45 * picture + 0.55 * np.array([222.0, 200.0, 178.0])
    top = kit.add(pale.astype(np.uint8), 1.8, gloss=0.1)
    return Body((plate(affine((0, 0.1, 0), None, (0.9, 0.6, 1)), top),), (0.9, 0.6, 0.0), True, "room")


def _sized(body: Body, half_width_m: float, height_m: float) -> NDArray[np.float64]:
    """(4, 4) scale that gives a body this half width along y and this height."""
    _, b, c = body.half_extent_m
    return affine((0, 0, 0.0004), None, (half_width_m / b, half_width_m / b, height_m / (2 * c)))


def _ease(frames: int, leaves: float, arrives: float) -> NDArray[np.float64]:
    """(T,) 0 before, 1 after, at an even pace between."""
    return np.clip((np.arange(frames) / max(frames - 1, 1) - leaves) / (arrives - leaves), 0, 1)


def _objects(rng: np.random.Generator, kit: Materials, frames: int) -> list[Actor]:
    mug, bottle, book = things.mug(rng, kit), things.bottle(rng, kit), things.book(rng, kit)
    box = things.carton(rng, kit, (0.2, 0.07, 0.23), 1.0)
    start = affine((_MUG_START, _MUG_Y, 0.0), turn((0, 0, 1), 0.5)) @ _sized(mug, 0.042, 0.095)
    mug_path = np.outer(_ease(frames, _MUG_LEAVES, _MUG_ARRIVES), [_MUG_END - _MUG_START, 0, 0])
    box_pose = affine((0.02, 0.0, 0.0004), turn((0, 0, 1), 0.06))
    bottle_pose = affine((-0.27, -0.03, 0.0), turn((0, 0, 1), 0.3)) @ _sized(bottle, 0.033, 0.21)
    shove = _ease(frames, _BOOK_LEAVES, _BOOK_ARRIVES)
    poses = _still(affine((0.2, -0.13, 0.0004)), frames)
    a, b, c = book.half_extent_m
    for t, s in enumerate(shove):
        yaw = turn((0, 0, 1), 0.35 + 0.25 * s)
        poses[t] = affine(tuple(poses[t, :3, 3] + s * _BOOK_PUSH), yaw, (0.085 / a, 0.06 / b, 0.014 / c))
    return [
        Actor(mug, motion.moved(start, mug_path), 1),
        Actor(box, _still(box_pose, frames), 2),
        Actor(bottle, _still(bottle_pose, frames), 3),
        Actor(book, poses, 4),
    ]


def _clutter(rng: np.random.Generator, kit: Materials, frames: int) -> list[Actor]:
    """Things that nobody asks about."""
    bowl, can, ball = things.bowl(rng, kit), things.can(rng, kit), things.ball(rng, kit)
    places = (
        affine((-0.1, -0.17, 0.0)) @ _sized(bowl, 0.06, 0.045),
        affine((0.4, 0.3, 0.0)) @ _sized(can, 0.035, 0.1),
        affine((-0.42, 0.2, 0.0)) @ _sized(ball, 0.035, 0.07),
    )
    return [Actor(body, _still(pose, frames)) for body, pose in zip((bowl, can, ball), places, strict=True)]
