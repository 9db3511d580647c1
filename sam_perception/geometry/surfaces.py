"""Which pixels of a mask are the object's own surface."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.geometry.depth import depth_sigma_m, quantile

# Turns the median absolute deviation of a normal distribution into its standard deviation.
_MAD_TO_SIGMA = 1.4826
_PIECE_THICKNESS = 0.25  # of the largest surface's; strips along a mask's border are thinner
_STRIP_PX = 2.0  # from the middle to the border of a strip: what a mask is easily off by
_LEAST_PIECE_PX = 9  # no pixel is that far from the border of a smaller one


def connected_surfaces(
    depth_m: NDArray[np.float32], usable: NDArray[np.bool_], settings: GeometryConfig
) -> NDArray[np.int32]:
    """Label (h, w) of the connected surface that each usable pixel lies on, from 1; 0 elsewhere.

    Neighbours (4) are connected when their depths differ by at most `edge_jump` of the nearer one.
    """
    return _labelled(depth_m, usable, settings)[1]


def _labelled(
    depth_m: NDArray[np.float32], usable: NDArray[np.bool_], settings: GeometryConfig
) -> tuple[int, NDArray[np.int32]]:
    """How many surfaces there are, and `connected_surfaces`."""
    z = np.where(usable, depth_m, np.float32(np.nan))
    with np.errstate(invalid="ignore"):
        right = np.abs(z[:, 1:] - z[:, :-1]) <= settings.edge_jump * np.minimum(z[:, 1:], z[:, :-1])
        down = np.abs(z[1:] - z[:-1]) <= settings.edge_jump * np.minimum(z[1:], z[:-1])
    if not ((usable[:, 1:] & usable[:, :-1]) ^ right).any() and not ((usable[1:] & usable[:-1]) ^ down).any():
        # Without a step between any two neighbours, surfaces are what hangs together in the picture.
        count, labels = cv2.connectedComponents(usable.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        return count - 1, np.asarray(labels, np.int32)
    height, width = depth_m.shape
    # Pixels at even places, the links between them at odd ones: labelling this image as a
    # picture is labelling the graph, at a picture's speed.
    graph = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    graph[::2, ::2], graph[::2, 1::2], graph[1::2, ::2] = usable, right, down
    count, labels = cv2.connectedComponents(graph, connectivity=4, ltype=cv2.CV_32S)
    return count - 1, np.ascontiguousarray(labels[::2, ::2], dtype=np.int32)


def own_surface(depth_m: NDArray[np.float32], usable: NDArray[np.bool_], settings: GeometryConfig) -> NDArray[np.bool_]:
    """The usable pixels (h, w) that belong to the object rather than to what is behind or before it.

    A mask that is a little too large takes in strips of the background, and one with holes
    looks through the object. Those lie on surfaces of their own. The largest surface is the
    object; what of the others is kept is judged by the gap in depth between the two (between
    the 5th and 95th percentiles):

    - within one `edge_jump`, or `outlier_sigmas` of the sensor's noise: kept;
    - within `outlier_sigmas` robust standard deviations of the largest surface's depth: kept if it
      is a piece (the far side of a thing in front, a part sticking out), not a strip along the
      mask's border: at its thickest at least a quarter as thick as the largest surface;
    - farther: dropped.

    What is connected to the object without a step, as the table it stands on, cannot be told
    apart by depth and stays.
    """
    if not usable.any():
        return usable
    count, labels = _labelled(depth_m, usable, settings)
    if count == 1:
        return usable
    surfaces, depths = labels[usable], depth_m[usable]
    pixels = np.bincount(surfaces)
    largest = int(pixels.argmax())
    own_depths = depths[surfaces == largest]
    low, middle, high = (quantile(own_depths, share) for share in (0.05, 0.5, 0.95))
    spread = _MAD_TO_SIGMA * quantile(np.abs(own_depths - np.float32(middle)), 0.5)
    near = max(settings.outlier_sigmas * float(depth_sigma_m(middle, settings)), settings.edge_jump * middle)
    # Noise can shatter a surface into thousands of specks: their means are found all at once.
    means = np.bincount(surfaces, weights=depths) / np.maximum(pixels, 1)
    keep = (means >= low - near) & (means <= high + near)
    keep[largest] = True
    for label in _pieces(labels, pixels, largest):
        piece = depths[surfaces == label]
        nearest, farthest = quantile(piece, 0.05), quantile(piece, 0.95)
        keep[label] |= max(low - farthest, nearest - high) <= settings.outlier_sigmas * spread
    own = np.zeros_like(usable)
    own[usable] = keep[surfaces]
    return own


def _pieces(labels: NDArray[np.int32], pixels: NDArray[np.intp], largest: int) -> list[int]:
    """Labels of the surfaces, but for the largest, that are thick enough for a piece of the object.

    Args:
        labels: (h, w), 0 for none.
        pixels: of each surface.
        largest: the object's own.
    """
    if np.delete(pixels, largest).max() < _LEAST_PIECE_PX:
        return []
    # Pixels whose right or lower neighbour is of another surface separate the surfaces.
    padded = np.pad(labels, 1)
    alone = padded != 0
    alone[:, :-1] &= padded[:, :-1] == padded[:, 1:]
    alone[:-1] &= padded[:-1] == padded[1:]
    thickness = cv2.distanceTransform(alone.view(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    least = max(_PIECE_THICKNESS * float(thickness[labels == largest].max()), _STRIP_PX)
    return [int(label) for label in np.unique(labels[thickness >= least]) if label not in (0, largest)]
