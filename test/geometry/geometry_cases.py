"""Cameras, depth images and frames that the geometry tests share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame

# Lenses as calibrations find them: webcam and RealSense colour (first four), wide angle, fisheye.
LENSES = {
    DistortionModel.NONE: (),
    DistortionModel.PLUMB_BOB: (0.1, -0.2, 0.003, -0.002, 0.05),
    DistortionModel.INVERSE_BROWN_CONRADY: (-0.0565, 0.0682, 0.00037, 0.00069, -0.0218),
    DistortionModel.RATIONAL_POLYNOMIAL: (0.45, -2.5, 0.0009, -0.0004, 1.5, 0.33, -2.3, 1.4),
    DistortionModel.EQUIDISTANT: (0.05, -0.02, 0.01, -0.003),
}


def camera_with(model: DistortionModel, distortion: tuple[float, ...] | None = None) -> CameraIntrinsics:
    return CameraIntrinsics(
        640, 480, 612.0, 608.0, 322.5, 238.25, model, LENSES[model] if distortion is None else distortion
    )


def pinhole(width: int = 640, height: int = 480, focal: float = 600.0) -> CameraIntrinsics:
    return CameraIntrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


def frame_of(depth_m: NDArray[np.floating], camera: CameraIntrinsics | None = None) -> RgbdFrame:
    """A frame whose colours tell column (red), row (green) and nothing (blue)."""
    height, width = depth_m.shape
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = np.arange(width)[None] % 256
    rgb[..., 1] = np.arange(height)[:, None] % 256
    return RgbdFrame(rgb, depth_m.astype(np.float32), camera or pinhole(width, height), 0, "camera_optical")


def plane_depth(camera: CameraIntrinsics, normal: tuple[float, float, float], distance_m: float) -> NDArray[np.float64]:
    """Depth of the plane normal . p = distance (normal need not be of length one); a pinhole camera."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    depth: NDArray[np.float64] = distance_m / (normal[0] * x[None] + normal[1] * y[:, None] + normal[2])
    return depth


@st.composite
def cameras(draw: st.DrawFn) -> CameraIntrinsics:
    """Any lens model with coefficients of the size that calibrations find."""
    model = draw(st.sampled_from(DistortionModel))
    radial, tangential = st.floats(-0.3, 0.3), st.floats(-0.005, 0.005)
    k = [draw(radial) for _ in range(6)]
    p = (draw(tangential), draw(tangential))
    distortion = {
        DistortionModel.NONE: (),
        DistortionModel.PLUMB_BOB: (k[0], k[1], *p, k[2]),
        DistortionModel.INVERSE_BROWN_CONRADY: (k[0], k[1], *p, k[2]),
        DistortionModel.RATIONAL_POLYNOMIAL: (k[0], k[1], *p, k[2], k[3], k[4], k[5]),
        DistortionModel.EQUIDISTANT: tuple(0.3 * c for c in k[:4]),
    }[model]
    focal = draw(st.floats(300.0, 900.0))
    return CameraIntrinsics(
        640, 480, focal, focal * draw(st.floats(0.9, 1.1)), 320.0 + 10 * k[4], 240.0 + 10 * k[5], model, distortion
    )
