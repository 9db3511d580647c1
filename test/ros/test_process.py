"""The node as a process of its own: how it ends, and what is lost when it is killed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_tracker import RED_BOX
from ros_harness import RELIABLE, Harness

from sam_perception.messages import stamp_ns_of
from sam_perception.prompts import BoxPrompt

SECOND = 10**9
HERE = Path(__file__).parent
END_S = 3.0


class Process:
    """A node in a domain; its stderr is kept in a file."""

    def __init__(self, domain: int, log: Path, *command: str, **environment: str) -> None:
        self.log = log
        parameters = {**RELIABLE, "diagnostics_period_s": 0.1}
        arguments = [item for name, value in parameters.items() for item in ("-p", f"{name}:={value}")]
        with log.open("a") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *(command or (str(HERE / "run_node.py"),)), "--ros-args", *arguments],
                stderr=stream,
                stdout=stream,
                env={
                    **os.environ,
                    "ROS_DOMAIN_ID": str(domain),
                    "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parents[1])]),
                    "OMP_NUM_THREADS": "1",
                    **environment,
                },
            )

    def says(self, text: str) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()}"
        return text in self.log.read_text()

    def end(self, number: int) -> tuple[int, float]:
        """Exit code after a signal, and the seconds that it took."""
        start_s = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still there after 20 s: {self.log.read_text()}")
        return code, time.monotonic() - start_s


@contextmanager
def running(domain: int, log: Path, *command: str, **environment: str) -> Iterator[Process]:
    process = Process(domain, log, *command, **environment)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait(20)


def wait_active(harness: Harness) -> None:
    harness.status("node", lambda s: s.message == "active")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_camera_a_signal_ends_it_with_0(harness: Harness, tmp_path: Path, number: int) -> None:
    with running(harness.domain, tmp_path / "log") as node:
        wait_active(harness)
        code, duration_s = node.end(number)
    assert code == 0, node.log.read_text()
    assert duration_s < END_S
    assert "Traceback" not in node.log.read_text()


def test_in_the_middle_of_inference_sigint_ends_it_with_0(harness: Harness, tmp_path: Path) -> None:
    with running(harness.domain, tmp_path / "log", TEST_STEP_S="60") as node:
        wait_active(harness)
        harness.send(SECOND)
        harness.until(lambda: node.says("hanging in STEP"))
        code, duration_s = node.end(signal.SIGINT)
    assert code == 0, node.log.read_text()
    assert duration_s < END_S


def test_while_the_model_is_loaded_sigint_ends_it_with_0(harness: Harness, tmp_path: Path) -> None:
    with running(harness.domain, tmp_path / "log", TEST_LOAD_S="60") as node:
        harness.until(lambda: node.says("hanging in LOAD"))
        code, duration_s = node.end(signal.SIGINT)
    assert code == 0, node.log.read_text()
    assert duration_s < END_S


def test_a_wrong_parameter_ends_it_with_one_line(harness: Harness, tmp_path: Path) -> None:
    with running(
        harness.domain, tmp_path / "log", str(HERE / "run_node.py"), "--ros-args", "-p", "max_objects:=-1"
    ) as p:
        assert p.process.wait(20) == 2
    assert "perception_node: ConfigError: parameter max_objects" in p.log.read_text()
    assert "from 1 to 256" in p.log.read_text()


def test_a_killed_node_that_starts_again_loses_only_the_frames_between(harness: Harness, tmp_path: Path) -> None:
    with running(harness.domain, tmp_path / "log") as node:
        wait_active(harness)
        harness.objects()
        harness.add(BoxPrompt(7, RED_BOX, label="mug"))
        assert [o.id for o in harness.scene_at(harness.send(SECOND)).objects] == [7]
        # A frame later the objects are on the disk: they are written after they are published.
        harness.scene_at(harness.send(2 * SECOND))
        node.process.kill()
        node.process.wait(20)
    with running(harness.domain, tmp_path / "log") as node:
        wait_active(harness)
        (mug,) = first_scene(harness, 9 * SECOND).objects
        assert (mug.id, mug.label, mug.state, mug.roi.x_offset) == (7, "mug", mug.TRACKED, 10)
        assert "objects 7 are taken up again" in node.log.read_text()
        assert node.end(signal.SIGINT)[0] == 0
    # An end that was meant leaves nothing behind.
    with running(harness.domain, tmp_path / "log"):
        wait_active(harness)
        assert first_scene(harness, 100 * SECOND).objects == []


def first_scene(harness: Harness, start_ns: int) -> Any:
    """Send frames from `start_ns` on until one comes through.

    DDS believes a killed process to be there for a while, so its endpoints do not tell when the new
    one is ready.
    """
    stamps = itertools.count(start_ns, SECOND // 10)
    inbox = harness.objects()

    def found() -> list[Any]:
        harness.send(next(stamps))
        return [m for m in inbox.messages if stamp_ns_of(m.header.stamp) >= start_ns]

    return harness.until(found)[0]
