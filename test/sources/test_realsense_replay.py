"""A recording of the SDK's, played as if it were a camera."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_realsense import PERIOD_MS, START_MS, record, sdk

from sam_perception.frame import RgbdFrame
from sam_perception.sources.realsense import RealSenseCamera, RealSenseConfig

LONG_S = 20.0
COUNT = 10


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("realsense") / "recording.db3", COUNT)


def numbers(frames: list[RgbdFrame]) -> list[int]:
    """Of the pushes that the frames show, by their stamps."""
    return [round((frame.stamp_ns * 1e-6 - START_MS) / PERIOD_MS) for frame in frames]


def read_while(camera: RealSenseCamera, going_on: Callable[[list[RgbdFrame]], bool]) -> list[RgbdFrame]:
    frames: list[RgbdFrame] = []
    end_s = time.monotonic() + LONG_S
    while going_on(frames):
        assert time.monotonic() < end_s, f"still {camera.status} after {LONG_S} s"
        frame = camera.read(0.2)
        if frame is not None:
            frames.append(frame)
    return frames


def test_it_is_played_once_at_its_pace_under_the_stamps_that_it_was_recorded_with(recording: Path) -> None:
    with RealSenseCamera(RealSenseConfig(rosbag_filename=str(recording))) as camera:
        start_s = time.monotonic()
        frames = read_while(camera, lambda _: not camera.status.ended)
        took_s = time.monotonic() - start_s
        status = camera.status
        assert camera.read(0.1) is None  # it does not begin again
        assert camera.status.frames == len(frames)
    seen = numbers(frames)
    assert seen == sorted(set(seen))  # on a busy machine some are not taken in time
    assert set(seen) <= set(range(1, COUNT + 1))
    assert len(seen) > COUNT / 2
    assert [frame.rgb[0, 0, 0] for frame in frames] == seen
    assert took_s > 0.8 * (COUNT - 1) * PERIOD_MS * 1e-3
    assert f"{recording} has been played to its end: start again, or set rosbag_loop" in status.problem
    assert (status.losses, dict(status.rejected)) == (0, {})


def test_looped_it_begins_again_and_nothing_of_it_is_refused(recording: Path) -> None:
    with RealSenseCamera(RealSenseConfig(rosbag_filename=str(recording), rosbag_loop=True)) as camera:
        frames = read_while(camera, lambda seen: len(seen) < 3 * COUNT)
        status = camera.status
    seen = numbers(frames)
    restarts = [b for a, b in pairwise(seen) if b <= a]
    assert len(restarts) >= 2
    assert max(restarts) <= COUNT / 2  # from the beginning
    assert (status.losses, dict(status.rejected), status.problem) == (0, {}, "")


def test_a_file_that_comes_late_is_waited_for(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "late.db3"
    with RealSenseCamera(RealSenseConfig(rosbag_filename=str(path), max_retry_s=0.3)) as camera:
        assert camera.read(0.1) is None
        assert f"{path} is no file" in camera.status.problem
        shutil.copy(recording, path)
        assert len(read_while(camera, lambda seen: not seen)) == 1


def test_a_recording_without_a_usable_frame_says_so_and_is_not_played_for_ever(tmp_path: Path) -> None:
    path = record(tmp_path / "y16.db3", 3, color_format="y16")
    with RealSenseCamera(RealSenseConfig(rosbag_filename=str(path))) as camera:
        read_while(camera, lambda _: "no usable frame" not in camera.status.problem)
        assert "no usable frame (3 UnsupportedEncoding): record it again" in camera.status.problem
        assert not camera.status.ended
        assert camera.read(0.5) is None
        assert camera.status.losses == 1


def test_what_the_sdk_raises_ends_a_recording_with_a_reason(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("bad chunk")

    monkeypatch.setattr(sdk().depth_frame, "get_units", fail)
    with RealSenseCamera(RealSenseConfig(rosbag_filename=str(recording))) as camera:
        read_while(camera, lambda _: "cannot be read further" not in camera.status.problem)
        assert "RuntimeError: bad chunk" in camera.status.problem
        assert not camera.status.ended
