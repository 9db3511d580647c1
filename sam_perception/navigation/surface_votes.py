"""What labelled pixels say of planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam_perception.geometry.planes import Found
from sam_perception.scene import SurfaceLabel


def votes(labels: NDArray[np.uint8] | None, found: Sequence[Found], min_share: float) -> tuple[SurfaceLabel, ...]:
    """What each plane is by the labels (N,) of the points that it was found among; UNKNOWN without a majority.

    All of a plane's points have a vote, also those that are neither floor nor wall: a few floor pixels at
    a table's edge do not make it the floor.
    """
    if labels is None:
        return (SurfaceLabel.UNKNOWN,) * len(found)
    return tuple(_majority(labels[f.inliers], min_share) for f in found)


def _majority(labels: NDArray[np.uint8], min_share: float) -> SurfaceLabel:
    for label in (SurfaceLabel.FLOOR, SurfaceLabel.WALL):
        if labels.size and np.count_nonzero(labels == label.value) >= min_share * labels.size:
            return label
    return SurfaceLabel.UNKNOWN
