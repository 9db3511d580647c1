"""As much of launch and launch_ros as our launch files use, to look at what they would start where launch is missing.

Actions keep what they were given; substitutions are performed on a context of names and values.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Context:
    """What was given, and what arguments have as their default."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.values = dict(given)
        self.environment: dict[str, str] = {}
        self.is_shutdown = False
        self.ros_node: Any = None


class Substitution:
    def perform(self, _: Context) -> str:
        raise AssertionError("a base class")


class LaunchConfiguration(Substitution):
    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: Context) -> str:
        return context.values[self.name]


class PathJoinSubstitution(Substitution):
    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts

    def perform(self, context: Context) -> str:
        return "/".join(performed(context, part) for part in self.parts)


class FindPackageShare(Substitution):
    def __init__(self, package: str) -> None:
        assert package == "sam_perception"

    def perform(self, _: Context) -> str:
        return str(ROOT)


class Action:
    """An action of any kind, with what it was given."""

    def __init__(self, *args: Any, **given: Any) -> None:
        self.args, self.given = args, given

    def __getattr__(self, name: str) -> Any:
        try:
            return self.given[name]
        except KeyError:
            raise AttributeError(name) from None


def _kind(name: str) -> type[Action]:
    return type(name, (Action,), {})


_ACTIONS = "DeclareLaunchArgument EmitEvent ExecuteProcess GroupAction IncludeLaunchDescription LogInfo OpaqueFunction"
_MODULES: dict[str, dict[str, Any]] = {
    "launch": {"LaunchContext": Context, "LaunchDescription": _kind("LaunchDescription")},
    "launch.actions": {
        name: _kind(name)
        for name in [*_ACTIONS.split(), "RegisterEventHandler", "SetEnvironmentVariable", "TimerAction"]
    },
    "launch.conditions": {"IfCondition": _kind("IfCondition")},
    "launch.event_handlers": {"OnProcessExit": _kind("OnProcessExit")},
    "launch.events": {"Shutdown": _kind("Shutdown")},
    "launch.events.process": {"ProcessExited": object},
    "launch.launch_description_entity": {"LaunchDescriptionEntity": object},
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource": _kind("PythonLaunchDescriptionSource")},
    "launch.substitutions": {
        "LaunchConfiguration": LaunchConfiguration,
        "PathJoinSubstitution": PathJoinSubstitution,
    },
    "launch_ros": {},
    "launch_ros.actions": {"LifecycleNode": _kind("LifecycleNode"), "Node": _kind("Node")},
    "launch_ros.event_handlers": {"OnStateTransition": _kind("OnStateTransition")},
    "launch_ros.events": {},
    "launch_ros.events.lifecycle": {"ChangeState": _kind("ChangeState")},
    "launch_ros.ros_adapters": {"get_ros_node": lambda context: context.ros_node},
    "launch_ros.parameter_descriptions": {"ParameterValue": _kind("ParameterValue")},
    "launch_ros.substitutions": {"FindPackageShare": FindPackageShare},
    "lifecycle_msgs": {},
    "lifecycle_msgs.msg": {
        "Transition": types.SimpleNamespace(TRANSITION_CONFIGURE=1, TRANSITION_ACTIVATE=3),
    },
}


def performed(context: Context, value: Any) -> str:
    """The text of a substitution, of a list of them, or of a text."""
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, (list, tuple)):
        return "".join(performed(context, part) for part in value)
    return str(value)


def parameter(context: Context, value: Any) -> Any:
    """The value that a parameter gets."""
    if type(value).__name__ == "ParameterValue":
        text = performed(context, value.args[0])
        return text.lower() == "true" if value.value_type is bool else value.value_type(text)
    return performed(context, value) if isinstance(value, Substitution) else value


def load(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """The module of a launch file, made with these stand-ins."""
    for module, members in _MODULES.items():
        made = types.ModuleType(module)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, module, made)
    path = ROOT / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def start(loaded: Any, **given: str) -> tuple[Context, list[Any]]:
    """What a launch file starts with these arguments, includes left as they are."""
    context = Context(given)
    return context, list(_started(context, loaded.generate_launch_description().args[0]))


def _started(context: Context, entities: Sequence[Any]) -> Iterator[Any]:
    for entity in entities:
        kind = type(entity).__name__
        if kind == "DeclareLaunchArgument":
            name = entity.args[0]
            assert name in context.values or "default_value" in entity.given, f"{name} is missing"
            if name not in context.values:
                context.values[name] = performed(context, entity.default_value)
            choices = entity.given.get("choices")
            assert choices is None or context.values[name] in choices, f"{name} is {context.values[name]!r}"
        elif kind == "OpaqueFunction":
            yield from _started(context, entity.function(context))
        elif kind == "GroupAction":
            yield from _started(context, entity.args[0])
        else:
            yield entity
