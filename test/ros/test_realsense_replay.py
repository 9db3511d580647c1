"""A recording of the SDK's through the camera's node, and on through the perception node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_realsense import PERIOD_MS, START_MS, record
from fake_tracker import RED_BOX, ColorTracker
from rclpy.parameter import Parameter
from ros_harness import RELIABLE, Harness, Spinning, reliable, values_of
from sam_perception.msg import TrackedObjectArray

from sam_perception.config import PerceptionConfig
from sam_perception.messages import stamp_ns_of
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt
from sam_perception.ros.perception_node import PerceptionNode
from sam_perception.ros.realsense_node import RealSenseNode

LONG_S = 30.0
TOPICS = {
    "color/image_raw": "/camera/camera/color/image_raw",
    "depth/image_raw": "/camera/camera/aligned_depth_to_color/image_raw",
    "color/camera_info": "/camera/camera/color/camera_info",
}


@pytest.fixture
def play(harness: Harness) -> Iterator[Callable[..., Any]]:
    made: list[tuple[RealSenseNode, Spinning]] = []

    def make(path: Path, **parameters: Any) -> RealSenseNode:
        values = {"rosbag_filename": str(path), "reliability": "reliable", "diagnostics_period_s": 0.05, **parameters}
        node = RealSenseNode(
            context=harness.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        made.append((node, Spinning(harness.context, node)))
        return node

    yield make
    for node, spin in made:
        assert node.close()
        spin.stop()
        node.destroy_node()


def test_a_recording_that_has_ended_is_said_with_the_cure(harness: Harness, play, tmp_path: Path) -> None:
    statuses: list[DiagnosticStatus] = []
    harness.client.create_subscription(DiagnosticArray, "/diagnostics", lambda a: statuses.extend(a.status), 50)
    play(record(tmp_path / "recording.db3", 4))
    said = harness.until(lambda: [s for s in list(statuses) if "played to its end" in s.message], LONG_S)[0]
    assert said.level == DiagnosticStatus.WARN
    assert "set rosbag_loop to true" in said.message
    assert values_of(said)["recording"] == str(tmp_path / "recording.db3")


# Shorter and longer than what the perception node takes for disorder in a stream (stamps.JUMP_NS).
@pytest.mark.parametrize("count", [8, 24])
def test_a_looped_recording_goes_through_the_perception_node_again_and_again(
    harness: Harness, play, tmp_path: Path, count: int
) -> None:
    path = record(tmp_path / "recording.db3", count)

    def make(config: PerceptionConfig) -> Perception:
        perception = Perception(config, ColorTracker())
        perception.prompt(BoxPrompt(1, RED_BOX))
        return perception

    arguments = [argument for name, topic in TOPICS.items() for argument in ("-r", f"{name}:={topic}")]
    node = PerceptionNode(
        make,
        context=harness.context,
        cli_args=["--ros-args", *arguments],
        parameter_overrides=[Parameter(name, value=value) for name, value in RELIABLE.items()],
    )
    spin = Spinning(harness.context, node)
    stamps: list[int] = []
    try:
        harness.until(lambda: node.state_label == "active")
        harness.client.create_subscription(
            TrackedObjectArray,
            "/sam_perception/objects",
            lambda message: stamps.append(stamp_ns_of(message.header.stamp)),
            reliable(),
        )
        play(path, rosbag_loop=True)
        harness.until(lambda: sum(b < a for a, b in pairwise(list(stamps))) >= 3, LONG_S)
    finally:
        spin.stop()
        node.trigger_shutdown()
        node.destroy_node()
    # Each pass but the first, which began before anybody listened, and the last, which was cut off.
    passes = np.split(np.array(stamps), [i + 1 for i, (a, b) in enumerate(pairwise(stamps)) if b < a])[1:-1]
    for one in passes:
        numbers = np.rint((one * 1e-6 - START_MS) / PERIOD_MS).astype(int)
        assert set(numbers) <= set(range(1, count + 1))  # the stamps of the recording
        # It takes the first three frames of a short pass for disorder.
        assert len(numbers) > (count - 3) / 2
