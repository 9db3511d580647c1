"""Settings from the command line and from files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.files import parsed_yaml
from sam_perception.settings import settings_of, with_settings


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --device, --config and --set."""
    group = parser.add_argument_group("settings")
    group.add_argument("--model", help="nano (default, ships with the package), sam2.1-hiera-tiny, ..., or a folder")
    group.add_argument("--device", help="auto (default), cpu, cuda or cuda:N")
    group.add_argument("--config", type=Path, metavar="FILE", help="YAML with settings, nested or dotted")
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one setting, e.g. geometry.min_depth_m=0.2"
    )


def config_from(arguments: argparse.Namespace, base: Mapping[str, Any] | None = None) -> PerceptionConfig:
    """The config that the arguments of `add_settings_arguments` ask for; --set wins over --config, both over `base`.

    Raises:
        ConfigError: unknown names, values of the wrong type or out of range, an unreadable file.
    """
    config = with_settings(PerceptionConfig(), base or {})
    if arguments.config is not None:
        config = with_settings(config, _read(arguments.config))
    config = with_settings(config, _parsed(arguments.set))
    for name in ("model", "device"):
        if getattr(arguments, name) is not None:
            config = with_settings(config, {name: getattr(arguments, name)})
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parsed_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give a YAML file") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}: write 'name: value' lines")
    return content


def _parsed(pairs: Iterable[str]) -> dict[str, Any]:
    kinds = {setting.name: type(setting.default) for setting in settings_of(PerceptionConfig())}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: write NAME=VALUE")
        values[name] = _value(text, kinds.get(name, str))
    return values


def _value(text: str, kind: type) -> Any:
    """`text` as `kind`, or as it is, so that the config's own check says what is wrong with it."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text
