"""A target and an obstacle on a table whose every distance is known, and a `Perception` that follows the target."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from fake_tracker import ColorTracker
from numpy.typing import NDArray
from worlds import Shape, World, look

from sam_perception.config import PerceptionConfig
from sam_perception.frame import RgbdFrame
from sam_perception.perception import Perception
from sam_perception.prompts import MaskPrompt
from sam_perception.scene import Scene

TARGET = Shape("box", (-0.1, 0.0, 0.0), (0.05, 0.1, 0.06), 0.3)
OBSTACLE = Shape("cylinder", (0.15, 0.05, 0.0), (0.08, 0.08, 0.1))
WORLD = World((TARGET, OBSTACLE), look((0.0, -0.5, 0.5), (0.0, 0.0, 0.03)))
CAMERA_HEIGHT_M = 0.5
TARGET_ID = 4


@lru_cache(maxsize=4)
def _view(seed: int) -> tuple[RgbdFrame, NDArray[np.intp]]:
    return WORLD.frame(seed)


def frame_at(stamp_ns: int, seed: int = 0) -> RgbdFrame:
    """The table, with sensor noise."""
    seen = _view(seed)[0]
    return RgbdFrame(seen.rgb, seen.depth_m, seen.intrinsics, stamp_ns, "camera")


def target_prompt() -> MaskPrompt:
    return MaskPrompt(TARGET_ID, _view(0)[1] == 1, label="box")


def perception_of_target(config: PerceptionConfig | None = None) -> Perception:
    perception = Perception(config or PerceptionConfig(), ColorTracker())
    perception.prompt(target_prompt())
    return perception


@lru_cache(maxsize=1)
def scene_with_all() -> Scene:
    """Everything known about the first frame: grasps, ground, an obstacle."""
    return perception_of_target().step(frame_at(10**9))
