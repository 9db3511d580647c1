"""Gravity from the camera's IMU."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Imu

from sam_perception.errors import TransformError
from sam_perception.geometry.gravity import GravityFilter
from sam_perception.messages import stamp_ns_of
from sam_perception.ros.settings import GravityConfig

TOPIC = "imu"


class ImuGravity:
    """Subscribes to `imu` and knows which way is up in the sensor's frame; for several threads."""

    def __init__(self, node: LifecycleNode, config: GravityConfig) -> None:
        self._node, self._config = node, config
        self._filter, self._lock = GravityFilter(), threading.Lock()
        self._frame_id = ""
        self._subscription = node.create_subscription(Imu, TOPIC, self.on_imu, qos_profile_sensor_data)

    @property
    def topic(self) -> str:
        """As it is resolved."""
        return str(self._subscription.topic_name)

    def on_imu(self, msg: Any) -> None:
        """Take a reading; a covariance that starts with -1 says that there is none (REP-145)."""
        if msg.linear_acceleration_covariance[0] == -1:
            return
        a, w = msg.linear_acceleration, msg.angular_velocity
        turning = np.array([w.x, w.y, w.z]) if msg.angular_velocity_covariance[0] != -1 else None
        with self._lock:
            if msg.header.frame_id != self._frame_id:
                self._filter.clear()
            self._frame_id = msg.header.frame_id
            stamp_ns = stamp_ns_of(msg.header.stamp)
            self._filter.add(stamp_ns, np.array([a.x, a.y, a.z]), turning, self._config.time_constant_s)

    def up(self, stamp_ns: int) -> tuple[NDArray[np.float64], str]:
        """Up (3,) in the IMU's frame around this stamp, and the frame.

        Raises:
            TransformError: no reading, none near the stamp, or none at rest.
        """
        with self._lock:
            up, frame_id = self._filter.up, self._frame_id
        if up is None:
            raise TransformError(
                f"no reading of an accelerometer at rest on {self.topic}: remap imu to the camera's, "
                "and start it (realsense2_camera: enable_accel:=true enable_gyro:=true unite_imu_method:=2)"
            )
        age_s, pushed_s = (stamp_ns - up.stamp_ns) * 1e-9, (up.stamp_ns - up.rest_ns) * 1e-9
        limit_s = self._config.max_age_s
        if abs(age_s) > limit_s:
            raise TransformError(
                f"the newest reading on {self.topic} is {age_s:.2f} s older than the image, at most {limit_s:.2f} s "
                "(gravity.max_age_s): check the IMU's rate, and that both clocks are the same"
            )
        if pushed_s > limit_s:
            raise TransformError(
                f"the camera has been pushed about for {pushed_s:.2f} s: its accelerometer does not tell gravity now"
            )
        return up.direction, frame_id

    def clear(self) -> None:
        """Time has gone back."""
        with self._lock:
            self._filter.clear()

    def close(self) -> None:
        """Listen no longer."""
        self._node.destroy_subscription(self._subscription)
