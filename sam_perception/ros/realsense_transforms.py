"""A RealSense's frames on /tf_static, as realsense2_camera has them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from sam_perception import messages
from sam_perception.ros.message_types import RosTypes
from sam_perception.sources.realsense_transforms import FixedTransform, camera_tree

TOPIC = "/tf_static"
_TYPES = RosTypes()


class CameraTransforms:
    """Sends a camera's frames when they are known, and again when another camera has come.

    A transient-local publisher of depth 1, as tf2's static broadcaster is: who comes later gets them too.
    tf2_msgs is no part of the ROS wheels. Where it is missing, that is said once, and pictures go on.

    Args:
        node: that publishes.
        camera_name: what the frames' names begin with.
        wanted: whether to publish at all.
    """

    def __init__(self, node: Node, camera_name: str, *, wanted: bool) -> None:
        self._logger, self._name = node.get_logger(), camera_name
        self._sent: NDArray[np.float64] | None = None
        self._publisher: Any = None
        self._warned = False
        self.state = "off: publish_tf is false"  # for diagnostics
        if not wanted:
            return
        if find_spec("tf2_msgs") is None:
            self.state = (
                "none: tf2_msgs is not installed, so RViz and tf see no camera; install ros-<distro>-tf2-msgs, or set "
                "publish_tf to false"
            )
            self._logger.warning(f"transforms: {self.state}")
            return
        self._message = import_module("tf2_msgs.msg").TFMessage
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publisher = node.create_publisher(self._message, TOPIC, latched)
        self.state = "none yet: no frame has come"

    def tell(self, depth_from_color: NDArray[np.float64] | None, stamp_ns: int) -> None:
        """Publish the camera's frames unless they were published already.

        Args:
            depth_from_color: colour's place in depth's optical frame (4, 4), if the camera tells it.
            stamp_ns: of the first picture that they hold for.
        """
        if self._publisher is None:
            return
        if depth_from_color is None:
            if not self._warned:
                self._warned = True
                self.state = (
                    "none: the camera does not tell how colour lies to depth; calibrate it, or publish "
                    f"{self._name}_link to {self._name}_color_optical_frame yourself"
                )
                self._logger.warning(f"transforms: {self.state}")
            return
        if self._sent is not None and np.array_equal(self._sent, depth_from_color):
            return
        tree = camera_tree(self._name, depth_from_color)
        self._publisher.publish(self._message(transforms=[transform_message(one, stamp_ns) for one in tree]))
        self._sent, self._warned = depth_from_color, False
        self.state = f"{len(tree)} below {self._name}_link on {TOPIC}"


def transform_message(fixed: FixedTransform, stamp_ns: int) -> Any:
    """`geometry_msgs/TransformStamped`."""
    message = TransformStamped(child_frame_id=fixed.child)
    message.header = messages.header(_TYPES, stamp_ns, fixed.parent)
    message.transform.translation = messages.vector(_TYPES, fixed.parent_from_child[:3, 3])
    x, y, z, w = messages.quaternion_from_matrix(fixed.parent_from_child[:3, :3])
    message.transform.rotation = _TYPES("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w)
    return message
