"""The one place where points become pixels and pixels become points.

Points are in the camera's optical frame (x right, y down, z forward; REP-103), metres; pixels
are x to the right and y down with integer values at pixel centres; depth is along z, not along
the ray (REP-118).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sam_perception.errors import FrameError, MalformedImage
from sam_perception.frame import CameraIntrinsics
from sam_perception.geometry.distortion import distort, undistort


def project(camera: CameraIntrinsics, points_m: ArrayLike) -> NDArray[np.float64]:
    """Pixels (N, 2) on which points (N, 3) fall; also those outside the image.

    NaN where there is no pixel: a point not in front of the camera, not finite, or outside
    the field in which the lens model is one to one.

    Raises:
        FrameError: points are not (N, 3).
    """
    points = _columns(points_m, 3, "points")
    # Points behind the camera would come out mirrored, as if they were in front.
    z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
    x, y = distort(camera, points[:, 0] / z, points[:, 1] / z)
    return np.stack([camera.fx * x + camera.cx, camera.fy * y + camera.cy], axis=1)


def deproject(camera: CameraIntrinsics, pixels: ArrayLike, depth_m: ArrayLike) -> NDArray[np.float64]:
    """Points (N, 3) in metres of pixels (N, 2), also between pixel centres, at depths (N,).

    NaN where no ray of the lens model falls on the pixel. A depth of zero or NaN is not
    judged here: see `depth_valid`.

    Raises:
        FrameError: pixels are not (N, 2) or depths are not as many.
    """
    at = _columns(pixels, 2, "pixels")
    z = np.asarray(depth_m, dtype=np.float64)
    if z.shape != (len(at),):
        raise FrameError(f"depths have shape {z.shape} for {len(at)} pixels: pass one depth per pixel")
    x, y = undistort(camera, (at[:, 0] - camera.cx) / camera.fx, (at[:, 1] - camera.cy) / camera.fy)
    return np.stack([x * z, y * z, z], axis=1)


@lru_cache(maxsize=4)  # of 2.4 MB each at 640 x 480; a robot has a few cameras, not many
def ray_grid(camera: CameraIntrinsics) -> NDArray[np.float32]:
    """Where each pixel's ray meets the plane z = 1: (2, H, W), x and y, read-only.

    Made once per camera, so that bringing an image's pixels into space is two multiplications.
    NaN where the lens model has no ray.
    """
    columns = (np.arange(camera.width) - camera.cx) / camera.fx
    rows = (np.arange(camera.height) - camera.cy) / camera.fy
    x, y = np.meshgrid(columns, rows)
    grid = np.stack(undistort(camera, x, y)).astype(np.float32)
    grid.flags.writeable = False
    return grid


def deproject_mask(
    camera: CameraIntrinsics, depth_m: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Points (N, 3) in metres of the pixels in `mask` (H, W), row by row; depth (H, W) in metres.

    Depth is taken as it is, also where it is 0 or NaN: see `depth_valid`.

    Raises:
        MalformedImage: depth or mask is not of the camera's size.
    """
    check_size(camera, depth_m, "depth")
    check_size(camera, mask, "mask")
    window = bounding_window(mask)
    return deproject_window(depth_m[window], ray_grid(camera)[:, window[0], window[1]], mask[window])


def deproject_window(
    depth_m: NDArray[np.float32], rays: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Points (N, 3) in metres of a window's masked pixels; depth and mask (h, w), rays (2, h, w)."""
    # One-dimensional masks and rows of one coordinate are what numpy is fastest at; the result
    # is (N, 3) to everyone, with its columns contiguous.
    inside = mask.ravel()
    z = depth_m.ravel()[inside]
    columns = np.empty((3, z.size), np.float32)
    np.multiply(rays[0].ravel()[inside], z, out=columns[0])
    np.multiply(rays[1].ravel()[inside], z, out=columns[1])
    columns[2] = z
    points: NDArray[np.float32] = columns.T
    return points


def bounding_window(mask: NDArray[np.bool_], margin_px: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the smallest window around a mask (H, W), widened but inside the image."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return slice(0, 0), slice(0, 0)
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return (
        slice(max(int(rows[0]) - margin_px, 0), int(rows[-1]) + 1 + margin_px),
        slice(max(int(columns[0]) - margin_px, 0), int(columns[-1]) + 1 + margin_px),
    )


def check_size(camera: CameraIntrinsics, image: NDArray[Any], name: str) -> None:
    """Raise MalformedImage where `image` is not (H, W) of the camera's size."""
    if image.shape != (camera.height, camera.width):
        raise MalformedImage(
            f"{name} has shape {image.shape}, the camera's images are {(camera.height, camera.width)} (H, W): "
            "pass an image on the camera's own pixel grid"
        )


def _columns(values: ArrayLike, width: int, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != width:
        raise FrameError(f"{name} have shape {array.shape}: pass (N, {width})")
    return array
