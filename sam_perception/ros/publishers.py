"""The outputs: what somebody subscribes to is computed and published, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_policy_name_from_kind

from sam_perception import messages, messages_scene
from sam_perception.config import GraspConfig
from sam_perception.frame import RgbdFrame
from sam_perception.markers import markers
from sam_perception.messages import Message
from sam_perception.perception import Wanted
from sam_perception.ros.inputs import make_qos
from sam_perception.ros.message_types import RosTypes, message_class
from sam_perception.ros.qos import PUBLISHER, overriding, unheard
from sam_perception.ros.settings import OutputConfig
from sam_perception.scene import Scene
from sam_perception.stages import StageError

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

_TYPES = RosTypes()

Make = Callable[[RgbdFrame, Scene, GraspConfig], Message]


@dataclass(frozen=True)
class Output:
    """One topic's type, how its message is made, and what of the scene it shows beyond masks."""

    kind: str
    make: Make
    parts: Wanted
    partial: bool = False  # true also where some of the parts are missing; others would say "there is nothing"


def _of_scene(kind: str, make: Callable[[RosTypes, Scene], Message], parts: Wanted, *, partial: bool = False) -> Output:
    return Output(kind, lambda _, scene, __: make(_TYPES, scene), parts, partial)


OUTPUTS = {
    "~/objects": _of_scene(  # has_position says where a position is missing
        "sam_perception/TrackedObjectArray", messages.tracked_object_array, Wanted.POSITIONS, partial=True
    ),
    "~/mask": _of_scene("sensor_msgs/Image", messages.id_mask_image, Wanted.MASKS),
    "~/overlay": Output(
        "sensor_msgs/Image",
        lambda frame, scene, _: messages.overlay_image(_TYPES, frame.rgb, scene),
        Wanted.MASKS,
    ),
    "~/object_points": _of_scene("sensor_msgs/PointCloud2", messages.object_cloud, Wanted.POSITIONS),
    "~/scene_points": _of_scene("sensor_msgs/PointCloud2", messages_scene.scene_cloud, Wanted.OBSTACLES),
    "~/grasp_targets": _of_scene("sam_perception/GraspTargetArray", messages_scene.grasp_target_array, Wanted.GRASPS),
    "~/grasp_poses": _of_scene("geometry_msgs/PoseArray", messages_scene.grasp_poses, Wanted.GRASPS),
    "~/obstacles": _of_scene("sam_perception/ObstacleSegmentArray", messages_scene.obstacle_array, Wanted.OBSTACLES),
    "~/obstacle_points": _of_scene("sensor_msgs/PointCloud2", messages_scene.obstacle_cloud, Wanted.OBSTACLES),
    "~/markers": Output(
        "visualization_msgs/MarkerArray",
        lambda _, scene, grasps: markers(_TYPES, scene, grasps),
        Wanted.ALL,
        partial=True,
    ),
}

# What is published in every frame, whatever the deadline.
PRIMARY = frozenset({"~/objects", "~/mask", "~/object_points"})

# The same in `target_frame`: all that has a place in space.
TARGET_OUTPUTS = {
    topic.replace("~/", "~/target_frame/"): output
    for topic, output in OUTPUTS.items()
    if output.parts is not Wanted.MASKS
}


class Outputs:
    """Lifecycle publishers: silent while the node is not active.

    Args:
        node: to publish with.
        config: reliability and queue of all outputs.
        outputs: by topic.
    """

    def __init__(self, node: LifecycleNode, config: OutputConfig, outputs: Mapping[str, Output] = OUTPUTS) -> None:
        self._node, self._config, self._outputs = node, config, outputs
        self._publishers: dict[str, Any] = {topic: self._publisher(topic, o.kind) for topic, o in outputs.items()}

    @property
    def unheard(self) -> dict[str, str]:
        """By topic, the QoS policy for which a subscriber that is there now gets nothing."""
        policies = {topic: unheard(self._node, publisher) for topic, publisher in self._publishers.items()}
        return {topic: policy for topic, policy in policies.items() if policy}

    def _publisher(self, topic: str, kind: str) -> Any:
        def on_incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            self._node.get_logger().warning(
                f"{topic}: a subscriber asks for more {policy} than is offered, and gets nothing"
            )

        return self._node.create_lifecycle_publisher(
            message_class(kind),
            topic,
            make_qos(self._config.reliability, self._config.queue_depth),
            event_callbacks=PublisherEventCallbacks(incompatible_qos=on_incompatible),
            qos_overriding_options=overriding(self._node, topic, PUBLISHER),
        )

    def wanted(self) -> frozenset[str]:
        """Topics that somebody subscribes to now."""
        return frozenset(topic for topic, pub in self._publishers.items() if pub.get_subscription_count() > 0)

    def parts(self, wanted: frozenset[str]) -> Wanted:
        """What of the scene these topics show."""
        return reduce(or_, (self._outputs[topic].parts for topic in wanted), Wanted.MASKS)

    def without(self, wanted: frozenset[str], lost: Wanted) -> frozenset[str]:
        """The topics that are still true of a frame whose scene lacks the parts `lost`.

        An empty array of obstacles says that nothing is in the way: where that is not known, nothing is sent.
        """
        outputs = self._outputs
        return frozenset(topic for topic in wanted if outputs[topic].partial or not outputs[topic].parts & lost)

    def publish(
        self, wanted: frozenset[str], frame: RgbdFrame, scene: Scene, grasps: GraspConfig, on_error: StageError
    ) -> None:
        """Publish the wanted topics, all under the colour image's header.

        Args:
            wanted: topics.
            frame: what the scene was made from.
            scene: what is published.
            grasps: says whose gripper is drawn.
            on_error: called with the topic and the error where one fails; the others go out.
        """
        for topic, output in self._outputs.items():
            if topic in wanted:
                try:
                    self._publishers[topic].publish(output.make(frame, scene, grasps))
                except Exception as error:
                    on_error(topic, error)

    def close(self) -> None:
        """Publish no longer."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}
