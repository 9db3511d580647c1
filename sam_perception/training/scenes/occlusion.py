"""How much light reaches a surface: shadows on the ground and darkness in corners."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics
from sam_perception.training.scenes.raycast import Floats


def ground_shadow(
    camera: CameraIntrinsics,
    camera_from_world: NDArray[np.float64],
    corners: NDArray[np.float64],
    towards: NDArray[np.float64],
    depth: float,
    blur_px: float,
) -> Floats:
    """(H, W) share of the lamp's light on the plane z = 0, `1 - depth` in the shadow's core.

    Each of P bodies is given by the K `corners` (P, K, 3) of its hull in the world; `towards` is the
    unit vector to the lamp.
    """
    drop = corners[..., 2:3].clip(0) / max(float(towards[2]), 0.2)
    on_ground = corners - drop * towards
    seen = on_ground @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    lit = np.full((camera.height, camera.width), 255, np.uint8)
    for points, body in zip(seen, corners, strict=True):
        z = points[:, 2]
        if z.min() < 0.05 or body[:, 2].max() < 0.002:
            continue
        x = points[:, 0] / z * camera.fx + camera.cx
        y = points[:, 1] / z * camera.fy + camera.cy
        pixels = np.stack([x, y], axis=1).clip(-9999, 9999).astype(np.int32)
        cv2.fillConvexPoly(lit, cv2.convexHull(pixels), round(255 * (1 - depth)))
    if blur_px > 0.3:
        lit = cv2.GaussianBlur(lit, (0, 0), blur_px)
    return np.asarray(lit.astype(np.float32) * np.float32(1 / 255))


def crevices(depth: Floats, strength: float) -> Floats:
    """(H, W) factor below 1 in corners and where things touch (screen-space ambient occlusion).

    A pixel is dark where its neighbours on opposite sides are together nearer than a plane would
    be. Neighbours much nearer belong to something else in front and count for nothing.
    """
    h, w = depth.shape
    z = np.minimum(depth[::2, ::2], np.float32(20))
    reach = max(w // 128, 1)
    pad = 2 * reach
    padded = cv2.copyMakeBorder(z, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    rows, columns = z.shape
    far, unit = z * np.float32(0.13), 1 / (z * np.float32(0.04))
    total = np.zeros_like(z)
    for dy, dx in ((0, pad), (pad, 0), (reach, reach), (-reach, reach)):
        a = z - padded[pad + dy : pad + dy + rows, pad + dx : pad + dx + columns]
        b = z - padded[pad - dy : pad - dy + rows, pad - dx : pad - dx + columns]
        related = (np.abs(a) < far) & (np.abs(b) < far)
        total += np.clip((a + b) * unit, 0, 1) * related
    soft = cv2.blur(total, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(1 - np.float32(strength) * np.minimum(cv2.resize(soft, (w, h)), 1))
