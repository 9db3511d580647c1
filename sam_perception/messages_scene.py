"""Grasps, obstacles and the rest of the scene as ROS messages; see `messages`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_perception.messages import Message, MessageTypes, header, point, point_cloud, pose, vector
from sam_perception.scene import GraspTarget, ObstacleSegment, Scene

_NOWHERE = np.full(3, np.nan)


def grasp_target_array(types: MessageTypes, scene: Scene) -> Message:
    """`GraspTargetArray`: per object best first, and for each object without any the reason."""
    return types(
        "sam_perception/GraspTargetArray",
        header=header(types, scene.stamp_ns, scene.frame_id),
        targets=[grasp_target(types, target) for target in scene.grasp_targets],
        ungraspable_ids=np.array(list(scene.grasp_reasons), np.uint16),
        reasons=list(scene.grasp_reasons.values()),
        depth_source=scene.depth_source.value,
    )


def grasp_target(types: MessageTypes, target: GraspTarget) -> Message:
    """`GraspTarget` of one grasp."""
    return types(
        "sam_perception/GraspTarget",
        object_id=target.object_id,
        kind=target.kind.value,
        pose=_gripper_pose(types, target),
        approach=vector(types, target.approach),
        closing=vector(types, target.closing),
        width=float(target.width_m),
        object_width=float(target.object_width_m),
        width_is_lower_bound=bool(target.width_is_lower_bound),
        score=float(target.score),
        part_names=list(target.parts),
        part_scores=np.array(list(target.parts.values()), np.float32),
    )


def grasp_poses(types: MessageTypes, scene: Scene) -> Message:
    """`PoseArray` of the grippers, in the order of `grasp_target_array`."""
    return types(
        "geometry_msgs/PoseArray",
        header=header(types, scene.stamp_ns, scene.frame_id),
        poses=[_gripper_pose(types, target) for target in scene.grasp_targets],
    )


def _gripper_pose(types: MessageTypes, target: GraspTarget) -> Message:
    return pose(types, target.position_m, target.camera_from_gripper[:3, :3])


def obstacle_array(types: MessageTypes, scene: Scene) -> Message:
    """`ObstacleSegmentArray` with the ground; its normal and height are NaN where none is seen."""
    ground = scene.ground
    return types(
        "sam_perception/ObstacleSegmentArray",
        header=header(types, scene.stamp_ns, scene.frame_id),
        segments=[obstacle_segment(types, obstacle) for obstacle in scene.obstacles],
        has_ground=ground is not None,
        ground_normal=vector(types, _NOWHERE if ground is None else ground.normal),
        camera_height=float("nan") if ground is None else float(ground.height_m(scene.frame_from_camera[:3, 3])),
        depth_source=scene.around_source.value,
    )


def obstacle_segment(types: MessageTypes, obstacle: ObstacleSegment) -> Message:
    """`ObstacleSegment`; without points, its pose is NaN and its box without size."""
    box = obstacle.box
    return types(
        "sam_perception/ObstacleSegment",
        id=obstacle.id,
        kind=obstacle.kind.value,
        box_pose=pose(types, _NOWHERE) if box is None else pose(types, box.center_m, box.camera_from_box),
        box_size=vector(types, np.zeros(3) if box is None else box.size_m),
        nearest_point=point(types, obstacle.nearest_point_m),
        distance=float(obstacle.distance_m),
        ground_distance=float(obstacle.ground_distance_m),
        height=float(obstacle.height_m),
        unknown_share=float(obstacle.unknown_share),
        point_count=len(obstacle.points),
    )


def obstacle_cloud(types: MessageTypes, scene: Scene) -> Message:
    """`PointCloud2` of all obstacles' points, each with its obstacle_id, in the order of `obstacle_array`."""
    parts: list[tuple[NDArray[np.float32], NDArray[np.uint8], int]] = [
        (obstacle.points, obstacle.colors, obstacle.id) for obstacle in scene.obstacles
    ]
    return point_cloud(types, header(types, scene.stamp_ns, scene.frame_id), parts, "obstacle_id")


def scene_cloud(types: MessageTypes, scene: Scene) -> Message:
    """`PointCloud2` of everything but the targets."""
    parts = [(scene.scene_points, scene.scene_colors, 0)]
    return point_cloud(types, header(types, scene.stamp_ns, scene.frame_id), parts)
