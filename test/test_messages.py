"""Values as messages: the same fields from both backends, checked through the bytes on the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tabletop import scene_with_all

from sam_perception import messages, messages_scene
from sam_perception.config import GraspConfig
from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.images import depth_from_image, intrinsics_from_camera_info, rgb_from_image
from sam_perception.markers import markers
from sam_perception.messages import MessageTypes, quaternion_from_matrix
from sam_perception.scene import Lifted, ObjectState, ObstacleKind, OrientedBox, Scene, Track
from sam_perception.sinks.bag_types import BagTypes, full_name, typestore

STAMP = 1_700_000_000_123_456_789
WIDTH, HEIGHT = 32, 24


def make_scene() -> Scene:
    """A tracked object with depth, one seen without depth, one lost."""
    cup, plate, gone = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(3))
    cup[4:10, 5:20] = True
    plate[8:12, 0:8] = True
    turn = Rotation.from_euler("xyz", [0.3, -0.2, 1.1]).as_matrix()
    lifted = Lifted(
        points=np.array([[0.1, 0.2, 0.7], [0.11, 0.2, 0.71]], np.float32),
        colors=np.array([[255, 1, 2], [3, 4, 5]], np.uint8),
        centroid=np.array([0.105, 0.2, 0.705]),
        covariance=np.diag([1e-6, 2e-6, 3e-6]),
        box=OrientedBox(np.array([0.1, 0.2, 0.7]), turn, np.array([0.05, 0.06, 0.07])),
        valid_depth_share=0.75,
    )
    return Scene(
        STAMP,
        "optical",
        WIDTH,
        HEIGHT,
        (
            Track(1, "cup", ObjectState.TRACKED, 0.9, 0.8, cup, STAMP, lifted),
            Track(7, "plate", ObjectState.REACQUIRED, 0.6, 0.9, plate, STAMP),
            Track(9, "", ObjectState.LOST, 0.1, 0.0, gone, STAMP - 10**9),
        ),
    )


def backend(name: str) -> MessageTypes:
    if name == "rosbags":
        return BagTypes()
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("sam_perception.msg", reason="the messages are not built")
    from sam_perception.ros.message_types import RosTypes

    return RosTypes()


@pytest.fixture(params=["rosbags", "rclpy"])
def types(request: pytest.FixtureRequest) -> MessageTypes:
    return backend(request.param)


def make_frame() -> RgbdFrame:
    rng = np.random.default_rng(0)
    depth = (rng.integers(0, 5000, (HEIGHT, WIDTH)) / 1000).astype(np.float32)
    depth[0, :3] = (np.nan, 70.0, np.inf)
    camera = CameraIntrinsics(WIDTH, HEIGHT, 30.0, 31.0, 15.5, 11.5, DistortionModel.PLUMB_BOB, (0.1, -0.2, 0.01))
    return RgbdFrame(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), depth, camera, STAMP, "optical")


def fields_of(image: Any) -> tuple[Any, ...]:
    return image.encoding, image.height, image.width, image.step, image.is_bigendian, image.data


def test_frames_survive_the_way_through_messages(types: MessageTypes) -> None:
    frame = make_frame()
    color, depth, info = (f(types, frame) for f in (messages.color_image, messages.depth_image, messages.camera_info))
    np.testing.assert_array_equal(rgb_from_image(*fields_of(color)), frame.rgb)
    expected = frame.depth_m.copy()
    expected[0, :3] = 0  # no return, and beyond what 16 bits hold
    np.testing.assert_array_equal(depth_from_image(*fields_of(depth)), expected)
    assert (
        intrinsics_from_camera_info(info.width, info.height, info.k, info.d, info.distortion_model) == frame.intrinsics
    )
    for message in (color, depth, info):
        assert messages.stamp_ns_of(message.header.stamp) == STAMP
        assert message.header.frame_id == "optical"


def test_objects_carry_mask_roi_and_position(types: MessageTypes) -> None:
    scene = make_scene()
    array = messages.tracked_object_array(types, scene)
    assert [(o.id, o.label, o.state) for o in array.objects] == [(1, "cup", 1), (7, "plate", 4), (9, "", 3)]
    cup, plate, gone = array.objects
    assert (cup.roi.x_offset, cup.roi.y_offset, cup.roi.width, cup.roi.height) == (5, 4, 15, 6)
    assert (cup.mask.width, cup.mask.height, set(bytes(cup.mask.data))) == (15, 6, {255})
    assert cup.has_position
    assert cup.centroid.z == 0.705
    np.testing.assert_array_equal(np.reshape(cup.covariance, (3, 3)), scene.objects[0].covariance)
    assert (cup.point_count, cup.box_size.y) == (2, 0.06)
    assert not plate.has_position
    assert np.isnan([plate.centroid.x, plate.box_pose.position.y, *plate.covariance]).all()
    assert plate.box_size.x == 0
    assert len(gone.mask.data) == 0
    assert gone.roi.width == 0
    assert messages.stamp_ns_of(gone.last_seen) == STAMP - 10**9


def test_masks_can_be_left_out(types: MessageTypes) -> None:
    cup = messages.tracked_object_array(types, make_scene(), with_masks=False).objects[0]
    assert len(cup.mask.data) == 0
    assert cup.roi.width == 15


def test_id_mask_is_mono16_with_the_surer_object_on_top(types: MessageTypes) -> None:
    message = messages.id_mask_image(types, make_scene())
    ids = np.frombuffer(message.data, "<u2").reshape(HEIGHT, WIDTH)
    assert message.encoding == "mono16"
    assert (ids[4, 5], ids[8, 5], ids[20, 20]) == (1, 7, 0)


def points_of(cloud: Any) -> np.ndarray:
    """The cloud as its own fields describe it."""
    kinds = {7: "<f4", 6: "<u4"}
    record = np.dtype(
        {
            "names": [f.name for f in cloud.fields],
            "formats": [kinds[f.datatype] for f in cloud.fields],
            "offsets": [f.offset for f in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    return np.frombuffer(cloud.data, record)


def test_cloud_can_be_read_by_its_fields(types: MessageTypes) -> None:
    cloud = messages.object_cloud(types, make_scene())
    points = points_of(cloud)
    np.testing.assert_array_equal(points["z"], np.float32([0.7, 0.71]))
    np.testing.assert_array_equal(points["rgb"].view(np.uint32), [0xFF0102, 0x030405])
    np.testing.assert_array_equal(points["object_id"], [1, 1])
    assert (cloud.width, cloud.row_step) == (2, 2 * cloud.point_step)


def test_an_empty_scene_is_still_a_message(types: MessageTypes) -> None:
    empty = Scene(STAMP, "optical", WIDTH, HEIGHT)
    assert messages.tracked_object_array(types, empty).objects == []
    assert messages.object_cloud(types, empty).width == 0
    assert not any(messages.id_mask_image(types, empty).data)
    assert messages_scene.grasp_target_array(types, empty).targets == []
    assert messages_scene.grasp_poses(types, empty).poses == []
    assert messages_scene.obstacle_cloud(types, empty).width == 0
    assert messages_scene.scene_cloud(types, empty).width == 0
    nowhere = messages_scene.obstacle_array(types, empty)
    assert (nowhere.segments, nowhere.has_ground) == ([], False)
    assert np.isnan([nowhere.camera_height, nowhere.ground_normal.x]).all()
    assert len(markers(types, empty).markers) == 1  # deletes what was drawn before


def test_markers_delete_then_draw_only_objects_with_a_position(types: MessageTypes) -> None:
    drawn = markers(types, make_scene()).markers
    assert drawn[0].action == 3
    assert [(m.ns, m.id) for m in drawn[1:]] == [("box", 1), ("centroid", 1), ("covariance", 1), ("caption", 1)]
    box, _, covariance, caption = drawn[1:]
    q = box.pose.orientation
    np.testing.assert_allclose(
        Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), make_scene().objects[0].box.camera_from_box, atol=1e-12
    )
    np.testing.assert_allclose([covariance.scale.x, covariance.scale.z], 6 * np.sqrt([1e-6, 3e-6]))
    assert caption.pose.position.y < 0.2 - 0.035
    assert {m.header.frame_id for m in drawn} == {"optical"}


def test_grasps_carry_the_grippers_frame_and_reasons(types: MessageTypes) -> None:
    scene = replace(scene_with_all(), grasp_reasons={9: "too wide", 11: "too low"})
    array = messages_scene.grasp_target_array(types, scene)
    assert len(array.targets) == len(scene.grasp_targets) > 0
    for sent, target in zip(array.targets, scene.grasp_targets, strict=True):
        q, p = sent.pose.orientation, sent.pose.position
        rotation = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
        np.testing.assert_allclose(rotation, target.camera_from_gripper[:3, :3], atol=1e-9)
        np.testing.assert_array_equal([p.x, p.y, p.z], target.position_m)
        np.testing.assert_allclose([sent.approach.x, sent.approach.y, sent.approach.z], rotation[:, 0], atol=1e-9)
        np.testing.assert_allclose([sent.closing.x, sent.closing.y, sent.closing.z], rotation[:, 1], atol=1e-9)
        assert (sent.object_id, sent.kind) == (target.object_id, target.kind.value)
        assert sent.width == pytest.approx(target.width_m)
        assert dict(zip(sent.part_names, map(float, sent.part_scores), strict=True)) == pytest.approx(target.parts)
    assert list(array.ungraspable_ids) == [9, 11]
    assert list(array.reasons) == ["too wide", "too low"]
    poses = messages_scene.grasp_poses(types, scene)
    assert [p.position.x for p in poses.poses] == [t.pose.position.x for t in array.targets]
    assert messages.stamp_ns_of(poses.header.stamp) == scene.stamp_ns


def test_obstacles_carry_ground_box_and_their_points(types: MessageTypes) -> None:
    scene = scene_with_all()
    hole = replace(scene.obstacles[0], id=90, kind=ObstacleKind.UNKNOWN, box=None, points=scene.scene_points[:0])
    array = messages_scene.obstacle_array(types, replace(scene, obstacles=(*scene.obstacles, hole)))
    assert scene.ground is not None
    assert array.has_ground
    assert array.camera_height == pytest.approx(scene.ground.offset_m)
    assert array.ground_normal.y == scene.ground.normal[1]
    assert [s.id for s in array.segments] == [*(o.id for o in scene.obstacles), 90]
    for sent, obstacle in zip(array.segments[:-1], scene.obstacles, strict=True):
        assert (sent.kind, sent.point_count) == (obstacle.kind.value, len(obstacle.points))
        assert sent.distance == pytest.approx(obstacle.distance_m)
        assert sent.nearest_point.z == obstacle.nearest_point_m[2]
        if obstacle.box is not None:
            assert sent.box_size.z == obstacle.box.size_m[2]
    empty = array.segments[-1]
    assert np.isnan(empty.box_pose.position.x)
    assert (empty.box_size.x, empty.point_count) == (0, 0)
    ids, counts = np.unique(points_of(messages_scene.obstacle_cloud(types, scene))["obstacle_id"], return_counts=True)
    expected = {o.id: len(o.points) for o in scene.obstacles if len(o.points)}
    assert dict(zip(ids, counts, strict=True)) == expected


def test_the_rest_of_the_scene_is_a_cloud_of_plain_points(types: MessageTypes) -> None:
    scene = scene_with_all()
    cloud = messages_scene.scene_cloud(types, scene)
    points = points_of(cloud)
    assert points.dtype.names == ("x", "y", "z", "rgb")
    assert cloud.point_step == 16
    np.testing.assert_array_equal(points["z"], scene.scene_points[:, 2])
    red = points["rgb"].view(np.uint32) >> 16
    np.testing.assert_array_equal(red, scene.scene_colors[:, 0])


def test_markers_show_grippers_ground_and_obstacles(types: MessageTypes) -> None:
    scene = scene_with_all()
    drawn = markers(types, scene, GraspConfig(gripper="custom", finger_depth_m=0.1)).markers
    names = [m.ns for m in drawn]
    assert names.count("grasp") == len(scene.grasp_targets)
    assert names.count("ground") == 1
    assert names.count("obstacle") + names.count("hole") == len(scene.obstacles)
    assert len({(m.ns, m.id) for m in drawn}) == len(drawn)
    best = drawn[names.index("grasp")]
    ends = np.array([[p.x, p.y, p.z] for p in best.points])
    assert best.type == 5
    assert len(ends) % 2 == 0
    # Fingers from the tips to the palm, as far apart as the opening.
    assert ends[:, 0].max() == 0
    assert -0.1 in ends[:, 0]
    assert np.ptp(ends[:, 1]) == pytest.approx(scene.grasp_targets[0].width_m)
    assert best.pose.position.x == scene.grasp_targets[0].position_m[0]
    outline = drawn[names.index("ground")].points
    assert (outline[0].x, outline[0].z) == (outline[-1].x, outline[-1].z)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("sam_perception/GraspTargetArray", messages_scene.grasp_target_array),
        ("geometry_msgs/PoseArray", messages_scene.grasp_poses),
        ("sam_perception/ObstacleSegmentArray", messages_scene.obstacle_array),
        ("sensor_msgs/PointCloud2", messages_scene.obstacle_cloud),
        ("sensor_msgs/PointCloud2", messages_scene.scene_cloud),
        ("sam_perception/TrackedObjectArray", messages.tracked_object_array),
        ("sensor_msgs/Image", messages.id_mask_image),
        ("sensor_msgs/PointCloud2", messages.object_cloud),
        ("visualization_msgs/MarkerArray", markers),
    ],
)
def test_both_backends_put_the_same_bytes_on_the_wire(name: str, build: Any) -> None:
    rclpy_types, bag_types = backend("rclpy"), BagTypes()
    from rclpy.serialization import serialize_message

    full = scene_with_all()
    scene = replace(full, objects=(*make_scene().objects, *full.objects), width=full.width, height=full.height)
    if build is messages.id_mask_image:
        scene = make_scene()
    ours = bytes(bag_types.serialize(build(bag_types, scene), name))
    theirs = serialize_message(build(rclpy_types, scene))
    # CDR may end with padding; a message read and written again by one library has one form.
    read = typestore().deserialize_cdr(theirs, full_name(name))
    assert bytes(bag_types.serialize(read, name)) == ours


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="frame"):
        BagTypes()("std_msgs/Header", frame="camera")


@settings(max_examples=60)
@given(st.lists(st.floats(-10, 10), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-3))
def test_quaternions_agree_with_scipy(q: list[float]) -> None:
    rotation = Rotation.from_quat(q)
    got = np.array(quaternion_from_matrix(rotation.as_matrix()))
    assert got[3] >= 0
    np.testing.assert_allclose(Rotation.from_quat(got).as_matrix(), rotation.as_matrix(), atol=1e-9)
    assert np.linalg.norm(got) == pytest.approx(1)
