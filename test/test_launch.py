"""The launch files, run for real where launch and launch_ros are installed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
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
def launching(path: Path, *arguments: str, returns: int = 0, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A launch file in a process of its own, ended by SIGINT if it has not ended by then."""
    command = [sys.executable, "-c", RUN, str(path), *arguments]
    # A session of its own, so that what was started, too, is gone when this is over.
    with subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True) as process:
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == returns
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def launched(domain: None, tmp_path: Path) -> Iterator[None]:
    """In the namespace /cell, with arguments and a file of parameters."""
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    max_objects: 3\n    sync.slop_s: 0.01\n")
    arguments = ["namespace:=cell", f"params_file:={params}", "max_objects:=2", "color:=/front/color"]
    arguments += ["enclave:=/cell/sam_perception"]
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
    assert ("sam_perception", "/cell", "/cell/sam_perception") in node.get_node_names_and_namespaces_with_enclaves()
    node.destroy_node()


# A stand-in for `ros2`, which does what rosbag2 does where it matters here: the recorder waits for /clock before it
# looks for topics, ten times a second; a paused player sends /clock, which stands, and no messages.
ROS2 = """#!{python}
import pathlib, re, signal, sys, time
with pathlib.Path({log!r}).open("a") as stream:
    stream.write(" ".join(sys.argv[1:]) + "\\n")
from sam_perception._ros_environment import ensure_ros_environment
ensure_ros_environment()
import rclpy
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Empty

FRAMES, PERIOD_S = {frames}, 0.03
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)

def record(out, expression):
    if pathlib.Path(out).exists():
        sys.exit("[ERROR] [ros2bag]: Output folder '" + out + "' already exists.")
    ended = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.append(1))
    node = rclpy.create_node("rosbag2_recorder", parameter_overrides=[Parameter("use_sim_time", value=True)])
    seen, looked_s = [], 0.0
    while not ended:
        rclpy.spin_once(node, timeout_sec=0.02)
        if node.get_clock().now().nanoseconds and time.monotonic() - looked_s > 0.1:
            looked_s = time.monotonic()
            for name, types in node.get_topic_names_and_types():
                known = [s.topic_name for s in node.subscriptions]
                if re.search(expression, name) and name not in known and node.count_publishers(name):
                    kind = CameraInfo if types == ["sensor_msgs/msg/CameraInfo"] else None
                    if kind is None:  # listened to, and not looked at
                        package, _, what = types[0].split("/")
                        module = __import__(package + ".msg", fromlist=[what])
                        node.create_subscription(getattr(module, what), name, lambda _: None, 100)
                    else:
                        node.create_subscription(kind, name, lambda m: seen.append(m.header.stamp.sec), 100)
    pathlib.Path({log!r}).with_name("recorded").write_text(" ".join(map(str, seen)))

def play(bag, paused):
    if bag == "missing":
        sys.exit("there is no bag " + bag)
    node = rclpy.create_node("rosbag2_player")
    clock = node.create_publisher(Clock, "/clock", 1)
    infos = node.create_publisher(CameraInfo, "/info", 100)
    running = [not paused]
    node.create_service(Empty, "~/resume", lambda _, answer: running.__setitem__(0, True) or answer)
    time_s, number, sent_s = Clock(), 0, 0.0
    time_s.clock.sec = 1
    while number < FRAMES:
        rclpy.spin_once(node, timeout_sec=0.01)
        clock.publish(time_s)
        if running[0] and time.monotonic() - sent_s > PERIOD_S:
            sent_s, number, message = time.monotonic(), number + 1, CameraInfo()
            message.header.stamp.sec = number
            infos.publish(message)
    if "--wait-for-all-acked" in given:
        infos.wait_for_all_acked(Duration(seconds=1))

def call(name):
    node = rclpy.create_node("caller")
    client = node.create_client(Empty, name)
    client.wait_for_service()
    rclpy.spin_until_future_complete(node, client.call_async(Empty.Request()))

given = sys.argv[1:]
if given[:2] == ["bag", "record"]:
    record(given[given.index("--output") + 1], given[given.index("--regex") + 1])
elif given[:2] == ["bag", "play"]:
    play(given[2], "--start-paused" in given)
elif given[:2] == ["service", "call"]:
    call(given[2])
else:
    sys.exit("no such command")
"""
FRAMES = 20


@pytest.fixture
def path_with_ros2(tmp_path: Path) -> str:
    """A PATH on which `ros2` is the stand-in; its `log` and `recorded` are in `tmp_path`."""
    ros2 = tmp_path / "ros2"
    ros2.write_text(ROS2.format(python=sys.executable, log=str(tmp_path / "log"), frames=FRAMES))
    ros2.chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


REPLAY = LAUNCH / "replay.launch.py"
REPLAYED = ("bag:=recording", "preset:=cpu", "camera_info:=/info")


def test_replay_records_the_bag_from_its_first_frame_and_ends_by_itself(
    domain: None, tmp_path: Path, path_with_ros2: str
) -> None:
    with launching(REPLAY, *REPLAYED, f"out:={tmp_path / 'out'}", PATH=path_with_ros2) as process:
        assert process.wait(TIMEOUT_S) == 0
    recorded = [int(number) for number in (tmp_path / "recorded").read_text().split()]
    assert recorded == list(range(1, FRAMES + 1))
    record, play, resume = (tmp_path / "log").read_text().splitlines()
    assert record.startswith(f"bag record --use-sim-time --output {tmp_path / 'out'} --regex ^(/sam_perception/")
    assert play == "bag play recording --start-paused --wait-for-all-acked 1000 --clock 100 --rate 1.0"
    assert resume == "service call /rosbag2_player/resume rosbag2_interfaces/srv/Resume"


def test_replay_plays_without_a_recorder_too(domain: None, tmp_path: Path, path_with_ros2: str) -> None:
    with launching(REPLAY, *REPLAYED, PATH=path_with_ros2) as process:
        assert process.wait(TIMEOUT_S) == 0
    assert [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()] == ["play", "call"]


def test_replay_ends_with_an_error_when_the_node_cannot_be_configured(
    domain: None, tmp_path: Path, path_with_ros2: str
) -> None:
    with launching(REPLAY, *REPLAYED, "model:=there_is_none", returns=1, PATH=path_with_ros2) as process:
        assert process.wait(TIMEOUT_S) == 1
    assert not (tmp_path / "log").exists()  # nothing was played


def kill_the_node(launch: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        for child in psutil.Process(launch.pid).children(recursive=True):
            if "perception_node" in " ".join(child.cmdline()):
                child.kill()
                return
        time.sleep(0.05)
    raise AssertionError("the node was not started")


@pytest.mark.parametrize("what", ["node", "recorder", "player"])
def test_replay_ends_with_an_error_when_something_else_ends(
    domain: None, tmp_path: Path, path_with_ros2: str, what: str
) -> None:
    # The recorder does not write over a bag; the player cannot play what is not there.
    given = [f"out:={tmp_path}"] if what == "recorder" else ["bag:=missing"] if what == "player" else []
    with launching(REPLAY, *REPLAYED, *given, returns=1, PATH=path_with_ros2) as process:
        if what == "node":
            kill_the_node(process)
        assert process.wait(TIMEOUT_S) == 1


def test_two_cameras_have_a_node_each_on_their_own_topics(domain: None) -> None:
    node = rclpy.create_node("test_launch")
    given = ["cameras:=left right", "preset:=cpu", "parameters:={gravity.source: imu}", "detections:=yolo/found"]
    with launching(LAUNCH / "multi_camera.launch.py", *given):
        for name in ("left", "right"):
            assert wait_for(node, lambda n=name: node.count_publishers(f"/{n}/sam_perception/objects") == 1)
            for topic in ("color/image_raw", "aligned_depth_to_color/image_raw", "color/camera_info", "imu"):
                topic = f"/{name}/{name}/{topic}"
                assert wait_for(node, lambda t=topic: node.count_subscribers(t) == 1), topic
    node.destroy_node()
