"""From camera pictures to the model's square input and back.

SAM 2 squeezes the picture into its square without keeping the aspect ratio; clicks scale the
same way. Antialiased bilinear resizing is what its image processor does.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sam_perception.errors import MalformedImage
from sam_perception.segmentation.transfer import download, upload

# ImageNet's statistics, in RGB order: what the encoders were trained on.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class ImageScaler:
    """Resizes and normalises for a model with `size` x `size` input."""

    def __init__(self, size: int, device: torch.device, dtype: torch.dtype) -> None:
        self.size = size
        self._device, self._dtype = device, dtype
        self._mean = torch.tensor(_MEAN, device=device).mul(255).view(1, 3, 1, 1)
        self._inverse_std = torch.tensor(_STD, device=device).mul(255).reciprocal().view(1, 3, 1, 1)

    def pixels(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8, red first, to normalised (1, 3, size, size) on the device.

        Raises:
            MalformedImage: not (H, W, 3) uint8 with at least one pixel.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise MalformedImage(f"colour is {rgb.dtype} of shape {rgb.shape}: pass (H, W, 3) uint8 with red first")
        image = upload(rgb, self._device).permute(2, 0, 1)[None].float()
        if image.shape[-2:] != (self.size, self.size):
            image = functional.interpolate(
                image, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        return ((image - self._mean) * self._inverse_std).to(self._dtype)

    def points(self, points_px: NDArray[np.floating], height: int, width: int) -> torch.Tensor:
        """(P, 2) x y in pixels of an image of `height` x `width` to the model's pixels, float32.

        SAM 2 scales coordinates by the ratio of the sizes and adds half a pixel afterwards,
        in its prompt encoder; the same is done here, so that its numbers come out.
        """
        scale = np.array([self.size / width, self.size / height], dtype=np.float64)
        return upload((points_px * scale).astype(np.float32), self._device)

    def mask(self, mask: NDArray[np.bool_]) -> torch.Tensor:
        """(H, W) bool to (1, size, size) of zeros and ones: antialiased, then cut at a half."""
        image = upload(mask, self._device).float()[None, None]
        if image.shape[-2:] != (self.size, self.size):
            image = functional.interpolate(
                image, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
            image = (image >= 0.5).float()
        return image[0].to(self._dtype)


def masks_and_numbers(
    logits: torch.Tensor, numbers: torch.Tensor, height: int, width: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Masks at the camera's resolution and per-object numbers, in one transfer to the host.

    Args:
        logits: (N, h, w) mask logits; positive is object.
        numbers: (N, K) float32 that should come along.
        height: of the masks.
        width: of the masks.

    Returns:
        (N, height, width) bool; (N, K) float32.
    """
    full = functional.interpolate(logits[:, None].float(), size=(height, width), mode="bilinear", align_corners=False)
    masks = (full[:, 0] > 0).view(torch.uint8)
    numbers = numbers.float().contiguous()
    host = download(torch.cat([numbers.view(torch.uint8).flatten(), masks.flatten()]))
    split = numbers.numel() * 4
    return (
        host[split:].view(np.bool_).reshape(masks.shape),
        host[:split].view(np.float32).reshape(numbers.shape),
    )
