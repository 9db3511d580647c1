"""Paths over time: smooth drift, sway, occlusions, exits and returns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes.bodies import turn

Path = NDArray[np.float64]  # (T, 3)


def drift(rng: np.random.Generator, ticks: NDArray[np.float64], speed: float) -> Path:
    """(T, 3) a smooth wander of about `speed` per tick in every direction, starting at zero."""
    span = max(float(np.ptp(ticks)), 1.0)
    # Long clips turn back rather than lose everything.
    straight = rng.normal(0, speed, 3) * min(1.0, 30 / span)
    path = np.outer(ticks - ticks[0], straight)
    for _ in range(2):
        rate, phase = rng.uniform(0.08, 0.6), rng.uniform(0, 2 * np.pi, 3)
        reach = np.minimum(speed / rate, speed * span) * rng.uniform(0, 1, 3)
        path += reach * (np.sin(np.outer(ticks - ticks[0], np.full(3, rate)) + phase) - np.sin(phase))
    return path


def shake(rng: np.random.Generator, frames: int, size: float) -> Path:
    """(T, 3) independent jolts."""
    return rng.normal(0, size, (frames, 3))


def spin(axis: NDArray[np.float64], angles_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 4, 4) turns about one axis through the origin."""
    out = np.tile(np.eye(4), (len(angles_rad), 1, 1))
    for t, angle in enumerate(angles_rad):
        out[t, :3, :3] = turn(axis, float(angle))
    return out


def moved(pose: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """(T, 4, 4) one pose carried along a path of world displacements."""
    out = np.tile(pose, (len(path), 1, 1))
    out[:, :3, 3] += path
    return out


def away_and_back(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """(T,) 0 at home, 1 fully away for a few frames somewhere in the clip, with smooth ways between."""
    gone = min(int(rng.integers(2, 9)), max(frames - 3, 1))
    start = int(rng.integers(1, max(frames - gone, 2)))
    leave, back = rng.uniform(0.8, 3.5, 2)
    i = np.arange(frames, dtype=np.float64)
    outside = np.maximum((start - i) / leave, (i - (start + gone - 1)) / back)
    s = np.clip(1 - outside, 0, 1)
    return np.asarray(s * s * (3 - 2 * s))


def look_at(eye: NDArray[np.float64], target: NDArray[np.float64], roll_rad: float) -> NDArray[np.float64]:
    """(4, 4) world_from_camera of an optical frame (z forward, y down) at `eye`; world z is up."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-6:
        right = np.array([1.0, 0, 0])
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1) @ turn((0, 0, 1), roll_rad)
    out[:3, 3] = eye
    return out
