"""Non-maximum suppression of boxes, without torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def kept_boxes(boxes: NDArray[Any], scores: NDArray[Any], max_iou: float) -> NDArray[np.intp]:
    """Indices of the boxes that stay, best first: greedy, as torchvision's `nms` does it.

    The best box stays and removes all that overlap it by more than `max_iou` (intersection over union),
    then the best of the rest, and so on. Of equal scores the earlier one is better.

    Args:
        boxes: (N, 4) x_min, y_min, x_max, y_max; areas are differences of these, without a pixel added.
        scores: (N,).
        max_iou: 0 to 1.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low, high = boxes[:, :2], boxes[:, 2:]
    kept: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(high[best], high[order]) - np.maximum(low[best], low[order])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ious = shared / (areas[best] + areas[order] - shared)
        order = order[~(ious > np.float32(max_iou))]  # NaN, two boxes without area, is no overlap
    return np.array(kept, np.intp)
