"""Keep sight of things: RGB-D in, tracked objects in three dimensions out.

Importing this package is cheap: torch, open3d, rclpy and pyrealsense2 are loaded by the
parts that use them, when they are used.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# In a source checkout the generated msg and srv modules live in the install space;
# this lets both places form one package.
__path__ = extend_path(__path__, __name__)

from sam_perception.config import GeometryConfig, PerceptionConfig, TrackerConfig
from sam_perception.errors import PerceptionError
from sam_perception.frame import CameraIntrinsics, DepthSource, DistortionModel, RgbdFrame
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, TextPrompt
from sam_perception.scene import ObjectState, OrientedBox, Scene, Track

if TYPE_CHECKING:
    from sam_perception.perception import Perception

__all__ = [
    "BoxPrompt",
    "CameraIntrinsics",
    "DepthSource",
    "DistortionModel",
    "GeometryConfig",
    "MaskPrompt",
    "ObjectState",
    "OrientedBox",
    "Perception",
    "PerceptionConfig",
    "PerceptionError",
    "PointPrompt",
    "RgbdFrame",
    "Scene",
    "TextPrompt",
    "Track",
    "TrackerConfig",
]


def __getattr__(name: str) -> Any:
    # Perception pulls in torch, which takes seconds; values do not need it.
    if name == "Perception":
        from sam_perception.perception import Perception

        return Perception
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
