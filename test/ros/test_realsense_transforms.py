"""The camera's frames on /tf_static."""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_realsense import HEIGHT, WIDTH, SoftwareCamera, sdk
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import Harness, Spinning

from sam_perception.messages import stamp_ns_of
from sam_perception.ros.realsense_node import RealSenseNode
from sam_perception.ros.realsense_transforms import CameraTransforms, transform_message
from sam_perception.ros.transforms import BuiltinTransforms
from sam_perception.sources.realsense import RealSenseCamera
from sam_perception.sources.realsense_transforms import camera_tree

LONG_S = 20.0
STAMP_NS = 1_700_000_000_123_456_789
DEPTH_FROM_COLOR = np.array([[1.0, 0, 0, -0.015], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
FRAMES = {"camera_depth_frame", "camera_depth_optical_frame", "camera_color_frame", "camera_color_optical_frame"}


class Recorder:
    """A node that keeps what is published and logged."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.warnings: list[str] = []
        self.publishers: list[tuple[str, QoSProfile]] = []

    def create_publisher(self, _kind: Any, topic: str, qos: QoSProfile) -> Any:
        self.publishers.append((topic, qos))
        return SimpleNamespace(publish=self.published.append)

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=self.warnings.append)


@pytest.fixture
def tf2_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in: the wheels have none."""
    for name in ("tf2_msgs", "tf2_msgs.msg"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["tf2_msgs.msg"].TFMessage = SimpleNamespace  # type: ignore[attr-defined]


def test_they_are_sent_once_and_kept_for_who_comes_later(tf2_msgs) -> None:
    node: Any = Recorder()
    transforms = CameraTransforms(node, "camera", wanted=True)
    ((topic, qos),) = node.publishers
    assert (topic, qos.depth) == ("/tf_static", 1)
    assert (qos.durability, qos.reliability) == (DurabilityPolicy.TRANSIENT_LOCAL, ReliabilityPolicy.RELIABLE)
    assert node.published == []
    for stamp_ns in (STAMP_NS, STAMP_NS + 10):
        transforms.tell(DEPTH_FROM_COLOR.copy(), stamp_ns)
    (sent,) = node.published
    assert {one.child_frame_id for one in sent.transforms} == FRAMES
    assert {stamp_ns_of(one.header.stamp) for one in sent.transforms} == {STAMP_NS}  # the picture's, no clock's
    assert "4 below camera_link" in transforms.state
    other = DEPTH_FROM_COLOR.copy()
    other[0, 3] = 0.02  # another camera was plugged in
    transforms.tell(other, STAMP_NS + 20)
    assert len(node.published) == 2


def test_a_camera_that_does_not_tell_is_said_once_and_given_no_place(tf2_msgs) -> None:
    node: Any = Recorder()
    transforms = CameraTransforms(node, "camera", wanted=True)
    for _ in range(3):
        transforms.tell(None, STAMP_NS)
    assert node.published == []
    (warning,) = node.warnings
    assert "does not tell how colour lies to depth; calibrate it" in warning
    assert transforms.state in warning


def test_without_tf2_msgs_it_is_said_once_and_pictures_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam_perception.ros.realsense_transforms.find_spec", lambda _: None)
    node: Any = Recorder()
    transforms = CameraTransforms(node, "camera", wanted=True)
    for _ in range(3):
        transforms.tell(DEPTH_FROM_COLOR, STAMP_NS)
    assert node.publishers == []
    (warning,) = node.warnings
    assert "install ros-<distro>-tf2-msgs" in warning
    assert "install ros-<distro>-tf2-msgs" in transforms.state


def test_publish_tf_switches_them_off(tf2_msgs) -> None:
    node: Any = Recorder()
    transforms = CameraTransforms(node, "camera", wanted=False)
    transforms.tell(DEPTH_FROM_COLOR, STAMP_NS)
    assert (node.publishers, node.warnings) == ([], [])
    assert transforms.state == "off: publish_tf is false"


def test_the_perception_nodes_buffer_reads_them(harness: Harness) -> None:
    errors: list[Exception] = []
    buffer = BuiltinTransforms(harness.node(), 10.0, errors.append)
    messages = [transform_message(one, STAMP_NS) for one in camera_tree("camera", DEPTH_FROM_COLOR)]
    buffer.on_static(SimpleNamespace(transforms=messages))
    link_from_color = buffer.lookup("camera_link", "camera_color_optical_frame", 5, 0.0)
    # A metre ahead of colour, which sits 15 mm to the left of camera_link.
    np.testing.assert_allclose(link_from_color @ (0, 0, 1, 1), (1, 0.015, 0, 1), atol=1e-9)
    depth_from_color = buffer.lookup("camera_depth_optical_frame", "camera_color_optical_frame", 5, 0.0)
    np.testing.assert_allclose(depth_from_color, DEPTH_FROM_COLOR, atol=1e-9)
    assert errors == []
    buffer.close()


def camera_node(harness: Harness, context: Any, **parameters: Any) -> RealSenseNode:
    values = {"width": WIDTH, "height": HEIGHT, "fps": 0, **parameters}
    return RealSenseNode(
        lambda config: RealSenseCamera(config, context=context),
        context=harness.context,
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )


@pytest.mark.skipif(find_spec("tf2_msgs") is None, reason="tf2_msgs is not installed")
def test_who_comes_later_hears_them_over_dds(harness: Harness) -> None:
    from importlib import import_module

    camera, context, end = SoftwareCamera("20"), sdk().context(), threading.Event()
    camera.plug_into(context)
    node = camera_node(harness, context)
    spin = Spinning(harness.context, node)

    def feed() -> None:
        number = 0
        while not end.wait(0.02):
            number += 1
            camera.push(number)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        harness.until(lambda: "4 below" in node._transforms.state, LONG_S)
        got: list[Any] = []
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        kind = import_module("tf2_msgs.msg").TFMessage
        harness.client.create_subscription(kind, "/tf_static", got.append, latched)
        harness.until(lambda: got, LONG_S)
    finally:
        end.set()
        thread.join(LONG_S)
        node.close()
        spin.stop()
        node.destroy_node()
    by_child = {one.child_frame_id: one for one in got[0].transforms}
    assert set(by_child) == FRAMES
    color = by_child["camera_color_frame"]
    assert color.header.frame_id == "camera_link"
    assert color.transform.translation.y == pytest.approx(0.015, abs=1e-7)


def test_the_parameter_is_realsense2_cameras(harness: Harness) -> None:
    node = camera_node(harness, sdk().context(), publish_tf=False)
    try:
        assert node.get_parameter("publish_tf").value is False
        assert node._transforms.state == "off: publish_tf is false"
        assert "/tf_static" not in {publisher.topic_name for publisher in node.publishers}
    finally:
        node.close()
        node.destroy_node()
