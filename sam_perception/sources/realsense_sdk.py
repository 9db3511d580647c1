"""librealsense's pipeline: finding cameras, opening them, opening recordings. The one place that starts it.

Errors of the SDK are `RuntimeError`s with a sentence; they become `SourceError`s with what to do.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_perception.errors import SourceError
from sam_perception.sources.realsense_config import RealSenseConfig
from sam_perception.sources.realsense_motion import Accelerometer
from sam_perception.sources.realsense_transforms import Matrix, depth_from_color

Frameset = Any  # pyrealsense2 makes its classes at run time
_RESUME_S = 12.0  # the SDK gives up after 10
_QUEUE = 2  # framesets; the newest push out the oldest
_UDEV = "install librealsense's udev rules (99-realsense-libusb.rules), then plug the camera in again"


@dataclass(frozen=True)
class CameraDescription:
    """A camera that is plugged in; what it does not tell is empty."""

    name: str
    serial: str
    firmware: str = ""
    recommended_firmware: str = ""
    usb: str = ""  # "3.2": fast enough; "2.1": not

    def __str__(self) -> str:
        usb = f", USB {self.usb}" if self.usb else ""
        return f"{self.name} {self.serial}{usb}"


def load_sdk() -> Any:
    """The pyrealsense2 module.

    Raises:
        SourceError: not installed, or its libraries are not.
    """
    try:
        return importlib.import_module("pyrealsense2")
    except ImportError as error:
        raise SourceError(
            f"pyrealsense2 cannot be imported ({error}): pip install pyrealsense2, and libusb-1.0 from the system"
        ) from error


def list_cameras(context: Any = None) -> tuple[CameraDescription, ...]:
    """Every camera that librealsense sees now.

    Raises:
        SourceError: no SDK, or a camera that cannot be asked.
    """
    cameras, faults = _ask(load_sdk(), context)
    if faults:
        raise SourceError(f"librealsense cannot ask the cameras ({faults[0]}): {_UDEV}") from faults[0]
    return cameras


class Stream:
    """A running pipeline of colour and depth.

    Args:
        sdk: the pyrealsense2 module.
        pipeline: started.
        queue: that it delivers to; None: its own.
        resuming: a thread that comes to its end when frames are taken or the stream is closed.
    """

    def __init__(self, sdk: Any, pipeline: Any, queue: Any = None, resuming: threading.Thread | None = None) -> None:
        self._sdk, self._pipeline, self._queue, self._resuming = sdk, pipeline, queue, resuming
        profile = pipeline.get_active_profile()
        self._device = profile.get_device()
        self.camera = _describe(sdk, self._device)
        self.depth_from_color: Matrix | None = depth_from_color(sdk, profile.get_streams())

    def next(self, timeout_s: float) -> Frameset | None:
        """The next frameset, or None where none came in time."""
        timeout_ms = max(1, round(timeout_s * 1000))
        if self._queue is not None:
            came, frame = self._queue.try_wait_for_frame(timeout_ms)
            return frame.as_frameset() if came else None
        came, frames = self._pipeline.try_wait_for_frames(timeout_ms)
        return frames if came else None

    def accelerometer(self) -> Accelerometer:
        """The camera's accelerometer, started.

        Raises:
            SourceError: it has none, or it does not start.
        """
        try:
            streams = self._pipeline.get_active_profile().get_streams()
            color = next(profile for profile in streams if profile.stream_type() == self._sdk.stream.color)
            return Accelerometer(self._sdk, self._device, color)
        except RuntimeError as error:
            raise SourceError(
                f"librealsense cannot ask for the accelerometer ({error}): set accelerometer to false, or plug the "
                "camera in again"
            ) from error

    @property
    def connected(self) -> bool:
        """Whether the SDK still sees the camera."""
        return bool(self._device.is_connected())

    @property
    def ended(self) -> bool:
        """Whether a recording has been played to its end; never true of a camera."""
        # The SDK starts to play some time after it was told to, and says that it is stopped until then.
        if not self._device.is_playback() or (self._resuming is not None and self._resuming.is_alive()):
            return False
        return bool(self._device.as_playback().current_status() == self._sdk.playback_status.stopped)

    def close(self) -> None:
        """Stop; twice is fine."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            with suppress(RuntimeError):  # unplugged: there is nothing left to stop
                # A recording that has ended says so before the SDK's reading thread is done with the pipeline,
                # which crashes where that is gone by then. Pausing waits for the thread.
                if self.ended:
                    self._device.as_playback().pause()
                pipeline.stop()
        if self._resuming is not None:
            self._resuming.join(_RESUME_S)


def open_camera(config: RealSenseConfig, context: Any = None) -> Stream:
    """Start a live camera.

    Frames come through a queue of the SDK, not by the pipeline's own waiting: that one tries to
    connect again by itself, for up to 15 s at a time, when a camera is unplugged.

    Raises:
        SourceError: no such camera, or it cannot stream this.
    """
    sdk = load_sdk()
    try:
        context = context or sdk.context()
    except RuntimeError as error:
        raise SourceError(f"librealsense cannot look for cameras ({error}): {_UDEV}") from error
    cameras, faults = _ask(sdk, context)
    # A camera that cannot be asked does not keep another one from being opened.
    if faults and config.serial not in [camera.serial for camera in cameras]:
        raise SourceError(f"librealsense cannot ask the cameras ({faults[0]}): {_UDEV}") from faults[0]
    serial = _choose_serial(cameras, config.serial)
    try:
        # A config remembers the device that it was resolved for, so a new one each time.
        asked = sdk.config()
        asked.enable_device(serial)
        asked.enable_stream(sdk.stream.depth, config.width, config.height, sdk.format.z16, config.fps)
        asked.enable_stream(sdk.stream.color, config.width, config.height, sdk.format.rgb8, config.fps)
        pipeline, queue = sdk.pipeline(context), sdk.frame_queue(_QUEUE)
        pipeline.start(asked, queue)
    except RuntimeError as error:
        raise SourceError(
            f"camera {serial} does not start with {config.width} x {config.height} at {config.fps} Hz ({error}): "
            "choose sizes and a rate that `rs-enumerate-devices` lists for colour and depth (0: the default), close "
            "other programs that use it, and use a USB 3 port and cable"
        ) from error
    try:
        return Stream(sdk, pipeline, queue)
    except RuntimeError as error:
        with suppress(RuntimeError):
            pipeline.stop()
        raise SourceError(
            f"camera {serial} started and then did not say what it is ({error}): it may just have been unplugged; "
            "check cable, USB 3 port and power, and plug it in again"
        ) from error


def open_recording(path: Path, *, real_time: bool = False) -> Stream:
    """Start playing a file that librealsense recorded (.bag up to SDK 2.56, .db3 later).

    To play it again, open it again: the SDK's own repetition leaves frames of the beginning out, and puts
    the last depth image and the first colour image into one frameset.

    Args:
        path: the file.
        real_time: play at the recorded pace and drop what is not taken in time; else every frame waits.

    Raises:
        SourceError: not such a file, or without colour and depth.
    """
    sdk = load_sdk()
    if not path.is_file():
        raise SourceError(f"{path} is no file: give a recording of librealsense (.bag or .db3), or a serial number")
    asked, pipeline = sdk.config(), sdk.pipeline(sdk.context())
    try:
        asked.enable_device_from_file(str(path), repeat_playback=False)
        asked.enable_stream(sdk.stream.depth)
        asked.enable_stream(sdk.stream.color)
        playback = asked.resolve(sdk.pipeline_wrapper(pipeline)).get_device().as_playback()
        # The file is read from when the first of the sensors is started, and what it holds of the others is
        # dropped until they are: on a busy machine that was up to half a second of frames.
        playback.pause()
        playback.set_real_time(real_time)
        pipeline.start(asked)
    except RuntimeError as error:
        raise SourceError(
            f"{path} cannot be played ({error}): it has to be a whole recording of librealsense with colour and depth; "
            "a rosbag2 is read without the prefix realsense:"
        ) from error
    # In a thread, since it does not return before frames are taken.
    resuming = threading.Thread(target=playback.resume, name="sam_perception playback", daemon=True)
    resuming.start()
    try:
        return Stream(sdk, pipeline, resuming=resuming)
    except RuntimeError as error:
        with suppress(RuntimeError):
            pipeline.stop()
        raise SourceError(f"{path} plays, and does not say of which camera it is ({error}): record it again") from error


def _ask(sdk: Any, context: Any) -> tuple[tuple[CameraDescription, ...], list[RuntimeError]]:
    """Every camera that says what it is, and what went wrong with the others."""
    cameras, faults = [], []
    try:
        devices = list((context or sdk.context()).query_devices())
    except RuntimeError as error:
        return (), [error]
    for device in devices:
        try:
            cameras.append(_describe(sdk, device))
        except RuntimeError as error:
            faults.append(error)
    return tuple(cameras), faults


def _choose_serial(cameras: Sequence[CameraDescription], serial: str) -> str:
    seen = ", ".join(str(camera) for camera in cameras) or "no camera"
    if serial and serial not in (camera.serial for camera in cameras):
        raise SourceError(
            f"camera {serial} is not there; librealsense sees {seen}: check the serial number, the cable and the port"
        )
    if not cameras:
        raise SourceError(f"librealsense sees no camera: plug it into a USB 3 port; if it is, {_UDEV}")
    return serial or cameras[0].serial


def _describe(sdk: Any, device: Any) -> CameraDescription:
    def info(name: str) -> str:
        what = getattr(sdk.camera_info, name)
        return str(device.get_info(what)) if device.supports(what) else ""

    return CameraDescription(
        name=info("name"),
        serial=info("serial_number"),
        firmware=info("firmware_version"),
        recommended_firmware=info("recommended_firmware_version"),
        usb=info("usb_type_descriptor"),
    )
