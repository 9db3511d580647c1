"""States, parameters, and what a model that cannot be loaded leads to."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tracker import RED_BOX, ColorTracker
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from ros_harness import Harness, values_of

from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt
from sam_perception.ros import synchronizer
from sam_perception.ros.settings import NodeConfig
from sam_perception.settings import settings_of

SECOND = 10**9


def set_parameter(harness: Harness, name: str, value: object) -> tuple[bool, str]:
    parameters: list[ParameterMsg] = [Parameter(name, value=value).to_parameter_msg()]
    request = SetParameters.Request(parameters=parameters)
    result = harness.call(SetParameters, "/sam_perception/set_parameters", request).results[0]
    return result.successful, result.reason


def test_the_model_is_loaded_in_configure_and_work_is_done_only_when_active(harness: Harness) -> None:
    made: list[Perception] = []

    def make(config: PerceptionConfig) -> Perception:
        made.append(Perception(config, ColorTracker()))
        return made[-1]

    node = harness.node(make=make, autostart=False, wait_active=False)
    assert harness.state() == "unconfigured"
    refused = harness.add(BoxPrompt(1, RED_BOX))
    assert not refused.success
    assert "node is unconfigured and has no model: configure and activate it" in refused.message
    assert made == []
    assert harness.change_state("configure")
    assert len(made) == 1
    assert harness.state() == "inactive"
    assert node.count_subscribers("/color/image_raw") == 0  # nothing is received for nothing
    assert harness.add(BoxPrompt(1, RED_BOX)).success  # waits
    assert harness.change_state("activate")
    harness.objects()
    assert [o.id for o in harness.scene_at(harness.send(SECOND)).objects] == [1]
    assert harness.change_state("deactivate")
    harness.until(lambda: node.count_subscribers("/color/image_raw") == 0)
    assert harness.change_state("activate")
    assert [o.id for o in harness.scene_at(harness.send(2 * SECOND)).objects] == [1]  # still known
    assert harness.change_state("deactivate")
    assert harness.change_state("cleanup")
    assert harness.state() == "unconfigured"
    assert harness.change_state("configure")
    assert len(made) == 2
    assert harness.list_objects().objects == []
    assert harness.change_state("shutdown")
    assert harness.state() == "finalized"


def test_autostart_configures_and_activates(harness: Harness) -> None:
    harness.node()
    assert harness.state() == "active"
    assert harness.status("node").message == "active"


def test_a_model_that_is_not_there_is_said_and_can_be_mended(harness: Harness) -> None:
    node = harness.node(make=Perception, model="sam9-colossal", wait_active=False)
    status = harness.status("node", lambda s: s.level == s.ERROR and values_of(s)["state"] == "unconfigured")
    assert "cannot be configured: ModelNotFound: " in status.message
    assert "sam9-colossal" in status.message
    assert node.state_label == "unconfigured"
    assert set_parameter(harness, "model", "nowhere/else")[0]
    assert not harness.change_state("configure")
    harness.status("node", lambda s: "nowhere/else" in s.message)
    node._make_perception = lambda config: Perception(config, ColorTracker())
    assert harness.change_state("configure")
    assert harness.change_state("activate")
    assert harness.status("node", lambda s: s.level == s.OK).message == "active"
    harness.objects()
    assert harness.scene_at(harness.send(SECOND)).objects == []


def test_a_synchroniser_that_is_not_installed_is_said(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronizer, "find_spec", lambda _: None)
    node = harness.node(sync__backend="message_filters", wait_active=False)
    status = harness.status("node", lambda s: "cannot be configured" in s.message)
    assert "ConfigError: sync.backend is message_filters, which is not installed: install ros-" in status.message
    assert node.state_label == "unconfigured"
    assert set_parameter(harness, "sync.backend", "auto") == (True, "")
    assert harness.change_state("configure")


def test_a_truncated_checkpoint_is_said(harness: Harness, tmp_path: Path) -> None:
    nano = Path(__file__).parents[2] / "sam_perception" / "models" / "nano"
    if not (nano / "model.safetensors").is_file():
        pytest.skip("the nano checkpoint is not there yet")
    for file in nano.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    harness.node(make=Perception, model=str(tmp_path), device="cpu", wait_active=False)
    status = harness.status("node", lambda s: s.level == s.ERROR)
    assert "CheckpointError: " in status.message
    assert harness.state() == "unconfigured"


def test_an_unexpected_failure_while_loading_is_said_too(harness: Harness) -> None:
    def make(_: PerceptionConfig) -> Perception:
        raise RuntimeError("CUDA driver version is insufficient")

    harness.node(make=make, wait_active=False)
    assert "CUDA driver version is insufficient" in harness.status("node", lambda s: s.level == s.ERROR).message
    assert harness.state() == "unconfigured"


def test_every_setting_is_a_parameter_that_describes_itself(harness: Harness) -> None:
    node = harness.node()
    settings = [*settings_of(PerceptionConfig()), *settings_of(NodeConfig())]
    request = DescribeParameters.Request(names=[s.name for s in settings])
    described = harness.call(DescribeParameters, "/sam_perception/describe_parameters", request).descriptors
    assert len(described) == len(settings) > 25
    for setting, descriptor in zip(settings, described, strict=True):
        assert descriptor.description == setting.doc
        if setting.low is not None and isinstance(setting.default, float):
            assert descriptor.floating_point_range[0].from_value == setting.low
        elif setting.low is not None:
            assert descriptor.integer_range[0].to_value == setting.high
        if setting.choices:
            assert all(choice in descriptor.additional_constraints for choice in setting.choices)
        assert node.has_parameter(setting.name)


def test_parameters_take_effect_or_say_why_not(harness: Harness) -> None:
    harness.node()
    harness.objects()
    harness.add(BoxPrompt(1, RED_BOX))
    assert harness.scene_at(harness.send(SECOND)).objects[0].has_position
    assert set_parameter(harness, "geometry.min_depth_m", 1) == (True, "")  # a whole number will do
    assert not harness.scene_at(harness.send(2 * SECOND)).objects[0].has_position  # it is half a metre away
    ok, reason = set_parameter(harness, "geometry.min_depth_m", -1.0)
    assert not ok
    assert "-1.0" in reason
    ok, reason = set_parameter(harness, "geometry.min_depth_m", float("nan"))
    assert not ok
    ok, reason = set_parameter(harness, "geometry.remove_outliers", "yes")
    assert not ok
    ok, reason = set_parameter(harness, "model", "edgetam")
    assert not ok
    assert "model is in use: `ros2 lifecycle set <node> deactivate`, then cleanup" in reason
    ok, reason = set_parameter(harness, "tracker.visible_score", 0.9)
    assert not ok
    assert harness.change_state("deactivate")
    assert harness.change_state("cleanup")
    assert set_parameter(harness, "max_objects", 1)[0]
    ok, reason = set_parameter(harness, "dtype", "float8")
    assert not ok
    assert "choose one of auto, float32" in reason
    assert harness.change_state("configure")
    assert harness.add(BoxPrompt(1, RED_BOX)).success
    full = harness.add(BoxPrompt(2, RED_BOX))
    assert not full.success
    assert "max_objects is 1" in full.message


@pytest.mark.parametrize(
    ("name", "value"), [("max_objects", 0), ("geometry.min_depth_m", "near"), ("sync.slop_s", -0.1)]
)
def test_a_wrong_value_at_the_start_is_named(harness: Harness, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name.rpartition(".")[2]):
        harness.node(**{name.replace(".", "__"): value, "wait_active": False})


def test_another_reliability_is_taken_when_the_node_is_configured_again(harness: Harness) -> None:
    """rclpy's own parameters for overrides would keep the first one."""
    node = harness.node(output__reliability="reliable")

    def ends() -> list[str]:
        subscriptions = node.get_subscriptions_info_by_topic("/color/image_raw")
        publishers = node.get_publishers_info_by_topic("/sam_perception/objects")
        return [end.qos_profile.reliability.name for end in (*subscriptions, *publishers)]

    harness.until(lambda: ends() == ["RELIABLE", "RELIABLE"])
    for transition in ("deactivate", "cleanup"):
        assert harness.change_state(transition)
    for name in ("input.color_reliability", "output.reliability"):
        assert set_parameter(harness, name, "best_effort") == (True, "")
    for transition in ("configure", "activate"):
        assert harness.change_state(transition)
    harness.until(lambda: ends() == ["BEST_EFFORT", "BEST_EFFORT"])


def test_qos_overrides_are_taken(harness: Harness) -> None:
    node = harness.node(**{"qos_overrides./color/image_raw.subscription.depth": 7})
    (info,) = node.get_subscriptions_info_by_topic("/color/image_raw")
    assert node.get_parameter("qos_overrides./color/image_raw.subscription.depth").value == 7
    assert info.qos_profile.reliability.name == "RELIABLE"
