"""The camera's topics: subscriptions, pairs, and the camera_info that belongs to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from sensor_msgs.msg import CameraInfo, Image

from sam_perception.errors import InvalidIntrinsics
from sam_perception.messages import Message, stamp_ns_of
from sam_perception.ros.camera_info import InfoMatcher
from sam_perception.ros.complaints import LOG_AGAIN_S
from sam_perception.ros.diagnosis import Wiring
from sam_perception.ros.health import CAMERA_INFO, COLOR, DEPTH, Health
from sam_perception.ros.qos import SUBSCRIPTION, override_of, overriding, unheeded
from sam_perception.ros.settings import NodeConfig
from sam_perception.ros.synchronizer import make_synchronizer

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

TOPICS = {COLOR: "color/image_raw", DEPTH: "depth/image_raw", CAMERA_INFO: "color/camera_info"}


@dataclass(frozen=True, eq=False)
class Pair:
    """What one frame is made from."""

    color: Message
    depth: Message  # None where input.depth is none
    info: Message
    received_s: float  # monotonic clock, when the last of them came


def make_qos(reliability: str, depth: int) -> QoSProfile:
    """Keep the last `depth` messages, volatile."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT,
    )


class Inputs:
    """Subscribes as long as it is not closed.

    Args:
        node: to subscribe with.
        config: reliabilities and the synchroniser's settings.
        health: counts what comes and what finds no partner.
        on_pair: called with each complete pair.
        on_error: called with what is wrong with an image.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        health: Health,
        on_pair: Callable[[Pair], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._node, self._health = node, health
        self._on_pair, self._on_error = on_pair, on_error
        self._infos = InfoMatcher(self._matched, self._without_info)
        self._changed_s = -LOG_AGAIN_S  # when a change of camera_info was logged last
        self._synchronizer = make_synchronizer(
            config.sync.backend,
            slop_ns=round(config.sync.slop_s * 1e9),
            queue_size=config.sync.queue_size,
            on_pair=self._infos.add_pair,
            on_drop=health.dropped,
        )
        asked = config.input
        self._subscriptions = {
            COLOR: self._subscribe(COLOR, Image, self._on_color, asked.color_reliability, asked.queue_depth),
            CAMERA_INFO: self._subscribe(
                CAMERA_INFO, CameraInfo, self._on_info, asked.camera_info_reliability, asked.queue_depth
            ),
        }
        self._with_depth = asked.depth == "required"
        if self._with_depth:
            self._subscriptions[DEPTH] = self._subscribe(
                DEPTH, Image, self._on_depth, asked.depth_reliability, asked.queue_depth
            )

    def close(self) -> None:
        """Subscribe no longer."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}

    def wiring(self) -> dict[str, Wiring]:
        """What DDS says about each topic, as it is now: a publisher that has gone is in nobody's way."""
        return {
            name: Wiring(
                subscription.topic_name,
                self._node.count_publishers(subscription.topic_name),
                unheeded(self._node, subscription),
                self._decider(name),
            )
            for name, subscription in self._subscriptions.items()
        }

    def _decider(self, name: str) -> str:
        """The parameter that decides on the reliability of an input."""
        given = override_of(self._node, TOPICS[name], SUBSCRIPTION, QoSPolicyKind.RELIABILITY)
        return given or f"input.{name}_reliability"

    def _subscribe(
        self, name: str, kind: Any, callback: Callable[[Any], None], reliability: str, queue_depth: int
    ) -> Any:
        def on_incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            self._node.get_logger().warning(
                f"{TOPICS[name]}: a publisher offers another {policy} than {self._decider(name)} asks for; nothing "
                "will come from it"
            )

        return self._node.create_subscription(
            kind,
            TOPICS[name],
            callback,
            make_qos(reliability, queue_depth),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=on_incompatible),
            qos_overriding_options=overriding(self._node, TOPICS[name], SUBSCRIPTION),
        )

    def _on_color(self, msg: Image) -> None:
        self._health.received(COLOR)
        if self._with_depth:
            self._add(self._synchronizer.add_color, msg)
        else:
            self._infos.add_pair(msg, None)

    def _on_depth(self, msg: Image) -> None:
        self._health.received(DEPTH)
        self._add(self._synchronizer.add_depth, msg)

    def _on_info(self, msg: CameraInfo) -> None:
        self._health.received(CAMERA_INFO)
        before = self._infos.newest
        if before is not None and _camera_of(before) != _camera_of(msg):
            note = (
                f"camera_info changed in flight to {msg.width} x {msg.height}, fx {msg.k[0]:.1f}, fy {msg.k[4]:.1f}, "
                f"cx {msg.k[2]:.1f}, cy {msg.k[5]:.1f} in {msg.header.frame_id!r}"
            )
            self._health.noted(note)
            if time.monotonic() - self._changed_s >= LOG_AGAIN_S:  # two cameras on one topic change it all the time
                self._changed_s = time.monotonic()
                self._node.get_logger().warning(note)
        self._infos.add_info(msg)

    def _add(self, add: Callable[[int, Any], None], msg: Image) -> None:
        try:
            add(stamp_ns_of(msg.header.stamp), msg)
        except Exception as error:  # by whatever: the next image is another one
            self._on_error(error)

    def _matched(self, color: Image, depth: Image, info: CameraInfo) -> None:
        self._on_pair(Pair(color, depth, info, time.monotonic()))

    def _without_info(self) -> None:
        topic = self._subscriptions[CAMERA_INFO].topic_name
        self._on_error(
            InvalidIntrinsics(
                f"no camera_info has come on {topic}, so nothing can be measured: remap color/camera_info to the "
                "topic beside the colour image"
            )
        )


def _camera_of(info: Any) -> tuple[Any, ...]:
    # As text, so that a NaN equals itself.
    return info.header.frame_id, info.width, info.height, str(list(info.k)), str(list(info.d)), info.distortion_model
