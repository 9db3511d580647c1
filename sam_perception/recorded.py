"""Scenes back from recorded `TrackedObjectArray` messages: what the node said, as values again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.messages import Message, stamp_ns_of
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track


def scene_from_objects(message: Message, width: int, height: int) -> Scene:
    """The scene of a `TrackedObjectArray` for images of `width` x `height`; the clouds are not in it."""
    tracks = tuple(_track(one, width, height) for one in message.objects)
    return Scene(stamp_ns_of(message.header.stamp), message.header.frame_id, width, height, tracks)


def _track(one: Message, width: int, height: int) -> Track:
    return Track(
        id=int(one.id),
        label=str(one.label),
        state=ObjectState(one.state),
        score=float(one.score),
        mask_score=float(one.mask_score),
        mask=_mask(one, width, height),
        last_seen_ns=stamp_ns_of(one.last_seen),
        lifted=_lifted(one),
    )


def _mask(one: Message, width: int, height: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    if len(one.mask.data):
        x, y = one.roi.x_offset, one.roi.y_offset
        crop = np.frombuffer(one.mask.data, np.uint8).reshape(one.mask.height, one.mask.step)[:, : one.mask.width]
        mask[y : y + one.mask.height, x : x + one.mask.width] = crop > 0
    return mask


def _lifted(one: Message) -> Lifted:
    share = float(one.valid_depth_share)
    if not one.has_position:
        return Lifted(valid_depth_share=share)
    q = one.box_pose.orientation
    box = OrientedBox(_xyz(one.box_pose.position), matrix_from_quaternion(q.x, q.y, q.z, q.w), _xyz(one.box_size))
    covariance = np.array(one.covariance, np.float64).reshape(3, 3)
    return Lifted(centroid=_xyz(one.centroid), covariance=covariance, box=box, valid_depth_share=share)


def _xyz(point: Any) -> NDArray[np.float64]:
    return np.array([point.x, point.y, point.z], np.float64)


def matrix_from_quaternion(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """The (3, 3) rotation of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
