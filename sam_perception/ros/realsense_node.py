"""A RealSense as ROS topics, named as realsense2_camera names them, without realsense2_camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions

from sam_perception import messages
from sam_perception.frame import DistortionModel, RgbdFrame
from sam_perception.geometry.gravity import GRAVITY
from sam_perception.messages import Message
from sam_perception.ros.complaints import Complaints
from sam_perception.ros.health import Health
from sam_perception.ros.inputs import make_qos
from sam_perception.ros.message_types import RosTypes, message_class
from sam_perception.ros.parameters import declared_once
from sam_perception.ros.realsense_diagnosis import Reading, diagnose_camera
from sam_perception.ros.realsense_transforms import CameraTransforms
from sam_perception.settings import Validated, setting
from sam_perception.sources.realsense import RealSenseCamera, RealSenseConfig

_TYPES = RosTypes()
_READ_S = 0.5
_END_S = 2.0  # for the camera to stop
_PAUSE_S = 0.5  # after a reader that failed, so that it does not fail in a tight loop


def camera_info(frame: RgbdFrame) -> Message:
    """`sensor_msgs/CameraInfo` with a name of a lens model that is ROS' own.

    librealsense's inverse Brown-Conrady is plumb_bob but for where its tangential terms are evaluated: 0.02 px
    in the corners of a D455's 1280 x 800 pixels, which it moves by 8 px. Others take nothing but plumb_bob.
    """
    message = messages.camera_info(_TYPES, frame)
    if frame.intrinsics.distortion_model is DistortionModel.INVERSE_BROWN_CONRADY:
        message.distortion_model = DistortionModel.PLUMB_BOB.value
    return message


# Under the node's own name, so that a node `camera` in the namespace `camera` has realsense2_camera's topics.
TOPICS: dict[str, tuple[str, Callable[[RgbdFrame], Message]]] = {
    "~/color/image_raw": ("sensor_msgs/Image", lambda frame: messages.color_image(_TYPES, frame)),
    "~/color/camera_info": ("sensor_msgs/CameraInfo", camera_info),
    "~/aligned_depth_to_color/image_raw": ("sensor_msgs/Image", lambda frame: messages.depth_image(_TYPES, frame)),
    "~/aligned_depth_to_color/camera_info": ("sensor_msgs/CameraInfo", camera_info),
}


@dataclass(frozen=True)
class PublishConfig(Validated):
    """How the topics are published; the camera's own settings are `RealSenseConfig`."""

    reliability: str = setting(
        "best_effort", "reliability offered; best_effort is sensor data", choices=("best_effort", "reliable")
    )
    publish_tf: bool = setting(True, "publish the camera's frames on /tf_static; false where a URDF has them")
    queue_depth: int = setting(5, "messages that DDS keeps per topic", low=1, high=100)
    diagnostics_period_s: float = setting(1.0, "time between two messages on /diagnostics", low=0.05, high=60.0)


class RealSenseNode(Node):  # type: ignore[misc]  # rclpy is not typed
    """Publishes one camera, whether it is there or comes later; frames nobody subscribes to are not converted.

    All topics of a frame have the stamp of its colour image. Depth is 16UC1 millimetres on colour's pixels.
    Nothing that the camera or a message does ends the thread that reads; if it ends all the same, diagnostics
    say so.

    Args:
        make_camera: called with the settings that the parameters give.
        options: of rclpy's node, such as `parameter_overrides`.

    Raises:
        ConfigError: a parameter was given a value that it cannot have.
        SourceError: pyrealsense2 is missing.
    """

    def __init__(
        self, make_camera: Callable[[RealSenseConfig], RealSenseCamera] = RealSenseCamera, **options: Any
    ) -> None:
        super().__init__("camera", **{"namespace": "camera", **options})
        self.config = declared_once(self, RealSenseConfig())
        published = declared_once(self, PublishConfig())
        self._camera = make_camera(self.config)
        qos = make_qos(published.reliability, published.queue_depth)
        overriding = QoSOverridingOptions.with_default_policies()
        self._outputs = {
            topic: self.create_publisher(message_class(kind), topic, qos, qos_overriding_options=overriding)
            for topic, (kind, _) in TOPICS.items()
        }
        # Filtered, in colour's frame: what realsense2_camera has there is raw, and the IMU's own.
        self._imu = (
            self.create_publisher(message_class("sensor_msgs/Imu"), "~/imu", qos, qos_overriding_options=overriding)
            if self.config.accelerometer
            else None
        )
        self._transforms = CameraTransforms(self, self.config.camera_name, wanted=published.publish_tf)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._came_s, self._fault = time.monotonic(), ""
        self._complaints = Complaints(Health(), self.get_logger())
        self._period_s, self._counted = published.diagnostics_period_s, 0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self._period_s, self.publish_diagnostics, clock=steady)
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="sam_perception camera", daemon=True)
        self._reader.start()

    def close(self) -> bool:
        """Stop the camera; whether it did in time."""
        self._stop.set()
        self._camera.close()
        self._reader.join(_END_S)
        return not self._reader.is_alive()

    def publish_diagnostics(self) -> None:
        """Send how the camera is."""
        status = self._camera.status
        rate_hz, self._counted = (status.frames - self._counted) / self._period_s, status.frames
        simulated = bool(self.get_parameter("use_sim_time").value)
        name = self.get_fully_qualified_name()
        reading = Reading(
            rate_hz=rate_hz,
            silent_s=time.monotonic() - self._came_s,
            alive=self._reader.is_alive(),
            fault=self._fault,
            transforms=self._transforms.state,
        )
        said = diagnose_camera(status, reading, self.config, simulated=simulated)
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [
            DiagnosticStatus(
                level=bytes([said.level]),
                name=f"{name}: {said.name}",
                message=said.message,
                hardware_id=said.values.get("serial", ""),
                values=[KeyValue(key=key, value=value) for key, value in said.values.items()],
            )
        ]
        self._diagnostics.publish(array)

    def _read(self) -> None:
        with self._camera:
            while not self._stop.is_set():
                try:
                    frame = self._camera.read(_READ_S)
                except Exception as error:
                    self._complain("the camera could not be read", error)
                    self._stop.wait(_PAUSE_S)
                    continue
                if frame is None:
                    continue
                self._came_s = time.monotonic()
                try:
                    self._publish(frame)
                    self._fault = ""
                except Exception as error:  # one bad frame must not end the others
                    self._complain("a frame could not be published", error)

    def _complain(self, what: str, error: Exception) -> None:
        if self._stop.is_set():
            return
        self._fault = f"{what} ({type(error).__name__}: {error}): the log has the place, report it"
        self._complaints.refuse(error)

    def _publish(self, frame: RgbdFrame) -> None:
        self._transforms.tell(self._camera.status.depth_from_color, frame.stamp_ns)
        for topic, publisher in self._outputs.items():
            if publisher.get_subscription_count() > 0:
                publisher.publish(TOPICS[topic][1](frame))
        if self._imu is not None and frame.up is not None:
            self._imu.publish(imu_message(frame, frame.up))


def imu_message(frame: RgbdFrame, up: NDArray[np.float64]) -> Message:
    """`sensor_msgs/Imu` of gravity alone: no angular velocity and no orientation, which -1 says (REP-145)."""
    header = messages.header(_TYPES, frame.stamp_ns, frame.frame_id)
    none = np.array([-1.0, *[0.0] * 8])
    return _TYPES(
        "sensor_msgs/Imu",
        header=header,
        linear_acceleration=messages.vector(_TYPES, GRAVITY * up),
        angular_velocity_covariance=none,
        orientation_covariance=none,
    )
