"""Ground, obstacles and the scene without its targets, frame by frame, from depth alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig, NavigationConfig
from sam_perception.frame import RgbdFrame
from sam_perception.geometry.grid import PixelGrid, pixel_grid, widened
from sam_perception.geometry.plane_kinds import up_axis
from sam_perception.geometry.planes import find_planes, plane_tolerance_m
from sam_perception.navigation.association import Association, Extent, extent_of
from sam_perception.navigation.clusters import cluster
from sam_perception.navigation.ground import GroundTracker
from sam_perception.navigation.plane_map import PlaneMap
from sam_perception.navigation.segments import hole_segments, segment_of, top_m
from sam_perception.navigation.surface_votes import votes
from sam_perception.navigation.things import ClusterView, ThingMemory
from sam_perception.scene import ObstacleKind, ObstacleSegment, Plane, PlaneKind

Mask = NDArray[np.bool_]

_LEAST_UNKNOWN = 4  # readings; fewer are stray ones


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is around the targets, in the camera's optical frame."""

    grid: PixelGrid  # the frame thinned out
    targets: Mask  # (h, w) pixels of the grid that belong to targets, with their rims
    ground: Plane | None
    planes: tuple[Plane, ...]
    obstacles: tuple[ObstacleSegment, ...]  # in order of id
    scene_points: NDArray[np.float32]  # (S, 3) metres: everything but the targets
    scene_colors: NDArray[np.uint8]  # (S, 3) RGB
    fixed_planes: tuple[Plane, ...] = ()  # those seen now, averaged over time, in the fixed frame if its pose is known


class ObstacleMap:
    """Finds ground and obstacles in each frame; planes and ids are carried from frame to frame.

    Only what is seen in a frame is reported for it: nothing is remembered but the planes, as a first guess,
    and the obstacles' ids. What lies lower than the ground (stairs down, the floor around a table where
    too little of it is seen) is part of `scene_points`, and no obstacle.
    """

    def __init__(self, navigation: NavigationConfig | None = None, geometry: GeometryConfig | None = None) -> None:
        self._settings = navigation or NavigationConfig()
        self._geometry = geometry or GeometryConfig()
        self._prior_up = up_axis(self._settings)
        self._tracker, self._map = GroundTracker(), PlaneMap()
        self._pose: NDArray[np.float64] | None = None  # (4, 4) fixed_from_camera of the last frame
        self._compared_in: NDArray[np.float64] | None = None  # the newest pose, in which segments are compared
        self._ids = Association(self._settings)
        self._things = ThingMemory()
        self._view: ClusterView | None = None

    @property
    def view(self) -> ClusterView | None:
        """The last frame's clusters as depth has them, for `learn`."""
        return self._view

    def learn(self, view: ClusterView, region_masks: Sequence[Mask]) -> None:
        """Split and join clusters from now on as regions (H, W) of an earlier frame's picture show them.

        Args:
            view: of that frame, kept from after its `update`.
            region_masks: of its whole picture, as everything mode gives them.
        """
        self._things.learn(view, region_masks, self._settings)

    def reconfigure(self, navigation: NavigationConfig, geometry: GeometryConfig) -> None:
        """Use other settings from the next frame on; planes and ids stay."""
        self._settings, self._geometry = navigation, geometry
        self._prior_up = up_axis(navigation)
        self._ids.reconfigure(navigation)

    def reset(self) -> None:
        """Forget planes and ids, as for a new recording."""
        self.forget_motion()
        self._tracker, self._map = GroundTracker(), PlaneMap()
        self._ids, self._compared_in = Association(self._settings), None

    def forget_motion(self) -> None:
        """The next frame does not follow the last one: time has jumped. Ids are not used again."""
        self._tracker.forget()
        self._map.forget()
        self._things.forget()
        self._pose = None

    def update(
        self,
        frame: RgbdFrame,
        target_masks: Sequence[Mask] = (),
        *,
        region_masks: Sequence[Mask] = (),
        up: NDArray[np.float64] | None = None,
        fixed_from_camera: NDArray[np.float64] | None = None,
        surface_labels: NDArray[np.uint8] | None = None,
    ) -> Surroundings:
        """Ground, planes, obstacles and the rest of one frame.

        `target_masks` (H, W) are cut out, widened by `target_dilation_px`. `region_masks` (H, W), of
        everything mode on this very picture, split and join what depth alone takes for one thing or for
        two; `learn` does so with those of an earlier picture, and both hold on for later frames. `up` (3,) is measured
        gravity's opposite in the camera's optical frame (IMU or tf), which is trusted more than the
        settings' `up_x` to `up_z`. With `fixed_from_camera` (4, 4), the camera's pose in a frame
        that does not move, ids hold while the camera moves fast, and planes are averaged
        over time; without it ids hold only as far as frame-to-frame association goes. `surface_labels`
        (H, W) are `SurfaceLabel` values: planes that they call floor are preferred as ground, and
        upright ones that they call wall are walls.
        """
        settings = self._settings
        grid = pixel_grid(frame, self._geometry, settings.pixel_step)
        targets = grid.mask(widened(target_masks, (frame.height, frame.width), settings.target_dilation_px))
        scene = grid.valid & ~targets
        labels = None if surface_labels is None else surface_labels.ravel().take(grid.index)[scene]
        planes, fixed_planes = self._find_planes(grid.points[scene], up, fixed_from_camera, labels)
        ground = next((p for p in planes if p.kind is PlaneKind.GROUND), None)
        segments = self._segments(frame, grid, scene, planes, ground, region_masks)
        segments += hole_segments(grid, targets, ground, settings.min_hole_px, self._geometry.max_depth_m)
        obstacles = self._with_ids(segments, fixed_from_camera)
        points, colors = grid.points[scene], grid.colors(frame.rgb, scene)
        return Surroundings(grid, targets, ground, planes, obstacles, points, colors, fixed_planes)

    def _find_planes(
        self,
        points: NDArray[np.float32],
        up: NDArray[np.float64] | None,
        pose: NDArray[np.float64] | None,
        labels: NDArray[np.uint8] | None,
    ) -> tuple[tuple[Plane, ...], tuple[Plane, ...]]:
        """The frame's own planes, and those of the fixed frame where the camera's pose in it is known."""
        settings = self._settings
        tolerance = plane_tolerance_m(points, settings.plane_tolerance_m, self._geometry)
        moved = None if pose is None or self._pose is None else np.linalg.inv(pose) @ self._pose
        self._pose = pose
        found = find_planes(
            points,
            tolerance,
            self._tracker.expected(moved),
            min_share=settings.min_plane_share,
            max_planes=settings.max_planes,
        )
        known_up, within_deg = self._prior_up, settings.up_tolerance_deg
        if up is not None:
            known_up, within_deg = up / np.linalg.norm(up), settings.gravity_tolerance_deg
        told = votes(labels, found, settings.min_label_share)
        planes = self._tracker.update(points, found, known_up, within_deg, settings.ground_switch_frames, told)
        if pose is None:
            return planes, ()
        seen = [(plane, points[f.inliers]) for plane, f in zip(planes, found, strict=False)]
        return planes, self._map.update(seen, pose, settings.plane_memory_frames, settings.ground_switch_frames)

    def _segments(
        self, frame: RgbdFrame, grid: PixelGrid, scene: Mask, planes: Sequence[Plane], ground: Plane | None,
        region_masks: Sequence[Mask],
    ) -> list[ObstacleSegment]:  # fmt: skip
        settings, geometry = self._settings, self._geometry
        rest = scene.copy()
        if ground is not None:
            rest[scene] = ground.height_m(grid.points[scene]) > self._tolerance_m(grid.points[scene])
        segments = []
        for kind, plane_kind in ((ObstacleKind.WALL, PlaneKind.WALL), (ObstacleKind.TABLE, PlaneKind.TABLE)):
            for plane in (p for p in planes if p.kind is plane_kind):
                on = rest.copy()
                on[rest] = np.abs(plane.height_m(grid.points[rest])) < self._tolerance_m(grid.points[rest])
                if np.count_nonzero(on) >= settings.min_points:
                    segments.append(segment_of(grid, frame.rgb, np.flatnonzero(on), kind, ground, geometry))
                    rest &= ~on
        self._view = ClusterView(grid, cluster(grid, rest, settings.cluster_distance_m, ground, geometry), self._pose)
        if region_masks:
            self.learn(self._view, region_masks)
        labels = self._things.apply(self._view, settings).ravel()
        order = np.argsort(labels, kind="stable")
        for at in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
            if labels[at[0]] > 0 and len(at) >= _LEAST_UNKNOWN:
                segment = self._cluster_segment(frame, grid, at, ground)
                segments += [] if segment is None else [segment]
        return segments

    def _tolerance_m(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        return plane_tolerance_m(points, self._settings.plane_tolerance_m, self._geometry)

    def _cluster_segment(
        self, frame: RgbdFrame, grid: PixelGrid, at: NDArray[np.intp], ground: Plane | None
    ) -> ObstacleSegment | None:
        """An obstacle, or UNKNOWN where it is too low or too small to be sure; None if it is out of the way."""
        settings = self._settings
        kind = ObstacleKind.OBSTACLE if len(at) >= settings.min_points else ObstacleKind.UNKNOWN
        if ground is not None:
            heights = ground.height_m(grid.points.reshape(-1, 3)[at])
            if float(heights.min()) > settings.max_obstacle_height_m:
                return None
            if top_m(heights) < settings.min_obstacle_height_m:
                kind = ObstacleKind.UNKNOWN
        return segment_of(grid, frame.rgb, at, kind, ground, self._geometry)

    def _with_ids(
        self, segments: Sequence[ObstacleSegment], fixed_from_camera: NDArray[np.float64] | None
    ) -> tuple[ObstacleSegment, ...]:
        if fixed_from_camera is not None:
            self._compared_in = fixed_from_camera
        # For a frame whose pose is missing the last one is near enough to tell things apart by.
        ids = self._ids.assign([_extent(s, self._compared_in) for s in segments])
        named = [dataclasses.replace(s, id=i) for s, i in zip(segments, ids, strict=True)]
        return tuple(sorted(named, key=lambda s: s.id))


def _extent(segment: ObstacleSegment, pose: NDArray[np.float64] | None) -> Extent:
    points = segment.points if len(segment.points) else segment.nearest_point_m[None, :]
    # A thing may be an obstacle in one frame and too small to be sure in the next.
    small = segment.kind in (ObstacleKind.OBSTACLE, ObstacleKind.UNKNOWN) and len(segment.points) > 0
    group = "thing" if small else segment.kind.name
    return extent_of(points if pose is None else points @ pose[:3, :3].T + pose[:3, 3], group)
