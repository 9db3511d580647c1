"""RealSenses of librealsense's own make: software devices, which its context and pipeline take for cameras."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

START_MS = 1_700_000_000_000.0
PERIOD_MS = 1000 / 30
WIDTH, HEIGHT = 160, 120


def sdk() -> Any:
    return pytest.importorskip("pyrealsense2", exc_type=ImportError)


def intrinsics(width: int, height: int, focal: float, model: str = "none", coefficients: Any = (0.0,) * 5) -> Any:
    made = sdk().intrinsics()
    made.width, made.height, made.fx, made.fy = width, height, focal, 0.99 * focal
    made.ppx, made.ppy = width / 2 + 1.25, height / 2 - 2.5
    made.model, made.coeffs = getattr(sdk().distortion, model), list(coefficients)
    return made


class SoftwareCamera:
    """Colour and depth with a baseline between them; in no context until it is plugged in."""

    def __init__(
        self,
        serial: str = "0042",
        *,
        color: Any = None,
        depth: Any = None,
        color_format: str = "rgb8",
        depth_unit_m: float = 0.001,
        translation_m: tuple[float, float, float] = (0.015, 0.0, 0.0),
    ) -> None:
        rs = sdk()
        self.color_intrinsics = color or intrinsics(WIDTH, HEIGHT, 150.0)
        self.depth_intrinsics = depth or intrinsics(WIDTH, HEIGHT, 140.0)
        self.depth_unit_m, self.pixel_bytes = depth_unit_m, {"rgb8": 3, "bgr8": 3, "yuyv": 2, "y16": 2}[color_format]
        self.device = rs.software_device()
        for name, value in (
            ("serial_number", serial),
            ("name", "Software Camera"),
            ("usb_type_descriptor", "3.2"),
            ("firmware_version", "5.1.0.0"),
            ("recommended_firmware_version", "5.2.0.0"),
        ):
            self.device.register_info(getattr(rs.camera_info, name), value)
        self.depth_sensor = self.device.add_sensor("Stereo Module")
        self.color_sensor = self.device.add_sensor("RGB Camera")
        self._depth_profile = self.depth_sensor.add_video_stream(
            self._stream(rs.stream.depth, rs.format.z16, 2, self.depth_intrinsics, 1), True
        )
        self._color_profile = self.color_sensor.add_video_stream(
            self._stream(rs.stream.color, getattr(rs.format, color_format), self.pixel_bytes, self.color_intrinsics, 2),
            True,
        )
        self.depth_sensor.add_read_only_option(rs.option.depth_units, depth_unit_m)
        self.depth_sensor.add_read_only_option(rs.option.stereo_baseline, 50.0)
        extrinsics = rs.extrinsics()
        extrinsics.rotation, extrinsics.translation = [1.0, 0, 0, 0, 1, 0, 0, 0, 1], list(translation_m)
        self._depth_profile.register_extrinsics_to(self._color_profile, extrinsics)
        self.device.create_matcher(rs.matchers.default)
        self._listed: Any = None

    def _stream(self, kind: Any, form: Any, pixel_bytes: int, camera: Any, uid: int) -> Any:
        stream = sdk().video_stream()
        stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, 0, uid, form, pixel_bytes
        stream.width, stream.height, stream.fps, stream.intrinsics = camera.width, camera.height, 30, camera
        return stream

    def plug_into(self, context: Any) -> None:
        """The context lists a software device for as long as somebody holds the list that it was announced in."""
        announced: list[Any] = []
        context.set_devices_changed_callback(lambda event: announced.append(event.get_new_devices()))
        self.device.add_to(context)
        self._listed = announced.pop()  # the context keeps the callback, and with it the list

    def unplug(self) -> None:
        self._listed = None

    def push(
        self,
        number: int,
        *,
        color: np.ndarray | None = None,
        depth: np.ndarray | None = None,
        stamp_ms: float | None = None,
        depth_stamp_ms: float | None = None,
        domain: str = "global_time",
        streams: str = "both",
    ) -> None:
        """Send pictures; without ones of your own, grey `number` a metre away."""
        stamp_ms = START_MS + number * PERIOD_MS if stamp_ms is None else stamp_ms
        c, d = self.color_intrinsics, self.depth_intrinsics
        if color is None:
            color = np.full((c.height, c.width, self.pixel_bytes), number % 256, np.uint8)
        if depth is None:
            depth = np.full((d.height, d.width), round(1 / self.depth_unit_m), np.uint16)
        if streams in ("both", "depth"):
            at_ms = stamp_ms if depth_stamp_ms is None else depth_stamp_ms
            self.depth_sensor.on_video_frame(
                self._frame(depth, self._depth_profile, 2, d.width, number, at_ms, domain, self.depth_unit_m)
            )
        if streams in ("both", "color"):
            self.color_sensor.on_video_frame(
                self._frame(color, self._color_profile, self.pixel_bytes, c.width, number, stamp_ms, domain)
            )

    def _frame(
        self, pixels: np.ndarray, profile: Any, pixel_bytes: int, width: int, number: int, at_ms: float, domain: str,
        unit_m: float = 0.0,
    ) -> Any:  # fmt: skip
        frame = sdk().software_video_frame()
        frame.pixels, frame.bpp, frame.stride = np.ascontiguousarray(pixels), pixel_bytes, width * pixel_bytes
        frame.timestamp, frame.domain, frame.frame_number = at_ms, getattr(sdk().timestamp_domain, domain), number
        frame.profile, frame.depth_units = profile.as_video_stream_profile(), unit_m
        return frame

    def pipeline(self, record_to: Path | None = None) -> Any:
        """A started pipeline of the SDK's on this camera, recording where asked."""
        rs = sdk()
        pipeline, config = rs.pipeline(rs.context()), rs.config()
        pipeline.set_device(self.device)
        if record_to is not None:
            config.enable_record_to_file(str(record_to))
        pipeline.start(config)
        return pipeline

    def record(self, path: Path, count: int, **pushed: Any) -> Path:
        """A recording of `count` framesets by librealsense."""
        pipeline = self.pipeline(record_to=path)
        for number in range(1, count + 1):
            self.push(number, **pushed)
            came, _ = pipeline.try_wait_for_frames(5000)
            assert came
        pipeline.stop()
        return path

    def frameset(self, pipeline: Any, number: int = 1, **pushed: Any) -> Any:
        """One frameset through the SDK's pipeline."""
        self.push(number, **pushed)
        came, frames = pipeline.try_wait_for_frames(5000)
        assert came
        return frames


class CameraWithImu(SoftwareCamera):
    """Its accelerometer is turned by a quarter about the line of sight: its x axis is colour's y."""

    def __init__(self) -> None:
        super().__init__()
        rs = sdk()
        self.motion_sensor = self.device.add_sensor("Motion Module")
        stream = rs.motion_stream()
        stream.type, stream.index, stream.uid, stream.fps = rs.stream.accel, 0, 9, 100
        stream.fmt, stream.intrinsics = rs.format.motion_xyz32f, rs.motion_device_intrinsic()
        self._motion_profile = self.motion_sensor.add_motion_stream(stream)
        turned = rs.extrinsics()
        turned.rotation, turned.translation = [0.0, 1, 0, -1, 0, 0, 0, 0, 1], [0.01, 0, 0]
        self._motion_profile.register_extrinsics_to(self._color_profile, turned)

    def measure(self, acceleration: tuple[float, float, float], number: int = 1) -> None:
        rs = sdk()
        frame, data = rs.software_motion_frame(), rs.vector()
        data.x, data.y, data.z = acceleration
        frame.data, frame.timestamp, frame.domain = data, START_MS + 10.0 * number, rs.timestamp_domain.global_time
        frame.frame_number, frame.profile = number, self._motion_profile.as_motion_stream_profile()
        self.motion_sensor.on_motion_frame(frame)


def record(path: Path, count: int, **made: Any) -> Path:
    """A recording by the SDK of `count` frames, at the pace at which they came."""
    camera, pause = SoftwareCamera("123", **made), threading.Event()
    pipeline = camera.pipeline(record_to=path)
    for number in range(1, count + 1):
        camera.push(number)
        came, _ = pipeline.try_wait_for_frames(5000)
        assert came
        pause.wait(PERIOD_MS * 1e-3)
    pipeline.stop()
    return path


def read_until(camera: Any, done: Callable[[Any], bool], limit_s: float = 20.0) -> Any:
    """Read a `RealSenseCamera` until `done` with what it gave: a frame, or None."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        frame = camera.read(0.2)
        if done(frame):
            return frame
    raise AssertionError(f"still {camera.status} after {limit_s} s")


def some(frame: Any) -> bool:
    """For `read_until`."""
    return frame is not None
