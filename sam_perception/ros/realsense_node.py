"""A RealSense as ROS topics, named as realsense2_camera names them, without realsense2_camera."""

from __future__ import annotations

import threading
import traceback
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
from sam_perception.frame import RgbdFrame
from sam_perception.geometry.gravity import GRAVITY
from sam_perception.messages import Message
from sam_perception.ros.diagnosis import ERROR, OK, WARN, Status
from sam_perception.ros.inputs import make_qos
from sam_perception.ros.message_types import RosTypes, message_class
from sam_perception.ros.parameters import declared_once
from sam_perception.settings import Validated, setting
from sam_perception.sources.realsense import CameraStatus, RealSenseCamera, RealSenseConfig

_TYPES = RosTypes()
_READ_S = 0.5
_END_S = 2.0  # for the camera to stop

# Under the node's own name, so that a node `camera` in the namespace `camera` has realsense2_camera's topics.
TOPICS: dict[str, tuple[str, Callable[[RgbdFrame], Message]]] = {
    "~/color/image_raw": ("sensor_msgs/Image", lambda frame: messages.color_image(_TYPES, frame)),
    "~/color/camera_info": ("sensor_msgs/CameraInfo", lambda frame: messages.camera_info(_TYPES, frame)),
    "~/aligned_depth_to_color/image_raw": ("sensor_msgs/Image", lambda frame: messages.depth_image(_TYPES, frame)),
    "~/aligned_depth_to_color/camera_info": (
        "sensor_msgs/CameraInfo",
        lambda frame: messages.camera_info(_TYPES, frame),
    ),
}


@dataclass(frozen=True)
class PublishConfig(Validated):
    """How the topics are published; the camera's own settings are `RealSenseConfig`."""

    reliability: str = setting(
        "best_effort", "reliability offered; best_effort is sensor data", choices=("best_effort", "reliable")
    )
    queue_depth: int = setting(5, "messages that DDS keeps per topic", low=1, high=100)
    diagnostics_period_s: float = setting(1.0, "time between two messages on /diagnostics", low=0.05, high=60.0)


class RealSenseNode(Node):  # type: ignore[misc]  # rclpy is not typed
    """Publishes one camera, whether it is there or comes later; frames nobody subscribes to are not converted.

    All topics of a frame have the stamp of its colour image. Depth is 16UC1 millimetres on colour's pixels.

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
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
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
        said = diagnose_camera(status, rate_hz, self.config, simulated=simulated)
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
                frame = self._camera.read(_READ_S)
                if frame is None:
                    continue
                try:
                    self._publish(frame)
                except Exception:  # one bad frame must not end the others
                    if not self._stop.is_set():
                        self.get_logger().error(f"a frame could not be published:\n{traceback.format_exc()}")

    def _publish(self, frame: RgbdFrame) -> None:
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


def diagnose_camera(status: CameraStatus, rate_hz: float, config: RealSenseConfig, *, simulated: bool) -> Status:
    """What a person should read about the camera."""
    values = {"frames": str(status.frames), "rate Hz": f"{rate_hz:.1f}", "lost and opened again": str(status.losses)}
    values |= {f"rejected: {kind}": str(count) for kind, count in sorted(status.rejected.items())}
    values |= {f"color {name}": str(value) for name, value in status.metadata.items()}
    problems: list[tuple[int, str]] = []
    if status.problem:
        problems.append((ERROR, status.problem))
    camera = status.camera
    if camera is not None:
        values |= {"name": camera.name, "serial": camera.serial, "firmware": camera.firmware, "usb": camera.usb}
        if camera.usb and not camera.usb.startswith("3"):
            problems.append((WARN, f"connected by USB {camera.usb}: use a USB 3 port and cable, or small images"))
        if not status.problem and config.fps and rate_hz < 0.7 * config.fps:
            problems.append(
                (WARN, f"{rate_hz:.1f} Hz instead of {config.fps}: more light, a better cable, or a smaller image")
            )
    if simulated:
        problems.append((WARN, "use_sim_time is set, but a camera's stamps are the host's time: unset it"))
    level = max((level for level, _ in problems), default=OK)
    return Status("camera", level, "; ".join(text for _, text in problems) or f"{rate_hz:.1f} Hz", values)
