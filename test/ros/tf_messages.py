"""Transforms as messages, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from ros_harness import Harness
from scipy.spatial.transform import Rotation

from sam_perception.errors import TransformError

Array = NDArray[np.float64]


def matrix(translation: tuple[float, float, float], rotvec_deg: tuple[float, float, float] = (0, 0, 0)) -> Array:
    """A transform (4, 4) by translation and rotation vector."""
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(np.radians(rotvec_deg)).as_matrix()
    out[:3, 3] = translation
    return out


def transform_msg(parent: str, child: str, parent_from_child: Array, stamp_ns: int = 0) -> TransformStamped:
    msg = TransformStamped()
    msg.header.frame_id, msg.child_frame_id = parent, child
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    t, r = msg.transform.translation, msg.transform.rotation
    t.x, t.y, t.z = (float(v) for v in parent_from_child[:3, 3])
    r.x, r.y, r.z, r.w = (float(v) for v in Rotation.from_matrix(parent_from_child[:3, :3]).as_quat())
    return msg


class Broadcaster:
    """Publishes on `~/transform`, and knows when the node has it."""

    def __init__(self, harness: Harness, node: Any) -> None:
        self._harness, self._node = harness, node
        self._publisher = harness.client.create_publisher(TransformStamped, "/sam_perception/transform", 100)
        harness.until(self._publisher.get_subscription_count)

    def send(self, parent: str, child: str, parent_from_child: Array, stamp_ns: int = 0) -> None:
        self._publisher.publish(transform_msg(parent, child, parent_from_child, stamp_ns))

    def settled(self, target: str, source: str, stamp_ns: int) -> None:
        """Wait until the node can transform at this stamp."""

        def there() -> bool:
            try:
                self._node._whereabouts.lookup(target, source, stamp_ns)
            except TransformError:
                return False
            return True

        self._harness.until(there)
