"""What the launch files would start, looked at without launch; test_launch.py runs them for real."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_launch
import pytest
import yaml
from fake_launch import parameter, performed
from package_facts import ROOT

from sam_perception._ros_environment import FAST_DDS_2, FAST_DDS_3, fast_dds_variable
from sam_perception.config import PerceptionConfig
from sam_perception.settings import settings_of, with_settings

PROFILES = (FAST_DDS_2, FAST_DDS_3, "CYCLONEDDS_URI")
# What perception.launch.py declares and replay.launch.py, which includes it first, reads.
REPLAYED = {
    "name": "sam_perception",
    "namespace": "cell",
    "color": "/c",
    "depth": "front/depth",
    "camera_info": "/i",
    "imu": "/imu",
    "detections": "~/detections",
}


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROFILES:
        monkeypatch.delenv(name, raising=False)


def of_kind(entities: list[Any], kind: str) -> list[Any]:
    return [entity for entity in entities if type(entity).__name__ == kind]


def perception(monkeypatch: pytest.MonkeyPatch, **given: str) -> tuple[Any, list[Any]]:
    return fake_launch.start(fake_launch.load(monkeypatch, "perception"), **given)


def parameters_of(context: Any, node: Any) -> tuple[list[str], dict[str, Any]]:
    """Files, and values given one by one, the later ones above the earlier ones."""
    files, values = [], {}
    for entry in node.parameters:
        if isinstance(entry, Mapping):
            values |= {name: parameter(context, value) for name, value in entry.items()}
        else:
            files.append(Path(performed(context, entry)).name)
    return files, values


def test_without_arguments_the_node_listens_to_a_realsense_and_nothing_else_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, entities = perception(monkeypatch)
    (node,) = of_kind(entities, "LifecycleNode")
    remapped = {name: performed(context, topic) for name, topic in node.remappings}
    # As realsense2_camera's own launch file names them: node `camera` in the namespace `camera`.
    assert remapped == {
        "color/image_raw": "/camera/camera/color/image_raw",
        "depth/image_raw": "/camera/camera/aligned_depth_to_color/image_raw",
        "color/camera_info": "/camera/camera/color/camera_info",
        "imu": "/camera/camera/imu",
        "~/detections": "~/detections",
    }
    files, values = parameters_of(context, node)
    assert files == ["perception.yaml"]
    assert values == {"autostart": True, "use_sim_time": False}
    others = of_kind(entities, "Node")
    assert [other.package for other in others] == ["rviz2"]
    assert performed(context, others[0].condition.args[0]) == "false"
    assert "--enclave" not in node.ros_arguments


def test_arguments_are_above_parameters_and_those_above_the_preset_and_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, entities = perception(
        monkeypatch,
        preset="cpu",
        parameters="{sync.slop_s: 0.03, max_objects: 3, grasps.gripper: robotiq_2f85}",
        max_objects="2",
        model="0123",
    )
    files, values = parameters_of(context, of_kind(entities, "LifecycleNode")[0])
    assert files == ["perception.yaml", "cpu.yaml"]
    assert values["sync.slop_s"] == 0.03
    assert values["grasps.gripper"] == "robotiq_2f85"
    assert values["max_objects"] == 2
    assert values["model"] == "0123"  # a folder may have such a name: it stays a text


def test_files_come_before_values_and_rvizs_points_have_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    context, entities = perception(monkeypatch, preset="cpu", rviz="true")
    node = of_kind(entities, "LifecycleNode")[0]
    # rcl lets a file's values for all nodes win over those for one node that were read before.
    kinds = [isinstance(entry, Mapping) for entry in node.parameters]
    assert kinds == sorted(kinds)
    assert parameters_of(context, node)[1]["transforms.always"] is True


@pytest.mark.parametrize("text", ["[1, 2]", "{sync: {slop_s: 1}}", "5"])
def test_parameters_that_are_no_mapping_of_names_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(ValueError, match="give a mapping"):
        perception(monkeypatch, parameters=text)


@pytest.mark.parametrize("distribution", ["humble", "jazzy", "kilted", "rolling"])
def test_images_get_room_before_anything_starts_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, distribution: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    read = fast_dds_variable(distribution, "")
    monkeypatch.setenv(FAST_DDS_3 if read == FAST_DDS_2 else FAST_DDS_2, "not_read.xml")
    _, entities = perception(monkeypatch, camera="sdk")
    profiles = of_kind(entities, "SetEnvironmentVariable")
    assert entities[: len(profiles)] == profiles
    assert [entity.args[0] for entity in profiles] == [read, "CYCLONEDDS_URI"]
    for entity in profiles:
        assert Path(entity.args[1].removeprefix("file://")).is_file()
    monkeypatch.setenv(read, "mine.xml")
    _, entities = perception(monkeypatch)
    assert [entity.args[0] for entity in of_kind(entities, "SetEnvironmentVariable")] == ["CYCLONEDDS_URI"]
    monkeypatch.setenv("CYCLONEDDS_URI", "file://mine.xml")
    _, entities = perception(monkeypatch)
    assert of_kind(entities, "SetEnvironmentVariable") == []


def test_realsense2_camera_is_started_aligned_and_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    context, entities = perception(
        monkeypatch, camera="realsense2", camera_namespace="left", camera_serial="0123", camera_params_file="mine.yaml"
    )
    camera = of_kind(entities, "Node")[0]
    assert (camera.package, camera.executable) == ("realsense2_camera", "realsense2_camera_node")
    assert (performed(context, camera.namespace), performed(context, camera.name)) == ("left", "camera")
    files, values = parameters_of(context, camera)
    assert files == ["mine.yaml"]
    assert values["serial_no"] == "0123"
    assert values["align_depth.enable"] is values["enable_sync"] is True
    remapped = dict(of_kind(entities, "LifecycleNode")[0].remappings)
    assert performed(context, remapped["color/image_raw"]) == "/left/camera/color/image_raw"
    assert camera.ros_arguments == []


def test_accelerometer_and_detections_are_wherever_they_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    context, entities = perception(monkeypatch, imu="/base/imu", detections="/yolo/detections")
    remapped = dict(of_kind(entities, "LifecycleNode")[0].remappings)
    assert performed(context, remapped["imu"]) == "/base/imu"
    assert performed(context, remapped["~/detections"]) == "/yolo/detections"


def test_rviz_has_the_frame_that_the_cameras_name_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def frame(**given: str) -> str:
        context, entities = perception(monkeypatch, rviz="true", **given)
        arguments = of_kind(entities, "Node")[-1].arguments
        return performed(context, arguments[arguments.index("--fixed-frame") + 1])

    assert frame() == "camera_link"
    assert frame(camera_name="left") == "left_link"
    assert frame(camera_name="left", rviz_frame="base_link") == "base_link"


def test_node_and_camera_are_put_into_the_enclaves_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"enclave": "/sam_perception", "camera_enclave": "/sam_perception/camera"}
    for camera in ("sdk", "realsense2"):
        context, entities = perception(monkeypatch, camera=camera, **given)
        node, started = of_kind(entities, "LifecycleNode")[0], of_kind(entities, "Node")[0]
        arguments = [performed(context, argument) for argument in node.ros_arguments]
        assert arguments == ["--log-level", "info", "--enclave", "/sam_perception"]
        assert started.ros_arguments == ["--enclave", "/sam_perception/camera"]


def test_the_sdk_camera_has_realsense2_cameras_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = pytest.importorskip("sam_perception.ros.realsense_node").TOPICS
    context, entities = perception(monkeypatch, camera="sdk", camera_serial="42")
    camera = of_kind(entities, "Node")[0]
    assert (camera.package, camera.executable) == ("sam_perception", "realsense_node")
    assert parameters_of(context, camera)[1]["serial"] == "42"
    private = "/".join(["", performed(context, camera.namespace), performed(context, camera.name)])
    remapped = {name: performed(context, topic) for name, topic in of_kind(entities, "LifecycleNode")[0].remappings}
    del remapped["~/detections"]
    # Its accelerometer's topic is there when a parameter asks for it.
    assert set(remapped.values()) <= {topic.replace("~", private) for topic in [*topics, "~/imu"]}


def replay(monkeypatch: pytest.MonkeyPatch, **given: str) -> tuple[Any, list[Any]]:
    return fake_launch.start(fake_launch.load(monkeypatch, "replay"), bag="recording", **{**REPLAYED, **given})


def handlers(entities: list[Any], kind: str) -> list[Any]:
    return [
        entity.args[0] for entity in of_kind(entities, "RegisterEventHandler") if type(entity.args[0]).__name__ == kind
    ]


def test_replay_plays_when_the_node_is_active_and_ends_with_the_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    _, entities = replay(monkeypatch, out="replayed", rate="0.5", loop="true")
    assert {name: getattr(v, "name", v) for name, v in entities[0].launch_arguments} == {
        "use_sim_time": "use_sim_time",
        "autostart": "false",
    }
    assert entities[-1].event.transition_id == 1
    states = {
        (handler.given.get("start_state"), handler.goal_state): handler
        for handler in handlers(entities, "OnStateTransition")
    }
    assert states["configuring", "inactive"].entities[0].event.transition_id == 3
    player = states["activating", "active"].entities[0]
    # Paused: it goes on when there is a recorder that listens.
    assert player.cmd[:5] == ["ros2", "bag", "play", "recording", "--start-paused"]
    # Its last messages have arrived when it ends.
    assert player.cmd[5:] == ["--wait-for-all-acked", "1000", "--clock", "100", "--rate", "0.5", "--loop"]
    (end,) = [handler for handler in handlers(entities, "OnProcessExit") if handler.target_action is player]
    (later,) = end.on_exit(SimpleNamespace(returncode=0), None)
    assert type(later.actions[0].event).__name__ == "Shutdown"


def test_replay_records_outputs_inputs_transforms_and_diagnostics(monkeypatch: pytest.MonkeyPatch) -> None:
    _, entities = replay(monkeypatch, out="replayed")
    (record,) = of_kind(entities, "ExecuteProcess")
    assert record.cmd[:3] == ["ros2", "bag", "record"]
    assert record.cmd[record.cmd.index("--output") + 1] == "replayed"
    recorded = re.compile(record.cmd[record.cmd.index("--regex") + 1])
    outputs = ("/cell/sam_perception/objects", "/cell/sam_perception/detections")
    wanted = (*outputs, "/c", "/cell/front/depth", "/i", "/imu", "/tf", "/tf_static", "/diagnostics")
    # It looks for the expression anywhere in a name.
    assert all(recorded.search(topic) for topic in wanted)
    others = ("/cell/other/objects", "/clock", "/a/cell/sam_perception/objects", "/a/tf", "/c/d", "/cell/imu")
    assert not any(recorded.search(topic) for topic in others)


def test_replay_records_nothing_unless_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    _, entities = replay(monkeypatch)
    assert of_kind(entities, "ExecuteProcess") == []


class Graph:
    """A ROS graph: who publishes what, and what the recorder subscribes to."""

    def __init__(self, *, player: bool = False, published: tuple[str, ...] = (), heard: tuple[str, ...] = ()) -> None:
        self.player, self.published, self.heard = player, published, heard

    def get_service_names_and_types(self) -> list[tuple[str, list[str]]]:
        return [("/rosbag2_player/resume", ["rosbag2_interfaces/srv/Resume"])] if self.player else []

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        return [(name, ["a/msg/B"]) for name in ("/unpublished", *self.published)]

    def count_publishers(self, name: str) -> int:
        return self.published.count(name)

    def get_subscriptions_info_by_topic(self, name: str) -> list[Any]:
        others = [SimpleNamespace(node_name="sam_perception")]
        return [*others, SimpleNamespace(node_name="rosbag2_recorder")] if name in self.heard else others


def test_the_player_is_resumed_once_the_recorder_listens_to_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fake_launch.load(monkeypatch, "replay")
    context = fake_launch.Context({})
    expression = "^(/c|/d|/unpublished)$"
    all_heard = Graph(player=True, published=("/c", "/d", "/other"), heard=("/c", "/d"))

    def look(graph: Graph, again: Any = None) -> list[Any]:
        context.ros_node = graph
        return list(loaded.resume(context, *(again.args if again else ("bag", expression))))

    def waiting(entities: list[Any]) -> Any:
        assert [type(entity).__name__ for entity in entities] == ["TimerAction"]
        return SimpleNamespace(args=entities[0].actions[0].given["args"])

    again = waiting(look(Graph(published=("/c",), heard=("/c",))))
    again = waiting(look(Graph(player=True, published=("/c", "/d"), heard=("/c",)), again))
    again = waiting(look(all_heard, again))  # in one look; another one is to agree
    *_, call = look(all_heard, again)
    assert call.cmd == ["ros2", "service", "call", "/rosbag2_player/resume", "rosbag2_interfaces/srv/Resume"]


def test_what_nobody_records_in_the_end_is_named_and_no_player_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fake_launch.load(monkeypatch, "replay")
    context = fake_launch.Context({})
    context.ros_node = Graph(player=True, published=("/c", "/d"), heard=("/c",))
    _, said, call = loaded.resume(context, "bag", "^(/c|/d)$", waited_s=loaded.LISTEN_S)
    assert said.msg == "playing bag; nobody records /d"
    assert call.cmd[:2] == ["ros2", "service"]
    context.ros_node = Graph()
    with pytest.raises(RuntimeError, match="no /rosbag2_player/resume"):
        loaded.resume(context, "bag", "", waited_s=loaded.LISTEN_S)


def test_replay_ends_with_an_error_where_nothing_can_be_played_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    context, entities = replay(monkeypatch, out="replayed")

    def stops(actions: list[Any]) -> bool:
        (action,) = actions
        context.is_shutdown = True
        action.function(context, *action.given["args"])
        context.is_shutdown = False
        with pytest.raises(RuntimeError, match="before the bag was played"):
            action.function(context, *action.given["args"])
        return True

    states = {
        (handler.given.get("start_state"), handler.goal_state): handler
        for handler in handlers(entities, "OnStateTransition")
    }
    for transition in ((None, "unconfigured"), (None, "finalized"), ("activating", "inactive")):
        assert stops(states[transition].entities)
    node, player, recorder = handlers(entities, "OnProcessExit")
    actions = sys.modules["launch_ros.actions"]
    assert node.target_action(actions.LifecycleNode())
    assert not node.target_action(actions.Node())
    assert recorder.target_action is of_kind(entities, "ExecuteProcess")[0]
    assert stops(node.on_exit)
    assert stops(recorder.on_exit)
    assert stops(player.on_exit(SimpleNamespace(returncode=1), None))


def test_each_of_several_cameras_has_its_own_namespace_and_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fake_launch.load(monkeypatch, "multi_camera")
    _, entities = fake_launch.start(loaded, cameras="left:123 right:456", camera="sdk")
    given = [dict(entity.launch_arguments) for entity in of_kind(entities, "IncludeLaunchDescription")]
    assert [one["namespace"] for one in given] == ["left", "right"]
    # What realsense2_camera's frames begin with: left_link, left_color_optical_frame.
    assert [one["camera_name"] for one in given] == ["left", "right"]
    assert [one["rviz_frame"] for one in given] == ["left_link", "right_link"]
    assert [one["camera_serial"] for one in given] == ["123", "456"]
    declared = {entity.args[0] for entity in fake_launch.load(monkeypatch, "perception").arguments()}
    assert set(given[0]) <= declared


@pytest.mark.parametrize("name", ["left", "right"])
def test_topics_of_several_cameras_are_those_that_each_camera_has(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _, entities = fake_launch.start(fake_launch.load(monkeypatch, "multi_camera"), cameras="left right")
    given = [dict(entity.launch_arguments) for entity in of_kind(entities, "IncludeLaunchDescription")]
    (mine,) = [one for one in given if one["namespace"] == name]
    topics = {key: mine[key] for key in ("color", "depth", "camera_info", "imu")}
    # Left to perception.launch.py, they would be the same.
    context, _ = perception(monkeypatch, camera_namespace=name, camera_name=name)
    assert topics == {key: context.values[key] for key in topics}
    assert topics["color"] == f"/{name}/{name}/color/image_raw"


def test_consoles_of_several_cameras_have_ports_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def parameters(text: str) -> list[str]:
        loaded = fake_launch.load(monkeypatch, "multi_camera")
        _, entities = fake_launch.start(loaded, cameras="a b c", parameters=text)
        includes = of_kind(entities, "IncludeLaunchDescription")
        return [dict(include.launch_arguments)["parameters"] for include in includes]

    text = "{web.port: 8080, model: '0123', sync.slop_s: 0.03, words.text: 'a: b, c'}"
    values = [yaml.safe_load(text) for text in parameters(text)]
    assert [one.pop("web.port") for one in values] == [8080, 8081, 8082]
    assert values == [{"model": "0123", "sync.slop_s": 0.03, "words.text": "a: b, c"}] * 3
    # Without a port, and where there is something to be said against it, as it was given.
    for text in ("{}", "{web.port: 0}", "{max_objects: 2}", "[1, 2]", "{web.port: true}"):
        assert parameters(text) == [text] * 3


@pytest.mark.parametrize("cameras", ["", "left left", ":123", "left:1 right", "cell/left:1", "2nd:1"])
def test_cameras_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch, cameras: str) -> None:
    with pytest.raises(ValueError, match="cameras"):
        fake_launch.start(fake_launch.load(monkeypatch, "multi_camera"), cameras=cameras, camera="realsense2")


@pytest.mark.parametrize("name", ["tabletop_arm", "mobile_base", "jetson", "cpu"])
def test_a_preset_holds_settings_that_exist_and_differ_from_their_defaults(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    node_config = pytest.importorskip("sam_perception.ros.settings").NodeConfig()
    assert name in fake_launch.load(monkeypatch, "perception").PRESETS
    values = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())["/**"]["ros__parameters"]
    for given in (PerceptionConfig(), node_config):
        known = {setting.name: setting.default for setting in settings_of(given)}
        mine = {key: values.pop(key) for key in list(values) if key in known}
        # Types as ROS has them: a float that is written as an integer would be refused at the start.
        assert {key: type(value) for key, value in mine.items()} == {key: type(known[key]) for key in mine}
        with_settings(given, mine)
    assert values == {}


def test_every_preset_of_the_folder_can_be_named() -> None:
    files = {path.stem for path in (ROOT / "config").glob("*.yaml")}
    assert files - {"perception", "moveit_octomap", "nav2_costmap"} == {"tabletop_arm", "mobile_base", "jetson", "cpu"}


def test_profiles_are_applied_by_nodes_that_are_run_without_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = pytest.importorskip("sam_perception._ros_environment")
    environment.ensure_ros_environment()
    assert Path(os.environ["CYCLONEDDS_URI"].removeprefix("file://")).name == "cyclonedds_images.xml"
