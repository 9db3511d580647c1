"""Where automatic mask generation looks: crops of the picture, and a grid of points in each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import EverythingConfig


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of the picture, and the points asked about in it."""

    box: tuple[int, int, int, int]  # x_min, y_min, x_max, y_max in pixels of the picture; the last two exclusive
    points: NDArray[np.float64]  # (P, 2) x y in pixels of the crop

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The crop's pixels of a picture (H, W, 3)."""
        left, top, right, bottom = self.box
        return picture[top:bottom, left:right]


def crops_of(height: int, width: int, config: EverythingConfig) -> list[Crop]:
    """The whole picture, then 4 crops, 16 and so on for as many layers as are asked for.

    Crops of one layer have one size and overlap: those of the first by `crop_overlap_ratio` of the picture's
    shorter side, those of a later one by half of what the layer before does. A layer that would have
    crops narrower than two pixels is left out.
    """
    crops = [Crop((0, 0, width, height), point_grid(config.points_per_side) * (width, height))]
    for layer in range(1, config.crop_n_layers + 1):
        per_side = 2**layer
        overlap = int(config.crop_overlap_ratio * min(height, width) * 2 / per_side)
        # As many crops of this size, less what they share, reach from edge to edge.
        crop_width = math.ceil((overlap * (per_side - 1) + width) / per_side)
        crop_height = math.ceil((overlap * (per_side - 1) + height) / per_side)
        if min(crop_width, crop_height) - overlap < 2:
            break
        grid = point_grid(max(1, int(config.points_per_side / config.crop_n_points_downscale_factor**layer)))
        for column in range(per_side):
            for row in range(per_side):
                left, top = column * (crop_width - overlap), row * (crop_height - overlap)
                box = (left, top, min(left + crop_width, width), min(top + crop_height, height))
                crops.append(Crop(box, grid * (box[2] - box[0], box[3] - box[1])))
    return crops


def point_grid(per_side: int) -> NDArray[np.float64]:
    """(per_side ** 2, 2) x y in 0 to 1, row by row: the middles of as many equal cells."""
    line = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(line, line)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def cut_by_crop(boxes: NDArray[np.integer], crop: Crop, height: int, width: int) -> NDArray[np.bool_]:
    """Which boxes (N, 4), in pixels of the crop, end within 20 pixels of an edge of the crop, and not of the picture.

    What they belong to goes on beyond the crop, where another crop or the whole picture shows it.
    """
    left, top, _, _ = crop.box
    moved = np.asarray(boxes, np.int64) + np.array([left, top, left, top])
    near_crop = np.abs(moved - crop.box) <= _NEAR_PX
    near_picture = np.abs(moved - (0, 0, width, height)) <= _NEAR_PX
    return np.asarray((near_crop & ~near_picture).any(axis=1))


_NEAR_PX = 20
