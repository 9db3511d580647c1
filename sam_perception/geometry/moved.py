"""A scene in another frame than the camera's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import TransformError
from sam_perception.frame import check_transform
from sam_perception.scene import GraspTarget, Lifted, ObstacleSegment, OrientedBox, Plane, Scene, Track

Matrix = NDArray[np.float64]


def moved_points(points: NDArray[np.floating], target_from_frame: Matrix) -> NDArray[np.float32]:
    """Points (N, 3) in the target frame, computed in double precision."""
    moved = points.astype(np.float64) @ target_from_frame[:3, :3].T + target_from_frame[:3, 3]
    return np.asarray(moved, np.float32)


def moved_scene(
    scene: Scene,
    frame_id: str,
    target_from_camera: Matrix,
    resting: Mapping[int, Matrix] | None = None,
) -> Scene:
    """The scene with everything that has a place brought into the frame `frame_id`, under the same stamp.

    Points, centroids, boxes, grasps, planes and obstacles are turned and moved, covariances turned. Masks,
    scores, widths, heights and the distances from the camera stay what they were;
    `frame_from_camera` says where the camera is. Planes of a fixed frame stay there.

    Args:
        scene: in the camera's optical frame.
        frame_id: of the target frame.
        target_from_camera: (4, 4) at the scene's stamp.
        resting: the same at the stamps of objects that rest (`Scene.resting`), whose positions are of an
            earlier image; an object that is missing here goes without a position.

    Raises:
        TransformError: no rotation with a translation, or the scene was moved already.
    """
    matrix = check_transform(target_from_camera)
    if not np.array_equal(scene.frame_from_camera, np.eye(4)):
        raise TransformError(f"the scene is in {scene.frame_id!r} already: move the one in the camera's frame")
    own = {i: check_transform((resting or {})[i]) for i in scene.resting if i in (resting or {})}
    objects = tuple(
        _track(track, own.get(track.id) if track.id in scene.resting else matrix) for track in scene.objects
    )
    return replace(
        scene,
        frame_id=frame_id,
        objects=objects,
        grasp_targets=tuple(_grasp(target, matrix) for target in scene.grasp_targets),
        ground=None if scene.ground is None else _plane(scene.ground, matrix),
        planes=tuple(_plane(plane, matrix) for plane in scene.planes),
        obstacles=tuple(_obstacle(obstacle, matrix) for obstacle in scene.obstacles),
        scene_points=moved_points(scene.scene_points, matrix),
        frame_from_camera=matrix,
    )


def _track(track: Track, matrix: Matrix | None) -> Track:
    lifted = track.lifted
    if matrix is None:
        return replace(track, lifted=Lifted(valid_depth_share=lifted.valid_depth_share))
    turn = matrix[:3, :3]
    return replace(
        track,
        lifted=replace(
            lifted,
            points=moved_points(lifted.points, matrix),
            centroid=None if lifted.centroid is None else turn @ lifted.centroid + matrix[:3, 3],
            covariance=None if lifted.covariance is None else turn @ lifted.covariance @ turn.T,
            box=_box(lifted.box, matrix),
        ),
    )


def _box(box: OrientedBox | None, matrix: Matrix) -> OrientedBox | None:
    if box is None:
        return None
    turn = matrix[:3, :3]
    return OrientedBox(turn @ box.center_m + matrix[:3, 3], turn @ box.camera_from_box, box.size_m)


def _grasp(target: GraspTarget, matrix: Matrix) -> GraspTarget:
    return replace(target, camera_from_gripper=matrix @ target.camera_from_gripper)


def _plane(plane: Plane, matrix: Matrix) -> Plane:
    normal, offset = moved_plane(plane.normal, plane.offset_m, matrix)
    outline = plane.outline_m @ matrix[:3, :3].T + matrix[:3, 3]
    return replace(plane, normal=normal, offset_m=offset, outline_m=outline)


def moved_plane(normal: Matrix, offset_m: float, to_from_frame: Matrix) -> tuple[Matrix, float]:
    """A plane's normal (3,) and offset in another frame; `to_from_frame` (4, 4) brings points there."""
    turned = to_from_frame[:3, :3] @ normal
    return turned, float(offset_m - turned @ to_from_frame[:3, 3])


def _obstacle(obstacle: ObstacleSegment, matrix: Matrix) -> ObstacleSegment:
    return replace(
        obstacle,
        points=moved_points(obstacle.points, matrix),
        box=_box(obstacle.box, matrix),
        nearest_point_m=matrix[:3, :3] @ obstacle.nearest_point_m + matrix[:3, 3],
    )
