"""ROS parameters, made from the settings' own fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.perception import FIXED_SETTINGS
from sam_perception.ros.settings import NodeConfig
from sam_perception.settings import Setting, settings_of, with_settings

Config = TypeVar("Config")

# Read when the node is configured (or started); everything else may change at any time.
_AT_CONFIGURE = (
    *FIXED_SETTINGS,
    "autostart",
    "diagnostics_period_s",
    "resume_max_age_s",
    "sync",
    "output",
    "web",
    "target_frame",
    "fixed_frame",
    "transforms",
    "gravity",
)
_ANY_TIME_INPUTS = ("input.expected_rate_hz", "input.timeout_s")


def descriptor_of(setting: Setting) -> ParameterDescriptor:
    """Description, range and choices for `ros2 param describe` and rqt."""
    kind = type(setting.default)
    descriptor = ParameterDescriptor(
        name=setting.name,
        description=setting.doc,
        # `-p geometry.max_depth_m:=5` is an integer to ROS; the config turns it into a float.
        dynamic_typing=kind is float,
    )
    constraints = []
    if setting.choices is not None:
        constraints.append(f"one of {', '.join(setting.choices)}")
    if not changes_any_time(setting.name):
        constraints.append("read when the node is configured")
    descriptor.additional_constraints = "; ".join(constraints)
    if setting.low is not None and setting.high is not None:
        if kind is float:
            bounds = FloatingPointRange(from_value=float(setting.low), to_value=float(setting.high), step=0.0)
            descriptor.floating_point_range = [bounds]
        else:
            limits = IntegerRange(from_value=int(setting.low), to_value=int(setting.high), step=0)
            descriptor.integer_range = [limits]
    return descriptor


def changes_any_time(name: str) -> bool:
    """Whether a parameter takes effect while frames are processed."""
    group = name.partition(".")[0]
    return name in _ANY_TIME_INPUTS or (not {name, group} & set(_AT_CONFIGURE) and group != "input")


class NodeParameters:
    """Declares all parameters on a node and keeps them as validated settings.

    Args:
        node: to declare them on.
        configured: whether the settings that are read at configuring are in use now.
        on_change: called after settings have changed.

    Raises:
        ConfigError: a value given at the start is of the wrong type or out of range.
    """

    def __init__(self, node: Node, configured: Callable[[], bool], on_change: Callable[[], None]) -> None:
        self._configured, self._on_change = configured, on_change
        self.perception, self.node = PerceptionConfig(), NodeConfig()
        self._homes: dict[str, str] = {}
        given: dict[str, Any] = {}
        for home, config in (("perception", self.perception), ("node", self.node)):
            for setting in settings_of(config):
                self._homes[setting.name] = home
                given[setting.name] = _declare(node, setting)
        self.perception, self.node = self._changed(given)
        node.add_on_set_parameters_callback(self._on_set)

    def _changed(self, values: dict[str, Any]) -> tuple[PerceptionConfig, NodeConfig]:
        mine = {"perception": {}, "node": {}}  # type: dict[str, dict[str, Any]]
        for name, value in values.items():
            mine[self._homes[name]][name] = value
        return with_settings(self.perception, mine["perception"]), with_settings(self.node, mine["node"])

    def _on_set(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        values = {p.name: p.value for p in parameters if p.name in self._homes}
        if not values:
            return SetParametersResult(successful=True)  # others' parameters: use_sim_time, qos_overrides
        fixed = sorted(name for name in values if not changes_any_time(name))
        if fixed and self._configured():
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(fixed)} is in use: `ros2 lifecycle set <node> deactivate`, then cleanup, set it, "
                "then configure and activate",
            )
        try:
            self.perception, self.node = self._changed(values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._on_change()
        return SetParametersResult(successful=True)


def declared_once(node: Node, config: Config) -> Config:
    """Declare a parameter for each setting, to be read at the start only; the settings that they give.

    Raises:
        ConfigError: a value given at the start is of the wrong type or out of range.
    """
    return with_settings(config, {one.name: _declare(node, one, read_only=True) for one in settings_of(config)})


def _declare(node: Node, setting: Setting, *, read_only: bool = False) -> Any:
    """Declare one parameter; the value that it was given at the start, or its default."""
    descriptor = descriptor_of(setting)
    descriptor.read_only = read_only
    try:
        return node.declare_parameter(setting.name, setting.default, descriptor).value
    except Exception as error:  # rclpy's exceptions for this have no common base but Exception
        limits = "" if setting.low is None else f", from {setting.low} to {setting.high}"
        raise ConfigError(
            f"parameter {setting.name} cannot have the value that it was given ({error}): give a "
            f"{type(setting.default).__name__}{limits} ({setting.doc})"
        ) from error
