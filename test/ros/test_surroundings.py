"""Grasps, ground and obstacles over DDS, on a table whose every distance is known."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseArray
from ros_harness import Harness
from sam_perception.msg import GraspTargetArray, ObstacleSegment, ObstacleSegmentArray
from sensor_msgs.msg import PointCloud2
from tabletop import CAMERA_HEIGHT_M, TARGET, TARGET_ID, WORLD, frame_at, target_prompt
from visualization_msgs.msg import MarkerArray

from sam_perception.messages import stamp_ns_of

SECOND = 10**9
TOPICS = {
    "grasp_targets": GraspTargetArray,
    "grasp_poses": PoseArray,
    "obstacles": ObstacleSegmentArray,
    "obstacle_points": PointCloud2,
    "scene_points": PointCloud2,
}


def xyz_of(cloud: PointCloud2) -> np.ndarray:
    return np.frombuffer(cloud.data, np.float32).reshape(cloud.width, -1)[:, :3]


def test_arm_and_base_get_what_is_on_the_table(harness: Harness) -> None:
    harness.node()
    inboxes = {name: harness.inbox(f"/sam_perception/{name}", kind) for name, kind in TOPICS.items()}
    assert harness.add(target_prompt()).success
    stamp = harness.send(frame_at(SECOND))
    grasps, poses, obstacles, obstacle_points, scene_points = (inboxes[name].wait() for name in TOPICS)
    for message in (grasps, poses, obstacles, obstacle_points, scene_points):
        assert stamp_ns_of(message.header.stamp) == stamp
        assert message.header.frame_id == "camera"
    assert {target.object_id for target in grasps.targets} == {TARGET_ID}
    assert list(grasps.reasons) == []
    assert [pose.position for pose in poses.poses] == [target.pose.position for target in grasps.targets]
    assert obstacles.has_ground
    assert abs(obstacles.camera_height - CAMERA_HEIGHT_M) < 0.005
    assert [s.kind for s in obstacles.segments].count(ObstacleSegment.OBSTACLE) == 1
    assert obstacle_points.width == sum(s.point_count for s in obstacles.segments)
    rest = WORLD.to_world(xyz_of(scene_points).astype(np.float64))
    assert len(rest) > 1000
    assert not TARGET.contains(rest, -0.003).any()


def test_nothing_in_sight_still_publishes(harness: Harness) -> None:
    harness.node()
    inboxes = {name: harness.inbox(f"/sam_perception/{name}", kind) for name, kind in TOPICS.items()}
    frame = frame_at(SECOND)
    stamp = harness.send(type(frame)(frame.rgb, np.zeros_like(frame.depth_m), frame.intrinsics, SECOND, "camera"))
    grasps, poses, obstacles, obstacle_points, scene_points = (inboxes[name].wait() for name in TOPICS)
    assert {stamp_ns_of(m.header.stamp) for m in (grasps, poses, obstacles, obstacle_points, scene_points)} == {stamp}
    assert (grasps.targets, poses.poses, obstacles.segments) == ([], [], [])
    assert not obstacles.has_ground
    assert np.isnan(obstacles.camera_height)
    assert (obstacle_points.width, scene_points.width) == (0, 0)


def test_only_what_is_subscribed_to_costs_time(harness: Harness) -> None:
    node = harness.node()
    harness.add(target_prompt())
    harness.scene_at(harness.send(frame_at(SECOND)))  # ~/objects alone
    stages = dict(node._pipeline.newest().scene.timings_ms)
    assert not {"navigation", "grasps"} & set(stages)
    markers = harness.inbox("/sam_perception/markers", MarkerArray)
    stamp = harness.send(frame_at(2 * SECOND))
    names = {m.ns for m in markers.wait(lambda m: stamp_ns_of(m.markers[0].header.stamp) == stamp).markers}
    assert {"box", "grasp", "ground", "obstacle"} <= names
    assert {"navigation", "grasps"} <= set(node._pipeline.newest().scene.timings_ms)


def test_parameters_change_in_flight(harness: Harness) -> None:
    from rclpy.parameter import Parameter

    node = harness.node(navigation__enabled=False)
    inbox = harness.inbox("/sam_perception/obstacles", ObstacleSegmentArray)
    first = harness.send(frame_at(SECOND))
    assert not inbox.wait(lambda m: stamp_ns_of(m.header.stamp) == first).has_ground
    assert all(result.successful for result in node.set_parameters([Parameter("navigation.enabled", value=True)]))
    refused = node.set_parameters([Parameter("navigation.up_y", value=0.0)])[0]
    assert not refused.successful
    assert "give the direction of up" in refused.reason
    second = harness.send(frame_at(2 * SECOND))
    assert inbox.wait(lambda m: stamp_ns_of(m.header.stamp) == second).has_ground
