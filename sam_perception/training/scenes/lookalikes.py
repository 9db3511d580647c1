"""Two or three equal things on a table that pass one another, hide for long, or leave and come back."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics
from sam_perception.training.scenes import layout, motion, things
from sam_perception.training.scenes.bodies import Body, affine, turn
from sam_perception.training.scenes.clip import render_clip
from sam_perception.training.scenes.materials import Materials
from sam_perception.training.scenes.render import Actor, Light, Stage
from sam_perception.training.scenes.scenarios import random_light
from sam_perception.training.scenes.values import Clip, SceneOptions

Event = Literal["crossing", "hidden", "away"]
EVENTS: tuple[Event, ...] = ("crossing", "hidden", "away")

_MAKERS = (things.mug, things.can, things.bottle, things.ball)
_HALF_WIDTH_M = 0.045
_SCREEN_Y_M = -0.17  # in front of everything: the camera is at negative y
_FRAME_PERIOD_S = 1 / 15  # how fast things are meant to move; see `stamps_ns`


def lookalike_clip(rng: np.random.Generator, event: Event, *, frames: int = 48, size_px: int = 256) -> Clip:
    """An RGB-D clip; object 1 is the one that something happens to.

    Args:
        rng: decides about looks, places and times.
        event: crossing: three equal things slide past one another, twice; hidden: one goes behind a screen for
            about a third of the clip, and comes out where it went in or on the other side, beside its look-alike;
            away: one leaves the picture for about as long and comes back, while its look-alike moves to its place.
        frames: of the clip, 15 in a second.
        size_px: width and height.
    """
    options = SceneOptions(width=size_px, height=size_px, frames=frames, depth=True, difficulty=0.4)
    kit = Materials(128)
    body = _MAKERS[int(rng.integers(len(_MAKERS)))](rng, kit)
    paths = {"crossing": _crossing, "hidden": _hidden, "away": _away}[event](rng, frames)
    table, top = layout.table(rng, kit, 0.3)
    actors = [Actor(table, _still(frames)), Actor(layout.room(rng, kit, 0.3, -0.75), _still(frames))]
    if event == "hidden":
        screen = things.carton(rng, kit, (0.26, 0.02, 0.22), 1.0)
        actors.append(Actor(screen, _still(frames) @ affine((0.0, _SCREEN_Y_M, 0.0))))
    actors += [_sliding(rng, body, path, number) for number, path in enumerate(paths, start=1)]
    return render_clip(rng, _stage(rng, kit, actors, top, options), len(paths), options)


def stamps_ns(frames: int) -> list[int]:
    """When the frames were taken."""
    return [10**9 + round(k * _FRAME_PERIOD_S * 1e9) for k in range(frames)]


def _stage(rng: np.random.Generator, kit: Materials, actors: list[Actor], top: int, options: SceneOptions) -> Stage:
    ticks = np.arange(options.frames, dtype=np.float64)
    focal = 0.95 * options.width
    middle = (options.width - 1) / 2
    eye = np.array([rng.normal(0, 0.04), -0.78, rng.uniform(0.32, 0.42)])
    sway = motion.drift(rng, ticks, 0.0006)
    poses = np.stack([motion.look_at(eye + s, np.array([0.0, 0.05, 0.04]) + 0.3 * s, 0.0) for s in sway])
    light: Light = random_light(rng, 0.3)
    camera = CameraIntrinsics(options.width, options.height, focal, focal, middle, middle)
    return Stage(tuple(actors), kit.atlas(), camera, poses, ticks, light, frozenset({top}))


def _sliding(rng: np.random.Generator, body: Body, path: NDArray[np.float64], instance: int) -> Actor:
    a, b, c = body.half_extent_m
    scale = _HALF_WIDTH_M / max(a, b)
    upright = affine((0, 0, 0.0004), turn((0, 0, 1), rng.uniform(0, 2 * np.pi))) @ affine(
        (0, 0, 0), None, (scale, scale, min(scale, 0.075 / c))
    )
    poses = np.tile(upright, (len(path), 1, 1))
    poses[:, :2, 3] += path
    return Actor(body, poses, instance)


def _still(frames: int) -> NDArray[np.float64]:
    return np.tile(np.eye(4), (frames, 1, 1))


def _crossing(rng: np.random.Generator, frames: int) -> list[NDArray[np.float64]]:
    """(T, 2) on the table for each: side to side and back, each in a lane of its own."""
    phase = np.linspace(0, 2 * np.pi, frames) + rng.uniform(-0.3, 0.3)
    reach = rng.uniform(0.16, 0.22)
    lanes = rng.permutation([-0.1, 0.03, 0.16])
    return [
        np.stack([side * reach * np.cos(phase + lag), np.full(frames, lane)], axis=1)
        for side, lag, lane in zip((1.0, -1.0, 0.4), (0.0, 0.25, 1.2), lanes, strict=True)
    ]


def _hidden(rng: np.random.Generator, frames: int) -> list[NDArray[np.float64]]:
    """Behind the screen and out again; the look-alike waits where it comes out, or where it went in."""
    side, through = rng.choice([-1.0, 1.0]), rng.random() < 0.5
    start, end = side * rng.uniform(0.22, 0.26), (-side if through else side) * rng.uniform(0.22, 0.26)
    times = np.linspace(0, 1, frames)
    along = np.interp(times, [0, 0.12, 0.3, 0.64, 0.82, 1], [start, start, 0, 0, end, end])
    lane = rng.uniform(0.0, 0.05)
    other_side = -side if rng.random() < 0.5 else side
    waits = np.interp(times, [0, 0.35, 0.6, 1], [-side * 0.27, -side * 0.27, other_side * 0.3, other_side * 0.3])
    return [_track(along, lane), _track(waits, lane + rng.uniform(0.12, 0.18))]


def _away(rng: np.random.Generator, frames: int) -> list[NDArray[np.float64]]:
    """Out of the picture and back, while the look-alike goes to where it was."""
    side = rng.choice([-1.0, 1.0])
    times = np.linspace(0, 1, frames)
    home, out = side * rng.uniform(0.05, 0.15), side * 0.75
    along = np.interp(times, [0, 0.1, 0.3, 0.66, 0.88, 1], [home, home, out, out, home, home])
    far = -side * 0.2
    other = np.interp(times, [0, 0.3, 0.55, 0.7, 0.9, 1], [far, far, home, home, far, far])
    lane = rng.uniform(-0.08, 0.05)
    return [_track(along, lane), _track(other, lane + rng.uniform(0.1, 0.16))]


def _track(x: NDArray[np.float64], y: float) -> NDArray[np.float64]:
    return np.stack([x, np.full_like(x, y)], axis=1)
