"""Small conversions that transformers' detectors share."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def corners_px(boxes: torch.Tensor, width: float, height: float) -> NDArray[np.float64]:
    """(N, 4) centre x, centre y, width, height as shares of the picture to x_min, y_min, x_max, y_max in pixels."""
    centre_x, centre_y, wide, high = boxes.double().cpu().numpy().T
    corners = [centre_x - wide / 2, centre_y - high / 2, centre_x + wide / 2, centre_y + high / 2]
    return np.asarray(np.stack(corners, axis=1) * np.array([width, height, width, height]))
