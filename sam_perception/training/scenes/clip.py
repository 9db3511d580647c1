"""A random clip: stage, pictures, masks, depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes.depth_sensor import DepthSensor, sense
from sam_perception.training.scenes.photograph import random_camera
from sam_perception.training.scenes.raycast import FAR
from sam_perception.training.scenes.render import Renderer, Stage
from sam_perception.training.scenes.scenarios import random_stage
from sam_perception.training.scenes.values import Clip, SceneOptions

MIN_VISIBLE_PX = 40  # objects that never show as many pixels count as clutter


def random_clip(rng: np.random.Generator, options: SceneOptions) -> Clip:
    """A clip of a random scene. The same generator state and options give the same bytes."""
    stage, count = random_stage(rng, options)
    return render_clip(rng, stage, count, options)


def render_clip(rng: np.random.Generator, stage: Stage, count: int, options: SceneOptions) -> Clip:
    """The clip that a random camera takes of a stage with `count` labelled objects."""
    t, h, w = options.frames, options.height, options.width
    rgb, ids = np.empty((t, h, w, 3), np.uint8), np.empty((t, h, w), np.uint8)
    amodal = np.zeros((t, count, h, w), np.bool_) if options.amodal else None
    exact = np.empty((t, h, w), np.float32) if options.depth else None
    renderer = Renderer(stage, count, options.amodal)
    for k in range(t):
        picture, buffers = renderer.frame(k)
        if k == 0:
            camera = random_camera(rng, picture, t, options.difficulty)
        rgb[k] = camera.take(picture, k)
        ids[k] = buffers.instance
        if amodal is not None and buffers.amodal is not None:
            amodal[k] = buffers.amodal
        if exact is not None:
            exact[k] = buffers.depth
    depth = None if exact is None else _sensed(rng, exact, rgb, stage.camera.fx)
    kept = _seen(ids, count)
    poses = {a.instance: a.world_from_body for a in stage.actors if a.instance}
    moved = np.stack([poses[k] for k in kept], axis=1) if kept else np.zeros((t, 0, 4, 4))
    return Clip(
        rgb,
        _renumbered(ids, kept, count),
        tuple(range(1, len(kept) + 1)),
        stage.camera,
        stage.world_from_camera,
        moved,
        None if amodal is None else amodal[:, [k - 1 for k in kept]],
        depth,
        None if exact is None else np.where(exact < FAR, exact, np.float32(0)),
    )


def _sensed(
    rng: np.random.Generator, exact: NDArray[np.float32], rgb: NDArray[np.uint8], focal_px: float
) -> NDArray[np.float32]:
    sensor = DepthSensor(noise_m=float(rng.uniform(0.0008, 0.003)))
    # The step is a share of a pixel of the sensor's own 640 columns.
    return np.stack([sense(rng, z, p, focal_px, sensor) for z, p in zip(exact, rgb, strict=True)])


def _seen(ids: NDArray[np.uint8], count: int) -> list[int]:
    areas = np.stack([np.bincount(frame.ravel(), minlength=count + 1) for frame in ids])
    return [k for k in range(1, count + 1) if areas[:, k].max() >= MIN_VISIBLE_PX]


def _renumbered(ids: NDArray[np.uint8], kept: list[int], count: int) -> NDArray[np.uint8]:
    table = np.zeros(count + 1, np.uint8)
    for new, old in enumerate(kept, start=1):
        table[old] = new
    return table[ids]
