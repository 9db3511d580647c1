"""Listens to a ROS graph for a moment; `python -m sam_perception.ros.topic_probe` writes what it saw as JSON.

A process of its own, since `sam-perception doctor` has to go on where ROS or its middleware do not.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

CLOCK, OBJECTS = "/clock", "sam_perception/msg/TrackedObjectArray"
_LOOK_S = 0.1  # between two looks at the graph
_SERVICE_S = 1.0


class TopicProbe:
    """Subscribes to what is asked for as it appears.

    Args:
        node: to subscribe with.
        executor: that spins it.
        topics: names to listen to; the clock and tracked objects are listened to anyway.
    """

    def __init__(self, node: Any, executor: Any, topics: Sequence[str]) -> None:
        self._node, self._executor = node, executor
        self._wanted = {*topics, CLOCK}
        self._heard: dict[str, dict[str, Any]] = {}

    def listen(self, seconds: float) -> dict[str, Any]:
        """What is there after so many seconds, ready for JSON."""
        end_s, look_s = time.monotonic() + seconds, 0.0
        while (now_s := time.monotonic()) < end_s:
            if now_s >= look_s:
                self._subscribe()
                look_s = now_s + _LOOK_S
            self._executor.spin_once(timeout_sec=min(_LOOK_S, end_s - now_s))
        types = dict(self._node.get_topic_names_and_types())
        shown = (self._wanted | set(self._heard)) & set(types)
        return {
            "types": {name: list(kinds) for name, kinds in sorted(types.items())},
            "topics": {name: self._topic(name) for name in sorted(shown)},
            "use_sim_time": {node: self._use_sim_time(node) for node in self._our_nodes(types)},
        }

    def _subscribe(self) -> None:
        from rclpy.qos import qos_profile_sensor_data

        from sam_perception.ros.message_types import message_class

        for name, kinds in self._node.get_topic_names_and_types():
            if name in self._heard or not (name in self._wanted or OBJECTS in kinds):
                continue
            self._heard[name] = {"count": 0, "first_s": 0.0, "last_s": 0.0}
            kind = message_class(kinds[0])
            self._node.create_subscription(
                kind, name, lambda msg, at=name: self._take(at, msg), qos_profile_sensor_data
            )

    def _take(self, name: str, msg: Any) -> None:
        heard, now_s = self._heard[name], time.monotonic()
        heard["first_s"] = heard["first_s"] or now_s
        heard["count"], heard["last_s"] = heard["count"] + 1, now_s
        header = getattr(msg, "header", None)
        if header is not None:
            heard["age_s"] = time.time() - header.stamp.sec - header.stamp.nanosec * 1e-9
            heard["frame_id"] = header.frame_id
        for field in ("encoding", "width", "height"):
            if hasattr(msg, field):
                heard[field] = getattr(msg, field)

    def _topic(self, name: str) -> dict[str, Any]:
        heard = dict(self._heard.get(name, {"count": 0, "first_s": 0.0, "last_s": 0.0}))
        span_s = heard.pop("last_s") - heard.pop("first_s")
        heard["rate_hz"] = (heard["count"] - 1) / span_s if span_s > 0 else 0.0
        own = self._node.get_fully_qualified_name()
        for role, ends in (
            ("publishers", self._node.get_publishers_info_by_topic(name)),
            ("subscribers", self._node.get_subscriptions_info_by_topic(name)),
        ):
            described = (_endpoint(end) for end in ends)
            heard[role] = [end for end in described if end["node"] != own]
        return heard

    def _our_nodes(self, types: dict[str, list[str]]) -> list[str]:
        names = [name for name, kinds in types.items() if OBJECTS in kinds]
        return sorted({end["node"] for name in names for end in self._topic(name)["publishers"]})

    def _use_sim_time(self, node: str) -> bool | None:
        """The node's parameter, or None where it does not answer."""
        from rcl_interfaces.srv import GetParameters

        client = self._node.create_client(GetParameters, f"{node}/get_parameters")
        if not client.wait_for_service(_SERVICE_S):
            return None
        future = client.call_async(GetParameters.Request(names=["use_sim_time"]))
        self._executor.spin_until_future_complete(future, timeout_sec=_SERVICE_S)
        return bool(future.result().values[0].bool_value) if future.done() else None


def _endpoint(end: Any) -> dict[str, str]:
    return {
        "node": f"{end.node_namespace.rstrip('/')}/{end.node_name}",
        "reliability": end.qos_profile.reliability.name.lower(),
        "durability": end.qos_profile.durability.name.lower(),
    }


def main(args: Sequence[str] | None = None) -> int:
    """`topic_probe SECONDS TOPIC ...`: JSON on stdout."""
    seconds, *topics = sys.argv[1:] if args is None else args
    from sam_perception._ros_environment import ensure_ros_environment

    ensure_ros_environment()
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    rclpy.init(args=[])
    node = rclpy.create_node("sam_perception_doctor")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    sys.stdout.write(json.dumps(TopicProbe(node, executor, topics).listen(float(seconds))) + "\n")
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
