"""A live RealSense that may be unplugged and plugged in again."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from sam_perception.errors import PerceptionError, SourceError
from sam_perception.frame import RgbdFrame
from sam_perception.sources.realsense_config import RealSenseConfig
from sam_perception.sources.realsense_frames import FrameMaker
from sam_perception.sources.realsense_motion import Accelerometer
from sam_perception.sources.realsense_sdk import CameraDescription, Stream, load_sdk, open_camera

_LOG = logging.getLogger(__name__)
_FIRST_RETRY_S = 0.25
_LOOK_S = 0.1  # between two looks at whether the camera is still there


@dataclass(frozen=True)
class CameraStatus:
    """What a person should know about a camera."""

    camera: CameraDescription | None  # None: not open now
    frames: int
    rejected: Mapping[str, int]  # by kind of error
    losses: int  # times that it went away or fell silent
    problem: str  # why there is no picture now, and what to do; empty: all is well
    metadata: Mapping[str, int]  # of the newest colour frame, as librealsense names it


class RealSenseCamera:
    """Frames of one live camera.

    A camera that is unplugged, or sends no usable frame for `timeout_s`, is closed, and opened again
    as soon as it is there, with growing pauses between attempts. `read` is for one thread; `status`
    and `close` may be called from any.

    Tested with librealsense's software devices, which go through the SDK's own context, pipeline and
    alignment, and come and go there. Not tested with a camera in the hand: USB errors, firmware, and
    how soon the SDK notices that a plug was pulled.

    Args:
        config: which camera, and how.
        context: librealsense's context to look for it in; None: a new one.
        now_ns: host's clock, nanoseconds.
        monotonic_s: seconds that never go back.

    Raises:
        SourceError: pyrealsense2 is not installed. A camera that is not there is waited for.
    """

    def __init__(
        self,
        config: RealSenseConfig | None = None,
        *,
        context: Any = None,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        sdk = load_sdk()
        self.config = config or RealSenseConfig()
        self._context = context or sdk.context()
        self._now_ns, self._monotonic_s = now_ns, monotonic_s
        self._maker = FrameMaker(sdk, self.config)
        self._stream: Stream | None = None
        self._motion: Accelerometer | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._frames, self._losses = 0, 0
        self._counts: Counter[str] = Counter()
        self._problem = "the camera has not been opened yet"
        self._retry_s, self._next_try_s = _FIRST_RETRY_S, float("-inf")
        self._fresh_s = 0.0  # when the last good frame came, or the camera was opened

    def read(self, timeout_s: float) -> RgbdFrame | None:
        """The next frame, or None where none came in time or the camera was closed; opens the camera as needed."""
        end_s = self._monotonic_s() + timeout_s
        while not self._closed.is_set():
            left_s = end_s - self._monotonic_s()
            if left_s <= 0:
                break
            if self._stream is None:
                self._try_to_open(left_s)
                continue
            frame = self._next(self._stream, min(left_s, _LOOK_S))
            if frame is not None:
                return frame
        if self._closed.is_set():
            self._release()
        return None

    @property
    def status(self) -> CameraStatus:
        """How the camera is now."""
        with self._lock:
            stream = self._stream
            return CameraStatus(
                camera=stream.camera if stream is not None else None,
                frames=self._frames,
                rejected=dict(self._counts),
                losses=self._losses,
                problem=self._problem,
                metadata=self._maker.metadata,
            )

    def close(self) -> None:
        """Let `read` end soon, and nothing be read any more."""
        self._closed.set()

    def __enter__(self) -> RealSenseCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._release()

    def _try_to_open(self, left_s: float) -> None:
        wait_s = self._next_try_s - self._monotonic_s()
        if wait_s > 0:
            self._closed.wait(min(wait_s, left_s))
            return
        try:
            stream = open_camera(self.config, self._context)
        except SourceError as error:
            self._set_problem(str(error))
            self._next_try_s = self._monotonic_s() + self._retry_s
            self._retry_s = min(2 * self._retry_s, self.config.max_retry_s)
            return
        self._maker.restart()
        self._fresh_s = self._monotonic_s()
        if self.config.accelerometer:
            try:
                self._motion = stream.accelerometer()
            except SourceError as error:  # pictures are worth more
                self._reject(error)
        with self._lock:
            self._stream = stream
        _LOG.info("opened %s", stream.camera)

    def _next(self, stream: Stream, timeout_s: float) -> RgbdFrame | None:
        frames = stream.next(timeout_s)
        frame = self._frame_of(frames) if frames is not None and self._maker.is_new(frames) else None
        if frame is None:
            silent_s = self._monotonic_s() - self._fresh_s
            if not stream.connected:
                self._lose(f"camera {stream.camera.serial} was unplugged: plug it in again, it is opened by itself")
            elif silent_s > self.config.timeout_s:
                self._lose(
                    f"camera {stream.camera.serial} has sent no usable frame for {silent_s:.1f} s and is opened again: "
                    "check cable, USB 3 port and power; if it persists, plug it in again"
                )
            return None
        self._fresh_s, self._retry_s = self._monotonic_s(), _FIRST_RETRY_S
        with self._lock:
            self._frames += 1
            self._problem = ""
        return frame

    def _frame_of(self, frames: Any) -> RgbdFrame | None:
        try:
            frame = self._maker.make(frames, self._now_ns())
            return frame if self._motion is None else replace(frame, up=self._motion.up)
        except PerceptionError as error:
            self._reject(error)
        return None

    def _reject(self, error: PerceptionError) -> None:
        with self._lock:
            self._counts[error.kind] += 1
            self._problem = str(error)
            first = self._counts[error.kind] == 1
        if first:
            _LOG.warning("%s: %s", error.kind, error)

    def _lose(self, problem: str) -> None:
        _LOG.warning("%s", problem)
        self._release()
        # A camera that opens and never sends is not opened in a tight loop either.
        self._next_try_s = self._monotonic_s() + self._retry_s
        self._retry_s = min(2 * self._retry_s, self.config.max_retry_s)
        with self._lock:
            self._losses += 1
            self._problem = problem

    def _release(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        if self._motion is not None:
            self._motion.close()
            self._motion = None
        if stream is not None:
            stream.close()

    def _set_problem(self, problem: str) -> None:
        with self._lock:
            changed, self._problem = problem != self._problem, problem
        if changed:
            _LOG.warning("%s", problem)
