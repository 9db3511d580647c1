"""Gravity from the SDK's node to the perception node's reading of it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_realsense import HEIGHT, WIDTH, CameraWithImu, sdk
from fake_tracker import make_frame
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from ros_harness import Harness, Spinning
from sensor_msgs.msg import Imu

from sam_perception.ros.imu import ImuGravity
from sam_perception.ros.realsense_node import RealSenseNode, imu_message
from sam_perception.ros.settings import GravityConfig
from sam_perception.sources.realsense import RealSenseCamera


def reader() -> ImuGravity:
    node: Any = SimpleNamespace(create_subscription=lambda *_: SimpleNamespace(topic_name="/imu"))
    return ImuGravity(node, GravityConfig())


def test_what_is_written_is_what_is_read() -> None:
    frame, up = make_frame(5 * 10**9), np.array([0.0, -0.8, -0.6])
    gravity = reader()
    gravity.on_imu(imu_message(frame, up))
    found, frame_id = gravity.up(frame.stamp_ns)
    np.testing.assert_allclose(found, up, atol=1e-9)
    assert frame_id == frame.frame_id


def test_the_node_publishes_gravity_under_each_images_header(harness: Harness) -> None:
    camera, context, end = CameraWithImu(), sdk().context(), threading.Event()
    camera.plug_into(context)
    values = {"width": WIDTH, "height": HEIGHT, "accelerometer": True}
    node = RealSenseNode(
        lambda config: RealSenseCamera(config, context=context),
        context=harness.context,
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    spin = Spinning(harness.context, node)
    got: list[Imu] = []
    harness.client.create_subscription(Imu, "/camera/camera/imu", got.append, qos_profile_sensor_data)

    def feed() -> None:
        number = 0
        while not end.wait(0.02):
            number += 1
            camera.measure((-9.81, 0.0, 0.0), number)
            camera.push(number)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        harness.until(lambda: got, 20.0)
    finally:
        end.set()
        thread.join(20.0)
        node.close()
        spin.stop()
        node.destroy_node()
    gravity = reader()
    gravity.on_imu(got[0])
    found, frame_id = gravity.up(got[0].header.stamp.sec * 10**9 + got[0].header.stamp.nanosec)
    np.testing.assert_allclose(found, [0, -1, 0], atol=1e-6)
    assert frame_id == "camera_color_optical_frame"
