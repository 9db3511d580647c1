"""A look at a real graph: a camera that publishes, a subscriber that asks for too much, a perception node."""

from __future__ import annotations

import os
import threading
import time

from fake_tracker import FRAME_ID, HEIGHT, WIDTH, make_frame
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import Harness
from sensor_msgs.msg import CameraInfo, Image

from sam_perception.commands.doctor_machine import FAIL, WARN
from sam_perception.commands.doctor_topics import judge, probe
from sam_perception.ros.convert import frame_to_msgs
from sam_perception.sources.topics import KNOWN

TOPICS = KNOWN[0]
LISTEN_S = 6.0  # discovery, too, takes its time where other work is on the machine


def test_probe_hears_what_is_published_and_sees_qos_that_does_not_meet(harness: Harness, monkeypatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(harness.domain))
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" in os.environ
    harness.node(use_sim_time=True)  # and nobody publishes /clock
    sensor = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    names = {TOPICS.color: Image, TOPICS.depth: Image, TOPICS.info: CameraInfo}
    publishers = [harness.client.create_publisher(kind, name, sensor) for name, kind in names.items()]
    demanding = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    harness.client.create_subscription(Image, TOPICS.depth, lambda _: None, demanding)
    end = threading.Event()

    def publish() -> None:
        while not end.wait(0.05):
            for publisher, message in zip(publishers, frame_to_msgs(make_frame(time.time_ns())), strict=True):
                publisher.publish(message)

    camera = threading.Thread(target=publish, daemon=True)
    camera.start()
    try:
        report = probe(LISTEN_S, list(names))
    finally:
        end.set()
        camera.join(10.0)
    assert not isinstance(report, str), report
    color = report["topics"][TOPICS.color]
    assert (color["encoding"], color["width"], color["height"], color["frame_id"]) == ("rgb8", WIDTH, HEIGHT, FRAME_ID)
    assert 1 < color["rate_hz"] < 25
    assert -0.1 < color["age_s"] < 1.0
    assert report["use_sim_time"] == {"/sam_perception": True}

    findings = {f.name: f for f in judge(report, TOPICS, LISTEN_S)}
    assert FAIL not in {findings[role].status for role in ("colour", "depth", "camera_info")}
    assert findings["qos"].status == FAIL
    assert "/test_client asks for reliable, /test_client offers best_effort" in findings["qos"].text
    assert "nobody publishes /clock" in findings["sim time"].text


def test_an_empty_graph_is_a_warning(domain: int, monkeypatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    report = probe(0.5, [TOPICS.color])
    assert not isinstance(report, str), report
    (finding,) = judge(report, TOPICS, 0.5)
    assert finding.status == WARN
    assert "start the camera" in finding.cure


def test_a_probe_that_cannot_start_says_why(monkeypatch) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_of_no_kind")
    report = probe(0.5, [])
    assert isinstance(report, str)
    assert "rmw_of_no_kind" in report
