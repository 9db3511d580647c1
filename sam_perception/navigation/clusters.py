"""Which points belong together."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sam_perception.config import GeometryConfig
from sam_perception.geometry.grid import PixelGrid
from sam_perception.scene import Plane

_BITS = 21  # per axis of a voxel's key
_CENTRE = 1 << (_BITS - 1)
_LEVEL_M = 0.01  # difference in height of two points that are equally high
_LEVEL_STEP = 0.1  # step in depth between them, relative to depth, that is still one surface
# Half of the 26 neighbours; the others are the same pairs seen from the other end.
_NEIGHBOURS = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)]


def cluster(
    grid: PixelGrid, chosen: NDArray[np.bool_], distance_m: float, ground: Plane | None, settings: GeometryConfig
) -> NDArray[np.int32]:
    """Label (h, w) from 1 of the segment that each chosen pixel of the grid belongs to; 0 elsewhere.

    Pixels that are neighbours in the image without a step in depth belong together, at whatever
    distance, and so do surfaces that come closer to each other than about `distance_m`: parts
    of a thing that something in front divides. Labels are in the image's order.
    """
    surfaces = _surfaces(grid, chosen, ground, settings)
    labels, points = surfaces[chosen], grid.points[chosen]
    if labels.size == 0:
        return surfaces
    pairs = _close_pairs(points, labels, 0.7 * distance_m)
    count = int(labels.max()) + 1
    graph = coo_matrix((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    _, first, inverse = np.unique(group[labels], return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int32)
    order[np.argsort(first)] = np.arange(1, len(first) + 1, dtype=np.int32)
    out = np.zeros_like(surfaces)
    out[chosen] = order[inverse.reshape(-1)]
    return out


def _surfaces(
    grid: PixelGrid, chosen: NDArray[np.bool_], ground: Plane | None, settings: GeometryConfig
) -> NDArray[np.int32]:
    """Label (h, w) of the surface of each chosen pixel: neighbours (4) without a step in depth are linked.

    Far away the top of a thing is seen so flatly that its depth leaps from row to row. So a
    greater step is allowed between a pixel and the one above it where both are equally high.
    """
    height, width = chosen.shape
    z = np.where(chosen, grid.depth_m, np.float32(np.nan))
    # Pixels at even places, the links between them at odd ones: labelling this image as a
    # picture is labelling the graph, at a picture's speed.
    graph = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    graph[::2, ::2] = chosen
    with np.errstate(invalid="ignore"):
        graph[::2, 1::2] = np.abs(np.diff(z, axis=1)) <= settings.edge_jump * np.minimum(z[:, 1:], z[:, :-1])
        step, nearer = np.abs(np.diff(z, axis=0)), np.minimum(z[1:], z[:-1])
        linked = step <= settings.edge_jump * nearer
        if ground is not None:
            level = np.abs(np.diff(ground.height_m(grid.points), axis=0)) <= _LEVEL_M
            linked |= level & (step <= _LEVEL_STEP * nearer)
        graph[1::2, ::2] = linked
    _, labels = cv2.connectedComponents(graph, connectivity=4, ltype=cv2.CV_32S)
    return np.ascontiguousarray(labels[::2, ::2], dtype=np.int32)


def _close_pairs(points: NDArray[np.float32], labels: NDArray[np.int32], voxel_m: float) -> NDArray[np.int64]:
    """Pairs (K, 2) of labels that have points in the same voxel or in two that touch."""
    cells = np.floor(points / np.float32(voxel_m)).astype(np.int64) + _CENTRE
    keys = (cells[:, 0] << (2 * _BITS)) | (cells[:, 1] << _BITS) | cells[:, 2]
    order = np.lexsort((labels, keys))
    keys, labels = keys[order], labels[order].astype(np.int64)
    new = np.ones(len(keys), np.bool_)
    new[1:] = (keys[1:] != keys[:-1]) | (labels[1:] != labels[:-1])
    keys, labels = keys[new], labels[new]
    same = keys[1:] == keys[:-1]
    pairs = [np.stack([labels[1:][same], labels[:-1][same]], axis=1)]
    # One label stands for its voxel: the others in it are joined to it already.
    head = np.ones(len(keys), np.bool_)
    head[1:] = ~same
    keys, labels = keys[head], labels[head]
    for x, y, z in _NEIGHBOURS:
        beside = keys + ((x << (2 * _BITS)) + (y << _BITS) + z)
        at = np.minimum(np.searchsorted(keys, beside), len(keys) - 1)
        touch = (keys[at] == beside) & (labels[at] != labels)
        pairs.append(np.stack([labels[touch], labels[at][touch]], axis=1))
    return np.concatenate(pairs)
