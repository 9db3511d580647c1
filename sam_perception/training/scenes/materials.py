"""Textures of a scene in one picture with all their reduced sizes, so that one look-up paints a frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes.patterns import Floats, Picture

LEVELS = 5  # full size, half, ... a sixteenth
_BORDER = 1


@dataclass(frozen=True, eq=False)
class Atlas:
    """All textures with their reduced sizes, and per material where each of them lies.

    Arrays over M materials are indexed by material; those over levels by material * LEVELS + level.
    """

    picture: Picture  # (h, w, 3)
    left: Floats  # (M * LEVELS,) pixels
    top: Floats  # (M * LEVELS,) pixels
    size: Floats  # (M * LEVELS,) pixels
    texels_per_m: Floats  # (M,) at full size
    gloss: Floats  # (M,) strength of the highlight
    tint: Floats  # (M,) factor on the texture's brightness

    def rows(self) -> int:
        """Number of materials."""
        return len(self.gloss)


class Materials:
    """Collects a scene's materials while its bodies are built."""

    def __init__(self, texture_px: int) -> None:
        self.texture_px = texture_px  # side of an object's texture
        self._pictures: list[Picture] = []
        self._picture_of: list[int] = []
        self._texels_per_m: list[float] = []
        self._gloss: list[float] = []
        self._tint: list[float] = []

    def __len__(self) -> int:
        return len(self._picture_of)

    def add_picture(self, picture: Picture) -> int:
        """Keep a square texture; returns its number, to be shared by several materials."""
        self._pictures.append(picture)
        return len(self._pictures) - 1

    def add(
        self,
        picture: Picture | int,
        size_m: float,
        *,
        gloss: float = 0.0,
        tint: float = 1.0,
    ) -> int:
        """A material: a texture spread over a face of about `size_m`; returns its number."""
        number = picture if isinstance(picture, int) else self.add_picture(picture)
        self._picture_of.append(number)
        self._texels_per_m.append(self._pictures[number].shape[0] / max(size_m, 1e-3))
        self._gloss.append(gloss)
        self._tint.append(tint)
        return len(self._picture_of) - 1

    def atlas(self) -> Atlas:
        """Pack everything collected so far."""
        picture, places = _pack(self._pictures)
        places = places[np.asarray(self._picture_of, np.intp)].reshape(-1, 3).astype(np.float32)
        return Atlas(
            picture,
            np.ascontiguousarray(places[:, 0]),
            np.ascontiguousarray(places[:, 1]),
            np.ascontiguousarray(places[:, 2]),
            np.asarray(self._texels_per_m, np.float32),
            np.asarray(self._gloss, np.float32),
            np.asarray(self._tint, np.float32),
        )


def _pack(pictures: list[Picture]) -> tuple[Picture, NDArray[np.int64]]:
    """Columns of pictures, largest first; each with its levels below it."""
    order = sorted(range(len(pictures)), key=lambda i: -pictures[i].shape[0])
    pad = 2 * _BORDER
    heights = [sum(max(p.shape[0] >> k, 1) + pad for k in range(LEVELS)) for p in pictures]
    column_height = max(heights)
    places = np.zeros((len(pictures), LEVELS, 3), np.int64)
    x = y = width = 0
    for i in order:
        side = pictures[i].shape[0]
        if y + heights[i] > column_height:
            x, y, width = x + width, 0, 0
        width = max(width, side + pad)
        for k in range(LEVELS):
            size = max(side >> k, 1)
            places[i, k] = (x + _BORDER, y + _BORDER, size)
            y += size + pad
    canvas = np.zeros((column_height, x + width, 3), np.uint8)
    for i in order:
        level = pictures[i]
        for left, top, size in places[i]:
            if level.shape[0] != size:
                level = cv2.resize(level, (int(size), int(size)), interpolation=cv2.INTER_AREA)
            bordered = cv2.copyMakeBorder(level, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)
            canvas[top - _BORDER : top + size + _BORDER, left - _BORDER : left + size + _BORDER] = bordered
    return canvas, places
