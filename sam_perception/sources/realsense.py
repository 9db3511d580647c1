"""RealSense cameras and recordings as frames, through librealsense's Python module, without a ROS driver.

    with RealSenseCamera(RealSenseConfig(serial="123622270472")) as camera:
        frame = camera.read(timeout_s=1.0)

    with RealSenseSource("realsense:recording.bag") as source:
        for frame in source: ...

Colour is RGB, depth is metres on colour's pixels (`rs.align`), stamps are ROS time
(`realsense_stamps`), the lens model is librealsense's under this package's name for it
(`realsense_frames`), and the frame is `camera_color_optical_frame`, as realsense2_camera has it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from sam_perception.errors import FrameError, SourceError
from sam_perception.frame import RgbdFrame
from sam_perception.sources.realsense_camera import CameraStatus, RealSenseCamera
from sam_perception.sources.realsense_config import FilterConfig, RealSenseConfig
from sam_perception.sources.realsense_frames import FrameMaker
from sam_perception.sources.realsense_sdk import CameraDescription, list_cameras, load_sdk, open_recording
from sam_perception.sources.source import ENDLESS, Rejection

__all__ = [
    "PREFIX",
    "CameraDescription",
    "CameraStatus",
    "FilterConfig",
    "RealSenseCamera",
    "RealSenseConfig",
    "RealSenseSource",
    "list_cameras",
]

PREFIX = "realsense:"
_SUFFIXES = (".bag", ".db3")
_WAIT_S = 0.1  # between two looks at whether a recording has ended, or a live camera is to be stopped
_FIRST_FRAME_S = 15.0


class RealSenseSource:
    """A recording of librealsense, or a live camera, for `sam-perception process`. A `FrameSource`.

    A recording gives every frame once, whatever time is taken for it; the same file gives the same
    frames. A live camera gives frames until `stop`, and drops those that are not taken in time.

    Args:
        address: `realsense:FILE` for a recording (.bag or .db3), `realsense:SERIAL` for a camera,
            `realsense:` for the first camera found.
        config: filters and frame; streams and serial number only count for a camera.
        context: librealsense's context to look for cameras in; None: a new one.

    Raises:
        SourceError: pyrealsense2 is missing, or the file is not such a recording.
    """

    def __init__(self, address: str | Path, config: RealSenseConfig | None = None, *, context: Any = None) -> None:
        target = str(address).removeprefix(PREFIX)
        self._config = config or RealSenseConfig()
        self._context = context
        self._path: Path | None = None
        if "/" in target or target.endswith(_SUFFIXES) or (target and Path(target).is_file()):
            self._path = Path(target)
        elif target:
            self._config = replace(self._config, serial=target)
        self._rejected: list[Rejection] = []
        self._stopped = threading.Event()
        self._count: int | None = None
        self._what = f"RealSense {target or '(the first one found)'}, live"
        load_sdk()
        if self._path is not None:
            stream = open_recording(self._path)  # now, so that a wrong file is found before anything is written
            self._what = f"{self._path} ({stream.camera.name or 'unnamed camera'} {stream.camera.serial})".strip()
            stream.close()

    @property
    def description(self) -> str:
        """One line for people."""
        return self._what if self._path is None else f"{len(self)} frames from {self._what}"

    @property
    def independent(self) -> bool:
        """False: the frames are one recording."""
        return False

    @property
    def live(self) -> bool:
        """Whether this is a camera, which has no last frame."""
        return self._path is None

    @property
    def rejected(self) -> Sequence[Rejection]:
        """Frames left out so far in the latest iteration; none of a live camera, which logs them."""
        return self._rejected

    def __len__(self) -> int:
        """Pictures in the recording, counted by playing it once; ENDLESS of a live camera."""
        if self._path is None:
            return ENDLESS
        if self._count is None:
            maker = FrameMaker(load_sdk(), self._config)
            self._count = sum(maker.is_new(frames) for frames in _played(self._path))
        return self._count

    def __iter__(self) -> Iterator[RgbdFrame]:
        self._stopped.clear()
        return self._from_camera() if self._path is None else self._from_file(self._path)

    def __enter__(self) -> RealSenseSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End a live camera's frames; from any thread."""
        self._stopped.set()

    def _from_file(self, path: Path) -> Iterator[RgbdFrame]:
        self._rejected = []
        maker = FrameMaker(load_sdk(), self._config)
        for frames in _played(path):
            if not maker.is_new(frames):
                continue
            try:
                frame = maker.make(frames)
            except RuntimeError as error:
                raise _broken(path, error) from error
            except FrameError as error:
                color = frames.get_color_frame() or frames.get_depth_frame()
                self._rejected.append(Rejection.of(round(color.get_timestamp() * 1e6), error))
                continue
            yield frame

    def _from_camera(self) -> Iterator[RgbdFrame]:
        with RealSenseCamera(self._config, context=self._context) as camera:
            self._rejected = []
            frame = camera.read(_FIRST_FRAME_S)
            if frame is None:
                raise SourceError(camera.status.problem)
            while not self._stopped.is_set():
                if frame is not None:
                    yield frame
                frame = camera.read(_WAIT_S)


def _played(path: Path) -> Iterator[Any]:
    """Every frameset of a recording."""
    stream = open_recording(path)
    try:
        while True:
            frames = stream.next(_WAIT_S)
            if frames is None and stream.ended:
                frames = stream.next(0.001)  # what came between the two looks
                if frames is None:
                    return
            if frames is not None:
                yield frames
    except RuntimeError as error:
        raise _broken(path, error) from error
    finally:
        stream.close()


def _broken(path: Path, error: RuntimeError) -> SourceError:
    return SourceError(f"{path} cannot be read further ({error}): what came until here is good, record the rest again")
