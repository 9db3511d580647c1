"""A frame thinned out to every n-th pixel, in space: what planes, clusters and grasps are computed on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.frame import RgbdFrame
from sam_perception.geometry.camera import bounding_window, ray_grid
from sam_perception.geometry.depth import depth_valid, flying_pixels


@dataclass(frozen=True, eq=False)
class PixelGrid:
    """One pixel of each block of `step` x `step` pixels; h = ceil(H / step), w = ceil(W / step)."""

    step: int
    index: NDArray[np.intp]  # (h, w) flat index of the pixel in the full image
    depth_m: NDArray[np.float32]  # (h, w); 0 where not valid
    valid: NDArray[np.bool_]  # (h, w) depth in range and not flying
    points: NDArray[np.float32]  # (h, w, 3) metres, camera's optical frame; zeros where not valid
    rays: NDArray[np.float32]  # (2, h, w) x and y of each pixel's ray at z = 1; NaN where there is none

    def mask(self, full: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask of the full image (H, W) at the grid's pixels (h, w)."""
        return np.asarray(full.ravel().take(self.index))

    def colors(self, rgb: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(N, 3) RGB of the grid's `chosen` (h, w) pixels, from the full image."""
        return np.asarray(rgb.reshape(-1, 3)[self.index[chosen]])


def pixel_grid(frame: RgbdFrame, settings: GeometryConfig, step: int) -> PixelGrid:
    """Thin a frame out without losing thin things.

    Of each block its top-left pixel is taken, unless that has no depth or another pixel of the block is
    nearer by more than `edge_jump`: then the nearest one. So a wire one pixel wide stays in the grid.
    Flying pixels, judged on the grid, are not valid.
    """
    depth = np.where(depth_valid(frame.depth_m, settings), frame.depth_m, np.float32(np.inf))
    height, width = depth.shape
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    index = rows[:, None] * width + columns[None, :]
    nearest = depth[::step, ::step].copy()
    sample, at = nearest.copy(), index.copy()
    for row in range(step):
        for column in range(step):
            part = depth[row::step, column::step]
            h, w = part.shape
            nearer = part < nearest[:h, :w]
            if nearer.any():
                nearest[:h, :w][nearer] = part[nearer]
                at[:h, :w][nearer] = index[:h, :w][nearer] + row * width + column
    taken = nearest < np.float32(1.0 - settings.edge_jump) * sample
    index = np.where(taken, at, index)
    z = np.where(taken, nearest, sample)
    z[np.isinf(z)] = 0
    rays = ray_grid(frame.intrinsics).reshape(2, -1)[:, index]
    valid = (z > 0) & np.isfinite(rays[0])
    if settings.remove_flying_pixels:
        # Steps between the grid's pixels are longer than between the image's, and so are steep surfaces'.
        jump = min(settings.edge_jump * (1 + step) / 2, 1.0)
        valid &= ~flying_pixels(z, dataclasses.replace(settings, edge_jump=jump))
    z = np.where(valid, z, np.float32(0))
    points = np.empty((*z.shape, 3), np.float32)
    for axis in range(2):
        np.multiply(rays[axis], z, out=points[..., axis])
    points[..., 2] = z
    points[~valid] = 0  # a NaN ray times zero is NaN
    return PixelGrid(step, index, z, valid, points, rays)


def widened(masks: Sequence[NDArray[np.bool_]], shape: tuple[int, int], radius_px: int) -> NDArray[np.bool_]:
    """Union (H, W) of masks (H, W), widened by `radius_px` in every direction."""
    union = np.zeros(shape, np.bool_)
    for mask in masks:
        union |= mask
    rows, columns = bounding_window(union, radius_px)
    window = union[rows, columns]
    if radius_px > 0 and window.size:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
        window[:] = np.asarray(cv2.dilate(np.ascontiguousarray(window).view(np.uint8), kernel)).view(np.bool_)
    return union
