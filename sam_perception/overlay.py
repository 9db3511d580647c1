"""The picture that people look at: masks drawn over the colour image, each with id, label and state."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.scene import ObjectState, Track

Color = tuple[int, int, int]  # RGB
Rect = tuple[int, int, int, int]  # x, y, width, height in pixels

_FILL = 0.38  # share of the object's colour inside its mask
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.6180339887498949
_LEAST_LUMA = 0.42  # share of white's


def color_of(object_id: int) -> Color:
    """The object's own RGB colour: the same in every picture, far from that of neighbouring ids."""
    # Steps of the golden ratio never repeat a hue and keep any few consecutive ones apart.
    hue = (0.08 + object_id * _GOLDEN) % 1.0
    rgb = colorsys.hsv_to_rgb(hue, (0.85, 0.62, 0.95)[object_id // 8 % 3], 0.98)
    # Pure blue is nearly as dark as a shadow: mix in white until it can be seen.
    white = max(0.0, (_LEAST_LUMA - _luma(*rgb)) / (1 - _luma(*rgb)))
    red, green, blue = (round(255 * (channel + white * (1 - channel))) for channel in rgb)
    return red, green, blue


def _luma(red: float, green: float, blue: float) -> float:
    return 0.30 * red + 0.59 * green + 0.11 * blue


def caption_of(track: Track) -> str:
    """Id, label, and the state where it is not the usual one."""
    name = f"{track.id} {track.label}".strip()
    return name if track.state is ObjectState.TRACKED else f"{name} [{track.state.name}]"


def draw_overlay(rgb: NDArray[np.uint8], tracks: Sequence[Track]) -> NDArray[np.uint8]:
    """A copy of `rgb` (H, W, 3) with every object drawn: fill, contour and caption.

    Objects that are not seen are listed at the lower left.
    """
    picture = np.array(rgb, np.uint8)
    scale = max(1.0, rgb.shape[0] / 480)
    taken: list[Rect] = []
    seen = [track for track in tracks if track.mask.any()]
    for track in seen:
        _draw_mask(picture, track, scale)
    for track in seen:
        x, y, _, _ = track.roi
        _draw_caption(picture, track, x, y, scale, taken)
    for track in tracks:
        if not track.mask.any():
            _draw_caption(picture, track, 0, rgb.shape[0], scale, taken)
    return picture


def _draw_mask(picture: NDArray[np.uint8], track: Track, scale: float) -> None:
    x, y, width, height = track.roi
    mask = track.mask[y : y + height, x : x + width]
    region = picture[y : y + height, x : x + width]
    fill = np.array(color_of(track.id), np.float32) * _FILL
    region[mask] = (region[mask] * np.float32(1 - _FILL) + fill).astype(np.uint8)
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y)
    )
    cv2.drawContours(picture, contours, -1, color_of(track.id), round(1.6 * scale), cv2.LINE_AA)


def _draw_caption(picture: NDArray[np.uint8], track: Track, x: int, y: int, scale: float, taken: list[Rect]) -> None:
    """Write the caption above `y`, moved to where it lies in the picture and covers no other caption."""
    text, size, pad = caption_of(track), 0.45 * scale, round(4 * scale)
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, size, 1)
    width, height = text_width + 2 * pad, text_height + below + pad
    place = _free_place((x, y - height, width, height), picture.shape[:2], taken)
    taken.append(place)
    left, top, _, _ = place
    color = color_of(track.id)
    cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), color, cv2.FILLED)
    ink = (20, 20, 20) if _luma(*color) > 100 else (255, 255, 255)
    cv2.putText(picture, text, (left + pad, top + pad // 2 + text_height), _FONT, size, ink, 1, cv2.LINE_AA)


def _free_place(wanted: Rect, shape: tuple[int, int], taken: Sequence[Rect]) -> Rect:
    """The wanted rectangle, or the nearest one above or below it (in steps of its height) that is free."""
    x, y, width, height = wanted
    x = max(0, min(x, shape[1] - width))
    lowest = max(0, shape[0] - height)
    rows = [max(0, min(y + step * height, lowest)) for step in range(-shape[0] // height - 1, shape[0] // height + 2)]
    for row in sorted(rows, key=lambda row: abs(row - y)):
        if not any(_overlap((x, row, width, height), other) for other in taken):
            return (x, row, width, height)
    return (x, max(0, min(y, lowest)), width, height)  # more captions than fit


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
