"""Transforms between frames at a stamp: tf2_ros where it is installed, our own buffer elsewhere.

Either way `/tf` and `/tf_static` are read, and `~/transform` (geometry_msgs/TransformStamped; with a stamp of zero it
holds for ever), which needs no tf at all. Nothing is extrapolated, and nothing but the asked stamp will do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from sam_perception.errors import ConfigError, TransformError, UnknownFrame
from sam_perception.geometry.transform_tree import TransformTree
from sam_perception.messages import stamp_ns_of
from sam_perception.recorded import matrix_from_quaternion

Matrix = NDArray[np.float64]
OnError = Callable[[Exception], None]

TOPIC = "~/transform"
BACKENDS = ("auto", "tf2_ros", "builtin")
_QUEUE = 100  # messages, as tf2's own listener has it
_AHEAD_NS = 500_000_000  # transforms come a little before or after the clock and the images


class Transforms(Protocol):
    """Where transforms come from; for several threads."""

    sources: str  # in words, for diagnostics

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float) -> Matrix:
        """target_from_source (4, 4) at the stamp; waits in a thread other than the executor's.

        Raises:
            UnknownFrame: a frame that nobody has told of, or two that are not connected.
            TransformError: not to be had for this stamp.
        """

    def clear(self, now_ns: int) -> None:
        """Time has gone back to this: forget what moved later."""

    def close(self) -> None:
        """Listen no longer."""


def make_transforms(node: LifecycleNode, backend: str, keep_s: float, on_error: OnError) -> Transforms:
    """The backend of this name; auto takes tf2_ros where it is installed.

    Raises:
        ConfigError: tf2_ros was asked for, and is not installed.
    """
    available = find_spec("tf2_ros") is not None
    if backend == "tf2_ros" and not available:
        raise ConfigError(
            "transforms.backend is tf2_ros, which is not installed: install ros-<distro>-tf2-ros-py, or set it to auto"
        )
    if available and backend != "builtin":
        return Tf2Transforms(node, keep_s, on_error)
    return BuiltinTransforms(node, keep_s, on_error)


class BuiltinTransforms:
    """Our own buffer. `/tf` needs tf2_msgs; without it, as among the wheels, `~/transform` alone is read."""

    def __init__(self, node: LifecycleNode, keep_s: float, on_error: OnError) -> None:
        self._node, self._on_error = node, on_error
        self._tree = TransformTree(round(keep_s * 1e9))
        self._subscriptions = [node.create_subscription(TransformStamped, TOPIC, self.on_transform, _QUEUE)]
        self.sources = f"builtin: {self._subscriptions[0].topic_name}"
        if find_spec("tf2_msgs") is None:
            self.sources += "; /tf is not read, as tf2_msgs is not installed"
            return
        tf_message = import_module("tf2_msgs.msg").TFMessage
        latched = QoSProfile(depth=_QUEUE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions += [
            node.create_subscription(tf_message, "/tf", self.on_tf, _QUEUE),
            node.create_subscription(tf_message, "/tf_static", self.on_static, latched),
        ]
        self.sources += ", /tf, /tf_static"

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float) -> Matrix:
        """See `Transforms`."""
        return self._tree.lookup(target, source, stamp_ns, timeout_s)

    def clear(self, now_ns: int) -> None:
        """See `Transforms`; what came of the new time already stays."""
        self._tree.clear(now_ns + _AHEAD_NS)

    def close(self) -> None:
        """See `Transforms`."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def on_transform(self, msg: Any) -> None:
        """One transform; static if its stamp is zero."""
        self._add(msg, static=stamp_ns_of(msg.header.stamp) == 0)

    def on_tf(self, msg: Any) -> None:
        """A `tf2_msgs/TFMessage` of what moves."""
        for transform in msg.transforms:
            self._add(transform, static=False)

    def on_static(self, msg: Any) -> None:
        """A `tf2_msgs/TFMessage` of what does not move."""
        for transform in msg.transforms:
            self._add(transform, static=True)

    def _add(self, msg: Any, *, static: bool) -> None:
        t, q = msg.transform.translation, msg.transform.rotation
        place, turn = np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w])
        try:
            stamp_ns = stamp_ns_of(msg.header.stamp)
            self._tree.add(msg.header.frame_id, msg.child_frame_id, stamp_ns, place, turn, static=static)
        except TransformError as error:
            self._on_error(error)


class Tf2Transforms:
    """tf2's own buffer and listener."""

    def __init__(self, node: LifecycleNode, keep_s: float, on_error: OnError) -> None:
        self._tf2 = import_module("tf2_ros")
        self._node, self._on_error = node, on_error
        self._buffer = self._tf2.Buffer(cache_time=Duration(seconds=keep_s))
        self._listener = self._tf2.TransformListener(self._buffer, node)
        self._subscription = node.create_subscription(TransformStamped, TOPIC, self.on_transform, _QUEUE)
        self.sources = f"tf2_ros: /tf, /tf_static, {self._subscription.topic_name}"

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float) -> Matrix:
        """See `Transforms`."""
        if stamp_ns == 0:
            raise TransformError("stamp is zero, which means the latest transform to tf2: stamp the images")
        tf2 = self._tf2
        try:
            found = self._buffer.lookup_transform(
                target.lstrip("/"), source.lstrip("/"), Time(nanoseconds=stamp_ns), Duration(seconds=timeout_s)
            )
        except (tf2.LookupException, tf2.ConnectivityException) as error:
            raise UnknownFrame(f"{error}: check the names, and that whoever publishes them is running") from error
        except tf2.TransformException as error:
            raise TransformError(f"{error} (nothing is extrapolated)") from error
        t, q = found.transform.translation, found.transform.rotation
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = matrix_from_quaternion(q.x, q.y, q.z, q.w), (t.x, t.y, t.z)
        return matrix

    def clear(self, now_ns: int) -> None:  # noqa: ARG002 - tf2 forgets all or nothing
        """See `Transforms`."""
        self._buffer.clear()

    def close(self) -> None:
        """See `Transforms`."""
        self._listener.unregister()
        self._node.destroy_subscription(self._subscription)

    def on_transform(self, msg: Any) -> None:
        """One transform; static if its stamp is zero."""
        give = self._buffer.set_transform if stamp_ns_of(msg.header.stamp) else self._buffer.set_transform_static
        try:
            give(msg, TOPIC)
        except self._tf2.TransformException as error:
            self._on_error(TransformError(str(error)))
