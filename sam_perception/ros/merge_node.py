"""Several cameras' objects as one list: `~/objects` and `~/markers` in a common frame, at the newest camera's stamp."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from sam_perception.errors import ConfigError, MalformedMessage, PerceptionError, StampError, TransformError
from sam_perception.geometry.merging import MergeConfig, Merged, ObjectMerger
from sam_perception.markers import markers
from sam_perception.messages import tracked_object_array
from sam_perception.recorded import scene_from_objects
from sam_perception.ros.complaints import Complaints
from sam_perception.ros.health import Health
from sam_perception.ros.inputs import make_qos
from sam_perception.ros.message_types import RosTypes, message_class
from sam_perception.ros.parameters import declared_once
from sam_perception.ros.qos import unheard
from sam_perception.ros.transforms import make_transforms
from sam_perception.scene import Scene
from sam_perception.settings import Validated, setting
from sam_perception.sources.extrinsics import Extrinsics, read_extrinsics

_TYPES = RosTypes()
_KEPT_S = 10.0  # of moving frames
_SIDE_PX = 16_384  # of an image, at most: a message with more in it would take all memory
_RECENT_S = 5.0  # what is older makes no warning any more


@dataclass
class _Trouble:
    """One kind of refusal."""

    text: str
    seen_s: float
    new: int = 0  # since diagnostics were sent
    count: int = 0


@dataclass(frozen=True)
class MergeNodeConfig(Validated):
    """What is merged, and where."""

    cameras: str = setting("left right", "names of the cameras, with spaces between")
    topic: str = setting("/{camera}/sam_perception/objects", "of each camera's objects")
    frame: str = setting("", "common frame; empty: the one of the extrinsics file")
    extrinsics: str = setting("", "YAML file that says where the cameras are; empty: tf does")
    diagnostics_period_s: float = setting(1.0, "time between two messages on /diagnostics", low=0.05, high=60.0)
    merge: MergeConfig = field(default_factory=MergeConfig)


class MergeNode(Node):  # type: ignore[misc]  # rclpy is not typed
    """Publishes what all cameras see together, once for each newest stamp.

    Args:
        options: of rclpy's node, such as `parameter_overrides`.

    Raises:
        ConfigError: no camera, no common frame, an extrinsics file that is wrong, a parameter out of its range.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("sam_perception_merge", **options)
        self._config = declared_once(self, MergeNodeConfig())
        cameras = self._config.cameras.split()
        self._known = _extrinsics(self._config, cameras)
        self._frame = self._config.frame or (self._known.frame if self._known else "")
        self._complaints = Complaints(Health(), self.get_logger())
        self._troubles: dict[tuple[str, str], _Trouble] = {}  # by camera and kind
        self._transforms = None
        if self._known is None:
            self._transforms = make_transforms(self, "auto", _KEPT_S, partial(self.refuse, ""))
        self._merger = ObjectMerger(self._config.merge)
        self._scenes: dict[str, Scene] = {}
        self._published, self._members, self._newest_ns = 0, "", 0
        qos = make_qos("reliable", 5)
        self._objects = self.create_publisher(message_class("sam_perception/TrackedObjectArray"), "~/objects", qos)
        self._markers = self.create_publisher(message_class("visualization_msgs/MarkerArray"), "~/markers", qos)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        kind = message_class("sam_perception/TrackedObjectArray")
        best_effort = make_qos("best_effort", 5)
        for camera in cameras:
            topic = self._config.topic.replace("{camera}", camera)
            self.create_subscription(kind, topic, partial(self._on_objects, camera), best_effort)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self._config.diagnostics_period_s, self.publish_diagnostics, clock=steady)

    def refuse(self, camera: str, error: Exception) -> None:
        """Count what cannot be used, put it into diagnostics, and log its kind now and then."""
        self._complaints.refuse(error)
        kind = error.kind if isinstance(error, PerceptionError) else type(error).__name__
        trouble = self._troubles.setdefault((camera, kind), _Trouble("", 0.0))
        trouble.text, trouble.seen_s = str(error), time.monotonic()
        trouble.new, trouble.count = trouble.new + 1, trouble.count + 1

    def _on_objects(self, camera: str, msg: Any) -> None:
        try:
            scene = _scene_of(msg)
        except Exception as error:  # by whatever: the next message is another one
            self.refuse(camera, error)
            return
        try:
            self._take(camera, scene)
        except Exception as error:
            self._scenes.pop(camera, None)  # else the other cameras' messages would fail by it too
            self.refuse(camera, error)

    def _take(self, camera: str, scene: Scene) -> None:
        before = self._scenes.get(camera)
        if before is not None and scene.stamp_ns < before.stamp_ns:
            # Time has gone back, as when a bag starts again: what the others said belongs to the time before.
            self._scenes.clear()
            self._newest_ns = 0
        self._scenes[camera] = scene
        if scene.stamp_ns <= self._newest_ns:
            return  # the others are newer: it is merged with the next of theirs
        merged = self._merged()
        if merged is not None:
            self._newest_ns = merged.scene.stamp_ns
            self._publish(merged)

    def _merged(self) -> Merged | None:
        places: dict[str, NDArray[np.float64]] = {}
        for camera, scene in self._scenes.items():
            try:
                places[camera] = self._place(camera, scene)
            except TransformError as error:
                self.refuse(camera, error)
        if not places:
            return None
        return self._merger.merge({name: self._scenes[name] for name in places}, places, self._frame)

    def _place(self, camera: str, scene: Scene) -> NDArray[np.float64]:
        if self._transforms is None or self._known is not None:
            assert self._known is not None  # noqa: S101 - one of the two is there
            return self._known.common_from_camera[camera]
        return self._transforms.lookup(self._frame, scene.frame_id, scene.stamp_ns, 0.0)

    def _publish(self, merged: Merged) -> None:
        self._published += 1
        self._members = "; ".join(
            f"{merged_id}: {', '.join(f'{camera} {number}' for camera, number in members)}"
            for merged_id, members in merged.members.items()
        )
        self._objects.publish(tracked_object_array(_TYPES, merged.scene, with_masks=False))
        if self._markers.get_subscription_count() > 0:
            self._markers.publish(markers(_TYPES, merged.scene))

    def publish_diagnostics(self) -> None:
        """Send who sees what, and what has gone wrong since the last time."""
        silent = [camera for camera in self._config.cameras.split() if camera not in self._scenes]
        problems = [f"nothing yet from {camera}: is its perception node active?" for camera in silent]
        for (camera, kind), trouble in sorted(self._troubles.items()):
            if trouble.new or time.monotonic() - trouble.seen_s < _RECENT_S:
                of = f"{camera}: " if camera else ""
                problems.append(f"{of}{kind}: {trouble.text} ({trouble.count} times)")
            trouble.new = 0
        for publisher in (self._objects, self._markers):
            policy = unheard(self, publisher)
            if policy:
                problems.append(
                    f"a subscriber of {publisher.topic_name} asks for more {policy} than is offered and gets nothing: "
                    "ask for volatile there"
                )
        values = {"objects": self._members, "messages": str(self._published), "frame": self._frame}
        for (camera, kind), trouble in sorted(self._troubles.items()):
            values[f"refused {camera or 'transform'}: {kind}"] = str(trouble.count)
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [
            DiagnosticStatus(
                level=bytes([1 if problems else 0]),
                name=f"{self.get_fully_qualified_name()}: merge",
                message="; ".join(problems) or f"{len(self._scenes)} cameras",
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
        ]
        self._diagnostics.publish(array)


def _scene_of(msg: Any) -> Scene:
    """What a camera's message says.

    Raises:
        MalformedMessage: it says what cannot be.
        StampError: its stamp is negative.
    """
    width = max((o.roi.x_offset + o.roi.width for o in msg.objects), default=1)
    height = max((o.roi.y_offset + o.roi.height for o in msg.objects), default=1)
    if max(width, height) > _SIDE_PX:
        raise MalformedMessage(f"an object reaches to pixel {width}, {height}: images have {_SIDE_PX} a side at most")
    scene = scene_from_objects(msg, max(1, width), max(1, height))
    if scene.stamp_ns < 0:
        raise StampError(f"stamp is {scene.stamp_ns * 1e-9:.6f} s: check the clock of the camera's driver")
    for track in scene.objects:
        center, covariance = track.centroid, track.covariance
        if center is not None and covariance is not None and not np.isfinite([*center, *covariance.flat]).all():
            raise MalformedMessage(f"object {track.id} has a position, and it is {center.tolist()}")
    return scene


def _extrinsics(config: MergeNodeConfig, cameras: list[str]) -> Extrinsics | None:
    """The file's content, or None where tf is to be asked.

    Raises:
        ConfigError: see `MergeNode`.
    """
    if not cameras or len(set(cameras)) != len(cameras) or "{camera}" not in config.topic:
        raise ConfigError(f"cameras is {config.cameras!r}, topic {config.topic!r}: names with spaces, and {{camera}}")
    if not config.extrinsics:
        if not config.frame:
            raise ConfigError("neither frame nor extrinsics is set: name the common tf frame, or give a file")
        return None
    known = read_extrinsics(config.extrinsics)
    missing = [camera for camera in cameras if camera not in known.common_from_camera]
    if missing:
        raise ConfigError(f"{config.extrinsics} has no camera {', '.join(missing)}: add them under 'cameras'")
    if config.frame not in ("", known.frame):
        raise ConfigError(f"frame is {config.frame}, {config.extrinsics} has {known.frame}: leave frame empty")
    return known
