"""Every setting at its limits, just beyond them, and of every wrong kind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fake_tracker import RED_BOX, ColorTracker, make_frame

from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.perception import FIXED_SETTINGS, Perception
from sam_perception.prompts import BoxPrompt
from sam_perception.settings import Setting, settings_of, with_settings

SECOND = 10**9
SETTINGS = {setting.name: setting for setting in settings_of(PerceptionConfig())}


def edges(setting: Setting) -> list[Any]:
    """Values that must be taken."""
    if setting.choices is not None:
        return list(setting.choices)
    kind = type(setting.default)
    if kind is bool:
        return [True, False]
    if kind is str:
        return [setting.default]
    return [kind(limit) for limit in (setting.low, setting.high) if limit is not None]


def beyond(setting: Setting) -> list[Any]:
    """Values that must be refused."""
    kind = type(setting.default)
    wrong: list[Any] = [None, [], {"a": 1}, b"x", object()]
    if kind is bool:
        return [*wrong, "true", 1, 0.0]
    if kind is str:
        return [*wrong, 1, True, *(["no such choice"] if setting.choices else [])]
    wrong += ["1", True, float("nan"), float("inf"), -float("inf"), 10**400 if kind is int else 1e308]
    if kind is int:
        outside = [] if setting.low is None else [int(setting.low) - 1]
        outside += [] if setting.high is None else [int(setting.high) + 1]
        return [*wrong, *outside, 1.0]
    outside_f = [] if setting.low is None else [math.nextafter(setting.low, -math.inf)]
    outside_f += [] if setting.high is None else [math.nextafter(setting.high, math.inf)]
    return [*wrong, *outside_f, 10**400]


def node_settings() -> dict[str, Setting]:
    pytest.importorskip("rclpy")
    from sam_perception.ros.settings import NodeConfig

    return {setting.name: setting for setting in settings_of(NodeConfig())}


@pytest.mark.parametrize("name", SETTINGS)
def test_limits_are_taken_and_what_lies_beyond_is_refused(name: str) -> None:
    check(PerceptionConfig(), SETTINGS[name])


def test_the_nodes_own_settings_too() -> None:
    from_node = node_settings()
    from sam_perception.ros.settings import NodeConfig

    for setting in from_node.values():
        check(NodeConfig(), setting)


def check(config: Any, setting: Setting) -> None:
    for value in edges(setting):
        try:
            taken = with_settings(config, {setting.name: value})
        except ConfigError as error:
            assert "zero" in str(error)  # up_x, up_y, up_z may not all be  # noqa: PT017
            continue
        assert {s.name: s.default for s in settings_of(taken)}[setting.name] == value
    for value in beyond(setting):
        with pytest.raises(ConfigError) as caught:
            with_settings(config, {setting.name: value})
        assert setting.name.rpartition(".")[2] in str(caught.value) or setting.name.partition(".")[0] in str(
            caught.value
        )


NUMBERS = [
    name for name, s in SETTINGS.items()
    if type(s.default) in (int, float, bool) and name.partition(".")[0] not in FIXED_SETTINGS
    and name.partition(".")[0] in ("geometry", "grasps", "navigation")
    and name != "navigation.everything_rate_hz"  # needs a model that cuts up pictures
]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_scene_is_found_with_a_setting_at_its_limits(name: str) -> None:
    for value in edges(SETTINGS[name]):
        try:
            config = with_settings(PerceptionConfig(), {name: value})
        except ConfigError:
            continue
        perception = Perception(config, ColorTracker())
        perception.prompt(BoxPrompt(1, RED_BOX))
        for second in (1, 2):
            scene = perception.step(make_frame(second * SECOND))  # raises where a stage cannot cope with it
        (mug,) = scene.objects
        assert mug.mask.sum() == 320
        if mug.centroid is not None:
            assert np.isfinite(mug.centroid).all()
            assert np.isfinite(mug.covariance).all()
        for target in scene.grasp_targets:
            assert np.isfinite(target.camera_from_gripper).all()


def test_the_nodes_parameters_refuse_what_is_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy")
    import os

    import rclpy
    from rclpy.parameter import Parameter

    from sam_perception.ros.perception_node import PerceptionNode

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=1 + os.getpid() * 7 % 101)
    node = PerceptionNode(
        lambda config: Perception(config, ColorTracker()),
        context=context,
        parameter_overrides=[Parameter("autostart", value=False)],
    )
    try:
        for name, setting in {**SETTINGS, **node_settings()}.items():
            before = node.get_parameter(name).value
            for value in beyond(setting):
                if not isinstance(value, (bool, int, float, str)) or (type(value) is int and abs(value) >= 2**63):
                    continue  # not a parameter at all
                result = node.set_parameters([Parameter(name, value=value)])[0]
                assert not result.successful, (name, value)
                assert len(result.reason) > 10
            after = node.get_parameter(name).value
            assert after == before, name
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
