"""Everything in another frame, by the transform at the image's stamp; gravity from tf and IMU. With a real node."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_tracker import FRAME_ID, RED_BOX
from geometry_msgs.msg import PoseArray
from ros_harness import Harness, values_of
from sam_perception.msg import GraspTargetArray, ObstacleSegmentArray, TrackedObjectArray
from sensor_msgs.msg import Imu, PointCloud2
from tf_messages import Array, Broadcaster, matrix, transform_msg
from visualization_msgs.msg import MarkerArray

from sam_perception.errors import ConfigError, TransformError, UnknownFrame
from sam_perception.geometry.transform_tree import TransformTree
from sam_perception.messages import stamp_ns_of
from sam_perception.prompts import BoxPrompt
from sam_perception.ros.transforms import BuiltinTransforms, Tf2Transforms, make_transforms

SECOND = 10**9
TARGET = "/sam_perception/target_frame"
KINDS = {
    "objects": TrackedObjectArray,
    "object_points": PointCloud2,
    "scene_points": PointCloud2,
    "grasp_targets": GraspTargetArray,
    "grasp_poses": PoseArray,
    "obstacles": ObstacleSegmentArray,
    "obstacle_points": PointCloud2,
    "markers": MarkerArray,
}
BASE_FROM_CAMERA = matrix((0.3, -0.1, 0.8), (-100, 20, 5))


def xyz(p: Any) -> Array:
    return np.array([p.x, p.y, p.z])


def moving(part: float) -> Array:
    return matrix((2 * part, 0, 0), (0, 0, 40 * part))


def test_everything_is_published_in_the_target_frame_by_the_transform_at_the_images_stamp(harness: Harness) -> None:
    node = harness.node(target_frame="map")
    inboxes = {name: harness.inbox(f"{TARGET}/{name}", kind) for name, kind in KINDS.items()}
    harness.objects()
    tf = Broadcaster(harness, node)
    tf.send("base", FRAME_ID, BASE_FROM_CAMERA)
    tf.send("map", "base", moving(0), SECOND)
    tf.send("map", "base", moving(1), 2 * SECOND)
    tf.settled("map", FRAME_ID, 2 * SECOND)
    harness.add(BoxPrompt(3, RED_BOX))
    stamp = harness.send(SECOND + SECOND // 4)
    (own,) = harness.scene_at(stamp).objects
    messages = {name: inbox.wait() for name, inbox in inboxes.items()}
    for name, message in messages.items():
        header = message.markers[0].header if name == "markers" else message.header
        assert (header.frame_id, stamp_ns_of(header.stamp)) == ("map", stamp), name
    (moved,) = messages["objects"].objects
    expected = moving(0.25) @ BASE_FROM_CAMERA
    np.testing.assert_allclose(xyz(moved.centroid), expected[:3, :3] @ xyz(own.centroid) + expected[:3, 3], atol=1e-5)
    before, after = (np.array(o.covariance).reshape(3, 3) for o in (own, moved))
    np.testing.assert_allclose(after, expected[:3, :3] @ before @ expected[:3, :3].T, atol=1e-9)
    points = np.frombuffer(messages["object_points"].data, np.dtype([("xyz", "<f4", 3), ("more", "<f4", 2)]))["xyz"]
    # The square's points, all half a metre before the camera.
    in_camera = (points - expected[:3, 3]) @ expected[:3, :3]
    np.testing.assert_allclose(in_camera[:, 2], 0.5, atol=1e-5)
    status = harness.status("transforms")
    assert status.level == status.OK
    assert values_of(status)["target_frame done"] == "1"


def test_without_its_transform_a_frame_is_refused_there_and_nothing_stands_in_for_it(harness: Harness) -> None:
    node = harness.node(target_frame="map", transforms__timeout_s=0.0)
    moved = harness.inbox(f"{TARGET}/objects", TrackedObjectArray)
    harness.objects()
    tf = Broadcaster(harness, node)
    harness.add(BoxPrompt(3, RED_BOX))
    harness.scene_at(harness.send(SECOND))  # no such frame
    status = harness.status("transforms", lambda s: s.level != s.OK)
    assert status.level == status.ERROR
    assert "'map' is not to be had: no transform leads from" in status.message
    tf.send("map", FRAME_ID, moving(0), 2 * SECOND)
    tf.settled("map", FRAME_ID, 2 * SECOND)
    harness.scene_at(harness.send(3 * SECOND))  # after the newest one
    status = harness.status("transforms", lambda s: values_of(s)["target_frame refused"] == "2")
    assert "1.000 s after the newest transform" in status.message
    tf.send("map", FRAME_ID, moving(1), 4 * SECOND)
    tf.settled("map", FRAME_ID, 4 * SECOND)
    stamp = harness.send(4 * SECOND)
    moved.wait(lambda m: stamp_ns_of(m.header.stamp) == stamp)
    assert [stamp_ns_of(m.header.stamp) for m in moved.messages] == [stamp]


def test_a_transform_that_comes_a_little_after_the_image_is_waited_for(harness: Harness) -> None:
    node = harness.node(target_frame="map", transforms__timeout_s=5.0)
    moved = harness.inbox(f"{TARGET}/objects", TrackedObjectArray)
    tf = Broadcaster(harness, node)
    tf.send("map", FRAME_ID, moving(0), SECOND)
    tf.settled("map", FRAME_ID, SECOND)
    stamp = harness.send(SECOND + SECOND // 2)
    harness.until(lambda: node._pipeline.newest())  # it waits now, or will
    tf.send("map", FRAME_ID, moving(1), 2 * SECOND)
    assert stamp_ns_of(moved.wait().header.stamp) == stamp


def test_nothing_is_listened_to_unless_asked_for(harness: Harness) -> None:
    node = harness.node()
    topics = {s.topic_name for s in node.subscriptions}
    assert not topics & {"/tf", "/tf_static", "/imu", "/sam_perception/transform"}
    assert not [p for p in node.publishers if "target_frame" in p.topic_name]


# ---------------------------------------------------------------------- gravity

# A camera that looks straight down: the wall behind the squares is its floor.
DOWN = matrix((0, 0, 2.0), (180, 0, 0))


def obstacles(harness: Harness) -> Any:
    return harness.inbox("/sam_perception/obstacles", ObstacleSegmentArray)


def at(stamp: int) -> Any:
    return lambda m: stamp_ns_of(m.header.stamp) == stamp


def test_gravity_from_tf(harness: Harness) -> None:
    node = harness.node(fixed_frame="map", gravity__source="tf", transforms__timeout_s=0.0)
    inbox = obstacles(harness)
    tf = Broadcaster(harness, node)
    stamp = harness.send(SECOND)
    assert not inbox.wait(at(stamp)).has_ground
    status = harness.status("gravity")
    assert status.level == status.WARN
    assert "up_x to up_z are used instead" in status.message
    tf.send("map", FRAME_ID, DOWN)
    tf.settled("map", FRAME_ID, 0)
    stamp = harness.send(2 * SECOND)
    found = inbox.wait(at(stamp))
    assert found.has_ground
    assert found.camera_height == pytest.approx(2.0, abs=0.01)
    np.testing.assert_allclose(xyz(found.ground_normal), [0, 0, -1], atol=0.02)


def imu_msg(stamp_ns: int, acceleration: tuple[float, float, float], frame_id: str) -> Imu:
    msg = Imu()
    msg.header.frame_id = frame_id
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    a = msg.linear_acceleration
    a.x, a.y, a.z = acceleration
    return msg


@pytest.mark.parametrize(
    ("axes", "imu_frame", "acceleration"),
    [
        ("tf", FRAME_ID, (0.0, 0.0, -9.8)),
        ("camera", "camera_imu_optical_frame", (0.0, 0.0, -9.8)),
        ("tf", "imu", (-9.8, 0.0, 0.0)),
    ],
)
def test_gravity_from_the_imu(
    harness: Harness, axes: str, imu_frame: str, acceleration: tuple[float, float, float]
) -> None:
    node = harness.node(gravity__source="imu", gravity__imu_axes=axes)
    inbox = obstacles(harness)
    publisher = harness.client.create_publisher(Imu, "/imu", 10)
    harness.until(publisher.get_subscription_count)
    if imu_frame == "imu":  # its x axis is the camera's z
        tf = Broadcaster(harness, node)
        tf.send(FRAME_ID, "imu", matrix((0, 0, 0), (0, -90, 0)))
        tf.settled(FRAME_ID, "imu", 0)
    assert not inbox.wait(at(harness.send(SECOND))).has_ground
    assert "no reading of an accelerometer at rest on /imu" in harness.status("gravity").message
    publisher.publish(imu_msg(2 * SECOND, acceleration, imu_frame))
    harness.until(lambda: node._whereabouts._imu._filter.up)
    assert inbox.wait(at(harness.send(2 * SECOND))).has_ground
    # A reading from long before does not tell gravity now.
    assert not inbox.wait(at(harness.send(4 * SECOND))).has_ground
    status = harness.status("gravity", lambda s: values_of(s)["frames without"] == "2")
    assert "2.00 s older than the image" in status.message


def test_an_imu_without_accelerometer_says_nothing(harness: Harness) -> None:
    node = harness.node(gravity__source="imu")
    silent = imu_msg(SECOND, (0.0, 0.0, -9.8), FRAME_ID)
    silent.linear_acceleration_covariance[0] = -1.0
    node._whereabouts._imu.on_imu(silent)
    with pytest.raises(TransformError, match="enable_accel"):
        node._whereabouts._imu.up(SECOND)


# ---------------------------------------------------------------------- backends


class FakeTf2(ModuleType):
    """tf2_ros' Python API as far as it is used, over our own tree."""

    class TransformException(Exception): ...

    class LookupException(TransformException): ...

    class ConnectivityException(TransformException): ...

    class ExtrapolationException(TransformException): ...

    def __init__(self) -> None:
        super().__init__("tf2_ros")
        self.__spec__ = ModuleSpec("tf2_ros", None)
        fake = self
        self.asked: list[tuple[str, str, int, float]] = []

        class Buffer:
            def __init__(self, cache_time: Any = None, _node: Any = None) -> None:
                self.tree, self.cleared = TransformTree(int(cache_time.nanoseconds)), 0

            def set_transform(self, msg: Any, _authority: str, static: bool = False) -> None:
                t, q = msg.transform.translation, msg.transform.rotation
                turn = np.array([q.x, q.y, q.z, q.w])
                stamp_ns = stamp_ns_of(msg.header.stamp)
                self.tree.add(msg.header.frame_id, msg.child_frame_id, stamp_ns, xyz(t), turn, static=static)

            def set_transform_static(self, msg: Any, authority: str) -> None:
                self.set_transform(msg, authority, True)

            def lookup_transform(self, target_frame: str, source_frame: str, time: Any, timeout: Any) -> Any:
                fake.asked.append((target_frame, source_frame, time.nanoseconds, timeout.nanoseconds * 1e-9))
                try:
                    found = self.tree.lookup(target_frame, source_frame, time.nanoseconds, timeout.nanoseconds * 1e-9)
                except UnknownFrame as error:
                    raise fake.LookupException(str(error)) from error
                except TransformError as error:
                    raise fake.ExtrapolationException(str(error)) from error
                return transform_msg(target_frame, source_frame, found)

            def clear(self) -> None:
                self.cleared += 1
                self.tree.clear()

        class TransformListener:
            def __init__(self, *_: Any) -> None:
                self.unregistered = False

            def unregister(self) -> None:
                self.unregistered = True

        self.Buffer, self.TransformListener = Buffer, TransformListener


def test_with_tf2_ros_its_buffer_is_asked_for_the_images_stamp(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTf2()
    monkeypatch.setitem(sys.modules, "tf2_ros", fake)
    node = harness.node(target_frame="map", transforms__timeout_s=0.25)
    assert isinstance(node._whereabouts._transforms, Tf2Transforms)
    moved = harness.inbox(f"{TARGET}/objects", TrackedObjectArray)
    tf = Broadcaster(harness, node)
    tf.send("map", FRAME_ID, moving(0), SECOND)
    tf.send("map", FRAME_ID, moving(1), 2 * SECOND)
    tf.settled("map", FRAME_ID, 2 * SECOND)
    fake.asked.clear()
    stamp = harness.send(SECOND + SECOND // 2)
    assert moved.wait().header.frame_id == "map"
    assert fake.asked == [("map", FRAME_ID, stamp, 0.25)]
    harness.send(9 * SECOND)
    status = harness.status("transforms", lambda s: s.level == s.ERROR)
    assert "nothing is extrapolated" in status.message
    with pytest.raises(TransformError, match="latest"):
        node._whereabouts._transforms.lookup("map", FRAME_ID, 0, 0.0)
    with pytest.raises(UnknownFrame, match="nowhere"):
        node._whereabouts._transforms.lookup("nowhere", FRAME_ID, stamp, 0.0)


def test_backends_by_name(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    node = harness.node()
    if find_spec("tf2_ros") is None:
        with pytest.raises(ConfigError, match="tf2-ros-py"):
            make_transforms(node, "tf2_ros", 10.0, lambda _: None)
        assert isinstance(make_transforms(node, "auto", 10.0, lambda _: None), BuiltinTransforms)
    monkeypatch.setitem(sys.modules, "tf2_ros", FakeTf2())
    assert isinstance(make_transforms(node, "auto", 10.0, lambda _: None), Tf2Transforms)
    assert isinstance(make_transforms(node, "builtin", 10.0, lambda _: None), BuiltinTransforms)


def test_a_backend_that_is_missing_keeps_the_node_unconfigured_and_says_why(harness: Harness) -> None:
    if find_spec("tf2_ros") is not None:
        pytest.skip("tf2_ros is installed")
    node = harness.node(target_frame="map", transforms__backend="tf2_ros", wait_active=False)
    status = harness.status("node", lambda s: s.level == s.ERROR)
    assert "install ros-<distro>-tf2-ros-py" in status.message
    assert node.state_label == "unconfigured"


def test_tf_messages_are_taken_apart(harness: Harness) -> None:
    errors: list[Exception] = []
    builtin = BuiltinTransforms(harness.node(), 10.0, errors.append)
    bad = transform_msg("map", "map", np.eye(4))
    builtin.on_tf(SimpleNamespace(transforms=[transform_msg("map", "base", moving(0.5), SECOND), bad]))
    builtin.on_static(SimpleNamespace(transforms=[transform_msg("base", "camera", BASE_FROM_CAMERA)]))
    np.testing.assert_allclose(builtin.lookup("map", "camera", SECOND, 0.0), moving(0.5) @ BASE_FROM_CAMERA, atol=1e-12)
    assert [type(e) for e in errors] == [TransformError]
    if find_spec("tf2_msgs") is None:
        assert "tf2_msgs is not installed" in builtin.sources
    builtin.close()
