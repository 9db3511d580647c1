"""What is looked at: pictures that move, boxes on them, and an RGB-D frame with objects of a known size."""

from __future__ import annotations

from itertools import count as numbers

import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.images import depth_from_millimetres
from sam_perception.prompts import BoxPrompt
from sam_perception.scene import ObjectState, Scene, Track

WIDTH, HEIGHT = 640, 480
CAMERA = CameraIntrinsics(WIDTH, HEIGHT, 612.0, 612.0, 320.0, 240.0)
FRAME_ID = "camera_color_optical_frame"
_COLUMNS = 4
_NOISE_M = 0.0015  # of depth at 1 m
_HOLES = 0.03  # of the pixels


def pictures(count: int) -> list[NDArray[np.uint8]]:
    """`count` pictures (480, 640, 3) of coloured tiles that drift to the right."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3))
    ground = np.kron(tiles, np.ones((16, 16, 1))).astype(np.uint8)
    return [np.roll(ground, 3 * t, axis=1) for t in range(count)]


def boxes(count: int) -> list[BoxPrompt]:
    """Prompts for objects 1 to `count`, in rows of four; from the 17th on they lie over earlier ones."""
    found = []
    for k in range(count):
        x, y = 20 + 150 * (k % _COLUMNS), 20 + 110 * (k // _COLUMNS % 4)
        found.append(BoxPrompt(k + 1, (x, y, x + 120, y + 100)))
    return found


def rgbd_scene(objects: int = 8, pixels: int = 20_000) -> tuple[RgbdFrame, Scene]:
    """A frame of 640 x 480 with bulges before a wall, and their scene before anything is lifted.

    Depth has the sensor's noise and 3 % holes. Up to eight objects of up to 30 000 pixels fit.
    """
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    depth_m, masks = np.full((HEIGHT, WIDTH), 1.2), []
    # Ellipses in a raster of 160 x 240 pixels.
    across = np.sqrt(pixels / np.pi * 75 / 85)
    for k in range(objects):
        y, x = 120 + 240 * (k // _COLUMNS), 80 + 160 * (k % _COLUMNS)
        square = ((row - y) / (across * 85 / 75)) ** 2 + ((column - x) / across) ** 2
        masks.append(square < 1)
        depth_m = np.where(square < 1, 0.8 - 0.1 * np.sqrt(np.clip(1 - square, 0, 1)), depth_m)
    depth_m = depth_m + rng.normal(size=depth_m.shape) * _NOISE_M * depth_m**2
    depth_m[rng.uniform(size=depth_m.shape) < _HOLES] = 0.0
    rgb = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    millimetres = np.rint(1000 * depth_m).astype(np.uint16)
    frame = RgbdFrame(rgb, depth_from_millimetres(millimetres), CAMERA, 10**9, FRAME_ID)
    tracks = tuple(
        Track(i, f"thing {i}", ObjectState.TRACKED, 0.9, 0.9, mask, frame.stamp_ns)
        for i, mask in zip(numbers(1), masks, strict=False)
    )
    return frame, Scene(frame.stamp_ns, frame.frame_id, WIDTH, HEIGHT, tracks)
