"""What the SDK raises while a camera is opened, read and asked: the camera is lost, said so, and opened again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_realsense import HEIGHT, WIDTH, CameraWithImu, SoftwareCamera, read_until, sdk, some

from sam_perception.errors import SourceError
from sam_perception.sources import realsense_camera, realsense_retry
from sam_perception.sources.realsense import RealSenseCamera, RealSenseConfig, RealSenseSource, list_cameras
from sam_perception.sources.realsense_frames import FrameMaker
from sam_perception.sources.realsense_sdk import Stream

LONG_S = 20.0
LOST = "failed while it was read"
# Class of the SDK, its method, and words of what is said while that fails.
WHILE_READING = [
    ("frame_queue", "try_wait_for_frame", LOST),
    ("video_stream_profile", "get_intrinsics", LOST),
    ("depth_frame", "get_units", LOST),
    ("frame", "get_timestamp", LOST),
]
WHILE_OPENING = [
    ("pipeline", "get_active_profile", "started and then did not say what it is"),
    ("device", "get_info", "cannot ask the cameras"),
    ("context", "query_devices", "cannot ask the cameras"),
    ("config", "enable_device", "does not start with"),
    ("pipeline", "start", "does not start with"),
]


@pytest.fixture
def plugged() -> Iterator[Any]:
    """A context with a camera that keeps sending."""
    context, camera, end = sdk().context(), SoftwareCamera("5"), threading.Event()
    camera.plug_into(context)

    def feed() -> None:
        number = 0
        while not end.wait(0.01):
            number += 1
            camera.push(number)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    yield context
    end.set()
    thread.join(LONG_S)


def config(**changes: Any) -> RealSenseConfig:
    return RealSenseConfig(**{"width": WIDTH, "height": HEIGHT, "timeout_s": 5.0, "max_retry_s": 0.3, **changes})


def break_method(monkeypatch: pytest.MonkeyPatch, kind: str, method: str, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(getattr(sdk(), kind), method, fail)


@pytest.mark.parametrize(("kind", "method", "said"), WHILE_READING)
def test_what_the_sdk_raises_while_it_is_read_costs_the_camera_and_not_the_reader(
    plugged, monkeypatch: pytest.MonkeyPatch, kind: str, method: str, said: str
) -> None:
    with RealSenseCamera(config(), context=plugged) as camera:
        read_until(camera, some)
        with monkeypatch.context() as broken:
            break_method(broken, kind, method, RuntimeError("hwmon command 0x4f failed"))
            read_until(camera, lambda _: said in camera.status.problem)
            assert "hwmon command 0x4f failed" in camera.status.problem
            assert "check cable, USB 3 port and power" in camera.status.problem
            assert camera.status.losses >= 1
            frames = camera.status.frames
        read_until(camera, some)
        assert camera.status.frames > frames
        assert camera.status.problem == ""


def test_a_camera_that_cannot_be_asked_whether_it_is_there_is_lost(plugged, monkeypatch: pytest.MonkeyPatch) -> None:
    with RealSenseCamera(config(), context=plugged) as camera:
        read_until(camera, some)
        with monkeypatch.context() as broken:
            break_method(broken, "device", "is_connected", RuntimeError("device is gone"))
            broken.setattr(Stream, "next", lambda *_: None)  # only then is it asked
            read_until(camera, lambda _: LOST in camera.status.problem)
            assert "device is gone" in camera.status.problem
        read_until(camera, some)


@pytest.mark.parametrize(("kind", "method", "said"), WHILE_OPENING)
def test_what_the_sdk_raises_while_a_camera_is_opened_is_waited_out(
    plugged, monkeypatch: pytest.MonkeyPatch, kind: str, method: str, said: str
) -> None:
    with RealSenseCamera(config(), context=plugged) as camera:
        with monkeypatch.context() as broken:
            break_method(broken, kind, method, RuntimeError("set_xu failed"))
            read_until(camera, lambda _: said in camera.status.problem)
            assert "set_xu failed" in camera.status.problem
            assert camera.status.camera is None
        read_until(camera, some)
        assert camera.status.losses == 0


def test_a_camera_that_cannot_be_asked_does_not_keep_another_one_shut(plugged, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SoftwareCamera("6")
    broken.plug_into(plugged)
    told, what = sdk().device.get_info, sdk().camera_info.serial_number

    def fail(self: Any, asked: Any) -> Any:
        if told(self, what) == "6":
            raise RuntimeError("hwmon command 0x10 failed")
        return told(self, asked)

    monkeypatch.setattr(sdk().device, "get_info", fail)
    with pytest.raises(SourceError, match="hwmon command 0x10 failed"):
        list_cameras(plugged)
    with RealSenseCamera(config(serial="5"), context=plugged) as camera:
        read_until(camera, some)
    with RealSenseCamera(config(serial="6"), context=plugged) as camera:
        assert camera.read(0.1) is None
        assert "cannot ask the cameras (hwmon command 0x10 failed)" in camera.status.problem


def test_an_sdk_that_cannot_look_for_cameras_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sdk(), "context", lambda: (_ for _ in ()).throw(RuntimeError("no backend")))
        camera = RealSenseCamera(config())
        assert camera.read(0.1) is None
        assert "no backend" in camera.status.problem
    read_until(camera, lambda _: "no backend" not in camera.status.problem)
    camera.close()


def test_a_fault_that_stays_is_logged_once_and_tried_again_after_growing_pauses(
    plugged, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened_s: list[float] = []
    opened, took = realsense_camera.open_camera, Stream.next

    def counted(*args: Any) -> Stream:
        stream = opened(*args)
        opened_s.append(time.monotonic())
        stream.gave = False
        return stream

    def one_frame_and_then_none(self: Any, timeout_s: float) -> Any:
        if self.gave:
            raise RuntimeError("xioctl(VIDIOC_QBUF) failed")
        frames = took(self, timeout_s)
        self.gave = frames is not None
        return frames

    monkeypatch.setattr(realsense_camera, "open_camera", counted)
    monkeypatch.setattr(Stream, "next", one_frame_and_then_none)
    # The limit is not reached here, so that a frame that came does not shorten the pauses.
    with caplog.at_level(logging.INFO), RealSenseCamera(config(max_retry_s=60.0), context=plugged) as camera:
        read_until(camera, lambda _: len(opened_s) == 4)
        assert camera.status.losses >= 3
    pauses_s = np.diff(opened_s)
    assert (pauses_s >= [0.25, 0.5, 1.0]).all()
    assert pauses_s.sum() < realsense_retry._SAY_AGAIN_S  # else the busy machine is why there are more lines
    lines = [r.getMessage() for r in caplog.records if LOST in r.getMessage()]
    assert len(lines) == 1
    assert "camera 5 failed while it was read (RuntimeError: xioctl(VIDIOC_QBUF) failed)" in lines[0]
    assert "\n" not in lines[0]


def test_a_defect_of_the_program_is_said_with_its_place_and_does_not_end_the_reader(
    plugged, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with RealSenseCamera(config(), context=plugged) as camera:
        with monkeypatch.context() as broken:

            def wrong(*_: Any) -> Any:
                raise TypeError("a defect")

            broken.setattr(FrameMaker, "make", wrong)
            read_until(camera, lambda _: "TypeError: a defect" in camera.status.problem)
        assert "in wrong" in caplog.text
        read_until(camera, some)


def test_an_accelerometer_that_cannot_be_asked_for_costs_gravity_only(monkeypatch: pytest.MonkeyPatch) -> None:
    context, camera = sdk().context(), CameraWithImu()
    camera.plug_into(context)
    break_method(monkeypatch, "device", "query_sensors", RuntimeError("no motion module"))
    with RealSenseCamera(config(accelerometer=True), context=context) as read:
        assert read.read(0.05) is None  # opens it
        camera.push(1)
        camera.push(2)
        frame = read_until(read, some)
        assert frame is not None
        assert frame.up is None
        assert read.status.rejected == {"SourceError": 1}


def test_a_recording_that_breaks_off_in_a_frame_says_so(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = SoftwareCamera("6").record(tmp_path / "recording.db3", 4)
    break_method(monkeypatch, "depth_frame", "get_units", RuntimeError("bad chunk"))
    with (
        RealSenseSource(path) as source,
        pytest.raises(SourceError, match=r"cannot be read further \(bad chunk\)"),
    ):
        list(source)
