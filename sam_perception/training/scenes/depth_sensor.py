"""How a stereo depth camera such as a RealSense D435 sees exact depth.

Depth is z = f b / disparity, so an error of the disparity in pixels becomes an error of
z^2 / (f b) times as much in metres: about 1.5 mm standard deviation at 1 m, and four times that
at 2 m (Keselman et al. 2017, "Intel RealSense Stereoscopic Depth Cameras").
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DepthSensor:
    """A stereo pair, its left imager in the colour camera's place."""

    baseline_m: float = 0.05
    noise_m: float = 0.0015  # standard deviation at 1 m
    disparity_step_px: float = 1 / 32
    min_m: float = 0.17
    max_m: float = 6.0
    grain_px: float = 1.2  # over how many pixels errors are alike
    drop_out: float = 0.002  # share of pixels lost for no visible reason

    def sigma_m(self, depth_m: Floats) -> Floats:
        """Standard deviation of the depth at these depths."""
        out: Floats = np.float32(self.noise_m) * depth_m * depth_m
        return out


def sense(
    rng: np.random.Generator, exact_m: Floats, rgb: NDArray[np.uint8], focal_px: float, sensor: DepthSensor
) -> Floats:
    """(H, W) metres as measured, 0 where there is no return.

    Holes: beyond the range, what only one of the two imagers sees, ragged edges, black and
    overexposed surfaces, and a few for no reason. `exact_m` is FAR or more where nothing is.
    """
    scale = np.float32(focal_px * sensor.baseline_m)
    inside = (exact_m > sensor.min_m) & (exact_m < sensor.max_m)
    exact = np.where(inside, exact_m, np.float32(sensor.max_m))
    disparity = scale / exact
    noise = rng.standard_normal(exact.shape, dtype=np.float32)
    if sensor.grain_px > 0:
        noise = cv2.GaussianBlur(noise, (0, 0), sensor.grain_px)
        noise *= np.float32(2 * np.sqrt(np.pi) * sensor.grain_px)  # the blur's loss of variance
    # At 1 m a disparity error e moves the depth by e / scale.
    noisy = disparity + noise * np.float32(sensor.noise_m) * scale
    step = np.float32(sensor.disparity_step_px)
    noisy = np.maximum(np.round(noisy / step) * step, step)
    measured = scale / noisy
    keep = inside & (measured <= sensor.max_m) & ~_half_occluded(disparity)
    keep &= ~_ragged_edges(rng, exact) & ~_unreadable(rng, rgb)
    keep &= rng.random(exact.shape, dtype=np.float32) >= sensor.drop_out
    out: Floats = np.where(keep, measured, np.float32(0)).astype(np.float32)
    return out


def _half_occluded(disparity: Floats) -> NDArray[np.bool_]:
    """Pixels hidden from the right imager.

    A point at column x appears there at x - disparity. It is hidden if a point further right in
    the left picture, which is then nearer, appears at the same place or further left.
    """
    right = np.arange(disparity.shape[1], dtype=np.float32) - disparity
    nearest = np.minimum.accumulate(right[:, ::-1], axis=1)[:, ::-1]
    out = np.zeros(disparity.shape, np.bool_)
    out[:, :-1] = right[:, :-1] >= nearest[:, 1:]
    return out


def _ragged_edges(rng: np.random.Generator, depth: Floats) -> NDArray[np.bool_]:
    spread = cv2.dilate(depth, np.ones((3, 3), np.uint8)) - cv2.erode(depth, np.ones((3, 3), np.uint8))
    edge = spread > np.float32(0.04) * depth
    out: NDArray[np.bool_] = edge & (rng.random(depth.shape, dtype=np.float32) < 0.5)
    return out


def _unreadable(rng: np.random.Generator, rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Patches of black or overexposed surfaces, where there is nothing to match."""
    value = cv2.GaussianBlur(rgb.max(axis=2), (0, 0), 2.0)
    h, w = value.shape
    coarse = rng.random((max(h // 8, 1), max(w // 8, 1)), dtype=np.float32)
    patches = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    out: NDArray[np.bool_] = ((value < 14) & (patches > 0.45)) | ((value > 252) & (patches > 0.6))
    return out
