"""The outputs: what somebody subscribes to is computed and published, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions

from sam_perception import messages
from sam_perception.frame import RgbdFrame
from sam_perception.messages import Message
from sam_perception.ros.inputs import make_qos
from sam_perception.ros.message_types import RosTypes, message_class
from sam_perception.ros.settings import OutputConfig
from sam_perception.scene import Scene

_TYPES = RosTypes()

Make = Callable[[RgbdFrame, Scene], Message]

# By topic: type, how it is made, and whether it needs the objects in three dimensions.
OUTPUTS: dict[str, tuple[str, Make, bool]] = {
    "~/objects": (
        "sam_perception/TrackedObjectArray",
        lambda _, scene: messages.tracked_object_array(_TYPES, scene),
        True,
    ),
    "~/mask": ("sensor_msgs/Image", lambda _, scene: messages.id_mask_image(_TYPES, scene), False),
    "~/overlay": (
        "sensor_msgs/Image",
        lambda frame, scene: messages.overlay_image(_TYPES, frame.rgb, scene),
        False,
    ),
    "~/object_points": ("sensor_msgs/PointCloud2", lambda _, scene: messages.object_cloud(_TYPES, scene), True),
    "~/markers": ("visualization_msgs/MarkerArray", lambda _, scene: messages.markers(_TYPES, scene), True),
}


class Outputs:
    """Lifecycle publishers: silent while the node is not active.

    Args:
        node: to publish with.
        config: reliability and queue of all outputs.
    """

    def __init__(self, node: LifecycleNode, config: OutputConfig) -> None:
        self._node = node
        self._publishers: dict[str, Any] = {
            topic: node.create_lifecycle_publisher(
                message_class(kind),
                topic,
                make_qos(config.reliability, config.queue_depth),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for topic, (kind, _, _) in OUTPUTS.items()
        }

    def wanted(self) -> frozenset[str]:
        """Topics that somebody subscribes to now."""
        return frozenset(topic for topic, pub in self._publishers.items() if pub.get_subscription_count() > 0)

    @staticmethod
    def needs_lifting(wanted: frozenset[str]) -> bool:
        """Whether one of the topics shows objects in three dimensions."""
        return any(OUTPUTS[topic][2] for topic in wanted)

    def publish(self, wanted: frozenset[str], frame: RgbdFrame, scene: Scene) -> None:
        """Publish the wanted topics, all under the colour image's header."""
        for topic in OUTPUTS:
            if topic in wanted:
                self._publishers[topic].publish(OUTPUTS[topic][1](frame, scene))

    def close(self) -> None:
        """Publish no longer."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}
