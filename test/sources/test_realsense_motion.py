"""Up from a RealSense's accelerometer, through librealsense's own software device."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_realsense import HEIGHT, START_MS, WIDTH, CameraWithImu, SoftwareCamera, sdk
from worlds import World, look

from sam_perception.config import PerceptionConfig
from sam_perception.errors import SourceError, TransformError
from sam_perception.frame import CameraPose
from sam_perception.navigation import ObstacleMap
from sam_perception.sources.realsense import RealSenseCamera, RealSenseConfig
from sam_perception.sources.realsense_motion import Accelerometer
from sam_perception.sources.realsense_sdk import open_camera

CONFIG = RealSenseConfig(width=WIDTH, height=HEIGHT, accelerometer=True)
LONG_S = 20.0


def until(condition: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + LONG_S
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < end_s, "not so in time"
        pause.wait(0.005)
    return value


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def opened(clock: list[float]) -> Iterator[tuple[CameraWithImu, Accelerometer]]:
    camera, context = CameraWithImu(), sdk().context()
    camera.plug_into(context)
    stream = open_camera(CONFIG, context)
    color = next(
        p for p in stream._pipeline.get_active_profile().get_streams() if p.stream_type() == sdk().stream.color
    )
    accelerometer = Accelerometer(sdk(), stream._device, color, lambda: clock[0])
    yield camera, accelerometer
    accelerometer.close()
    stream.close()


def test_up_is_turned_into_colours_frame(opened: tuple[CameraWithImu, Accelerometer]) -> None:
    camera, accelerometer = opened
    assert accelerometer.up is None
    camera.measure((-9.81, 0.0, 0.0))  # a level camera: up is -y of colour, -x of the sensor
    until(lambda: accelerometer.up is not None)
    up = accelerometer.up
    assert up is not None
    np.testing.assert_allclose(up, [0, -1, 0], atol=1e-6)


def test_a_reading_that_is_old_or_of_a_push_tells_nothing(
    opened: tuple[CameraWithImu, Accelerometer], clock: list[float]
) -> None:
    camera, accelerometer = opened
    camera.measure((-9.81, 0.0, 0.0))
    until(lambda: accelerometer.up is not None)
    clock[0] += 0.6
    assert accelerometer.up is None
    for number in range(2, 60):
        camera.measure((-15.0, 0.0, 0.0), number)
    until(lambda: accelerometer._filter.up is not None and accelerometer._filter.up.stamp_ns >= (START_MS + 590) * 1e6)
    assert accelerometer.up is None


def test_a_camera_without_one_says_so() -> None:
    camera, context = SoftwareCamera(), sdk().context()
    camera.plug_into(context)
    stream = open_camera(CONFIG, context)
    with pytest.raises(SourceError, match="has no accelerometer"):
        stream.accelerometer()
    stream.close()


@pytest.mark.parametrize("with_imu", [True, False])
def test_frames_of_a_live_camera_know_up_where_it_is_measured(with_imu: bool) -> None:
    camera, context = CameraWithImu() if with_imu else SoftwareCamera(), sdk().context()
    camera.plug_into(context)
    end = threading.Event()

    def feed() -> None:
        number = 0
        while not end.wait(0.01):
            number += 1
            camera.push(number)
            if isinstance(camera, CameraWithImu):
                camera.measure((-9.81, 0.0, 0.0), number)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        with RealSenseCamera(CONFIG, context=context) as live:
            wanted = (lambda frame: frame.up is not None) if with_imu else (lambda frame: frame.up is None)
            frame = until(lambda: next((f for f in [live.read(1.0)] if f is not None and wanted(f)), None))
            assert live.status.rejected == ({} if with_imu else {"SourceError": 1})
    finally:
        end.set()
        thread.join(LONG_S)
    if with_imu:
        np.testing.assert_allclose(frame.up, [0, -1, 0], atol=1e-6)


def test_a_frames_own_up_tells_the_ground() -> None:
    """A camera that looks straight down, 80 degrees from what the settings take for up."""
    world = World((), look((0, 0, 0.8), (0, 0.1, 0)))
    frame, _ = world.frame(0)
    up = world.world_from_camera[:3, :3].T @ [0, 0, 1]
    config = PerceptionConfig()
    measured = replace(frame, up=2.0 * up)
    np.testing.assert_allclose(measured.up, up)
    ground = ObstacleMap(config.navigation, config.geometry).update(frame, up=measured.up).ground
    assert ground is not None
    with pytest.raises(TransformError):
        replace(frame, up=np.zeros(3))
    assert CameraPose().up is None
