"""Scenes back from recorded messages: what the node said, as values again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import MalformedMessage, PerceptionError
from sam_perception.frame import DepthSource
from sam_perception.messages import Message, stamp_ns_of
from sam_perception.scene import (
    GraspKind,
    GraspTarget,
    Lifted,
    ObjectState,
    ObstacleKind,
    ObstacleSegment,
    OrientedBox,
    Plane,
    PlaneKind,
    Scene,
    Track,
)

Kind = TypeVar("Kind", bound=Enum)


def scene_from_objects(message: Message, width: int, height: int) -> Scene:
    """The scene of a `TrackedObjectArray` for images of `width` x `height`; the clouds are not in it.

    Raises:
        MalformedMessage: a state that nobody knows, or a mask that does not fit its sizes or the image.
    """
    with _refused("objects"):
        tracks = tuple(_track(one, width, height) for one in message.objects)
        stamp_ns, source = stamp_ns_of(message.header.stamp), _depth_source(message)
        return Scene(stamp_ns, message.header.frame_id, width, height, tracks, depth_source=source)


def with_grasps(scene: Scene, message: Message) -> Scene:
    """The scene with what a `GraspTargetArray` of the same frame says.

    Raises:
        MalformedMessage: a kind that nobody knows, or lists of different lengths.
    """
    with _refused("grasp targets"):
        targets = tuple(_grasp(one) for one in message.targets)
        reasons = {int(i): str(reason) for i, reason in zip(message.ungraspable_ids, message.reasons, strict=True)}
        return replace(scene, grasp_targets=targets, grasp_reasons=MappingProxyType(reasons))


def with_obstacles(scene: Scene, message: Message) -> Scene:
    """The scene with what an `ObstacleSegmentArray` of the same frame says: no clouds, a ground without outline.

    Raises:
        MalformedMessage: a kind that nobody knows.
    """
    with _refused("obstacles"):
        ground = None
        if message.has_ground:
            unknown, outline = float("nan"), np.zeros((0, 3))
            normal, height_m = _xyz(message.ground_normal), float(message.camera_height)
            ground = Plane(normal, height_m, PlaneKind.GROUND, unknown, unknown, outline)
        obstacles = tuple(_obstacle(one) for one in message.segments)
        return replace(scene, ground=ground, obstacles=obstacles, around_source=_depth_source(message))


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """What numpy, zip and our own values raise for numbers that do not fit, as a refusal of the message."""
    try:
        yield
    except PerceptionError:
        raise
    except (ValueError, TypeError) as error:
        raise MalformedMessage(
            f"a message of {what} cannot be read: {error}; check that its sender is of this version of sam_perception"
        ) from error


def _one_of(kinds: type[Kind], value: Any, name: str) -> Kind:
    try:
        return kinds(value)
    except ValueError:
        known = ", ".join(f"{kind.value} ({kind.name})" for kind in kinds)
        raise ValueError(f"{name} is {value!r}, known are {known}") from None


def _depth_source(message: Message) -> DepthSource:
    # Bags from before it was said have the sensor's.
    return _one_of(DepthSource, getattr(message, "depth_source", 0), "depth_source")


def _grasp(one: Message) -> GraspTarget:
    camera_from_gripper = np.eye(4)
    camera_from_gripper[:3, :3] = _rotation(one.pose)
    camera_from_gripper[:3, 3] = _xyz(one.pose.position)
    return GraspTarget(
        object_id=int(one.object_id),
        camera_from_gripper=camera_from_gripper,
        width_m=float(one.width),
        object_width_m=float(one.object_width),
        width_is_lower_bound=bool(one.width_is_lower_bound),
        kind=_one_of(GraspKind, one.kind, f"kind of a grasp of object {one.object_id}"),
        score=float(one.score),
        parts=MappingProxyType(dict(zip(one.part_names, map(float, one.part_scores), strict=True))),
    )


def _obstacle(one: Message) -> ObstacleSegment:
    size_m = _xyz(one.box_size)
    known = bool((size_m > 0).any())
    return ObstacleSegment(
        id=int(one.id),
        kind=_one_of(ObstacleKind, one.kind, f"kind of obstacle {one.id}"),
        points=np.zeros((0, 3), np.float32),
        colors=np.zeros((0, 3), np.uint8),
        box=OrientedBox(_xyz(one.box_pose.position), _rotation(one.box_pose), size_m) if known else None,
        nearest_point_m=_xyz(one.nearest_point),
        distance_m=float(one.distance),
        ground_distance_m=float(one.ground_distance),
        height_m=float(one.height),
        unknown_share=float(one.unknown_share),
    )


def _track(one: Message, width: int, height: int) -> Track:
    return Track(
        id=int(one.id),
        label=str(one.label),
        state=_one_of(ObjectState, one.state, f"state of object {one.id}"),
        score=float(one.score),
        mask_score=float(one.mask_score),
        mask=_mask(one, width, height),
        last_seen_ns=stamp_ns_of(one.last_seen),
        lifted=_lifted(one),
        label_score=float(getattr(one, "label_score", 0.0)),
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
    box = OrientedBox(_xyz(one.box_pose.position), _rotation(one.box_pose), _xyz(one.box_size))
    covariance = np.array(one.covariance, np.float64).reshape(3, 3)
    return Lifted(centroid=_xyz(one.centroid), covariance=covariance, box=box, valid_depth_share=share)


def _xyz(point: Any) -> NDArray[np.float64]:
    return np.array([point.x, point.y, point.z], np.float64)


def _rotation(pose: Message) -> NDArray[np.float64]:
    q = pose.orientation
    return matrix_from_quaternion(q.x, q.y, q.z, q.w)


def matrix_from_quaternion(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """The (3, 3) rotation of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
