"""Which of the obstacles' points belong to one thing, as a picture showed it, carried from frame to frame in space.

Depth alone takes two things that touch for one, and one thing that something in front divides for two. A picture cut
up as a whole tells them apart, but is expensive and comes seldom and late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sam_perception.config import NavigationConfig
from sam_perception.geometry.grid import PixelGrid

Mask = NDArray[np.bool_]

_MOST = 0.8  # share that counts as all but some pixels along the edges
_WHOLE = 0.85  # a region with more of a cluster shows it whole
_OVERLAP = 0.2  # share of a region that others may have too
_COVERED = 0.6  # share of a cluster that its parts must cover to be believed
_GAP = 5.0  # times cluster_distance_m: what may divide one thing
_NEAR = 2.0  # times cluster_distance_m: how far a thing's points move between two frames
_REMEMBERED = 4000  # points per frame at most


@dataclass(frozen=True, eq=False)
class ClusterView:
    """Clusters of one frame as depth has them; h x w is the grid."""

    grid: PixelGrid
    labels: NDArray[np.int32]  # (h, w) from 1; 0: no cluster
    pose: NDArray[np.float64] | None  # (4, 4) fixed_from_camera

    @property
    def points(self) -> NDArray[np.float64]:
        """(N, 3) of the clusters' pixels, in the fixed frame where the pose is known."""
        points = self.grid.points[self.labels > 0].astype(np.float64)
        return points if self.pose is None else points @ self.pose[:3, :3].T + self.pose[:3, 3]


@dataclass(frozen=True, eq=False)
class _Known:
    """Points of things, with the number of frames in which each thing has not been seen."""

    points: NDArray[np.float64]  # (N, 3)
    things: NDArray[np.int64]  # (N,) from 1
    unseen: dict[int, int]


class ThingMemory:
    """Splits and joins clusters as the latest regions did, as long as their points stay near where they were."""

    def __init__(self) -> None:
        self._known: _Known | None = None
        self._posed = False

    def forget(self) -> None:
        """Clusters are what depth says again."""
        self._known = None

    def learn(self, view: ClusterView, region_masks: Sequence[Mask], settings: NavigationConfig) -> None:
        """Take regions (H, W) of a frame's picture for what its clusters consist of; what was known is forgotten.

        A cluster is split where at least two regions that lie in it, and overlap little, cover most of it and none
        shows it whole; the largest ones count. Clusters are joined where one region shows several of them
        whole, little else, and they are not far apart.
        """
        inside = view.labels > 0
        labels = view.labels[inside]
        if labels.size == 0:
            self._known = None
            return
        regions = _on_things(view, region_masks, settings.min_points)
        points = view.points
        things = _joined(labels, points, regions, _GAP * settings.cluster_distance_m)
        things = _split(labels, points, things, regions, settings.min_points)
        told = np.isin(labels, _changed(labels, things))
        self._keep(points[told], things[told], {})
        self._posed = view.pose is not None

    def apply(self, view: ClusterView, settings: NavigationConfig) -> NDArray[np.int32]:
        """The clusters' labels (h, w), split and joined; its points are remembered for the next frame."""
        known = self._known
        if known is None or (view.pose is not None) != self._posed:
            self._known = None  # positions in another frame say nothing
            return view.labels
        inside = view.labels > 0
        labels, points = view.labels[inside], view.points
        if labels.size == 0:
            return view.labels
        distance, at = cKDTree(known.points).query(points)
        thing = known.things[at]
        near = distance <= _NEAR * settings.cluster_distance_m
        count = int(labels.max()) + 1
        about = np.bincount(labels[near], minlength=count) >= 0.5 * np.bincount(labels, minlength=count)
        told = about[labels]
        # What was labels stays apart from what are things.
        out = labels.astype(np.int64)
        out[told] = count + thing[told]
        self._carry_on(known, points[told], thing[told], settings.forget_frames)
        whole = np.zeros_like(view.labels)
        whole[inside] = np.unique(out, return_inverse=True)[1].reshape(-1) + 1
        return whole

    def _carry_on(
        self, known: _Known, points: NDArray[np.float64], things: NDArray[np.int64], forget_frames: int
    ) -> None:
        """Things that are seen are where they are now, the others where they were, for some frames."""
        seen = set(np.unique(things).tolist())
        unseen = {t: known.unseen.get(t, 0) + 1 for t in np.unique(known.things).tolist() if t not in seen}
        unseen = {t: frames for t, frames in unseen.items() if frames <= forget_frames}
        kept = np.isin(known.things, list(unseen))
        self._keep(
            np.concatenate([_thinned(points), known.points[kept]]),
            np.concatenate([_thinned(things), known.things[kept]]),
            unseen,
        )

    def _keep(self, points: NDArray[np.float64], things: NDArray[np.int64], unseen: dict[int, int]) -> None:
        self._known = _Known(points, things, unseen) if len(points) else None


def _thinned(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values[:: max(1, -(-len(values) // _REMEMBERED))]


def _on_things(view: ClusterView, masks: Sequence[Mask], min_points: int) -> list[Mask]:
    """Regions (N,) at the clusters' points that show little but clusters, largest first.

    Others are of the ground, a wall or the whole scene, and say nothing about single things.
    """
    inside = view.labels > 0
    regions = []
    for mask in masks:
        on_grid = view.grid.mask(mask) & view.grid.valid
        here = on_grid[inside]
        count = int(np.count_nonzero(here))
        if count >= min_points and count >= _MOST * np.count_nonzero(on_grid):
            regions.append(here)
    return sorted(regions, key=lambda region: -int(np.count_nonzero(region)))


def _joined(
    labels: NDArray[np.int32], points: NDArray[np.float64], regions: Sequence[Mask], gap_m: float
) -> NDArray[np.int64]:
    """(N,) thing of each point: clusters that one region shows whole, and that are near each other, are one."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=count)
    pairs: list[tuple[int, int]] = []
    for region in regions:
        shown = np.bincount(labels[region], minlength=count)
        whole = np.flatnonzero((shown >= _MOST * np.maximum(sizes, 1)) & (sizes > 0))
        if len(whole) < 2 or shown[whole].sum() < _MOST * np.count_nonzero(region):
            continue
        trees = [cKDTree(points[labels == label]) for label in whole]
        for i, tree in enumerate(trees):
            for j in range(i + 1, len(trees)):
                if tree.count_neighbors(trees[j], gap_m):
                    pairs.append((int(whole[i]), int(whole[j])))
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, groups = connected_components(graph, directed=False)
    return np.asarray(groups[labels] + 1, np.int64)


def _split(
    labels: NDArray[np.int32],
    points: NDArray[np.float64],
    things: NDArray[np.int64],
    regions: Sequence[Mask],
    min_points: int,
) -> NDArray[np.int64]:
    """(N,) things with those that consist of several regions split; points in none go to the nearest one."""
    following = int(things.max()) + 1
    out: NDArray[np.int64] = things.copy()
    for thing in np.unique(things):
        here = things == thing
        parts = _parts_of(here, regions, min_points)
        if not parts:
            continue
        part_of = np.zeros(len(labels), np.int64)
        for number, part in enumerate(parts, start=1):
            part_of[part & (part_of == 0)] = number
        told, rest = here & (part_of > 0), here & (part_of == 0)
        if rest.any():
            _, at = cKDTree(points[told]).query(points[rest])
            part_of[rest] = part_of[told][at]
        out[here] = following + part_of[here]
        following += len(parts) + 1
    return out


def _parts_of(here: Mask, regions: Sequence[Mask], min_points: int) -> list[Mask]:
    """The regions (N,) that a thing with the points `here` (N,) consists of; none if it is one."""
    size = int(np.count_nonzero(here))
    parts: list[Mask] = []
    covered = np.zeros_like(here)
    for region in regions:
        part = region & here
        count = int(np.count_nonzero(part))
        if count < min_points or count < _MOST * np.count_nonzero(region):
            continue
        if count >= _WHOLE * size:
            return []
        if np.count_nonzero(part & covered) <= _OVERLAP * count:
            parts.append(part)
            covered |= part
    enough = len(parts) >= 2 and np.count_nonzero(covered) >= _COVERED * size
    return parts if enough else []


def _changed(labels: NDArray[np.int32], things: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of the clusters that are not one thing each."""
    pairs = np.unique(np.stack([labels.astype(np.int64), things], axis=1), axis=0)
    split = np.bincount(pairs[:, 0]) > 1
    shared = np.bincount(pairs[:, 1]) > 1
    changed: NDArray[np.int64] = pairs[split[pairs[:, 0]] | shared[pairs[:, 1]], 0]
    return np.unique(changed)
