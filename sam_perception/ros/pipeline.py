"""What happens to a pair, in the thread that does inference."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_perception.config import PerceptionConfig
from sam_perception.errors import PerceptionError, PromptError, SinkError
from sam_perception.frame import RgbdFrame
from sam_perception.geometry import lift_scene
from sam_perception.perception import Perception, Wanted
from sam_perception.ros.convert import frame_from_msgs
from sam_perception.ros.desk import ObjectDesk
from sam_perception.ros.health import SUPERSEDED, Health
from sam_perception.ros.inputs import Pair
from sam_perception.ros.publishers import Outputs
from sam_perception.ros.region_desk import RegionDesk
from sam_perception.ros.resume import ObjectStore
from sam_perception.ros.worker import LatestWorker
from sam_perception.scene import Regions, Scene

_SAME_CLOCK_MS = 60_000.0  # an older image is a replay, whose stamps are of another time
_LOG_AGAIN_S = 5.0  # the same kind of trouble is logged this often at most


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
        now_ns: the node's clock, to tell how old an image is when its results go out.
        logger: rclpy's.
    """

    def __init__(
        self,
        perception: Perception,
        outputs: Outputs,
        store: ObjectStore,
        health: Health,
        now_ns: Callable[[], int],
        logger: Any,
    ) -> None:
        self.desk = ObjectDesk(perception.config.max_objects)
        self._perception, self._outputs, self._store, self._health = perception, outputs, store, health
        self._now_ns, self._logger = now_ns, logger
        self._lock = threading.Lock()
        self._newest: Processed | None = None
        self._config = perception.config
        self._logged_s: dict[str, float] = {}
        self._active = False
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

    def stop(self, timeout_s: float) -> bool:
        """End the thread; whether it has ended within the time."""
        self._active = False
        return self._worker.stop(timeout_s)

    def newest(self, *, lifted: bool = False) -> Processed | None:
        """The newest frame that was processed; `lifted`: with positions, also where no topic asked for them."""
        with self._lock:
            newest = self._newest
        if newest is None or newest.lifted or not lifted:
            return newest
        scene = lift_scene(newest.frame, newest.scene, self._config.geometry)
        return Processed(newest.frame, scene, lifted=True)

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

    def _search_regions(self, frame: RgbdFrame) -> Generator[None, None, Regions]:
        if self._perception.config is not self._config:
            self._perception.reconfigure(self._config)
        return (yield from self._perception.search_regions(frame))

    def refuse(self, error: Exception) -> None:
        """Count and log what cannot be used; from any thread."""
        self._health.refused(error)
        kind = type(error).__name__
        now_s = time.monotonic()
        if now_s - self._logged_s.get(kind, -_LOG_AGAIN_S) < _LOG_AGAIN_S:
            return
        self._logged_s[kind] = now_s
        text = f"{kind}: {error}"
        if isinstance(error, PerceptionError):
            self._logger.warning(text)
        else:
            self._logger.error("".join(traceback.format_exception(type(error), error, error.__traceback__)) or text)

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
            self._health.noted(note)
            self._logger.info(note)

    def _keep(self, frame: RgbdFrame, scene: Scene) -> None:
        try:
            self._store.keep(frame, scene)
        except OSError as error:
            self.refuse(
                SinkError(
                    f"objects cannot be kept for a restart ({error}): free the disk, or set resume_max_age_s to 0"
                )
            )

    def _process(self, pair: Pair) -> None:
        start_s = time.monotonic()
        frame = frame_from_msgs(pair.color, pair.depth, pair.info)
        converted_s = time.monotonic()
        if self._perception.config is not self._config:
            self._perception.reconfigure(self._config)
        for error in self.desk.hand_over(self._perception):
            self.refuse(error)
        wanted = self._outputs.wanted()
        parts = self._outputs.parts(wanted)
        try:
            scene = self._perception.step(frame, wanted=parts)
        finally:
            self.desk.settle(self._perception)
        if not self._active:
            return
        with self._lock:
            self._newest = Processed(frame, scene, lifted=Wanted.POSITIONS in parts)
        self._tell(scene)
        stepped_s = time.monotonic()
        self._outputs.publish(wanted, frame, scene, self._perception.config.grasps)
        end_s = time.monotonic()
        self._keep(frame, scene)
        latencies_ms = {
            "wait": (start_s - pair.received_s) * 1e3,
            "convert": (converted_s - start_s) * 1e3,
            **scene.timings_ms,
            "publish": (end_s - stepped_s) * 1e3,
            "receive to publish": (end_s - pair.received_s) * 1e3,
        }
        age_ms = (self._now_ns() - frame.stamp_ns) * 1e-6
        if 0 <= age_ms < _SAME_CLOCK_MS:
            latencies_ms["stamp to publish"] = age_ms
        self._health.processed(latencies_ms, float(np.count_nonzero(frame.depth_m > 0) / frame.depth_m.size))

    def _tell(self, scene: Scene) -> None:
        for reason in scene.rejected:
            self.refuse(PromptError(reason))
        for note in scene.notes:
            self._health.noted(note)
            self._logger.info(note)
