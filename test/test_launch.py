"""The launch files, run for real where launch and launch_ros are installed."""

from __future__ import annotations

import importlib.util
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
from package_facts import ROOT

# Not `launch`: the folder of that name can be imported, too, as a namespace.
pytest.importorskip("launch_ros")
rclpy = pytest.importorskip("rclpy")
pytest.importorskip("sam_perception.msg", reason="the messages are not built")

from lifecycle_msgs.msg import State  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402

from sam_perception._ros_environment import ensure_ros_environment  # noqa: E402

ensure_ros_environment()

LAUNCH = ROOT / "launch"
LAUNCH_FILE = LAUNCH / "perception.launch.py"
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
TIMEOUT_S = 120.0


def launch_module(path: Path = LAUNCH_FILE) -> Any:
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "required"), [("perception", set()), ("replay", {"bag"}), ("multi_camera", {"cameras"})]
)
def test_every_argument_has_a_description_and_but_for_one_a_default(name: str, required: set[str]) -> None:
    description = launch_module(LAUNCH / f"{name}.launch.py").generate_launch_description()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert all(argument.description for argument in arguments.values())
    assert {name for name, argument in arguments.items() if argument.default_value is None} == required
    if name != "multi_camera":  # which knows the cameras only when it runs
        assert {"model", "params_file", "preset", "parameters", "camera", "namespace", "color", "rviz"} <= set(
            arguments
        )


@pytest.mark.parametrize("name", ["perception", "replay", "multi_camera"])
def test_what_would_be_done_can_be_printed(name: str) -> None:
    from launch import LaunchIntrospector

    description = launch_module(LAUNCH / f"{name}.launch.py").generate_launch_description()
    assert "OpaqueFunction" in LaunchIntrospector().format_launch_description(description)


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


@contextmanager
def launching(path: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A launch file in a process of its own, ended by SIGINT if it has not ended by then."""
    command = [sys.executable, "-c", RUN, str(path), *arguments]
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()


@pytest.fixture
def launched(domain: None, tmp_path: Path) -> Iterator[None]:
    """In the namespace /cell, with arguments and a file of parameters."""
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    max_objects: 3\n    sync.slop_s: 0.01\n")
    arguments = ["namespace:=cell", f"params_file:={params}", "max_objects:=2", "color:=/front/color"]
    with launching(LAUNCH_FILE, *arguments, "parameters:={tracker.lost_after_frames: 7}", "preset:=cpu"):
        yield


def test_the_node_becomes_active_with_its_parameters_and_topics(launched: None) -> None:
    node = rclpy.create_node("test_launch")
    name = "/cell/sam_perception"

    def state() -> int:
        return int(call(node, GetState, f"{name}/get_state", GetState.Request()).current_state.id)

    assert wait_for(node, lambda: state() == State.PRIMARY_STATE_ACTIVE)
    request = GetParameters.Request(names=["max_objects", "sync.slop_s", "tracker.lost_after_frames", "dtype"])
    values = call(node, GetParameters, f"{name}/get_parameters", request).values
    # The argument is above the file, the file above the default.
    assert values[0].integer_value == 2
    assert values[1].double_value == 0.01
    assert values[2].integer_value == 7
    assert values[3].string_value == "float32"
    assert wait_for(node, lambda: node.count_subscribers("/front/color") == 1)
    assert node.count_subscribers("/camera/camera/aligned_depth_to_color/image_raw") == 1
    assert node.count_publishers(f"{name}/objects") == 1
    node.destroy_node()


# A stand-in for `ros2`: says what it was called with, and ends where the real one would at the end of a bag.
ROS2 = """#!{python}
import pathlib, signal, sys
log = pathlib.Path({log!r})
with log.open("a") as stream:
    stream.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[2] == "record":
    signal.sigwait([signal.SIGINT, signal.SIGTERM])
"""


def test_replay_plays_once_the_node_is_active_and_ends_by_itself(domain: None, tmp_path: Path) -> None:
    log, ros2 = tmp_path / "log", tmp_path / "ros2"
    ros2.write_text(ROS2.format(python=sys.executable, log=str(log)))
    ros2.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with launching(LAUNCH / "replay.launch.py", "bag:=recording", "out:=out", "preset:=cpu", PATH=path) as process:
        assert process.wait(TIMEOUT_S) == 0
    record, play = sorted(log.read_text().splitlines(), reverse=True)
    assert record.startswith("bag record --use-sim-time --output out --regex /sam_perception/")
    assert play == "bag play recording --clock 100 --rate 1.0"


def test_two_cameras_have_a_node_each_on_their_own_topics(domain: None) -> None:
    node = rclpy.create_node("test_launch")
    with launching(LAUNCH / "multi_camera.launch.py", "cameras:=left right", "preset:=cpu"):
        for name in ("left", "right"):
            assert wait_for(node, lambda n=name: node.count_publishers(f"/{n}/sam_perception/objects") == 1)
            assert wait_for(node, lambda n=name: node.count_subscribers(f"/{n}/camera/color/image_raw") == 1)
    node.destroy_node()
