"""launch/perception.launch.py, run for real where launch and launch_ros are installed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from package_facts import ROOT

# Not `launch`: the folder of that name can be imported, too, as a namespace.
pytest.importorskip("launch_ros")
rclpy = pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402

LAUNCH_FILE = ROOT / "launch" / "perception.launch.py"
# What `ros2 launch FILE name:=value ...` does; a launch service wants a process's main thread.
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
given = [argument.split(":=") for argument in sys.argv[2:]]
service = LaunchService(noninteractive=True)
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)]))
sys.exit(service.run())
"""
TIMEOUT_S = 60.0


def launch_module() -> Any:
    spec = importlib.util.spec_from_file_location("perception_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_argument_has_a_description_and_a_default() -> None:
    arguments = launch_module().generate_launch_description().get_launch_arguments()
    assert {"model", "params_file", "namespace", "color", "depth", "camera_info", "autostart", "rviz"} <= {
        argument.name for argument in arguments
    }
    assert all(argument.description and argument.default_value is not None for argument in arguments)


def test_rviz_is_remapped_for_every_topic_that_it_names() -> None:
    text = (ROOT / "config" / "perception.rviz").read_text()
    topics = {line.rpartition("/")[2] for line in text.splitlines() if "Value: /sam_perception/" in line}
    assert topics == set(launch_module().RVIZ_TOPICS)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    rclpy.init()
    yield
    rclpy.try_shutdown()


def wait_for(node: Any, done: Any) -> bool:
    end_s = time.monotonic() + TIMEOUT_S
    while not done() and time.monotonic() < end_s:
        rclpy.spin_once(node, timeout_sec=0.1)
    return bool(done())


def call(node: Any, kind: Any, name: str, request: Any) -> Any:
    client = node.create_client(kind, name)
    assert wait_for(node, client.service_is_ready), f"no {name}"
    future = client.call_async(request)
    assert wait_for(node, future.done), f"no answer from {name}"
    return future.result()


@pytest.fixture
def launched(domain: None, tmp_path: Path) -> Iterator[None]:
    """The launch file in a process of its own, in the namespace /cell, with arguments and a file of parameters."""
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    max_objects: 3\n    sync.slop_s: 0.01\n")
    arguments = ["namespace:=cell", f"params_file:={params}", "max_objects:=2", "color:=/front/color"]
    with subprocess.Popen([sys.executable, "-c", RUN, str(LAUNCH_FILE), *arguments]) as process:
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0


def test_the_node_becomes_active_with_its_parameters_and_topics(launched: None) -> None:
    node = rclpy.create_node("test_launch")
    name = "/cell/sam_perception"

    def state() -> int:
        return int(call(node, GetState, f"{name}/get_state", GetState.Request()).current_state.id)

    assert wait_for(node, lambda: state() == State.PRIMARY_STATE_ACTIVE)
    request = GetParameters.Request(names=["max_objects", "sync.slop_s", "autostart"])
    values = call(node, GetParameters, f"{name}/get_parameters", request).values
    # The argument is above the file, the file above the default.
    assert values[0].integer_value == 2
    assert values[1].double_value == 0.01
    assert values[2].bool_value is False
    assert wait_for(node, lambda: node.count_subscribers("/front/color") == 1)
    assert node.count_subscribers("/camera/camera/aligned_depth_to_color/image_raw") == 1
    assert node.count_publishers(f"{name}/objects") == 1
    node.destroy_node()
