"""Settings: frozen, validated once, each with its unit, range and meaning.

ROS parameters, the command line's `--set` and YAML files are all made from these fields,
so that a default or a range is written in one place.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from sam_perception.errors import ConfigError

Value = typing.Union[bool, int, float, str]
T = TypeVar("T")


def setting(
    default: Value,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field that carries what a parameter descriptor needs."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Setting:
    """One leaf of a config: `name` is dotted, as ROS parameters are."""

    name: str
    default: Value
    doc: str
    low: float | None
    high: float | None
    choices: tuple[str, ...] | None


class Validated:
    """Base of the config dataclasses: checks every field against its type and range when made."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            if f.metadata:
                object.__setattr__(self, f.name, _checked(f, getattr(self, f.name)))


def _checked(f: dataclasses.Field[Any], value: Any) -> Value:
    expected = type(f.default)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ConfigError(f"{f.name} is larger than any float ({value.bit_length()} bits): pass another") from None
    if type(value) is not expected:
        raise ConfigError(f"{f.name} is {value!r} ({type(value).__name__}): pass a {expected.__name__}")
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    # Written so that NaN fails too.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise ConfigError(f"{f.name} is {value}: it must lie between {low} and {high} ({f.metadata['doc']})")
    if choices is not None and value not in choices:
        raise ConfigError(f"{f.name} is {value!r}: choose one of {', '.join(choices)}")
    return typing.cast("Value", value)


def settings_of(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Every leaf setting of a config instance, with its current value as default."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from settings_of(value, f"{prefix}{f.name}.")
        elif f.metadata:
            m = f.metadata
            yield Setting(prefix + f.name, value, m["doc"], m["low"], m["high"], m["choices"])


def with_settings(config: T, values: Mapping[str, Any]) -> T:
    """A copy of `config` with dotted names (`geometry.min_depth_m`) or nested mappings replaced.

    Raises:
        ConfigError: an unknown name, a value of the wrong type or outside its range.
    """
    known = {f.name: getattr(config, f.name) for f in fields(config)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        head, _, rest = str(name).partition(".")  # YAML has keys that are no text: `0: 1`, `yes: no`
        if head not in known:
            raise ConfigError(f"unknown setting {name!r}: known here are {', '.join(known)}")
        if is_dataclass(known[head]) and rest:
            groups.setdefault(head, {})[rest] = value
        elif is_dataclass(known[head]) and isinstance(value, Mapping):
            groups.setdefault(head, {}).update(value)
        elif rest or is_dataclass(known[head]):
            raise ConfigError(f"setting {name!r} = {value!r}: {head} is {'a group' if not rest else 'not a group'}")
        else:
            changes[head] = value
    for head, inner in groups.items():
        changes[head] = with_settings(known[head], inner)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]
