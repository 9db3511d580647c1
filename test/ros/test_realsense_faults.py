"""The camera's node while the SDK, a message or a callback fails: it says so, and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_realsense import HEIGHT, WIDTH, SoftwareCamera, sdk
from fake_tracker import make_frame
from rclpy.parameter import Parameter
from ros_harness import Harness, Spinning, values_of

from sam_perception.ros.diagnosis import ERROR, OK, WARN
from sam_perception.ros.realsense_diagnosis import Reading, diagnose_camera
from sam_perception.ros.realsense_node import RealSenseNode
from sam_perception.sources.realsense import CameraDescription, CameraStatus, RealSenseCamera, RealSenseConfig

LONG_S = 20.0
CAMERA = CameraDescription("Intel RealSense D435", "17", usb="3.2")
FINE = CameraStatus(CAMERA, frames=9, rejected={}, losses=0, problem="", metadata={})
READING = Reading(rate_hz=30.0, silent_s=0.03, alive=True)


class StandIn:
    """In place of `RealSenseCamera`; every read does what it was told to."""

    def __init__(self) -> None:
        self.status = FINE
        self.does: Callable[[], Any] = lambda: None
        self.pause = threading.Event()

    def read(self, _timeout_s: float) -> Any:
        self.pause.wait(0.005)
        frame = self.does()
        if frame is not None:
            self.status = replace(self.status, frames=self.status.frames + 1)
        return frame

    def close(self) -> None: ...

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None: ...


class Stage:
    """A node on a camera, and somebody who reads its diagnostics."""

    def __init__(self, harness: Harness, make_camera: Callable[[RealSenseConfig], Any], **parameters: Any) -> None:
        self.harness, self.statuses = harness, []
        values = {"width": WIDTH, "height": HEIGHT, "fps": 0, "diagnostics_period_s": 0.05, **parameters}
        self.node = RealSenseNode(
            make_camera,
            context=harness.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self._spin = Spinning(harness.context, self.node)
        harness.client.create_subscription(
            DiagnosticArray, "/diagnostics", lambda a: self.statuses.extend(a.status), 50
        )

    def status(self, wanted: Callable[[DiagnosticStatus], bool]) -> DiagnosticStatus:
        self.statuses.clear()
        return self.harness.until(lambda: [s for s in list(self.statuses) if wanted(s)], LONG_S)[0]

    def close(self) -> None:
        self.node.close()
        self._spin.stop()
        self.node.destroy_node()


@pytest.fixture
def stage(harness: Harness) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(make_camera: Callable[[RealSenseConfig], Any], **parameters: Any) -> Stage:
        made.append(Stage(harness, make_camera, **parameters))
        return made[-1]

    yield make
    for one in made:
        one.close()


def fine(status: DiagnosticStatus) -> bool:
    return status.level == DiagnosticStatus.OK


def test_a_camera_that_raises_is_an_error_and_is_read_on(stage) -> None:
    camera, stamps = StandIn(), iter(range(10**9, 10**12, 33_000_000))
    played = stage(lambda _: camera)
    camera.does = lambda: make_frame(next(stamps))
    played.status(fine)

    def fail() -> Any:
        raise RuntimeError("nobody expected this")

    camera.does = fail
    said = played.status(lambda s: s.level == DiagnosticStatus.ERROR)
    assert "the camera could not be read (RuntimeError: nobody expected this): the log has the place" in said.message
    camera.does = lambda: make_frame(next(stamps))
    played.status(fine)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_has_ended_is_an_error_with_the_cure(stage) -> None:
    camera = StandIn()
    played = stage(lambda _: camera)

    def end() -> Any:
        raise SystemExit

    camera.does = end
    said = played.status(lambda s: s.level == DiagnosticStatus.ERROR)
    assert "the thread that reads the camera has ended: start the node again" in said.message


def test_a_reader_that_hangs_in_the_sdk_is_an_error(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam_perception.ros.realsense_diagnosis._SILENT_S", 0.3)
    camera, hang = StandIn(), threading.Event()
    played = stage(lambda _: camera, fps=30)
    camera.does = lambda: hang.wait(LONG_S) and None
    try:
        said = played.status(lambda s: s.level == DiagnosticStatus.ERROR)
        assert "no frame for" in said.message
        assert "check cable, USB 3 port and power" in said.message
    finally:
        hang.set()


def test_a_frame_that_cannot_be_published_is_an_error_and_the_next_one_goes_out(
    stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, stamps = StandIn(), iter(range(10**9, 10**12, 33_000_000))
    played = stage(lambda _: camera)
    with monkeypatch.context() as broken:

        def fail(_: Any) -> None:
            raise ValueError("no such field")

        broken.setattr(played.node, "_publish", fail)
        camera.does = lambda: make_frame(next(stamps))
        said = played.status(lambda s: s.level == DiagnosticStatus.ERROR)
        assert "a frame could not be published (ValueError: no such field)" in said.message
    played.status(fine)


@pytest.mark.parametrize(
    ("kind", "method"), [("depth_frame", "get_units"), ("frame_queue", "try_wait_for_frame"), ("device", "get_info")]
)
def test_while_the_sdk_fails_diagnostics_do_not_say_ok(
    stage, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
) -> None:
    camera, context, end = SoftwareCamera("17"), sdk().context(), threading.Event()
    camera.plug_into(context)

    def fail(*_: Any) -> Any:
        raise RuntimeError("hwmon command failed")

    def feed() -> None:
        number = 0
        while not end.wait(0.01):
            number += 1
            camera.push(number)

    thread = threading.Thread(target=feed, daemon=True)
    with monkeypatch.context() as broken:
        broken.setattr(getattr(sdk(), kind), method, fail)
        played = stage(lambda config: RealSenseCamera(config, context=context), max_retry_s=0.3)
        thread.start()
        try:
            said = played.status(lambda s: "hwmon command failed" in s.message)
            assert said.level == DiagnosticStatus.ERROR
            broken.undo()
            assert values_of(played.status(fine))["serial"] == "17"
        finally:
            end.set()
            thread.join(LONG_S)


@pytest.mark.parametrize(
    ("status", "reading", "level", "said"),
    [
        (FINE, READING, OK, "30.0 Hz"),
        (replace(FINE, camera=None), READING, ERROR, "no camera is open: plug one into a USB 3 port"),
        (replace(FINE, problem="no picture: do this"), READING, ERROR, "no picture: do this"),
        (replace(FINE, problem="played to its end", ended=True), READING, WARN, "played to its end"),
        (FINE, replace(READING, alive=False), ERROR, "start the node again"),
        (FINE, replace(READING, silent_s=3.5, rate_hz=0.0), ERROR, "no frame for 3.5 s"),
        (FINE, replace(READING, rate_hz=12.0), WARN, "12.0 Hz instead of 30"),
        (replace(FINE, camera=replace(CAMERA, usb="2.1")), READING, WARN, "connected by USB 2.1"),
    ],
)
def test_what_a_person_reads(status: CameraStatus, reading: Reading, level: int, said: str) -> None:
    found = diagnose_camera(status, reading, RealSenseConfig(), simulated=False)
    assert found.level == level
    assert said in found.message


def test_a_recording_that_begins_again_is_not_a_missing_camera() -> None:
    looped, between = RealSenseConfig(rosbag_filename="a.db3", rosbag_loop=True), replace(FINE, camera=None)
    assert diagnose_camera(between, READING, looped, simulated=False).level == OK
    hangs = replace(READING, silent_s=4.0)
    assert diagnose_camera(between, hangs, looped, simulated=False).level == ERROR


def test_a_slow_camera_is_not_called_silent() -> None:
    slow = RealSenseConfig(fps=1)
    assert diagnose_camera(FINE, replace(READING, rate_hz=1.0, silent_s=2.9), slow, simulated=False).level == OK


PROCESS = """
import sys
from sam_perception.ros import realsense
from sam_perception._ros_environment import ensure_ros_environment
ensure_ros_environment()
from sam_perception.ros.realsense_node import RealSenseNode

good, left = RealSenseNode.publish_diagnostics, [int(sys.argv.pop(1))]

def publish_diagnostics(self):
    left[0] -= 1
    if left[0] >= 0:
        raise ValueError("a defect in a callback")
    good(self)
    sys.stderr.write("goes on\\n")

RealSenseNode.publish_diagnostics = publish_diagnostics
sys.exit(realsense.main())
"""


def started(domain: int, tmp_path: Path, failures: int) -> subprocess.Popen[str]:
    environment = dict(os.environ, ROS_DOMAIN_ID=str(domain), ROS_LOG_DIR=str(tmp_path), PYTHONUNBUFFERED="1")
    command = [sys.executable, "-c", PROCESS, str(failures), "--ros-args", "-p", "serial:=none"]
    command += ["-p", "diagnostics_period_s:=0.05"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_callback_that_fails_does_not_end_the_process(domain: int, tmp_path: Path) -> None:
    process = started(domain, tmp_path, failures=3)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line == "goes on\n":
                break
        text = "".join(lines)
        assert text.count("realsense_node: a callback failed:") == 1
        assert "ValueError: a defect in a callback" in text
        assert lines[-1] == "goes on\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG_S) == 0
    finally:
        process.kill()
        process.wait()


def test_callbacks_that_keep_failing_end_the_process_with_1_and_a_reason(domain: int, tmp_path: Path) -> None:
    process = started(domain, tmp_path, failures=10**6)
    try:
        _, text = process.communicate(timeout=LONG_S)
        assert process.returncode == 1
        assert "realsense_node: a callback failed:" in text
    finally:
        process.kill()
        process.wait()
