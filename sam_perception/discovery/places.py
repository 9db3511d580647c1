"""Where in space something in a picture is, roughly: enough to tell near from far."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.detections import Detection
from sam_perception.frame import RgbdFrame
from sam_perception.geometry import depth_valid, ray_grid

_INNER = 0.35  # half axes of the ellipse in a box that is taken for the thing, as shares of the box's sides
_LEAST_SHARE = 0.1  # of the pixels need depth


def middle_of(detection: Detection, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) pixels that are the detected thing's most likely: its mask, or the middle of its box."""
    if detection.mask is not None:
        return detection.mask
    x0, y0, x1, y1 = detection.box
    x, y = detection.point or ((x0 + x1) / 2, (y0 + y1) / 2)
    axes = (max(round(_INNER * (x1 - x0)), 1), max(round(_INNER * (y1 - y0)), 1))
    mask = np.zeros(shape, np.uint8)
    cv2.ellipse(mask, (round(x), round(y)), axes, 0, 0, 360, 1, -1)
    return mask.view(np.bool_)


def position_of(frame: RgbdFrame, mask: NDArray[np.bool_], settings: GeometryConfig) -> NDArray[np.float64] | None:
    """(3,) metres: the middle of the mask's (H, W) rays at its median depth; None with too little sensor depth."""
    depths = frame.depth_m[mask]
    seen = depths[depth_valid(depths, settings)]
    if seen.size == 0 or seen.size < _LEAST_SHARE * depths.size:
        return None
    rays = ray_grid(frame.intrinsics)[:, mask]
    x, y = (float(np.nanmean(axis, dtype=np.float64)) for axis in rays)
    depth = float(np.median(seen))
    position = np.array([x * depth, y * depth, depth])
    return position if np.isfinite(position).all() else None
