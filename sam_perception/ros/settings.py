"""The node's own settings; what it shares with the command line is `PerceptionConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam_perception.ros.synchronizer import BACKENDS
from sam_perception.settings import Validated, setting
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
    depth: str = setting(
        "required",
        "required: pairs of colour and depth; none: colour alone, with what depth.mode estimate guesses for depth",
        choices=("required", "none"),
    )
    queue_depth: int = setting(5, "messages that DDS keeps per input topic", low=1, high=100)
    expected_rate_hz: float = setting(
        0.0, "rate at which images should come, for diagnostics; 0: any rate will do", low=0.0, high=1000.0
    )
    timeout_s: float = setting(2.0, "an input that is silent for longer is reported", low=0.1, high=3600.0)


@dataclass(frozen=True)
class SyncConfig(Validated):
    """How colour and depth become pairs."""

    backend: str = setting(
        "auto",
        "auto, builtin: our own, which waits until no nearer partner can come; message_filters: ROS' own, less those "
        "of its pairs that are half the images' period apart or more (one lost image would shift all after it)",
        choices=BACKENDS,
    )
    slop_s: float = setting(0.02, "stamps of colour and depth may differ by this much", low=0.0, high=1.0)
    queue_size: int = setting(10, "images of a kind that wait for a partner", low=1, high=1000)


@dataclass(frozen=True)
class OutputConfig(Validated):
    """How topics are published."""

    reliability: str = setting("reliable", "reliability offered on the outputs", choices=_RELIABILITY)
    queue_depth: int = setting(5, "messages that DDS keeps per output topic", low=1, high=100)


@dataclass(frozen=True)
class TransformConfig(Validated):
    """How transforms between frames are come by."""

    backend: str = setting(
        "auto", "auto: tf2_ros where it is installed, else builtin", choices=("auto", "tf2_ros", "builtin")
    )
    timeout_s: float = setting(
        0.05, "how long a frame waits for its transform before it goes without", low=0.0, high=5.0
    )
    keep_s: float = setting(10.0, "how much of the past is kept", low=0.5, high=600.0)
    always: bool = setting(
        False, "listen to transforms even if no setting needs them: for points clicked in other frames than the camera"
    )


@dataclass(frozen=True)
class GravityConfig(Validated):
    """Where it is known from which way is up."""

    source: str = setting(
        "settings",
        "settings: navigation.up_x to up_z; imu: the accelerometer on the topic imu; tf: the z axis of gravity.frame",
        choices=("settings", "imu", "tf"),
    )
    frame: str = setting("", "with tf: frame whose z axis points up; empty: fixed_frame, or else target_frame")
    imu_axes: str = setting(
        "tf",
        "tf: the IMU is turned into the camera by tf; camera: its axes are the camera's (x right, y down, z forward)",
        choices=("tf", "camera"),
    )
    time_constant_s: float = setting(0.5, "of the accelerometer's low-pass filter", low=0.0, high=60.0)
    max_age_s: float = setting(0.5, "readings may be older than the image by this much", low=0.01, high=60.0)


@dataclass(frozen=True)
class ClickConfig(Validated):
    """What a click on the overlay picture or in RViz does."""

    action: str = setting(
        "new",
        "new: each click is a new object; correct: it corrects the object under or near the pixel, if there is one",
        choices=("new", "correct"),
    )
    reach_px: int = setting(30, "how far from an object's mask a click may be to mean it", low=0, high=10_000)
    occlusion_m: float = setting(
        0.05, "a point this much behind what the camera sees, or more, is hidden; more where depth is noisier",
        low=0.001, high=10.0,
    )  # fmt: skip


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
    target_rate_hz: float = setting(
        0.0,
        "frames per second to be kept, by doing less where a frame takes too long, see docs/benchmarks.md; 0: off",
        low=0.0,
        high=1000.0,
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
    target_frame: str = setting(
        "", "frame in which everything is published a second time, under ~/target_frame/; empty: none"
    )
    fixed_frame: str = setting(
        "", "frame that does not move (odom, map): by it obstacles keep ids, and planes are averaged; empty: none"
    )
    input: InputConfig = field(default_factory=InputConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    transforms: TransformConfig = field(default_factory=TransformConfig)
    gravity: GravityConfig = field(default_factory=GravityConfig)
    clicks: ClickConfig = field(default_factory=ClickConfig)
    web: WebConfig = field(default_factory=WebConfig)
