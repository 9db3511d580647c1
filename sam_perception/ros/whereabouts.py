"""Where the camera was when an image was taken, which way was up, and everything once more in `target_frame`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode

from sam_perception.config import GraspConfig
from sam_perception.errors import PerceptionError, TransformError, UnknownFrame
from sam_perception.frame import CameraPose, RgbdFrame, check_transform
from sam_perception.geometry.moved import moved_scene
from sam_perception.perception import Wanted
from sam_perception.ros.diagnosis import ERROR, OK, WARN, Status
from sam_perception.ros.imu import ImuGravity
from sam_perception.ros.publishers import TARGET_OUTPUTS, Outputs
from sam_perception.ros.settings import NodeConfig
from sam_perception.ros.transforms import Transforms, make_transforms
from sam_perception.scene import PlaneKind, Scene
from sam_perception.stages import StageError
from sam_perception.stamps import JUMP_NS

Matrix = NDArray[np.float64]

_RECENT_S = 5.0  # what is older makes no warning any more


@dataclass(eq=False)
class _Count:
    """What became of one kind of request."""

    done: int = 0
    refused: int = 0
    reason: str = ""
    refused_s: float = float("-inf")

    def refuse(self, error: Exception) -> None:
        self.refused, self.reason, self.refused_s = self.refused + 1, str(error), time.monotonic()

    @property
    def recent(self) -> bool:
        return time.monotonic() - self.refused_s < _RECENT_S


class Whereabouts:
    """Gives each frame its pose and gravity, and publishes scenes in `target_frame`.

    Everything is by the transform at the image's stamp; what is not to be had is refused with a
    diagnostic: never the latest transform, never the identity. Nothing is subscribed to unless a
    setting asks for it.

    Args:
        node: to subscribe and publish with.
        config: `target_frame`, `fixed_frame`, `gravity`, `transforms`.
        on_error: called with transforms that cannot be taken.

    Raises:
        ConfigError: tf2_ros is asked for and not installed.
    """

    def __init__(self, node: LifecycleNode, config: NodeConfig, on_error: Callable[[Exception], None]) -> None:
        self._config, gravity = config, config.gravity
        self._target, self._fixed = config.target_frame, config.fixed_frame
        self._up_frame = gravity.frame or self._fixed or self._target
        self._imu = ImuGravity(node, gravity) if gravity.source == "imu" else None
        self._transforms: Transforms | None = None
        turned = gravity.source == "tf" or (gravity.source == "imu" and gravity.imu_axes == "tf")
        if self._target or self._fixed or turned or config.transforms.always:
            self._transforms = make_transforms(node, config.transforms.backend, config.transforms.keep_s, on_error)
        self._outputs = Outputs(node, config.output, TARGET_OUTPUTS) if self._target else None
        self._counts = {name: _Count() for name in ("target_frame", "fixed_frame", "gravity")}
        self._lock = threading.Lock()
        self._unknown: set[tuple[str, str]] = set()  # pairs of frames not worth waiting for
        self._newest_ns = 0
        self._clock = node.get_clock()
        self._jumps = self._clock.create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-JUMP_NS), on_clock_change=True),
            post_callback=self._on_clock_jump,
        )

    def parts(self) -> Wanted:
        """What of the scene is needed for those who listen in the target frame."""
        return Wanted.MASKS if self._outputs is None else self._outputs.parts(self._outputs.wanted())

    @property
    def unheard(self) -> dict[str, str]:
        """As `Outputs.unheard`, of the topics in the target frame."""
        return {} if self._outputs is None else self._outputs.unheard

    def pose_of(self, frame: RgbdFrame) -> CameraPose:
        """What is known of the camera when this frame was taken; what is not known is reported and left out."""
        if frame.stamp_ns < self._newest_ns - JUMP_NS:
            self._time_went_back(frame.stamp_ns)
        self._newest_ns = frame.stamp_ns
        fixed = self._try("fixed_frame", lambda: self._pose_in_fixed(frame)) if self._fixed else None
        up = self._try("gravity", lambda: self._up_of(frame)) if self._config.gravity.source != "settings" else None
        return CameraPose(up, fixed)

    def publish(self, frame: RgbdFrame, scene: Scene, lost: Wanted, grasps: GraspConfig, on_error: StageError) -> None:
        """Publish the scene in the target frame, unless its transform is not to be had."""
        if self._outputs is None:
            return
        wanted = self._outputs.without(self._outputs.wanted(), lost)
        if wanted:
            moved = self._try("target_frame", lambda: self._moved(scene))
            if moved is not None:
                self._outputs.publish(wanted, frame, moved, grasps, on_error)

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """target_from_source (4, 4) at the stamp, without waiting: for callbacks of the executor.

        Raises:
            TransformError: not to be had, or no setting makes the node listen to transforms.
        """
        if target.lstrip("/") == source.lstrip("/"):
            return np.eye(4)
        if self._transforms is None:
            raise TransformError(
                f"no transform from {source!r} to {target!r}: the node does not listen to transforms; "
                "set transforms.always"
            )
        return self._transforms.lookup(target, source, stamp_ns, 0.0)

    def statuses(self) -> list[Status]:
        """For diagnostics; none where no setting asks for anything."""
        found = []
        if self._transforms is not None:
            found.append(self._transform_status())
        if self._config.gravity.source != "settings":
            found.append(self._gravity_status())
        return found

    def close(self) -> None:
        """Listen and publish no longer."""
        self._jumps.unregister()
        for part in (self._outputs, self._imu, self._transforms):
            if part is not None:
                part.close()

    def _try(self, what: str, do: Callable[[], Any]) -> Any:
        count = self._counts[what]
        try:
            result = do()
        except PerceptionError as error:
            with self._lock:
                count.refuse(error)
            return None
        count.done += 1
        return result

    def _moved(self, scene: Scene) -> Scene:
        matrix = self._wait_for(self._target, scene.frame_id, scene.stamp_ns)
        then: dict[int, Matrix] = {}
        for object_id in scene.resting:  # whose positions are of an earlier image
            seen_ns = scene.object(object_id).last_seen_ns
            try:
                then[object_id] = self.lookup(self._target, scene.frame_id, seen_ns)
            except TransformError:
                continue  # without a position
        moved = moved_scene(scene, self._target, matrix, then)
        averaged = next((p for p in scene.fixed_planes if p.kind is PlaneKind.GROUND), None)
        if self._target == self._fixed and averaged is not None and moved.ground is not None:
            moved = replace(moved, ground=averaged)
        return moved

    def _pose_in_fixed(self, frame: RgbdFrame) -> Matrix:
        return self._wait_for(self._fixed, frame.frame_id, frame.stamp_ns)

    def _up_of(self, frame: RgbdFrame) -> Matrix:
        if self._imu is None:
            if not self._up_frame:
                raise TransformError("gravity.source is tf, but no frame is named: set gravity.frame or fixed_frame")
            return self._wait_for(frame.frame_id, self._up_frame, frame.stamp_ns)[:3, 2]
        up, imu_frame = self._imu.up(frame.stamp_ns)
        if self._config.gravity.imu_axes == "camera" or imu_frame == frame.frame_id:
            return up
        return np.asarray(self._wait_for(frame.frame_id, imu_frame, frame.stamp_ns)[:3, :3] @ up)

    def _wait_for(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """Look up, with patience unless nobody knew these frames the last time."""
        if self._transforms is None or target.lstrip("/") == source.lstrip("/"):
            return self.lookup(target, source, stamp_ns)
        pair = (target, source)
        timeout_s = 0.0 if pair in self._unknown else self._config.transforms.timeout_s
        try:
            matrix = check_transform(self._transforms.lookup(target, source, stamp_ns, timeout_s))
        except UnknownFrame:
            self._unknown.add(pair)
            raise
        except TransformError:
            self._unknown.discard(pair)
            raise
        self._unknown.discard(pair)
        return matrix

    def _on_clock_jump(self, jump: Any) -> None:
        if jump.delta.nanoseconds < 0:
            self._time_went_back(int(self._clock.now().nanoseconds))

    def _time_went_back(self, now_ns: int) -> None:
        # Who is told of it: `Perception.step`, by the images, says so once.
        if self._transforms is not None:
            self._transforms.clear(now_ns)
        if self._imu is not None:
            self._imu.clear()

    def _transform_status(self) -> Status:
        values = {"sources": self._transforms.sources if self._transforms is not None else ""}
        problems = []
        for name, frame in (("target_frame", self._target), ("fixed_frame", self._fixed)):
            count = self._counts[name]
            if frame:
                values |= {name: frame, f"{name} done": str(count.done), f"{name} refused": str(count.refused)}
                if count.recent:
                    problems.append(f"{name} {frame!r} is not to be had: {count.reason}")
        fine = ", ".join(f"{name} {values[name]!r}" for name in ("target_frame", "fixed_frame") if name in values)
        return Status("transforms", ERROR if problems else OK, "; ".join(problems) or fine or "for gravity", values)

    def _gravity_status(self) -> Status:
        source, count = self._config.gravity.source, self._counts["gravity"]
        values = {"source": source, "frames with": str(count.done), "frames without": str(count.refused)}
        if count.recent:
            return Status("gravity", WARN, f"navigation.up_x to up_z are used instead: {count.reason}", values)
        return Status("gravity", OK, f"from {'the IMU' if source == 'imu' else self._up_frame!r}", values)
