"""What a RealSense is asked for; each field is a parameter of `realsense_node` too."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam_perception.settings import Validated, setting


@dataclass(frozen=True)
class FilterConfig(Validated):
    """librealsense's post-processing of depth, in its recommended order; all off unless asked for.

    Filters smooth and fill: what they invent looks like a surface. Outlines of small things are
    best without them.
    """

    decimation: int = setting(1, "depth pixels merged along each side; 1: off", low=1, high=8)
    threshold: bool = setting(False, "drop depth outside threshold_min_m to threshold_max_m")
    threshold_min_m: float = setting(0.1, "nearer depth is dropped by threshold", low=0.0, high=16.0)
    threshold_max_m: float = setting(4.0, "farther depth is dropped by threshold", low=0.0, high=16.0)
    spatial: bool = setting(False, "smooth along rows and columns, keeping edges")
    spatial_alpha: float = setting(0.5, "weight of the pixel itself; 1: no smoothing", low=0.25, high=1.0)
    spatial_delta: int = setting(20, "steps larger than this are edges", low=1, high=50)
    spatial_magnitude: int = setting(2, "iterations", low=1, high=5)
    temporal: bool = setting(False, "smooth over frames; things that move get a tail")
    temporal_alpha: float = setting(0.4, "weight of the newest frame; 1: no smoothing", low=0.0, high=1.0)
    temporal_delta: int = setting(20, "steps larger than this are motion", low=1, high=100)
    temporal_persistence: int = setting(
        3, "librealsense's persistence mode; 0: never fill from the past", low=0, high=8
    )
    hole_filling: bool = setting(False, "fill holes from their neighbours")
    hole_filling_mode: int = setting(1, "0: from the left, 1: farthest neighbour, 2: nearest", low=0, high=2)


@dataclass(frozen=True)
class RealSenseConfig(Validated):
    """Which camera, which streams, which filters.

    Raises:
        ConfigError: a value of the wrong type or outside its range.
    """

    serial: str = setting("", "serial number; empty: the first camera found")
    rosbag_filename: str = setting("", "a recording of librealsense (.bag, .db3) to play instead of a camera")
    rosbag_loop: bool = setting(False, "begin the recording again at its end")
    camera_name: str = setting("camera", "images are in the frame <camera_name>_color_optical_frame")
    width: int = setting(640, "of colour and depth; 0: the camera's default", low=0, high=4096)
    height: int = setting(480, "of colour and depth; 0: the camera's default", low=0, high=4096)
    fps: int = setting(30, "frames per second; 0: the camera's default", low=0, high=300)
    max_skew_s: float = setting(0.02, "colour and depth stamps may differ by this much", low=0.0, high=1.0)
    timeout_s: float = setting(5.0, "a camera without a frame for longer is opened again", low=0.2, high=600.0)
    max_retry_s: float = setting(5.0, "longest time between two attempts to open the camera", low=0.1, high=600.0)
    accelerometer: bool = setting(False, "read the camera's accelerometer too: it tells which way is up")
    filters: FilterConfig = field(default_factory=FilterConfig)

    @property
    def frame_id(self) -> str:
        """The colour camera's optical frame, named as realsense2_camera names it."""
        return f"{self.camera_name}_color_optical_frame"
