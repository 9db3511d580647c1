"""What the launch files would start, looked at without launch; test_launch.py runs them for real."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fake_launch
import pytest
import yaml
from fake_launch import parameter, performed
from package_facts import ROOT

from sam_perception.config import PerceptionConfig
from sam_perception.settings import settings_of, with_settings

PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "CYCLONEDDS_URI")
INPUTS = {"color/image_raw", "depth/image_raw", "color/camera_info"}


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
    }
    files, values = parameters_of(context, node)
    assert files == ["perception.yaml"]
    assert values == {"autostart": True, "use_sim_time": False}
    others = of_kind(entities, "Node")
    assert [other.package for other in others] == ["rviz2"]
    assert performed(context, others[0].condition.args[0]) == "false"


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


def test_images_get_room_before_anything_starts_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    _, entities = perception(monkeypatch, camera="sdk")
    kinds = [type(entity).__name__ for entity in entities]
    assert kinds[:3] == ["SetEnvironmentVariable"] * 3
    assert {entity.args[0] for entity in entities[:3]} == set(PROFILES)
    for entity in entities[:3]:
        assert Path(entity.args[1].removeprefix("file://")).is_file()
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine.xml")
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


def test_the_sdk_camera_has_realsense2_cameras_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = pytest.importorskip("sam_perception.ros.realsense_node").TOPICS
    context, entities = perception(monkeypatch, camera="sdk", camera_serial="42")
    camera = of_kind(entities, "Node")[0]
    assert (camera.package, camera.executable) == ("sam_perception", "realsense_node")
    assert parameters_of(context, camera)[1]["serial"] == "42"
    private = "/".join(["", performed(context, camera.namespace), performed(context, camera.name)])
    remapped = {performed(context, topic) for _, topic in of_kind(entities, "LifecycleNode")[0].remappings}
    assert remapped <= {topic.replace("~", private) for topic in topics}


def test_replay_plays_when_the_node_is_active_and_ends_with_the_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fake_launch.load(monkeypatch, "replay")
    # The include comes first and declares these.
    given = {"name": "sam_perception", "namespace": "cell", "color": "/c", "depth": "/d", "camera_info": "/i"}
    _, entities = fake_launch.start(loaded, bag="recording", out="replayed", rate="0.5", loop="true", **given)
    include, record, *handlers, configure = entities
    assert {name: getattr(v, "name", v) for name, v in include.launch_arguments} == {
        "use_sim_time": "use_sim_time",
        "autostart": "false",
    }
    assert record.cmd[:3] == ["ros2", "bag", "record"]
    assert record.cmd[record.cmd.index("--output") + 1] == "replayed"
    recorded = re.compile(record.cmd[record.cmd.index("--regex") + 1])
    wanted = ("/cell/sam_perception/objects", "/c", "/d", "/i", "/tf", "/tf_static", "/diagnostics")
    assert all(recorded.fullmatch(topic) for topic in wanted)
    assert not recorded.fullmatch("/cell/other/objects")
    assert not recorded.fullmatch("/clock")
    activate, play, end = (handler.args[0] for handler in handlers)
    assert configure.event.transition_id == 1
    assert (activate.goal_state, activate.entities[0].event.transition_id) == ("inactive", 3)
    assert play.goal_state == "active"
    player = play.entities[-1]
    assert player.cmd == ["ros2", "bag", "play", "recording", "--clock", "100", "--rate", "0.5", "--loop"]
    assert end.target_action is player


def test_replay_records_nothing_unless_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"name": "sam_perception", "namespace": "", "color": "/c", "depth": "/d", "camera_info": "/i"}
    _, entities = fake_launch.start(fake_launch.load(monkeypatch, "replay"), bag="recording", **given)
    assert of_kind(entities, "ExecuteProcess") == []


def test_each_of_several_cameras_has_its_own_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fake_launch.load(monkeypatch, "multi_camera")
    _, entities = fake_launch.start(loaded, cameras="left:123 right:456", camera="sdk")
    given = [dict(entity.launch_arguments) for entity in of_kind(entities, "IncludeLaunchDescription")]
    assert [one["namespace"] for one in given] == ["left", "right"]
    assert [one["camera_serial"] for one in given] == ["123", "456"]
    assert given[1]["color"] == "/right/camera/color/image_raw"
    declared = {entity.args[0] for entity in fake_launch.load(monkeypatch, "perception").arguments()}
    assert set(given[0]) <= declared


@pytest.mark.parametrize("cameras", ["", "left left", ":123", "left:1 right"])
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
