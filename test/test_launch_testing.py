"""perception.launch.py under launch_testing's own runner: the node comes up, answers, and ends with 0 on SIGINT.

`launch_test test/test_launch_testing.py` runs the cases. pytest skips them and runs that command in their place, in a
process of its own: a launch service wants the main thread, changes the environment and takes the signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unittest
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

# Not `launch`: the folder of that name can be imported, too, as a namespace.
pytest.importorskip("launch_ros")
pytest.importorskip("launch_testing")
rclpy = pytest.importorskip("rclpy")
pytest.importorskip("sam_perception.msg", reason="the messages are not built")

from sam_perception._ros_environment import ensure_ros_environment  # noqa: E402

ensure_ros_environment()

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable, SetLaunchConfiguration  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_testing import post_shutdown_test  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402
from launch_testing.asserts import assertExitCodes  # noqa: E402
from lifecycle_msgs.msg import State  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sam_perception.srv import ListObjects  # noqa: E402

LAUNCH_FILE = Path(__file__).resolve().parent.parent / "launch" / "perception.launch.py"
NAME = "/under_test/sam_perception"
# Domains above 101 clash with ephemeral ports on Linux.
DOMAIN = 1 + os.getpid() * 13 % 101
TIMEOUT_S = 120.0
GIVEN = {
    "namespace": "under_test",
    "camera": "none",
    "preset": "cpu",
    "model": "nano",
    "device": "cpu",
    "parameters": "{resume_max_age_s: 0.0}",  # no objects of a node that ran on this machine before
}


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    """What launch_testing asks for."""
    return LaunchDescription(
        [
            SetEnvironmentVariable("ROS_DOMAIN_ID", str(DOMAIN)),
            SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
            # The node takes SIGTERM as it does SIGINT: launch is not to go on to that on a busy machine.
            SetLaunchConfiguration("sigterm_timeout", str(TIMEOUT_S)),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=GIVEN.items()),
            ReadyToTest(),
        ]
    )


class TestWhileItRuns(unittest.TestCase):
    __test__ = False  # for launch_testing alone, which does not look at this

    def setUp(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.addCleanup(self.context.try_shutdown)
        self.node = rclpy.create_node("test_launch_testing", context=self.context)
        self.addCleanup(self.node.destroy_node)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.addCleanup(self.executor.shutdown)

    def wait_for(self, done: Callable[[], Any], what: str) -> None:
        end_s = time.monotonic() + TIMEOUT_S
        while not done():
            assert time.monotonic() < end_s, f"{what}: not within {TIMEOUT_S} s"
            self.executor.spin_once(timeout_sec=0.1)

    def call(self, kind: Any, name: str) -> Any:
        client = self.node.create_client(kind, name)
        self.wait_for(client.service_is_ready, name)
        future = client.call_async(kind.Request())
        self.wait_for(future.done, name)
        return future.result()

    def test_it_becomes_active_and_answers(self) -> None:
        def active() -> bool:
            state = self.call(GetState, f"{NAME}/get_state").current_state
            return bool(state.id == State.PRIMARY_STATE_ACTIVE)

        self.wait_for(active, "active")
        known = self.call(ListObjects, f"{NAME}/list_objects")
        assert not known.objects
        assert not known.waiting

    def test_it_says_that_there_is_no_camera(self) -> None:
        said: list[str] = []

        def keep(array: DiagnosticArray) -> None:
            said.extend(f"{status.name} {status.message}" for status in array.status)

        self.node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
        self.wait_for(lambda: any("start the camera" in text for text in said), "a diagnostic")


@post_shutdown_test()
class TestAfterItWasShutDown(unittest.TestCase):
    __test__ = False

    def test_it_ended_with_zero(self, proc_info: Any) -> None:
        assert [name.rpartition("-")[0] for name in proc_info.process_names()] == ["perception_node"]
        assertExitCodes(proc_info)


def test_launch_testing_runs_it(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "launch_testing.launch_test", __file__, "--junit-xml", str(report)]
    # A session of its own, so that the node, too, is gone when this is over.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=3 * TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    # It ends with 0 where it has found no cases, too.
    ran = sorted(str(case.get("name")) for case in ElementTree.parse(report).iter("testcase"))  # noqa: S314 - our own file
    cases = (TestWhileItRuns, TestAfterItWasShutDown)
    assert ran == sorted(name for case in cases for name in unittest.defaultTestLoader.getTestCaseNames(case))
    assert "escalating" not in output, output
