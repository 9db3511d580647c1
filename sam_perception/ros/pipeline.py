"""What happens to a pair, in the thread that does inference."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_perception.config import PerceptionConfig
from sam_perception.detections import Detection
from sam_perception.errors import PerceptionError, PromptError, SinkError, StageFailed
from sam_perception.frame import RgbdFrame
from sam_perception.geometry import lift_scene
from sam_perception.perception import LOST_WITH, Perception, Wanted
from sam_perception.ros.clock_watch import ClockWatch
from sam_perception.ros.complaints import Complaints
from sam_perception.ros.convert import frame_from_msgs
from sam_perception.ros.deadline import Deadline, DeadlineReport, Plan
from sam_perception.ros.desk import ObjectDesk
from sam_perception.ros.detections import check_frame
from sam_perception.ros.health import SUPERSEDED, Health
from sam_perception.ros.inputs import Pair
from sam_perception.ros.publishers import PRIMARY, Outputs
from sam_perception.ros.region_desk import RegionDesk
from sam_perception.ros.resume import ObjectStore
from sam_perception.ros.watchdog import Work
from sam_perception.ros.whereabouts import Whereabouts
from sam_perception.ros.worker import LatestWorker
from sam_perception.scene import Regions, Scene


@dataclass(frozen=True, eq=False)
class Processed:
    """The newest frame and what is known about it."""

    frame: RgbdFrame
    scene: Scene
    lifted: bool


class Pipeline:
    """Converts, steps and publishes the newest pair; never more than one at a time, never a backlog.

    Args:
        perception: used by this object's thread alone from now on.
        outputs: where scenes go.
        store: keeps the objects for a node that starts again after a crash.
        health: counts, times and errors go here.
        clock: the node's, to tell how old an image is when its results go out.
        logger: rclpy's.
        whereabouts: knows the camera's pose, and publishes in other frames.
        target_rate_hz: frames per second to be kept by doing less; 0: everything is always done.
    """

    def __init__(
        self,
        perception: Perception,
        outputs: Outputs,
        store: ObjectStore,
        health: Health,
        clock: ClockWatch,
        logger: Any,
        whereabouts: Whereabouts | None = None,
        target_rate_hz: float = 0.0,
    ) -> None:
        self.desk = ObjectDesk(perception.config.max_objects)
        self._perception, self._outputs, self._store, self._health = perception, outputs, store, health
        self._clock, self._whereabouts = clock, whereabouts
        self._lock = threading.Lock()
        self._newest: Processed | None = None
        self._recent: deque[Processed] = deque(maxlen=perception.config.tracker.feature_cache_frames)
        self._config = perception.config
        self._complaints = Complaints(health, logger)
        self._deadline = Deadline(target_rate_hz)
        self._stage = ""  # of this class; what happens within perception it tells itself
        self._active = False
        perception.search_in_background()  # a slow detector must not hold up the frames
        self._take_up()
        self._worker: LatestWorker[Pair] = LatestWorker(self._process, self.refuse, "sam_perception inference")
        self.region_desk = RegionDesk(self._newest_scene, self._search_regions, self._worker.take_up)

    @property
    def config(self) -> PerceptionConfig:
        """The settings in force."""
        return self._config

    def activate(self, active: bool) -> None:
        """Work, or take nothing more; a frame that is in work then goes nowhere."""
        self._active = active
        if not active:
            self._worker.clear()

    def offer(self, pair: Pair) -> None:
        """Leave the newest pair for the thread; returns at once."""
        if self._active and self._worker.offer(pair):
            self._health.dropped(SUPERSEDED)

    def reconfigure(self, config: PerceptionConfig) -> None:
        """Use these settings from the next frame on."""
        self._config = config

    def detections(self, found: Sequence[Detection], stamp_ns: int, frame_id: str) -> None:
        """Take what a detector elsewhere saw in the picture of this stamp; from any thread.

        Raises:
            FrameIdMismatch: it looks at another camera.
        """
        newest = self.newest()
        if self._active and newest is not None:
            check_frame(frame_id, newest.frame.frame_id)
            self._perception.detections(found, stamp_ns)

    def stop(self, timeout_s: float) -> bool:
        """End the thread; whether it has ended within the time."""
        self._active = False
        return self._worker.stop(timeout_s)

    def newest(self, *, lifted: bool = False) -> Processed | None:
        """The newest frame that was processed; `lifted`: with positions, also where no topic asked for them."""
        with self._lock:
            newest = self._newest
        return self.lifted(newest) if lifted and newest is not None else newest

    def lifted(self, seen: Processed) -> Processed:
        """The same frame with positions, also where no topic asked for them."""
        if seen.lifted:
            return seen
        try:
            scene = lift_scene(seen.frame, seen.scene, self._config.geometry)
        except Exception as error:
            self._stage_failed("geometry", error)
            return seen
        return Processed(seen.frame, scene, lifted=True)

    def recent(self) -> tuple[Processed, ...]:
        """The last frames that were processed, oldest first: those that a late prompt may still be for."""
        with self._lock:
            return tuple(self._recent)

    @property
    def deadline(self) -> DeadlineReport:
        """How the target rate is kept."""
        return self._deadline.report()

    @property
    def degraded(self) -> str:
        """How the tracker makes do with less than is configured, in words; "" while it need not."""
        return self._perception.degraded

    def work(self) -> Work | None:
        """What the inference thread is at; None where it waits for a frame."""
        since_s = self._worker.busy_since_s
        if since_s is None:
            return None
        stage = self._perception.stage or self._stage or "inference"
        return Work(stage, since_s, self._worker.thread_id, first=self._newest is None)

    def regions(self, timeout_s: float = 60.0) -> Regions:
        """The newest picture cut up as a whole; waits for it, and must not be called in the inference thread.

        Frames go on meanwhile: each waits for one batch of points at most.

        Raises:
            PerceptionError: there is no picture yet, the model cannot do it, the node stops, or it takes longer.
        """
        return self.region_desk.wait(timeout_s)

    def _newest_scene(self) -> tuple[RgbdFrame, Scene] | None:
        newest = self.newest()
        return None if newest is None else (newest.frame, newest.scene)

    def _search_regions(self, frame: RgbdFrame) -> Generator[float, None, Regions]:
        if self._perception.config is not self._config:
            self._perception.reconfigure(self._config)
        return (yield from self._perception.search_regions(frame))

    def refuse(self, error: Exception) -> None:
        """Count and log what cannot be used; from any thread."""
        self._complaints.refuse(error)

    def _stage_failed(self, stage: str, error: Exception) -> None:
        if isinstance(error, PerceptionError):
            self.refuse(error)
            return
        failed = StageFailed(
            f"{stage} failed on one frame ({type(error).__name__}: {error}): the rest of the frame goes out without "
            "it; the log has the traceback, please report it"
        )
        failed.__cause__ = error
        self.refuse(failed)

    def _take_up(self) -> None:
        try:
            ids, errors = self._store.take_up(self._perception)
        except PerceptionError as error:
            self.refuse(error)
            return
        for left_out in errors:
            self.refuse(left_out)
        self.desk.settle(self._perception)
        if ids:
            note = f"objects {', '.join(map(str, ids))} are taken up again as they were before the node ended"
            self._complaints.note(note)

    def _keep(self, frame: RgbdFrame, scene: Scene) -> None:
        try:
            self._store.keep(frame, scene)
        except OSError as error:
            self.refuse(
                SinkError(
                    f"objects cannot be kept for a restart ({error}): free the disk, or set resume_max_age_s to 0"
                )
            )
        except Exception as error:
            self._stage_failed("keeping objects for a restart", error)

    def _process(self, pair: Pair) -> None:
        start_s = time.monotonic()
        self._stage = "convert"
        frame = frame_from_msgs(pair.color, pair.depth, pair.info)
        converted_s = time.monotonic()
        self._stage = "requests"
        wanted = self._outputs.wanted()
        parts = self._outputs.parts(wanted)
        if self._whereabouts is not None:
            parts |= self._whereabouts.parts()
        more = bool(wanted - PRIMARY) or bool(parts & ~Wanted.POSITIONS)
        plan = self._deadline.plan(self._perception.object_ids, secondary_wanted=more)
        config = self._deadline.settings(self._config, plan)
        if self._perception.config is not config:
            self._perception.reconfigure(config)
        for error in self.desk.hand_over(self._perception):
            self.refuse(error)
        if not plan.secondary:
            wanted, parts = wanted & PRIMARY, parts & Wanted.POSITIONS
        scene, lost = self._step(frame, parts, plan)
        if not self._active:
            return
        with self._lock:
            self._newest = Processed(frame, scene, lifted=Wanted.POSITIONS in parts & ~lost)
            if self._recent and self._recent[-1].frame.stamp_ns > frame.stamp_ns:
                self._recent.clear()  # time went back
            self._recent.append(self._newest)
        self._tell(scene)
        stepped_s = time.monotonic()
        self._stage = "publish"
        wanted = self._outputs.without(wanted, lost)
        grasps = self._perception.config.grasps
        self._outputs.publish(wanted, frame, scene, grasps, self._stage_failed)
        if self._whereabouts is not None:
            self._whereabouts.publish(frame, scene, lost, grasps, self._stage_failed)
        end_s = time.monotonic()
        self._stage = "keep"
        self._keep(frame, scene)
        latencies_ms = {
            "wait": (start_s - pair.received_s) * 1e3,
            "convert": (converted_s - start_s) * 1e3,
            **scene.timings_ms,
            "publish": (end_s - stepped_s) * 1e3,
            "receive to publish": (end_s - pair.received_s) * 1e3,
        }
        age_s = self._clock.age_s(frame.stamp_ns)
        if age_s is not None and age_s >= 0:
            latencies_ms["stamp to publish"] = age_s * 1e3
        change = self._deadline.spent((end_s - start_s) * 1e3)
        if change:
            self._complaints.note(change)
        self._health.processed(latencies_ms, _valid_share(pair, frame))

    def _step(self, frame: RgbdFrame, parts: Wanted, plan: Plan) -> tuple[Scene, Wanted]:
        """The scene, and what it lacks because a stage failed or the deadline leaves no time for it."""
        lost = Wanted.MASKS if plan.secondary else Wanted.OBSTACLES | Wanted.GRASPS

        def on_error(stage: str, error: Exception) -> None:
            nonlocal lost
            lost |= LOST_WITH.get(stage, Wanted.MASKS)
            self._stage_failed(stage, error)

        pose = None if self._whereabouts is None else self._whereabouts.pose_of(frame)
        try:
            scene = self._perception.step(frame, wanted=parts, on_error=on_error, pose=pose, only=plan.only)
            return scene, lost
        finally:
            self.desk.settle(self._perception)

    def _tell(self, scene: Scene) -> None:
        for reason in scene.rejected:
            self.refuse(PromptError(reason))
        for note in (*scene.notes, *self._clock.look(scene.stamp_ns)):
            self._complaints.note(note)


def _valid_share(pair: Pair, frame: RgbdFrame) -> float:
    """Pixels with depth, as a share; NaN where none is listened to."""
    return float("nan") if pair.depth is None else float(np.count_nonzero(frame.depth_m > 0) / frame.depth_m.size)
