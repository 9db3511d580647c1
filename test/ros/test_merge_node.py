"""Two cameras' objects over DDS, merged in one frame."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import TIMEOUT_S, Inbox, reliable
from sam_perception.msg import TrackedObjectArray
from visualization_msgs.msg import MarkerArray

from sam_perception.errors import ConfigError
from sam_perception.messages import stamp_ns_of, tracked_object_array
from sam_perception.ros.merge_node import MergeNode
from sam_perception.ros.message_types import RosTypes
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track

# Half a metre apart, both looking along the common frame's z.
EXTRINSICS = """
frame: table
cameras:
  left: {position: [-0.25, 0, 0], quaternion: [0, 0, 0, 1]}
  right: {position: [0.25, 0, 0], quaternion: [0, 0, 0, 1]}
"""


@dataclass
class Rig:
    """A merging node, and what stands for two perception nodes."""

    context: Any
    executor: SingleThreadedExecutor
    node: MergeNode
    client: Any
    publishers: dict[str, Any]

    def spin_until(self, done: Any) -> None:
        end = self.client.get_clock().now().nanoseconds + int(TIMEOUT_S * 1e9)
        while not done():
            assert self.client.get_clock().now().nanoseconds < end, "nothing came"
            self.executor.spin_once(timeout_sec=0.05)


def rig_of(domain: int, parameters: dict[str, Any]) -> Rig:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    node = MergeNode(context=context, parameter_overrides=overrides)
    client = rclpy.create_node("client", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    executor.add_node(client)
    topics = {name: f"/{name}/sam_perception/objects" for name in ("left", "right")}
    publishers = {n: client.create_publisher(TrackedObjectArray, t, reliable()) for n, t in topics.items()}
    rig = Rig(context, executor, node, client, publishers)
    rig.spin_until(lambda: all(p.get_subscription_count() for p in publishers.values()))
    return rig


def close(rig: Rig) -> None:
    rig.node.destroy_node()
    rig.client.destroy_node()
    rig.executor.shutdown()
    rclpy.shutdown(context=rig.context)


@pytest.fixture
def rig(domain: int, tmp_path: Path) -> Iterator[Rig]:
    (tmp_path / "extrinsics.yaml").write_text(EXTRINSICS)
    made = rig_of(domain, {"extrinsics": str(tmp_path / "extrinsics.yaml"), "diagnostics_period_s": 0.05})
    yield made
    close(made)


def objects(stamp_ns: int, *places: tuple[int, float], frame_id: str = "optical") -> Any:
    """A perception node's message: objects by id, x metres to the right and one metre away."""
    tracks = []
    for object_id, x in places:
        center = np.array([x, 0.0, 1.0])
        box = OrientedBox(center, np.eye(3), np.full(3, 0.06))
        lifted = Lifted(centroid=center, covariance=np.eye(3) * 1e-4, box=box, valid_depth_share=1.0)
        mask = np.zeros((48, 64), bool)
        mask[10:20, 30:50] = True
        tracks.append(Track(object_id, "", ObjectState.TRACKED, 0.9, 0.8, mask, stamp_ns, lifted))
    return tracked_object_array(RosTypes(), Scene(stamp_ns, frame_id, 64, 48, tuple(tracks)))


def test_two_cameras_objects_come_as_one_in_the_common_frame(rig: Rig) -> None:
    inbox = Inbox(rig.client, TrackedObjectArray, "/sam_perception_merge/objects")
    drawn = Inbox(rig.client, MarkerArray, "/sam_perception_merge/markers")
    rig.spin_until(lambda: rig.node._markers.get_subscription_count() > 0)
    rig.publishers["left"].publish(objects(10**9, (1, 0.25), (2, 0.6)))
    rig.spin_until(lambda: inbox.messages)
    rig.publishers["right"].publish(objects(10**9 + 10**7, (5, -0.25)))
    rig.spin_until(lambda: len(inbox.messages) > 1 and len(drawn.messages) > 1)
    last = inbox.messages[-1]
    assert last.header.frame_id == "table"
    assert stamp_ns_of(last.header.stamp) == 10**9 + 10**7
    assert [round(o.centroid.x, 6) for o in last.objects] == [0.0, 0.35]
    assert [o.id for o in last.objects] == [o.id for o in inbox.messages[0].objects]  # they keep their ids
    assert not last.objects[0].mask.data
    assert any(marker.header.frame_id == "table" for marker in drawn.messages[-1].markers)
    assert "1: left 1, right 5" in rig.node._members


def test_a_camera_behind_the_newest_waits_for_it(rig: Rig) -> None:
    inbox = Inbox(rig.client, TrackedObjectArray, "/sam_perception_merge/objects")
    for camera, stamp_ns in (("left", 2 * 10**9), ("right", 19 * 10**8), ("left", 21 * 10**8)):
        rig.publishers[camera].publish(objects(stamp_ns, (1, 0.25 if camera == "left" else -0.25)))
        rig.spin_until(lambda camera=camera, stamp_ns=stamp_ns: rig.node._scenes.get(camera) is not None
                       and rig.node._scenes[camera].stamp_ns == stamp_ns)  # fmt: skip
    rig.spin_until(lambda: len(inbox.messages) == 2)
    assert [stamp_ns_of(m.header.stamp) for m in inbox.messages] == [2 * 10**9, 21 * 10**8]
    assert len(inbox.messages[-1].objects) == 1


def test_time_may_start_again(rig: Rig) -> None:
    inbox = Inbox(rig.client, TrackedObjectArray, "/sam_perception_merge/objects")
    for stamp_ns in (9 * 10**9, 10**9):
        rig.publishers["left"].publish(objects(stamp_ns, (1, 0.0)))
        rig.spin_until(lambda stamp_ns=stamp_ns: inbox.messages
                       and stamp_ns_of(inbox.messages[-1].header.stamp) == stamp_ns)  # fmt: skip


def status(rig: Rig, wanted: Any) -> Any:
    """The first status from now on that is wanted."""
    inbox = Inbox(rig.client, DiagnosticArray, "/diagnostics")
    rig.spin_until(lambda: any(wanted(array.status[0]) for array in inbox.messages))
    found = next(array.status[0] for array in inbox.messages if wanted(array.status[0]))
    rig.client.destroy_subscription(inbox.subscription)
    return found


def unknown_state(message: Any) -> None:
    message.objects[0].state = 200


def mask_of_another_size(message: Any) -> None:
    message.objects[0].mask.step = 7


def beyond_all_images(message: Any) -> None:
    message.objects[0].roi.x_offset = 4_000_000_000


def nowhere(message: Any) -> None:
    message.objects[0].centroid.x = float("nan")


def before_all_time(message: Any) -> None:
    message.header.stamp.sec = -5


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            unknown_state,
            "MalformedMessage: a message of objects cannot be read: state of object 1 is 200, known are 1 ",
        ),
        (mask_of_another_size, "MalformedMessage: a message of objects cannot be read: "),
        (beyond_all_images, "MalformedMessage: an object reaches to pixel 4000000020, 20: images have 16384 a side"),
        (nowhere, "MalformedMessage: object 1 has a position, and it is [nan, "),
        (before_all_time, "StampError: stamp is -4.995000 s: check the clock"),
    ],
)
def test_a_bad_message_is_refused_and_the_others_are_merged(rig: Rig, capfd: Any, spoil: Any, said: str) -> None:
    inbox = Inbox(rig.client, TrackedObjectArray, "/sam_perception_merge/objects")
    rig.publishers["left"].publish(objects(10**9, (1, 0.25)))
    rig.spin_until(lambda: inbox.messages)
    bad = [objects(10**9 + i * 10**6, (1, 0.25)) for i in range(1, 6)]
    for message in bad:
        spoil(message)
        rig.publishers["left"].publish(message)
    found = status(rig, lambda s: any(k.value == "5" and k.key.startswith("refused left: ") for k in s.values))
    assert f"left: {said}" in found.message
    assert "(5 times)" in found.message
    assert found.level == DiagnosticStatus.WARN
    rig.publishers["right"].publish(objects(11 * 10**8, (5, -0.25)))
    rig.spin_until(lambda: len(inbox.messages) == 2)
    assert stamp_ns_of(inbox.messages[-1].header.stamp) == 11 * 10**8
    logged = capfd.readouterr().err
    assert logged.count(said.partition(":")[0]) == 1, logged


def test_what_fails_in_merging_is_refused_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox(rig.client, TrackedObjectArray, "/sam_perception_merge/objects")
    with monkeypatch.context() as patch:
        patch.setattr(rig.node, "_merged", lambda: 1 / 0)
        rig.publishers["left"].publish(objects(10**9, (1, 0.25)))
        found = status(rig, lambda s: "ZeroDivisionError" in s.message)
    assert found.level == DiagnosticStatus.WARN
    rig.publishers["left"].publish(objects(2 * 10**9, (1, 0.25)))
    rig.spin_until(lambda: inbox.messages)


def test_transforms_that_are_not_to_be_had_are_logged_once_though_each_has_its_stamp(domain: int, capfd: Any) -> None:
    made = rig_of(domain, {"frame": "table", "diagnostics_period_s": 0.05})
    try:
        for i in range(1, 6):
            made.publishers["left"].publish(objects(i * 10**9, (1, 0.0), frame_id=f"optical_{i}"))  # another text each
        found = status(made, lambda s: "(5 times)" in s.message)
        assert "left: UnknownFrame: no transform leads from 'optical_5' to 'table'" in found.message
        assert capfd.readouterr().err.count("UnknownFrame") == 1
    finally:
        close(made)


def test_a_subscriber_that_asks_for_more_than_is_offered_is_told_of_while_it_is_there(rig: Rig) -> None:
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)
    topic = "/sam_perception_merge/objects"
    subscription = rig.client.create_subscription(TrackedObjectArray, topic, lambda _: None, late)
    status(rig, lambda s: f"a subscriber of {topic} asks for more DURABILITY than is offered" in s.message)
    rig.client.destroy_subscription(subscription)
    status(rig, lambda s: "DURABILITY" not in s.message)


@pytest.mark.parametrize(("stop_at", "said"), [(3, "ended with 0"), (1000, "ended with 1 after 10 calls")])
def test_a_callback_that_fails_does_not_end_the_process(domain: int, tmp_path: Path, stop_at: int, said: str) -> None:
    """The whole command, with a defect in a callback; one where nothing else is done ends it for a respawn."""
    code = (
        "import sys\n"
        "from sam_perception.ros import merge, merge_node\n"
        "calls = []\n"
        "def fails(self):\n"
        "    calls.append(1)\n"
        f"    if len(calls) == {stop_at}:\n"
        "        import os, signal\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    raise RuntimeError('a defect')\n"
        "merge_node.MergeNode.publish_diagnostics = fails\n"
        "code = merge.main(['--ros-args', '-p', 'frame:=table', '-p', 'diagnostics_period_s:=0.05'])\n"
        "sys.stdout.write(f'ended with {code} after {len(calls)} calls')\n"
    )
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_LOG_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith(said), done.stdout + done.stderr
    assert done.stderr.count("RuntimeError: a defect") == 1


def test_transforms_may_come_from_topics(domain: int) -> None:
    made = rig_of(domain, {"frame": "table"})
    try:
        inbox = Inbox(made.client, TrackedObjectArray, "/sam_perception_merge/objects")
        static = made.client.create_publisher(TransformStamped, "/sam_perception_merge/transform", reliable())
        made.spin_until(lambda: static.get_subscription_count() > 0)
        made.publishers["left"].publish(objects(10**9, (1, 0.0), frame_id="left_optical"))
        made.spin_until(lambda: any("left_optical" in trouble.text for trouble in made.node._troubles.values()))
        assert not inbox.messages  # where nothing is known of a camera, nothing is said of its objects
        pose = TransformStamped()
        pose.header.frame_id, pose.child_frame_id = "table", "left_optical"
        pose.transform.translation.x, pose.transform.rotation.w = 3.0, 1.0
        static.publish(pose)
        made.spin_until(lambda: _known(made))
        made.publishers["left"].publish(objects(2 * 10**9, (1, 0.0), frame_id="left_optical"))
        made.spin_until(lambda: inbox.messages)
        assert inbox.messages[-1].objects[0].centroid.x == pytest.approx(3.0)
    finally:
        close(made)


def _known(made: Rig) -> bool:
    try:
        made.node._transforms.lookup("table", "left_optical", 10**9, 0.0)
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "neither frame nor extrinsics is set"),
        ({"cameras": "left left", "frame": "table"}, "cameras is 'left left'"),
        ({"extrinsics": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
        ({"frame": "table", "merge.gate_sigmas": -1.0}, "gate_sigmas"),
    ],
)
def test_mistakes_are_said(domain: int, parameters: dict[str, Any], message: str) -> None:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    try:
        with pytest.raises(ConfigError, match=message):
            MergeNode(context=context, parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()])
    finally:
        rclpy.shutdown(context=context)
