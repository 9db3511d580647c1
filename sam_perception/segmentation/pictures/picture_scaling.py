"""From pictures to the square inputs of SAM 1 and SAM 2, and from their small masks back to pictures.

SAM 2 squeezes a picture into its square; SAM 1 keeps the aspect ratio and pads below and to the right.
Both resize bytes with antialiasing and round to bytes again before they normalise, as their image
processors do; clicks scale the same way, by the ratio of the sizes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sam_perception.errors import MalformedImage
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor
Size = tuple[int, int]  # height, width

# ImageNet's statistics, in RGB order: what the encoders were trained on.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class PictureScaling(Protocol):
    """How pictures of any size and the model's square belong together."""

    def pixels(self, rgb: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8, red first, to normalised (1, 3, S, S) float32."""

    def points(self, points_px: NDArray[np.floating], size: Size) -> NDArray[np.float32]:
        """(..., 2) x y in pixels of a picture of `size` to the square's pixels."""

    def mask(self, mask: NDArray[np.bool_], low: Size) -> Tensor:
        """(N, H, W) bool to (N, h, w) float32 of 0 to 1 as a mask prompt of the model's size `low` sees it."""

    def enlarged(self, logits: Tensor, size: Size) -> Tensor:
        """(N, h, w) mask logits to (N, H, W) at a picture's `size`."""


class SquashedScaling:
    """SAM 2's: the picture fills the square, each side by its own factor."""

    def __init__(self, side: int, device: torch.device) -> None:
        self._side, self._device = side, device

    def pixels(self, rgb: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8, red first, to normalised (1, 3, S, S) float32.

        Raises:
            MalformedImage: not (H, W, 3) uint8 with at least one pixel.
        """
        return _normalised(_resized_bytes(_checked(rgb, self._device), (self._side, self._side)))

    def points(self, points_px: NDArray[np.floating], size: Size) -> NDArray[np.float32]:
        """(..., 2) x y in pixels of a picture of `size` to the square's pixels."""
        scale = np.array([self._side / size[1], self._side / size[0]], np.float64)
        return np.asarray(points_px * scale, np.float32)

    def mask(self, mask: NDArray[np.bool_], low: Size) -> Tensor:
        """(N, H, W) bool to (N, h, w) float32 of 0 to 1."""
        return _shares(upload(mask, self._device), low)

    def enlarged(self, logits: Tensor, size: Size) -> Tensor:
        """(N, h, w) mask logits to (N, H, W) at a picture's `size`."""
        return _bilinear(logits, size)


class PaddedScaling:
    """SAM 1's: the longer side fills the square, the rest is padded with zeros after normalising."""

    def __init__(self, side: int, device: torch.device) -> None:
        self._side, self._device = side, device

    def used(self, size: Size) -> Size:
        """Height and width of the part of the square that a picture of `size` takes."""
        scale = self._side / max(size)
        return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)

    def pixels(self, rgb: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8, red first, to normalised (1, 3, S, S) float32.

        Raises:
            MalformedImage: not (H, W, 3) uint8 with at least one pixel, or so narrow that nothing is left of it.
        """
        height, width = used = self.used(_checked_size(rgb))
        if min(used) < 1:
            raise MalformedImage(
                f"colour is {rgb.shape[1]} x {rgb.shape[0]} pixels: scaled to {self._side} nothing is left of its "
                "shorter side; cut it into pieces"
            )
        image = _normalised(_resized_bytes(_checked(rgb, self._device), used))
        return functional.pad(image, (0, self._side - width, 0, self._side - height))

    def points(self, points_px: NDArray[np.floating], size: Size) -> NDArray[np.float32]:
        """(..., 2) x y in pixels of a picture of `size` to the square's pixels."""
        height, width = self.used(size)
        return np.asarray(points_px * np.array([width / size[1], height / size[0]], np.float64), np.float32)

    def mask(self, mask: NDArray[np.bool_], low: Size) -> Tensor:
        """(N, H, W) bool to (N, h, w) float32 of 0 to 1."""
        size: Size = (mask.shape[1], mask.shape[2])
        height, width = (max(1, round(n * m / self._side)) for n, m in zip(self.used(size), low, strict=True))
        shares = _shares(upload(mask, self._device), (height, width))
        return functional.pad(shares, (0, low[1] - width, 0, low[0] - height))

    def enlarged(self, logits: Tensor, size: Size) -> Tensor:
        """(N, h, w) mask logits to (N, H, W) at a picture's `size`: to the square, cut, and then to the size."""
        height, width = self.used(size)
        return _bilinear(_bilinear(logits, (self._side, self._side))[:, :height, :width], size)


def _checked_size(rgb: NDArray[np.uint8]) -> Size:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise MalformedImage(f"colour is {rgb.dtype} of shape {rgb.shape}: pass (H, W, 3) uint8 with red first")
    return rgb.shape[0], rgb.shape[1]


def _checked(rgb: NDArray[np.uint8], device: torch.device) -> Tensor:
    _checked_size(rgb)
    return upload(rgb, device).permute(2, 0, 1)[None]


def _resized_bytes(image: Tensor, size: Size) -> Tensor:
    """(1, 3, H, W) uint8 to float32 of whole numbers 0 to 255."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image.float()
    # The kernel for bytes is the CPU's; elsewhere floats are rounded once, which differs by one at most.
    image = image if image.device.type == "cpu" else image.float()
    resized = functional.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.float().round().clamp(0, 255)


def _normalised(image: Tensor) -> Tensor:
    mean = torch.tensor(_MEAN, device=image.device).mul(255).view(1, 3, 1, 1)
    std = torch.tensor(_STD, device=image.device).mul(255).view(1, 3, 1, 1)
    return (image - mean) / std


def _shares(masks: Tensor, size: Size) -> Tensor:
    """(N, H, W) bool to the share of each of `size` cells that is set."""
    values = masks.float()[:, None]
    return functional.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)[:, 0]


def _bilinear(logits: Tensor, size: Size) -> Tensor:
    return functional.interpolate(logits[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]
