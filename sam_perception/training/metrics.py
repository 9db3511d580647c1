"""How good masks are: region similarity J, contour accuracy F (DAVIS), and how far a still object wanders.

J and F are defined in Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016; tolerance and border cases follow the evaluation that was published with DAVIS 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

BOUNDARY_TOLERANCE = 0.008  # share of the picture's diagonal within which two contours agree

Mask = NDArray[np.bool_]


def region_similarity(predicted: Mask, true: Mask) -> float:
    """J: intersection over union of two (H, W) masks; 1 where both are empty."""
    either = int(np.count_nonzero(predicted | true))
    return 1.0 if either == 0 else int(np.count_nonzero(predicted & true)) / either


def contour(mask: Mask) -> Mask:
    """(H, W) pixels whose right, lower or lower right neighbour is on the other side of the border."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def contour_accuracy(predicted: Mask, true: Mask) -> float:
    """F: harmonic mean of the shares of each contour that lie near the other one.

    Near is within ceil(0.008 of the picture's diagonal) pixels.
    """
    found, wanted = contour(predicted), contour(true)
    n_found, n_wanted = int(np.count_nonzero(found)), int(np.count_nonzero(wanted))
    if n_found == 0 or n_wanted == 0:
        return 1.0 if n_found == n_wanted else 0.0
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*predicted.shape))
    precision = np.count_nonzero(found & _grown(wanted, radius)) / n_found
    recall = np.count_nonzero(wanted & _grown(found, radius)) / n_wanted
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def _grown(mask: Mask, radius: int) -> Mask:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk), np.bool_)


def sequence_scores(predicted: Sequence[Mask], true: Sequence[Mask]) -> tuple[float, float]:
    """Mean J and F of one object over a clip, without its first and last frame, as DAVIS counts."""
    inner = slice(1, -1) if len(true) > 2 else slice(None)
    pairs = list(zip(predicted[inner], true[inner], strict=True))
    j = float(np.mean([region_similarity(p, t) for p, t in pairs]))
    f = float(np.mean([contour_accuracy(p, t) for p, t in pairs]))
    return j, f


def centroid_wander(
    centroids_camera: NDArray[np.float64], world_from_camera: NDArray[np.float64]
) -> tuple[float, float]:
    """How far the centroid of an object that stands still moves in the world.

    Args:
        centroids_camera: (T, 3) metres; rows with NaN (not seen) are left out.
        world_from_camera: (T, 4, 4).

    Returns:
        Root mean square and 95th percentile of the distance to the median position, metres; NaN where never seen.
    """
    seen = np.isfinite(centroids_camera).all(axis=1)
    if not seen.any():
        return math.nan, math.nan
    poses = world_from_camera[seen]
    world = np.einsum("tij,tj->ti", poses[:, :3, :3], centroids_camera[seen]) + poses[:, :3, 3]
    distance = np.linalg.norm(world - np.median(world, axis=0), axis=1)
    return float(np.sqrt(np.mean(distance**2))), float(np.percentile(distance, 95))
