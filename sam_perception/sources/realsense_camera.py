"""A live RealSense that may be unplugged and plugged in again, or a recording played as if it were one."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from sam_perception.errors import PerceptionError, SourceError
from sam_perception.frame import RgbdFrame
from sam_perception.sources.realsense_config import RealSenseConfig
from sam_perception.sources.realsense_frames import FrameMaker
from sam_perception.sources.realsense_motion import Accelerometer
from sam_perception.sources.realsense_retry import Retry, ThrottledLog
from sam_perception.sources.realsense_sdk import CameraDescription, Stream, load_sdk, open_camera, open_recording
from sam_perception.sources.realsense_transforms import Matrix

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.1  # between two looks at whether the camera is still there


@dataclass(frozen=True, eq=False)  # arrays break ==
class CameraStatus:
    """What a person should know about a camera."""

    camera: CameraDescription | None  # None: not open now
    frames: int
    rejected: Mapping[str, int]  # by kind of error
    losses: int  # times that it went away or fell silent
    problem: str  # why there is no picture now, and what to do; empty: all is well
    metadata: Mapping[str, int]  # of the newest colour frame, as librealsense names it
    depth_from_color: Matrix | None = None  # (4, 4) between the optical frames; None: not open, or it does not tell
    ended: bool = False  # a recording has been played to its end, and is not to begin again


class RealSenseCamera:
    """Frames of one live camera, or of a recording (`rosbag_filename`) at its own pace.

    A camera that is unplugged, of which the SDK reports a fault, or that sends no usable frame for
    `timeout_s`, is closed, and opened again as soon as it is there, with growing pauses between
    attempts. Nothing that the SDK raises gets out of `read`. `read` is for one thread; `status` and
    `close` may be called from any.

    Frames of a recording have the stamps that they were recorded with; with `rosbag_loop` they go back
    to the first one each time it begins again.

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
        self._sdk, self._context = sdk, context
        self._recording = Path(self.config.rosbag_filename) if self.config.rosbag_filename else None
        self._now_ns, self._monotonic_s = now_ns, monotonic_s
        self._maker = FrameMaker(sdk, self.config)
        self._stream: Stream | None = None
        self._motion: Accelerometer | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._frames, self._losses = 0, 0
        self._counts: Counter[str] = Counter()
        self._problem = "the camera has not been opened yet"
        self._retry = Retry(self.config.max_retry_s, monotonic_s)
        self._log = ThrottledLog(_LOG, monotonic_s)
        self._fresh_s = 0.0  # when the last good frame came, or the camera was opened
        self._opened_at = 0  # frames, when it was opened
        self._over, self._ended = False, False  # a recording: not to be read on; played to its end

    def read(self, timeout_s: float) -> RgbdFrame | None:
        """The next frame, or None where none came in time or the camera was closed; opens the camera as needed."""
        end_s = self._monotonic_s() + timeout_s
        while not self._closed.is_set():
            left_s = end_s - self._monotonic_s()
            if left_s <= 0:
                break
            if self._over:
                self._closed.wait(left_s)
                continue
            try:
                if self._stream is None:
                    self._try_to_open(left_s)
                    continue
                frame = self._next(self._stream, min(left_s, _LOOK_S))
            except Exception as error:  # the SDK says everything by RuntimeError; whatever it is, the thread goes on
                self._fail(error)
                continue
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
                depth_from_color=stream.depth_from_color if stream is not None else None,
                ended=self._ended,
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
        wait_s = self._retry.wait_s
        if wait_s > 0:
            self._closed.wait(min(wait_s, left_s))
            return
        try:
            stream = self._open()
        except SourceError as error:
            with self._lock:
                self._problem = str(error)
            self._log.say_once("open", str(error))
            self._retry.failed()
            return
        with self._lock:
            self._stream = stream
        self._retry.opened()
        self._fresh_s, self._opened_at = self._monotonic_s(), self._frames
        if self._recording is None:
            self._maker.restart()
        else:
            self._maker.rewind()
        if self.config.accelerometer and self._recording is None:
            try:
                self._motion = stream.accelerometer()
            except SourceError as error:  # pictures are worth more
                self._reject(error)
        self._log.forget("open")
        where = f" in {self._recording}" if self._recording is not None else ""
        self._log.say("opened", f"opened {stream.camera}{where}", logging.INFO)

    def _open(self) -> Stream:
        if self._recording is not None:
            return open_recording(self._recording, real_time=True)
        if self._context is None:
            self._context = self._sdk.context()  # kept: the SDK notices in it what is plugged in
        return open_camera(self.config, self._context)

    def _next(self, stream: Stream, timeout_s: float) -> RgbdFrame | None:
        frames = stream.next(timeout_s)
        if frames is None and self._recording is not None and stream.ended:
            frames = stream.next(0.001)  # what came between the two looks
            if frames is None:
                self._end_recording()
                return None
        frame = self._frame_of(frames) if frames is not None and self._maker.is_new(frames) else None
        if frame is None:
            if self._recording is None:
                self._check_alive(stream)
            return None
        self._fresh_s = self._monotonic_s()
        self._retry.worked()
        with self._lock:
            self._frames += 1
            self._problem = ""
        return frame

    def _check_alive(self, stream: Stream) -> None:
        silent_s = self._monotonic_s() - self._fresh_s
        if not stream.connected:
            self._lose(
                "unplugged", f"camera {stream.camera.serial} was unplugged: plug it in again, it is opened by itself"
            )
        elif silent_s > self.config.timeout_s:
            self._lose(
                "silent",
                f"camera {stream.camera.serial} has sent no usable frame for {silent_s:.1f} s and is opened again: "
                "check cable, USB 3 port and power; if it persists, plug it in again",
            )

    def _end_recording(self) -> None:
        if self._frames == self._opened_at:
            counts = ", ".join(f"{count} {kind}" for kind, count in self._counts.items()) or "none at all"
            self._over = not self.config.rosbag_loop
            self._lose("empty", f"{self._recording} has no usable frame ({counts}): record it again")
            return
        self._release()
        if self.config.rosbag_loop:
            return  # is opened again at once
        self._over = True
        problem = f"{self._recording} has been played to its end: start again, or set rosbag_loop to true"
        with self._lock:
            self._ended, self._problem = True, problem
        self._log.say("ended", problem, logging.INFO)

    def _frame_of(self, frames: Any) -> RgbdFrame | None:
        try:
            # What a recording does not say about its frames' arrival, nobody knows.
            frame = self._maker.make(frames, self._now_ns() if self._recording is None else None)
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

    def _fail(self, error: Exception) -> None:
        """The SDK, or something here, raised what nobody expected."""
        seen = f"{type(error).__name__}: {error}"
        if self._recording is not None:
            again = self.config.rosbag_loop or self._stream is None
            self._over = not again
            problem = f"{self._recording} cannot be read {'' if again else 'further '}({seen}): record it again"
        elif self._stream is not None:
            problem = (
                f"camera {self._stream.camera.serial} failed while it was read ({seen}) and is opened again: check "
                "cable, USB 3 port and power; if it persists, plug it in again"
            )
        else:
            problem = (
                f"the camera could not be opened ({seen}), it is tried again: check cable, USB 3 port and power; if it "
                "persists, plug it in again"
            )
        self._lose("failed", problem, error)

    def _lose(self, kind: str, problem: str, error: Exception | None = None) -> None:
        self._log.say(kind, problem, error=error)
        opened = self._stream is not None
        self._release()
        self._retry.failed()  # a camera that opens and never sends is not opened in a tight loop either
        with self._lock:
            self._losses += opened
            self._problem = problem

    def _release(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        motion, self._motion = self._motion, None
        # Whatever the SDK says of what is gone: it is let go of.
        for one in (motion, stream):
            if one is not None:
                with suppress(Exception):
                    one.close()
