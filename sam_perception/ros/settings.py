"""The node's own settings; what it shares with the command line is `PerceptionConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam_perception.config import Validated, setting
from sam_perception.ros.synchronizer import BACKENDS
from sam_perception.web import WebConfig

_RELIABILITY = ("best_effort", "reliable")


@dataclass(frozen=True)
class InputConfig(Validated):
    """How topics are subscribed to, and what is expected of them."""

    color_reliability: str = setting("best_effort", "reliability asked of color/image_raw", choices=_RELIABILITY)
    depth_reliability: str = setting("best_effort", "reliability asked of depth/image_raw", choices=_RELIABILITY)
    camera_info_reliability: str = setting(
        "best_effort", "reliability asked of color/camera_info", choices=_RELIABILITY
    )
    queue_depth: int = setting(5, "messages that DDS keeps per input topic", low=1, high=100)
    expected_rate_hz: float = setting(
        0.0, "rate at which images should come, for diagnostics; 0: any rate will do", low=0.0, high=1000.0
    )
    timeout_s: float = setting(2.0, "an input that is silent for longer is reported", low=0.1, high=3600.0)


@dataclass(frozen=True)
class SyncConfig(Validated):
    """How colour and depth become pairs."""

    backend: str = setting("auto", "auto: message_filters where it is installed, else builtin", choices=BACKENDS)
    slop_s: float = setting(0.02, "stamps of colour and depth may differ by this much", low=0.0, high=1.0)
    queue_size: int = setting(10, "images of a kind that wait for a partner", low=1, high=1000)


@dataclass(frozen=True)
class OutputConfig(Validated):
    """How topics are published."""

    reliability: str = setting("reliable", "reliability offered on the outputs", choices=_RELIABILITY)
    queue_depth: int = setting(5, "messages that DDS keeps per output topic", low=1, high=100)


@dataclass(frozen=True)
class NodeConfig(Validated):
    """Everything the node can be told beyond `PerceptionConfig`.

    Raises:
        ConfigError: a value of the wrong type or outside its range.
    """

    autostart: bool = setting(True, "configure and activate at start; false where a launch file or manager does it")
    diagnostics_period_s: float = setting(1.0, "time between two messages on /diagnostics", low=0.05, high=60.0)
    resume_max_age_s: float = setting(
        60.0,
        "a node that was killed takes up its objects again if it starts within this time; 0: never",
        low=0.0,
        high=86400.0,
    )
    watchdog_s: float = setting(
        10.0,
        "a frame that is in work for longer is an error: a GPU call hangs; ten times as long for the first one; 0: off",
        low=0.0,
        high=3600.0,
    )
    watchdog_exit: bool = setting(
        False, "end the process then, with code 3, for a launch file with respawn to start it again"
    )
    input: InputConfig = field(default_factory=InputConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    web: WebConfig = field(default_factory=WebConfig)
