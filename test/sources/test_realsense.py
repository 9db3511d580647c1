"""Cameras that come and go, and recordings, through librealsense's own context, pipeline and recorder."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_realsense import HEIGHT, PERIOD_MS, START_MS, WIDTH, SoftwareCamera, read_until, sdk, some

from sam_perception.cli import main
from sam_perception.commands import process
from sam_perception.errors import SourceError
from sam_perception.frame import RgbdFrame
from sam_perception.sources import open_source
from sam_perception.sources.realsense import (
    RealSenseCamera,
    RealSenseConfig,
    RealSenseSource,
    list_cameras,
)
from sam_perception.sources.source import ENDLESS

LONG_S = 20.0  # for a busy machine; nothing waits that long


@pytest.fixture
def context():
    return sdk().context()


class Feed:
    """Pushes frames as a camera does, until closed."""

    def __init__(self, camera: SoftwareCamera, period_s: float = 0.01, **pushed) -> None:
        self._camera, self._period_s, self._pushed = camera, period_s, pushed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._end.wait(self._period_s):
            number += 1
            self._camera.push(number, **self._pushed)

    def close(self) -> None:
        self._end.set()
        self._thread.join(LONG_S)


@pytest.fixture
def feed() -> Iterator[Callable[..., Feed]]:
    made: list[Feed] = []

    def make(camera: SoftwareCamera, **pushed) -> Feed:
        made.append(Feed(camera, **pushed))
        return made[-1]

    yield make
    for one in made:
        one.close()


def config(**changes) -> RealSenseConfig:
    return RealSenseConfig(**{"width": WIDTH, "height": HEIGHT, "timeout_s": 0.6, "max_retry_s": 0.3, **changes})


class TestLiveCamera:
    def test_frames_of_a_camera_that_is_there(self, context, feed) -> None:
        software = SoftwareCamera("77")
        software.plug_into(context)
        assert [str(c) for c in list_cameras(context)] == ["Software Camera 77, USB 3.2"]
        with RealSenseCamera(config(), context=context) as camera:
            assert "has not been opened" in camera.status.problem
            feeding = feed(software)
            first, second = read_until(camera, some), read_until(camera, some)
            assert second.stamp_ns > first.stamp_ns >= START_MS * 1e6
            assert (first.depth_m == 1.0).mean() > 0.8
            status = camera.status
            assert (status.camera.serial, status.frames, status.losses, status.problem) == ("77", 2, 0, "")
            feeding.close()
        assert camera.read(0.1) is None  # closed

    def test_the_newest_frame_is_given_to_a_slow_reader(self, context) -> None:
        software = SoftwareCamera()
        software.plug_into(context)
        with RealSenseCamera(config(timeout_s=60.0), context=context) as camera:
            camera.read(0.05)  # opens it
            for number in range(1, 31):
                software.push(number)
            stamps = [round((read_until(camera, some).stamp_ns * 1e-6 - START_MS) / PERIOD_MS) for _ in range(2)]
            assert stamps == [29, 30]

    def test_unplugged_and_plugged_in_again(self, context, feed) -> None:
        software = SoftwareCamera("5")
        software.plug_into(context)
        with RealSenseCamera(config(), context=context) as camera:
            feeding = feed(software)
            before = read_until(camera, some)
            feeding.close()
            software.unplug()
            read_until(camera, lambda _: "librealsense sees no camera" in camera.status.problem)
            assert camera.status.camera is None
            assert camera.status.losses == 1
            software.plug_into(context)
            feed(software, stamp_ms=None)
            after = read_until(camera, lambda frame: frame is not None and frame.stamp_ns > before.stamp_ns)
            assert after is not None
            assert camera.status.problem == ""
            assert camera.status.losses == 1

    def test_a_camera_that_comes_late_is_waited_for(self, context, feed) -> None:
        with RealSenseCamera(config(serial="8"), context=context) as camera:
            assert camera.read(0.3) is None
            assert "camera 8 is not there; librealsense sees no camera" in camera.status.problem
            software = SoftwareCamera("8")
            software.plug_into(context)
            feed(software)
            read_until(camera, some)

    def test_several_cameras_by_serial_number(self, context, feed) -> None:
        left, right = SoftwareCamera("1"), SoftwareCamera("2")
        for software, grey in ((left, 10), (right, 200)):
            software.plug_into(context)
            feed(software, color=np.full((HEIGHT, WIDTH, 3), grey, np.uint8))
        with (
            RealSenseCamera(config(serial="2", camera_name="right"), context=context) as of_right,
            RealSenseCamera(config(serial="1", camera_name="left"), context=context) as of_left,
        ):
            seen = [read_until(camera, some) for camera in (of_right, of_left)]
        assert [frame.rgb[0, 0, 0] for frame in seen] == [200, 10]
        assert [frame.frame_id for frame in seen] == ["right_color_optical_frame", "left_color_optical_frame"]

    def test_depth_arrives_and_colour_does_not(self, context, feed) -> None:
        software = SoftwareCamera()
        software.plug_into(context)
        with RealSenseCamera(config(), context=context) as camera:
            feeding = feed(software)
            read_until(camera, some)
            feeding.close()
            feed(software, streams="depth")
            read_until(camera, lambda _: camera.status.losses >= 1)
            assert "no usable frame for" in camera.status.problem

    def test_frames_that_cannot_be_used_are_counted_by_kind(self, context, feed) -> None:
        software = SoftwareCamera(color_format="y16")
        software.plug_into(context)
        # Asks for rgb8, which this one does not have: it does not start, and says so.
        with RealSenseCamera(config(), context=context) as camera:
            assert camera.read(0.2) is None
            assert "does not start with 160 x 120 at 30 Hz" in camera.status.problem
        other = SoftwareCamera("9")
        other.plug_into(context)
        feed(other, stamp_ms=START_MS, depth_stamp_ms=START_MS)  # a clock that stands still
        with RealSenseCamera(config(serial="9"), context=context) as camera:
            read_until(camera, lambda _: camera.status.rejected.get("StampError", 0) >= 3)
            assert camera.status.frames == 1

    def test_closing_ends_a_read_in_another_thread(self, context) -> None:
        with RealSenseCamera(config(), context=context) as camera:
            reader = threading.Thread(target=camera.read, args=(LONG_S,), daemon=True)
            reader.start()
            camera.close()
            reader.join(LONG_S / 2)
            assert not reader.is_alive()

    def test_a_live_source_ends_when_it_is_told_to(self, context, feed) -> None:
        software = SoftwareCamera("31")
        software.plug_into(context)
        feed(software)
        with RealSenseSource("realsense:31", config(), context=context) as source:
            assert source.live
            assert len(source) == ENDLESS
            assert source.description == "RealSense 31, live"
            frames = []
            for frame in source:
                frames.append(frame)
                if len(frames) == 3:
                    source.stop()
        assert len(frames) == 3


def test_ctrl_c_finishes_what_a_live_camera_recorded(context, feed, tmp_path: Path, monkeypatch) -> None:
    class Interrupted(RealSenseSource):
        def __iter__(self) -> Iterator[RgbdFrame]:
            for count, frame in enumerate(super().__iter__()):
                yield frame
                if count == 2:
                    signal.raise_signal(signal.SIGINT)

    software = SoftwareCamera("6")
    software.plug_into(context)
    feed(software)
    monkeypatch.setattr(process, "open_source", lambda address: Interrupted(address, config(), context=context))
    before = signal.getsignal(signal.SIGINT)
    assert main(["process", "realsense:6", str(tmp_path / "live"), "--frames-only"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    with open_source(tmp_path / "live") as bag:
        assert len(list(bag)) == 3


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("realsense") / "recording.db3"
    return SoftwareCamera("123").record(path, 12)


class TestRecording:
    def test_every_frame_once_and_the_same_each_time(self, recording: Path) -> None:
        with open_source(f"realsense:{recording}") as source:
            frames, again = list(source), list(source)
            assert len(source) == len(frames) == 12
            assert source.rejected == []
        assert source.description == f"12 frames from {recording} (Software Camera 123)"
        stamps = [frame.stamp_ns for frame in frames]
        np.testing.assert_allclose(np.diff(stamps) * 1e-6, PERIOD_MS, atol=1e-3)
        assert stamps[0] == pytest.approx((START_MS + PERIOD_MS) * 1e6, abs=1e3)
        assert [frame.rgb[0, 0, 0] for frame in frames] == list(range(1, 13))
        for one, other in zip(frames, again, strict=True):
            assert one.stamp_ns == other.stamp_ns
            np.testing.assert_array_equal(one.depth_m, other.depth_m)

    def test_a_slow_reader_loses_nothing(self, recording: Path) -> None:
        seen = []
        pause = threading.Event()
        with RealSenseSource(recording) as source:
            for frame in source:
                pause.wait(0.02)
                seen.append(frame.stamp_ns)
        assert len(seen) == 12

    def test_leaving_early_ends_the_playback(self, recording: Path) -> None:
        with RealSenseSource(recording) as source:
            frames = iter(source)
            next(frames)
            frames.close()
            assert len(list(source)) == 12

    def test_frames_that_do_not_fit_are_rejected_and_the_others_go_on(self, tmp_path: Path) -> None:
        camera = SoftwareCamera("4", color_format="y16")
        path = camera.record(tmp_path / "wrong.db3", 3)
        with RealSenseSource(path) as source:
            assert list(source) == []
            assert {(one.kind, "colour comes as y16" in one.reason) for one in source.rejected} == {
                ("UnsupportedEncoding", True)
            }
            assert len(source.rejected) == 3

    @pytest.mark.parametrize("name", ["missing.bag", "text.db3"])
    def test_what_is_no_recording_says_so(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "text.db3").write_text("no database")
        with pytest.raises(SourceError, match=r"give a recording of librealsense|has to be a whole recording"):
            open_source(f"realsense:{tmp_path / name}")

    def test_process_turns_it_into_a_rosbag2(self, recording: Path, tmp_path: Path, capsys) -> None:
        assert main(["process", f"realsense:{recording}", str(tmp_path / "out"), "--frames-only"]) == 0
        assert "12 frames, 0 rejected" in capsys.readouterr().out
        with open_source(f"realsense:{recording}") as source, open_source(tmp_path / "out") as bag:
            for one, other in zip(source, bag, strict=True):
                assert one.stamp_ns == other.stamp_ns
                assert one.frame_id == other.frame_id
                assert one.intrinsics == other.intrinsics
                np.testing.assert_array_equal(one.rgb, other.rgb)
                np.testing.assert_array_equal(one.depth_m, other.depth_m)


def test_a_missing_sdk_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(SourceError, match="pip install pyrealsense2"):
        RealSenseSource("realsense:")
    with pytest.raises(SourceError, match=r"libusb-1\.0"):
        list_cameras()
