"""What something looks like, as one vector: to tell whether it is the same thing later."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sam_perception.segmentation.transfer import upload

_LEAST_SPREAD = 0.05  # of the channels' mean: what hardly differs within a picture is not blown up


def describe(features: torch.Tensor, masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N, C) unit vectors of masks (N, H, W) in a picture with these features (1, C, h, w); zeros for no pixel.

    The mean of the features under a mask, each channel less its mean in the whole picture and in units of
    its spread there: what all pixels share (light, the network's bias) tells nothing apart, and without
    that every two things are alike. On the demo's scenes nano's cosines between one object's mask and its
    box seconds later are 0.7 to 1.0, and between two objects 0.5 in the middle and 0.9 at most.
    """
    height, width = features.shape[-2:]
    # One pixel of a small mask is to count in its cell: shares of area, not samples.
    shares = np.stack([cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for m in masks])
    weights = upload(shares.reshape(len(masks), -1), features.device).float()
    cells = features[0].float().flatten(1).T  # (hw, C)
    total = weights.sum(dim=1, keepdim=True)
    spread = cells.std(dim=0)
    spread = spread.clamp(min=float(spread.mean()) * _LEAST_SPREAD + 1e-6)
    means = (weights @ cells / total.clamp(min=1e-6) - cells.mean(dim=0)) / spread
    means = functional.normalize(means, dim=1) * (total > 0)
    return np.asarray(means.cpu().numpy(), np.float32)
