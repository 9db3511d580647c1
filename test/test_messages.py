"""Values as messages: the same fields from both backends, checked through the bytes on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sam_perception import messages
from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.images import depth_from_image, intrinsics_from_camera_info, rgb_from_image
from sam_perception.markers import markers
from sam_perception.messages import MessageTypes, quaternion_from_matrix
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track
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


def test_cloud_can_be_read_by_its_fields(types: MessageTypes) -> None:
    cloud = messages.object_cloud(types, make_scene())
    kinds = {7: "<f4", 6: "<u4"}
    record = np.dtype(
        {
            "names": [f.name for f in cloud.fields],
            "formats": [kinds[f.datatype] for f in cloud.fields],
            "offsets": [f.offset for f in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    points = np.frombuffer(cloud.data, record)
    np.testing.assert_array_equal(points["z"], np.float32([0.7, 0.71]))
    np.testing.assert_array_equal(points["rgb"].view(np.uint32), [0xFF0102, 0x030405])
    np.testing.assert_array_equal(points["object_id"], [1, 1])
    assert (cloud.width, cloud.row_step) == (2, 2 * cloud.point_step)


def test_an_empty_scene_is_still_a_message(types: MessageTypes) -> None:
    empty = Scene(STAMP, "optical", WIDTH, HEIGHT)
    assert messages.tracked_object_array(types, empty).objects == []
    assert messages.object_cloud(types, empty).width == 0
    assert not any(messages.id_mask_image(types, empty).data)
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


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("sam_perception/TrackedObjectArray", messages.tracked_object_array),
        ("sensor_msgs/Image", messages.id_mask_image),
        ("sensor_msgs/PointCloud2", messages.object_cloud),
        ("visualization_msgs/MarkerArray", markers),
    ],
)
def test_both_backends_put_the_same_bytes_on_the_wire(name: str, build: Any) -> None:
    rclpy_types, bag_types = backend("rclpy"), BagTypes()
    from rclpy.serialization import serialize_message

    ours = bytes(bag_types.serialize(build(bag_types, make_scene()), name))
    theirs = serialize_message(build(rclpy_types, make_scene()))
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
