"""A camera that publishes as realsense2_camera does, and a node that was told nothing but what the launch file says."""

from __future__ import annotations

from typing import Any

import fake_launch
import numpy as np
import pytest
from fake_launch import performed
from fake_tracker import RED_BOX, ColorTracker, make_frame
from rclpy.qos import qos_profile_sensor_data
from ros_harness import Harness, Spinning
from sam_perception.msg import TrackedObjectArray
from sensor_msgs.msg import CameraInfo, Image

from sam_perception.config import PerceptionConfig
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt
from sam_perception.ros.convert import frame_to_msgs
from sam_perception.ros.perception_node import PerceptionNode

# Of realsense2_camera 4.x, its node `camera` in the namespace `camera`, with align_depth.enable.
COLOR = "/camera/camera/color/image_raw"
INFO = "/camera/camera/color/camera_info"
DEPTH = "/camera/camera/aligned_depth_to_color/image_raw"


def remappings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    context, entities = fake_launch.start(fake_launch.load(monkeypatch, "perception"))
    (node,) = (entity for entity in entities if type(entity).__name__ == "LifecycleNode")
    pairs = [(name, performed(context, topic)) for name, topic in node.remappings]
    monkeypatch.undo()  # the stand-ins of launch go before the node comes
    return [argument for name, topic in pairs for argument in ("-r", f"{name}:={topic}")]


def test_the_launch_files_topics_and_qos_find_realsense2_cameras(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = remappings(monkeypatch)

    def make(config: PerceptionConfig) -> Perception:
        perception = Perception(config, ColorTracker())
        perception.prompt(BoxPrompt(1, RED_BOX))
        return perception

    node = PerceptionNode(make, context=harness.context, cli_args=["--ros-args", *arguments])
    spin = Spinning(harness.context, node)
    try:
        harness.until(lambda: node.state_label == "active")
        publishers = {
            topic: harness.client.create_publisher(kind, topic, qos_profile_sensor_data)
            for topic, kind in {COLOR: Image, DEPTH: Image, INFO: CameraInfo}.items()
        }
        harness.until(lambda: all(publisher.get_subscription_count() == 1 for publisher in publishers.values()))
        inbox: list[Any] = []
        harness.client.create_subscription(TrackedObjectArray, "/sam_perception/objects", inbox.append, 10)
        stamps = iter(range(10**9, 10**12, 33_000_000))

        def arrived() -> bool:
            # Best effort: a frame may be lost, so more than one is sent.
            color, depth, info = frame_to_msgs(make_frame(next(stamps)))
            assert (depth.encoding, np.asarray(depth.data).dtype.itemsize) == ("16UC1", 1)
            for topic, message in ((INFO, info), (DEPTH, depth), (COLOR, color)):
                publishers[topic].publish(message)
            return bool(inbox)

        harness.until(arrived)
        assert [entry.id for entry in inbox[0].objects] == [1]
        assert inbox[0].objects[0].has_position
    finally:
        spin.stop()
        node.trigger_shutdown()
        node.destroy_node()
