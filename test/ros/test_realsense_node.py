"""The camera's node over DDS, with a software device in place of the camera."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_realsense import HEIGHT, START_MS, WIDTH, SoftwareCamera, intrinsics, sdk
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import Harness, Spinning, values_of
from sensor_msgs.msg import CameraInfo, Image

from sam_perception.errors import ConfigError
from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.messages import stamp_ns_of
from sam_perception.ros.convert import frame_from_msgs
from sam_perception.ros.realsense_node import RealSenseNode, camera_info
from sam_perception.sources.realsense import RealSenseCamera

LONG_S = 20.0
COLOR, DEPTH, INFO = (
    "/camera/camera/color/image_raw",
    "/camera/camera/aligned_depth_to_color/image_raw",
    "/camera/camera/color/camera_info",
)
KINDS = {COLOR: Image, DEPTH: Image, INFO: CameraInfo}


class Listener:
    """What came on the camera's topics, subscribed to as perception_node does."""

    def __init__(self, harness: Harness) -> None:
        self.messages: dict[str, list[Any]] = {topic: [] for topic in KINDS}
        qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        for topic, kind in KINDS.items():
            harness.client.create_subscription(kind, topic, self.messages[topic].append, qos)
        self.statuses: list[DiagnosticStatus] = []
        harness.client.create_subscription(
            DiagnosticArray, "/diagnostics", lambda array: self.statuses.extend(array.status), 50
        )

    def set_of_one_stamp(self) -> tuple[Any, Any, Any] | None:
        by_stamp = [{stamp_ns_of(m.header.stamp): m for m in list(got)} for got in self.messages.values()]
        common = set(by_stamp[0]) & set(by_stamp[1]) & set(by_stamp[2])
        return tuple(messages[max(common)] for messages in by_stamp) if common else None  # type: ignore[return-value]


class Stage:
    """A node, a software device that keeps sending, and somebody who listens."""

    def __init__(self, harness: Harness, camera: SoftwareCamera, **parameters: Any) -> None:
        self.harness, self.camera, self.context = harness, camera, sdk().context()
        values = {"width": WIDTH, "height": HEIGHT, "timeout_s": 0.6, "diagnostics_period_s": 0.05, **parameters}
        self.node = RealSenseNode(
            lambda config: RealSenseCamera(config, context=self.context),
            context=harness.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self._spin = Spinning(harness.context, self.node)
        self.listener = Listener(harness)
        self.sending = threading.Event()
        self._end = threading.Event()
        self._pushing = threading.Thread(target=self._push, daemon=True)
        self._pushing.start()

    def _push(self) -> None:
        number = 0
        while not self._end.wait(0.02):
            number += 1
            if self.sending.is_set():
                self.camera.push(number)

    def status(self, wanted: Any) -> DiagnosticStatus:
        self.listener.statuses.clear()
        found = self.harness.until(lambda: [s for s in list(self.listener.statuses) if wanted(s)], LONG_S)
        return found[0]

    def close(self) -> None:
        self._end.set()
        self._pushing.join(LONG_S)
        assert self.node.close()
        self._spin.stop()
        self.node.destroy_node()


@pytest.fixture
def stage(harness: Harness) -> Iterator:
    made: list[Stage] = []

    def make(camera: SoftwareCamera, **parameters: Any) -> Stage:
        made.append(Stage(harness, camera, **parameters))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_publishes_what_realsense2_camera_publishes_and_survives_unplugging(stage) -> None:
    lens = (-0.0565, 0.0682, 0.00037, 0.00069, -0.0218)
    camera = SoftwareCamera("17", color=intrinsics(WIDTH, HEIGHT, 150.0, "inverse_brown_conrady", lens))
    played = stage(camera)
    missing = played.status(lambda s: s.level == DiagnosticStatus.ERROR and "no camera" in s.message)
    assert missing.name == "/camera/camera: camera"

    camera.plug_into(played.context)
    played.sending.set()
    color, depth, info = played.harness.until(played.listener.set_of_one_stamp, LONG_S)
    assert (color.encoding, depth.encoding) == ("rgb8", "16UC1")
    assert {m.header.frame_id for m in (color, depth, info)} == {"camera_color_optical_frame"}
    frame = frame_from_msgs(color, depth, info)
    assert frame.stamp_ns > START_MS * 1e6
    assert frame.intrinsics.distortion_model is DistortionModel.PLUMB_BOB
    np.testing.assert_allclose(frame.intrinsics.distortion, lens, atol=1e-7)
    seen = frame.depth_m[frame.depth_m > 0]
    assert seen.size > 0.8 * WIDTH * HEIGHT
    assert (seen == 1.0).all()

    played.sending.clear()
    camera.unplug()
    played.status(lambda s: s.level == DiagnosticStatus.ERROR and "librealsense sees no camera" in s.message)
    for got in played.listener.messages.values():
        got.clear()
    camera.plug_into(played.context)
    played.sending.set()
    played.harness.until(played.listener.set_of_one_stamp, LONG_S)
    values = values_of(played.status(lambda s: values_of(s).get("serial") == "17" and s.level != s.ERROR))
    assert values["lost and opened again"] == "1"
    assert values["usb"] == "3.2"


def test_the_lens_has_ros_name_for_it_which_is_right_to_a_fraction_of_a_pixel() -> None:
    # A D455's. The SDK's own deprojection is what its pixels are; OpenCV's is what others make of plumb_bob.
    rs, lens = sdk(), (-0.0565, 0.0682, 0.00037, 0.00069, -0.0218)
    given = intrinsics(1280, 800, 640.0, "inverse_brown_conrady", lens)
    size = np.zeros((800, 1280, 3), np.uint8), np.ones((800, 1280), np.float32)
    model = DistortionModel.INVERSE_BROWN_CONRADY
    camera = CameraIntrinsics(1280, 800, given.fx, given.fy, given.ppx, given.ppy, model, lens)
    info = camera_info(RgbdFrame(*size, camera, 1, "camera_color_optical_frame"))
    assert info.distortion_model == "plumb_bob"
    np.testing.assert_allclose(info.d, lens)
    pixels = np.array([(x, y) for x in (0, 320, 640, 1279) for y in (0, 400, 799)], np.float64)
    points = np.array([rs.rs2_deproject_pixel_to_point(given, list(pixel), 1.0) for pixel in pixels])
    matrix, none = np.array(info.k).reshape(3, 3), np.zeros(3)
    for lens_of_info, limits_px in ((np.array(info.d), (0.0, 0.05)), (np.zeros(5), (5.0, 20.0))):
        seen = cv2.projectPoints(points, none, none, matrix, lens_of_info)[0][:, 0]
        assert limits_px[0] <= np.linalg.norm(seen - pixels, axis=1).max() < limits_px[1]


def test_offers_sensor_data_qos_and_takes_its_names_from_its_parameters(stage) -> None:
    camera = SoftwareCamera("18")
    played = stage(camera, camera_name="wrist", fps=0)
    for topic in KINDS:
        (publisher,) = [p for p in played.node.publishers if p.topic_name == topic]
        assert publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    camera.plug_into(played.context)
    played.sending.set()
    color, _, _ = played.harness.until(played.listener.set_of_one_stamp, LONG_S)
    assert color.header.frame_id == "wrist_color_optical_frame"
    said = played.status(lambda s: s.level == DiagnosticStatus.OK)
    assert said.message.endswith("Hz")


def test_simulated_time_is_warned_of(stage) -> None:
    played = stage(SoftwareCamera("19"), use_sim_time=True)
    said = played.status(lambda s: "use_sim_time" in s.message)
    assert "a camera's stamps are the host's time" in said.message


def test_a_wrong_parameter_says_what_is_right(harness: Harness) -> None:
    with pytest.raises(ConfigError, match=r"filters\.decimation cannot have the value"):
        RealSenseNode(context=harness.context, parameter_overrides=[Parameter("filters.decimation", value=99)])


def test_the_process_waits_for_a_camera_and_ends_at_once(domain: int, tmp_path: Path) -> None:
    environment = dict(os.environ, ROS_DOMAIN_ID=str(domain), ROS_LOG_DIR=str(tmp_path), PYTHONUNBUFFERED="1")
    script = Path(__file__).resolve().parents[2] / "scripts" / "realsense_node"
    command = [sys.executable, str(script), "--ros-args", "-p", "serial:=none", "-p", "diagnostics_period_s:=0.1"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        # The log says why there is no picture, after what it says of transforms where tf2_msgs is missing.
        assert any("camera none is not there" in process.stderr.readline() for _ in range(2))
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG_S) == 0
    finally:
        process.kill()
        process.wait()
