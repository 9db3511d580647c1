"""A RealSense's accelerometer beside its pictures: which way is up for the colour camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SourceError
from sam_perception.geometry.gravity import GravityFilter

_TIME_CONSTANT_S = 0.5
_MAX_AGE_S = 0.5  # an older reading, or one from before the camera was pushed about, tells nothing
_NS_PER_MS = 1_000_000


class Accelerometer:
    """Reads a camera's accelerometer for as long as it is not closed.

    Its sensor is opened by itself, not in the pipeline of the pictures, whose framesets would
    otherwise wait for motion frames and hold them. Tried with librealsense's software devices; not
    with a camera in the hand.

    Args:
        sdk: the pyrealsense2 module.
        device: the camera that streams.
        color: colour's stream profile, into whose frame directions are turned.
        monotonic_s: seconds that never go back.

    Raises:
        SourceError: the camera has no accelerometer, or it does not start.
    """

    def __init__(self, sdk: Any, device: Any, color: Any, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s, self._lock = monotonic_s, threading.Lock()
        self._filter, self._came_s = GravityFilter(), float("-inf")
        self._sensor, profile = _find(sdk, device)
        try:
            # Column-major: see rs2_extrinsics.
            self._color_from_sensor = np.array(profile.get_extrinsics_to(color).rotation).reshape(3, 3).T
            self._sensor.open(profile)
            self._sensor.start(self._on_frame)
        except RuntimeError as error:
            raise SourceError(
                f"the camera's accelerometer does not start ({error}): set accelerometer to false"
            ) from error

    @property
    def up(self) -> NDArray[np.float64] | None:
        """Gravity's opposite (3,) in colour's frame; None where there is no reading at rest of just now."""
        with self._lock:
            up, came_s = self._filter.up, self._came_s
        if up is None or self._monotonic_s() - came_s > _MAX_AGE_S:
            return None
        if (up.stamp_ns - up.rest_ns) * 1e-9 > _MAX_AGE_S:
            return None
        return np.asarray(self._color_from_sensor @ up.direction, np.float64)

    def close(self) -> None:
        """Stop; twice is fine."""
        sensor, self._sensor = self._sensor, None
        if sensor is not None:
            with suppress(RuntimeError):  # unplugged
                sensor.stop()
                sensor.close()

    def _on_frame(self, frame: Any) -> None:
        """In a thread of the SDK's, which an exception would end."""
        try:
            motion = frame.as_motion_frame()
            if not motion:
                return
            data, stamp_ns = motion.get_motion_data(), round(frame.get_timestamp() * _NS_PER_MS)
        except RuntimeError:  # one reading is missing: `up` says so where that lasts
            return
        reading = np.array([data.x, data.y, data.z], np.float64)
        with self._lock:
            self._filter.add(stamp_ns, reading, None, _TIME_CONSTANT_S)
            self._came_s = self._monotonic_s()


def _find(sdk: Any, device: Any) -> tuple[Any, Any]:
    """The sensor with an accelerometer, and its slowest profile."""
    for sensor in device.query_sensors():
        profiles = [p for p in sensor.get_stream_profiles() if p.stream_type() == sdk.stream.accel]
        if profiles:
            return sensor, min(profiles, key=lambda p: int(p.fps()))
    raise SourceError("the camera has no accelerometer: set accelerometer to false, and give gravity otherwise")
